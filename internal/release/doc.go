// Package release turns a checked package into something that can be trusted later: an OCI image
// manifest whose digest is the release, a signature, and an attestation of the test that let it pass.
// It also owns the channels, the moving names that point to releases.
//
// Invariants:
//   - The same package with the same lock gives the same release digest on any machine: nothing that
//     differs between builds (time, number, person, test result) is inside the digest.
//   - What differs is in referrers of the manifest: DSSE envelopes over in-toto statements whose subject
//     is the digest.
//   - A channel moves only by release, canary, promote or rollback; each move is a row with who, when and
//     why, and every target is verified before the move.
//   - A release whose gate failed exists only when it was forced, and says so wherever it is shown.
//
// Events: release.created (subject = release digest), channel.moved (subject = agent@channel).
package release
