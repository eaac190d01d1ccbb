// Package bus carries what happened to whoever wants to know. Emit writes an event in the transaction
// of the change it tells about (the outbox), so that neither exists without the other; after the
// commit it goes to live subscribers and wakes the durable consumers, which keep a cursor each and
// get every event of their topic at least once, in order, also after a restart. Publish is for what
// may be lost, such as the tokens of an answer.
package bus
