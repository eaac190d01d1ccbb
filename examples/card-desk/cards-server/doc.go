// Cards-server is the bank of the example card-desk: a small MCP server over stdio with its own SQLite
// file, and a ledger of every effect that it really had.
//
//	cards-server --data bank.db [--outage freeze_card:every=20s,for=6s,mode=mixed]
//	cards-server ledger --data bank.db      print the ledger as JSON lines
//
// Tools: find_card, list_transactions (read); freeze_card, replace_card, open_dispute, hand_over (write);
// freeze_card_mirror does the same as freeze_card on another path that has no outages. Cards are named by
// their last four digits. At its first start the file is seeded from seed.json.
//
// A write that carries _meta.idempotencyKey happens once: the same key again gives the same answer, and
// the ledger counts the repetition. Errors are results with structured content
// {"error": {"class", "status", "message"}}.
//
// Outages are real and in step with the wall clock, so that a restart does not heal them: during the
// first `for` of each `every` the tool fails as `mode` says:
//
//	status  answers 503 at once; nothing has happened
//	hang    does not answer; nothing has happened
//	die     the process exits in mid-call; nothing has happened
//	late    the effect happens, and the process exits before it can say so
//	mixed   these in turn: status, hang, die, late
package main
