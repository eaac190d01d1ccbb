package run_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// refundPackage is a flow with every kind of node.
func refundPackage() *spec.Package {
	pkg := deskPackage()
	pkg.Entry = "flows/refund"
	to := func(name string) []spec.Edge { return []spec.Edge{{To: name}} }
	pkg.Flows = map[string]*spec.Flow{"refund": {Name: "refund", First: "extract", Nodes: map[string]*spec.Node{
		"extract": {Kind: spec.NodeCode, Code: map[string]string{"card": `regex.extract(input.message, '[0-9]{4}').orValue('')`}, Next: to("which")},
		"which":   {Kind: spec.NodeBranch, Next: []spec.Edge{{When: "extract.out.card == ''", To: "lost"}, {To: "find"}}},
		"find": {
			Kind: spec.NodeTool, Tool: "cards.find", In: map[string]any{"name": "${extract.out.card}"}, Next: to("approve"),
			Catch: map[string]string{"timeout": "down"},
		},
		"approve": {
			Kind: spec.NodeHuman, Human: &spec.Human{Ask: "Pay for ${find.out.did}?", Who: "group:refunds", Else: "lost"},
			Next: []spec.Edge{{When: "out.approved", To: "desk"}, {To: "lost"}},
		},
		"desk": {Kind: spec.NodeAgent, Agent: "desk", In: map[string]any{"message": "Pay ${extract.out.card}", "all": []any{"${find.out}"}}, Next: to("done")},
		"done": {Kind: spec.NodeEnd, End: map[string]string{"reply": "${desk.out.text}", "card": "${extract.out.card}", "ok": "${desk.out.ok}"}},
		"lost": {Kind: spec.NodeEnd, End: map[string]string{"reply": "Which card?"}},
		"down": {Kind: spec.NodeEnd, End: map[string]string{"reply": "Down: ${find.out.error.class}"}},
	}}}
	return pkg
}

func TestFlowRunsEveryKindOfNode(t *testing.T) {
	t.Parallel()
	p := compile(t, refundPackage(), nil)
	m := run.NewMachine(p, run.Input{Message: "pay 4711 please"}, nil)
	var l ledger
	model := script(call("cards.pay", `{"card_id":"4711"}`), say("Paid."))
	ended, _ := driveWith(t, m, model, l.attempt)
	if ended.Status != run.Waiting || ended.Ask.Question != "Pay for cards.find?" || ended.Ask.Who != "group:refunds" {
		t.Fatalf("ended = %+v ask %+v", ended, ended.Ask)
	}
	if err := m.Apply(m.Next()[0].Step, run.Answer{Human: &run.Human{Approved: true}}); err != nil {
		t.Fatal(err)
	}
	if got := m.Next()[0].Model.Messages[1].Content; got != "Pay 4711" {
		t.Errorf("the agent's message = %q", got)
	}
	ended, _ = driveWith(t, m, model, l.attempt)
	want := run.Output{Reply: "Paid.", Data: map[string]any{"card": "4711", "ok": true}}
	if diff := cmp.Diff(want, ended.Output); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"extract", "which", "find", "approve", "desk", "done"}, ended.Path); diff != "" {
		t.Errorf("path (-want +got):\n%s", diff)
	}
}

func TestFlowTurnsAtBranchHumanAndCatch(t *testing.T) {
	t.Parallel()
	p := compile(t, refundPackage(), nil)
	var l ledger
	ended, _ := drive(t, p, run.Input{Message: "no number"}, script(), l.attempt)
	if ended.Output.Reply != "Which card?" {
		t.Errorf("branch: %+v", ended)
	}
	for _, h := range []run.Human{{Approved: false}, {TimedOut: true}} {
		m := run.NewMachine(p, run.Input{Message: "pay 4711"}, nil)
		driveWith(t, m, script(), l.attempt)
		if err := m.Apply(m.Next()[0].Step, run.Answer{Human: &h}); err != nil {
			t.Fatal(err)
		}
		if ended, _ := driveWith(t, m, script(), l.attempt); ended.Output.Reply != "Which card?" {
			t.Errorf("human %+v: %+v", h, ended)
		}
	}
	fails := func(class tool.Class) attempts {
		return func(context.Context, tool.Call) tool.Attempt { return tool.Attempt{Class: class, Message: "no"} }
	}
	if ended, _ := drive(t, p, run.Input{Message: "pay 4711"}, script(), fails(tool.Timeout)); ended.Output.Reply != "Down: tool.timeout" {
		t.Errorf("catch: %+v", ended)
	}
	ended, _ = drive(t, p, run.Input{Message: "pay 4711"}, script(), fails(tool.Rejected))
	if ended.Status != run.Failed || ended.Failure.Class != "tool.rejected" || ended.Failure.Node != "find" {
		t.Errorf("uncaught: %+v", ended.Failure)
	}
}

