package run_test

import (
	"testing"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/op"
	"flywheel/internal/run"
)

const shop = `
flywheel: 1
name: shop
entry: flows/desk
models: {fast: scripted/desk}
`

const shopScript = `
name: desk
rules:
  - when: {matches: "order [0-9]+"}
    call: {tool: orders.find, args: {}}
default: {reply: "Hello from the shop."}
`

// A package goes from its files through check and the blob store into a run, with its own scripted model
// and tools that exist as mocks only.
func TestPackageOfFilesRuns(t *testing.T) {
	t.Parallel()
	dir := op.Dir{
		"flywheel.yaml":           []byte(shop),
		"models/desk.script.yaml": []byte(shopScript),
		"prompts/tone.prompt.md":  []byte("Be brief.\n"),
		"agents/desk.agent.md": []byte(`---
model: fast
input: {message: string, order: string}
tools:
  - orders.find: {order: "${input.order}"}
after_tools: stop
---
Answer about orders. The order is {{order}}.
{{> tone}}
`),
		"tools/orders.tool.yaml": []byte(`
tools:
  orders.find:
    does: Look up an order.
    effect: read
    in: {order: string}
    mock: {star: mocks/shop.star, func: find}
`),
		"mocks/shop.star": []byte(`
def find(world, args, now):
    return {"order": args["order"], "status": "on its way"}
`),
		"flows/desk.flow.yaml": []byte(`
flow: desk
in: {message: string}
nodes:
  read: {code: {order: "regex.extract(input.message, '[0-9]+').orValue('')"}, next: desk}
  desk: {agent: desk, in: {message: "${input.message}", order: "${read.out.order}"}, next: [{when: "out.tool == ''", to: talk}, {to: found}]}
  talk: {end: {reply: "${desk.out.text}"}}
  found: {end: {reply: "Order ${desk.out.result.order} is ${desk.out.result.status}."}}
`),
	}
	resolved, problems := agent.New().Check(dir)
	if err := agent.Fault(problems); err != nil {
		t.Fatalf("check: %v %v", err, problems)
	}
	h := openHome(t, t.TempDir(), nil, nil, func(d *run.Deps) { d.Models = nil })
	if err := agent.Store(t.Context(), h.blobs, resolved); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"where is order 4711?": "Order 4711 is on its way.",
		"hi":                   "Hello from the shop.",
	} {
		r := h.start(t, run.StartRequest{Identity: resolved.Identity, Source: run.SourceCLI, Input: run.Input{Message: text}})
		if r.Output.Reply != want || r.Package != "shop" {
			t.Errorf("%s: %+v %+v", text, r.Output, r.Failure)
		}
		if report, err := h.Replay(t.Context(), r.ID); err != nil || !report.Equal {
			t.Errorf("replay = %+v, %v", report, err)
		}
	}
	if _, _, err := h.Start(t.Context(), run.StartRequest{Identity: blob.Of([]byte("nothing"))}); err == nil {
		t.Error("a package that is not in the store was started")
	}
}
