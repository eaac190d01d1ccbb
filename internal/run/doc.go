// Package run executes agents and flows, and keeps the journal that is the truth about each execution.
//
// A [Machine] is a pure function of the package, the input and the answers so far: Next gives the
// commands that wait for an answer, Apply takes one. It never reads a clock, random numbers or the
// world. [Drive] performs the commands through [Effects] and hands every answer to a [Recorder] before
// the machine, and so anybody, sees it. [Service] keeps the journal in the database and gives start,
// resume, replay, fork, cancel and answers of people.
//
// Invariants, each with a test:
//   - the machine applied answer by answer equals the machine rebuilt from any prefix of the journal;
//   - a result is durable before it is visible, and the second writer of a (run, seq) loses and stops;
//   - an effect that may not be repeated has an intent row before it; after a crash it is repeated only
//     with the idempotency key of that row, otherwise the run waits for a person with class uncertain;
//   - replaying a journal calls nothing and yields the same commands by digest.
//
// Events: run.started and run.ended (payload [Facts]) commit with the rows they tell of; run.step and
// run.delta are live only, since the journal itself is the lasting record of steps.
package run
