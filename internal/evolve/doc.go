// Package evolve turns operations into the next release: it observes what runs of a release did,
// proposes changes to components, proves each against the release by paired trials, and carries an
// approved proposal through release, canary and promotion.
//
// Invariants:
//   - A proposal is a candidate package with its evidence; it never changes anything by itself.
//   - Proposers see production runs and the dev split. The audit split is read by the gate alone.
//   - Every transition is a row, written before the next step begins: a killed cycle continues where
//     it was.
//
// Events: proposal.changed.
package evolve
