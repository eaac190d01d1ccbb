package run_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/model"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

func drive(t *testing.T, p *run.Program, in run.Input, c chat, tools attempts) (run.Ended, *run.Tape) {
	t.Helper()
	return driveWith(t, run.NewMachine(p, in, nil), c, tools)
}

func driveWith(t *testing.T, m *run.Machine, c chat, tools attempts) (run.Ended, *run.Tape) {
	t.Helper()
	tape := &run.Tape{}
	ended, err := run.Drive(t.Context(), run.DriveInput{
		Run: "run_test", Machine: m, Effects: world{c, tools}, Recorder: tape, Clock: clock.NewVirtual(epoch), Secret: []byte("s"),
	})
	if err != nil {
		t.Fatalf("drive: %v", err)
	}
	return ended, tape
}

func TestAgentCallsToolsThenAnswers(t *testing.T) {
	t.Parallel()
	p := compile(t, deskPackage(), nil)
	var l ledger
	ended, tape := drive(t, p, run.Input{Message: "freeze 4711"},
		script(call("cards.find", `{"name":"Ann"}`, "cards.freeze", `{ "card_id" : "4711" }`), say("Your card is frozen.")), l.attempt)
	if ended.Status != run.Succeeded || ended.Output.Reply != "Your card is frozen." {
		t.Fatalf("ended = %+v", ended)
	}
	if got := l.names(); got != "cards.find cards.freeze" {
		t.Errorf("tools = %s", got)
	}
	if got := string(l.calls[1].Args); got != `{"card_id":"4711"}` {
		t.Errorf("arguments = %s, want canonical JSON", got)
	}
	var kinds []string
	for i, r := range tape.Rows {
		kinds = append(kinds, r.Kind)
		if r.Seq != i+1 {
			t.Errorf("row %d has seq %d", i, r.Seq)
		}
	}
	want := []string{"model", "tool", "intent", "tool", "model", "finish"}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if ended.Usage.In != 20 || ended.Usage.Cost != 2000 || ended.Steps != 4 || ended.ToolCalls != 2 {
		t.Errorf("counts = %+v", ended)
	}
}

func TestKeysAreForWritesAndDifferByStep(t *testing.T) {
	t.Parallel()
	p := compile(t, deskPackage(), nil)
	var l ledger
	drive(t, p, run.Input{Message: "x"},
		script(call("cards.find", `{"name":"Ann"}`, "cards.freeze", `{"card_id":"1"}`, "cards.freeze", `{"card_id":"1"}`)), l.attempt)
	if l.calls[0].Key != "" || len(l.calls[1].Key) != 64 || l.calls[1].Key == l.calls[2].Key {
		t.Errorf("keys = %q, %q, %q", l.calls[0].Key, l.calls[1].Key, l.calls[2].Key)
	}
}

