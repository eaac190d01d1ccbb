// Package tool is the port through which every tool is called: MCP servers, HTTP, mocks. One policy
// engine applies timeout, retry, backoff and backup to all of them, in production and in tests.
//
// How the parts hang together.
//
//   - policy.go: Do, the one policy engine. It knows classes and waits, and nothing of servers.
//   - service.go: Service reaches real tools; caller.go joins them to the engine.
//   - mock.go: Mocks answer instead, acting on a world.
//   - wire: classes from statuses and errors, templates. http and mcp: one attempt each.
//   - world: copy-on-write JSON state. star: Starlark mocks on it.
//
// Invariants:
//
//   - A write is repeated only when the failure proves that nothing happened, or under the same
//     idempotency key.
//   - Every attempt, every wait and the tool that really answered are in the Result.
//   - A tool server never outlives its Service, and a message hides the values of the environment.
package tool