func TestFlowFailuresHaveAClass(t *testing.T) {
	t.Parallel()
	code := func(e string) map[string]string { return map[string]string{"x": e} }
	for _, test := range []struct {
		name, class string
		nodes       map[string]*spec.Node
	}{
		{"no edge holds", run.ClassNoEdge, map[string]*spec.Node{"a": {Kind: spec.NodeCode, Code: code("1"), Next: []spec.Edge{{When: "out.x == 2", To: "end"}}}}},
		{"missing field", run.ClassExpression, map[string]*spec.Node{"a": {Kind: spec.NodeCode, Code: code("input.nothing.here")}}},
		{"visits", run.ClassLimitVisits, map[string]*spec.Node{"a": {Kind: spec.NodeCode, Code: code("1"), Max: 3, Next: []spec.Edge{{To: "a"}}}}},
		{"endless", run.ClassLimitVisits, map[string]*spec.Node{"a": {Kind: spec.NodeBranch, Next: []spec.Edge{{To: "a"}}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pkg := deskPackage()
			pkg.Entry, pkg.Flows = "flows/f", map[string]*spec.Flow{"f": {Name: "f", First: "a", Nodes: test.nodes}}
			ended, _ := drive(t, compile(t, pkg, nil), run.Input{Message: "x"}, script(), nil)
			if ended.Status != run.Failed || ended.Failure.Class != test.class || ended.Failure.Node != "a" {
				t.Errorf("failure = %+v", ended.Failure)
			}
		})
	}
}

func TestNextEndGivesTheNodesOutput(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	pkg.Entry = "flows/f"
	pkg.Flows = map[string]*spec.Flow{"f": {Name: "f", First: "a", Nodes: map[string]*spec.Node{
		"a": {Kind: spec.NodeCode, Code: map[string]string{"reply": "'hello ' + input.message", "n": "1 + 2"}, Next: []spec.Edge{{To: "end"}}},
	}}}
	ended, _ := drive(t, compile(t, pkg, nil), run.Input{Message: "x"}, script(), nil)
	got, _ := json.Marshal(ended.Output)
	if string(got) != `{"reply":"hello x","data":{"n":3}}` {
		t.Errorf("output = %s", got)
	}
}

func TestCompileNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*spec.Package){
		`no tool is called "nothing.*"`:               func(p *spec.Package) { p.Agents["desk"].Tools = []spec.ToolUse{{Tool: "nothing.*"}} },
		`the data file x.jsonl is not in the package`: func(p *spec.Package) { p.Agents["desk"].Examples = "x.jsonl" },
		`the entry "agents/nobody" is neither`:        func(p *spec.Package) { p.Entry = "agents/nobody" },
	} {
		pkg := deskPackage()
		change(pkg)
		_, err := run.CompilePackage(pkg, "", nil)
		if err == nil || !contains(err.Error(), name) {
			t.Errorf("error = %v, want %s", err, name)
		}
	}
}

// outputPackage has an agent whose answer is data.
func outputPackage() *spec.Package {
	pkg := deskPackage()
	pkg.Agents["desk"].Output = json.RawMessage(`{"type":"object","properties":{"label":{"type":"string"}},"required":["label"]}`)
	return pkg
}

func TestOutputSchemaMakesData(t *testing.T) {
	t.Parallel()
	ended, _ := drive(t, compile(t, outputPackage(), nil), run.Input{Message: "x"}, script(say(`{"label":"lost"}`)), nil)
	if diff := cmp.Diff(map[string]any{"label": "lost"}, ended.Output.Data["data"]); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
}