func TestRequestHasConstantPartsFirstAndNearestEpisodesLast(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	a := pkg.Agents["desk"]
	a.Examples, a.Memory = "data/examples.jsonl", []string{"cases"}
	pkg.Memories = map[string]*spec.Memory{"cases": {Name: "cases", Kind: "episodes", Data: "data/cases.jsonl", K: 2}}
	p := compile(t, pkg, map[string][]byte{
		"data/examples.jsonl": []byte(`{"user":"fixed","reply":"always shown"}` + "\n"),
		"data/cases.jsonl": []byte(`{"user":"my card was stolen","calls":[{"tool":"cards.freeze","args":{"card_id":"1"}}]}
{"user":"what is my balance","reply":"see the app"}
{"user":"stolen card in Rome","calls":[{"tool":"cards.freeze","args":{"card_id":"2"}}]}
`),
	})
	history := []run.Message{{Role: model.RoleUser, Content: "hello"}, {Role: model.RoleAssistant, Content: "hi"}}
	m := run.NewMachine(p, run.Input{Message: "my card was stolen today"}, history)
	var got []string
	for _, msg := range m.Next()[0].Model.Messages {
		text := msg.Role + ": " + msg.Content
		for _, c := range msg.ToolCalls {
			text += c.Name + string(c.Args)
		}
		got = append(got, text)
	}
	want := []string{
		"system: You help with bank cards.",
		"user: fixed", "assistant: always shown",
		"user: hello", "assistant: hi",
		"user: stolen card in Rome", `assistant: cards.freeze{"card_id":"2"}`,
		"user: my card was stolen", `assistant: cards.freeze{"card_id":"1"}`,
		"user: my card was stolen today",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestBoundArgumentsAreHiddenAndFilled(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	pkg.Agents["desk"].Tools = []spec.ToolUse{
		{Tool: "cards.find"}, {Tool: "cards.freeze", With: map[string]string{"card_id": "${input.card}"}},
	}
	p := compile(t, pkg, nil)
	in := run.Input{Message: "freeze it", Fields: map[string]any{"card": "4711"}}
	m := run.NewMachine(p, in, nil)
	if schema := string(m.Next()[0].Model.Tools[1].Schema); strings.Contains(schema, "card_id") || !strings.Contains(schema, "reason") {
		t.Errorf("schema shown to the model = %s", schema)
	}
	var l ledger
	driveWith(t, m, script(call("cards.freeze", `{"reason":"lost"}`)), l.attempt)
	if got := string(l.calls[0].Args); got != `{"card_id":"4711","reason":"lost"}` {
		t.Errorf("arguments = %s", got)
	}
	var l2 ledger
	ended, _ := drive(t, p, in, script(call("cards.freeze", `{"card_id":"666"}`)), l2.attempt)
	if l2.names() != "" || ended.Malformed != 1 {
		t.Errorf("a model that gives a bound argument is told so: calls %q, malformed %d", l2.names(), ended.Malformed)
	}
}

func TestAfterToolsStopEndsWithTheToolsResult(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	pkg.Agents["desk"].AfterTools = spec.AfterToolsStop
	p := compile(t, pkg, nil)
	var l ledger
	ended, _ := drive(t, p, run.Input{Message: "x"}, script(call("cards.find", `{"name":"Ann"}`)), l.attempt)
	if ended.Steps != 2 || ended.Output.Reply != `{"did":"cards.find","n":1}` {
		t.Errorf("ended = %+v", ended)
	}
	want := map[string]any{
		"tool": "cards.find", "ok": true, "error": nil,
		"result": map[string]any{"did": "cards.find", "n": 1.0},
		"calls":  []any{map[string]any{"tool": "cards.find", "args": map[string]any{"name": "Ann"}, "ok": true}},
	}
	if diff := cmp.Diff(want, ended.Output.Data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	fails := attempts(func(context.Context, tool.Call) tool.Attempt {
		return tool.Attempt{Class: tool.Timeout, Message: "no answer within 3s"}
	})
	ended, _ = drive(t, p, run.Input{Message: "x"}, script(call("cards.find", `{"name":"Ann"}`)), fails)
	if ended.Output.Data["ok"] != false || ended.Output.Reply != "cards.find failed: no answer within 3s" {
		t.Errorf("a failed tool gives %+v", ended.Output)
	}
}

func TestToolErrorsAreToldToTheModel(t *testing.T) {
	t.Parallel()
	p := compile(t, deskPackage(), nil)
	var heard string
	c := chat(func(_ context.Context, req model.Request) (model.Response, error) {
		last := req.Messages[len(req.Messages)-1]
		if last.Role == model.RoleTool {
			heard = last.Content
			return say("The service is down."), nil
		}
		return call("cards.find", `{"name":"Ann"}`), nil
	})
	ended, _ := drive(t, p, run.Input{Message: "x"}, c, func(context.Context, tool.Call) tool.Attempt {
		return tool.Attempt{Class: tool.Unavailable, Message: "503"}
	})
	if heard != `{"error":{"class":"unavailable","message":"503"}}` || ended.Status != run.Succeeded || ended.ToolErrors != 1 {
		t.Errorf("heard %s, ended %+v", heard, ended)
	}
}

func TestMistakesOfTheModelAreToldOnceThenEndTheRun(t *testing.T) {
	t.Parallel()
	malformed := fault.New(fault.Invalid, "model.malformed", "the answer is not JSON")
	for _, test := range []struct {
		name, class string
		bad         func() (model.Response, error)
		output      json.RawMessage
		role        string
	}{
		{"unknown tool", run.ClassUnknownTool, func() (model.Response, error) { return call("cards.eat", `{}`), nil }, nil, model.RoleTool},
		{"arguments that are no JSON", run.ClassMalformed, func() (model.Response, error) { return call("cards.find", `{"name":`), nil }, nil, model.RoleTool},
		{"arguments that miss a field", run.ClassMalformed, func() (model.Response, error) { return call("cards.find", `{}`), nil }, nil, model.RoleTool},
		{"an answer that the client cannot read", run.ClassMalformed, func() (model.Response, error) { return model.Response{}, malformed }, nil, model.RoleUser},
		{
			"an answer that misses the schema", run.ClassMalformed, func() (model.Response, error) { return say(`{"label":3}`), nil },
			json.RawMessage(`{"type":"object","properties":{"label":{"type":"string"}},"required":["label"]}`), model.RoleUser,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pkg := deskPackage()
			pkg.Agents["desk"].Output = test.output
			p := compile(t, pkg, nil)
			var l ledger
			told := ""
			always := chat(func(_ context.Context, req model.Request) (model.Response, error) {
				if last := req.Messages[len(req.Messages)-1]; len(req.Messages) > 2 {
					told = last.Role
				}
				return test.bad()
			})
			ended, _ := drive(t, p, run.Input{Message: "x"}, always, l.attempt)
			if ended.Status != run.Failed || ended.Failure.Class != test.class || ended.Malformed != 2 || ended.Failure.Node != "desk" {
				t.Errorf("ended = %+v, failure %+v", ended, ended.Failure)
			}
			if told != test.role || l.names() != "" {
				t.Errorf("told as %q, tools called %q", told, l.names())
			}
			once := chat(func(ctx context.Context, req model.Request) (model.Response, error) {
				if len(req.Messages) == 2 {
					return test.bad()
				}
				return say(`{"label":"fine"}`), nil
			})
			ended, _ = drive(t, p, run.Input{Message: "x"}, once, l.attempt)
			if ended.Status != run.Succeeded || ended.Malformed != 1 {
				t.Errorf("after one mistake: %+v, failure %+v", ended, ended.Failure)
			}
		})
	}
}

func TestWrongCallStopsTheOthersOfItsAnswer(t *testing.T) {
	t.Parallel()
	p := compile(t, deskPackage(), nil)
	var l ledger
	c := chat(func(_ context.Context, req model.Request) (model.Response, error) {
		if len(req.Messages) == 2 {
			return call("cards.pay", `{"card_id":"1"}`, "cards.eat", `{}`), nil
		}
		if n := len(req.Messages); req.Messages[n-2].Role != model.RoleTool || req.Messages[n-1].Role != model.RoleTool {
			t.Errorf("both calls need an answer: %+v", req.Messages)
		}
		return say("sorry"), nil
	})
	ended, _ := drive(t, p, run.Input{Message: "x"}, c, l.attempt)
	if l.names() != "" || ended.Status != run.Succeeded {
		t.Errorf("called %q, ended %+v", l.names(), ended)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	forever := chat(func(context.Context, model.Request) (model.Response, error) {
		return call("cards.find", `{"name":"a"}`), nil
	})
	slow := clock.NewVirtual(epoch)
	for _, test := range []struct {
		name, class string
		run, agent  spec.Limits
		steps       int
	}{
		{"steps", run.ClassLimitSteps, spec.Limits{Steps: 5}, spec.Limits{}, 5},
		{"steps of the agent", run.ClassLimitSteps, spec.Limits{}, spec.Limits{Steps: 3}, 3},
		{"default steps", run.ClassLimitSteps, spec.Limits{}, spec.Limits{}, run.DefaultSteps},
		{"cost", run.ClassLimitCost, spec.Limits{Cost: 0.0000025}, spec.Limits{}, 5},
		{"time", run.ClassLimitTime, spec.Limits{Time: spec.Duration(3 * time.Second)}, spec.Limits{}, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pkg := deskPackage()
			pkg.Limits, pkg.Agents["desk"].Limits = test.run, test.agent
			c := clock.NewVirtual(slow.Now())
			ended, err := run.Drive(t.Context(), run.DriveInput{
				Machine: run.NewMachine(compile(t, pkg, nil), run.Input{Message: "x"}, nil), Clock: c,
				Effects: world{forever, func(context.Context, tool.Call) tool.Attempt {
					c.Advance(time.Second)
					return tool.Attempt{Out: json.RawMessage("1")}
				}},
			})
			if err != nil || ended.Status != run.Failed || ended.Failure.Class != test.class || ended.Steps != test.steps {
				t.Errorf("ended = %+v, failure %+v, err %v", ended, ended.Failure, err)
			}
		})
	}
}

func TestTimeLimitStopsAModelCall(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	pkg.Limits.Time = spec.Duration(20 * time.Millisecond)
	hangs := chat(func(ctx context.Context, _ model.Request) (model.Response, error) {
		<-ctx.Done()
		return model.Response{}, ctx.Err()
	})
	ended, err := run.Drive(t.Context(), run.DriveInput{
		Machine: run.NewMachine(compile(t, pkg, nil), run.Input{Message: "x"}, nil), Effects: world{hangs, nil},
	})
	if err != nil || ended.Failure == nil || ended.Failure.Class != run.ClassLimitTime {
		t.Errorf("ended = %+v, err %v", ended, err)
	}
}

func TestTimeLimitStopsAToolCall(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	pkg.Limits.Time = spec.Duration(20 * time.Millisecond)
	pkg.Agents["desk"].AfterTools = spec.AfterToolsStop
	hangs := attempts(func(ctx context.Context, _ tool.Call) tool.Attempt {
		<-ctx.Done()
		return tool.Attempt{Class: tool.Canceled, Message: ctx.Err().Error()}
	})
	ended, err := run.Drive(t.Context(), run.DriveInput{
		Machine: run.NewMachine(compile(t, pkg, nil), run.Input{Message: "x"}, nil),
		Effects: world{script(call("cards.find", `{"name":"a"}`)), hangs},
	})
	if err != nil || ended.Failure == nil || ended.Failure.Class != run.ClassLimitTime {
		t.Errorf("ended = %+v, err %v", ended, err)
	}
}

func TestModelFailuresEndTheRunWithTheirClass(t *testing.T) {
	t.Parallel()
	p := compile(t, deskPackage(), nil)
	for _, code := range []string{run.ClassUnreachable, run.ClassInterrupted, run.ClassRefused} {
		dies := chat(func(context.Context, model.Request) (model.Response, error) {
			return model.Response{}, fault.New(fault.Unavailable, code, "the server went away")
		})
		ended, tape := drive(t, p, run.Input{Message: "x"}, dies, nil)
		if ended.Status != run.Failed || ended.Failure.Class != code || tape.Rows[0].Class != code {
			t.Errorf("%s: ended %+v", code, ended.Failure)
		}
	}
}

func TestCancelledDriveRecordsNoEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	tape := &run.Tape{}
	c := chat(func(ctx context.Context, _ model.Request) (model.Response, error) {
		cancel()
		return model.Response{}, ctx.Err()
	})
	ended, err := run.Drive(ctx, run.DriveInput{
		Machine: run.NewMachine(compile(t, deskPackage(), nil), run.Input{Message: "x"}, nil), Effects: world{c, nil}, Recorder: tape,
	})
	if err == nil || ended.Status != run.Running || len(tape.Rows) != 0 {
		t.Errorf("ended %+v with %v and %d rows", ended, err, len(tape.Rows))
	}
}
