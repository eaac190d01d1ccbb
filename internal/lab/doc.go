// Package lab tests agents before they touch anything: suites of scenarios on worlds of JSON, tools that
// are mocked and made to fail on a plan, trials by the interpreter that production uses, checks on what
// happened, and honest numbers about it.
//
// Invariants:
//   - A trial is a function of (package, suite, scenario, trial number, seed) and of what the model answers.
//     Time is virtual, randomness is seeded, and a fault depends on nothing but the seed, the scenario, the
//     trial, the tool, and the index or the virtual time of the call: so two packages meet the same faults.
//   - A trial counts only when its row is durable; an interrupted request continues where it was.
//   - The audit split is read by the gate alone, and each look is a row of audit_looks.
//   - A trial that could not be run (model unreachable, tool without a mock) is an error, never a failure.
//
// Events: experiment.progress (ephemeral, subject = experiment).
package lab
