// Package observe knows what runs did and whether they solved their task: facts of each run, outcomes
// with who gave them, findings (failures grouped by fingerprint, without a model), and numbers per agent
// and release.
//
// It reads nothing but its own tables, which durable consumers of the outbox fill. An event may come
// twice or after a restart: everything is written so that this changes nothing.
//
// Invariants:
//   - Each outcome says who gave it. What counts for a run is the newest outcome of its most trusted
//     source: event, person, check, judge, heuristic.
//   - A run without any outcome is neither a success nor a failure.
//   - A fingerprint is a function of the facts and the outcome of one run alone.
//
// Events: outcome.given (subject = run). Consumes run.ended, release.created and channel.moved.
package observe
