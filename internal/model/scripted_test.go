package model_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/model"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
)

const deskScript = `
name: desk
rules:
  - when: {matches: 'freeze.*?(?P<card>\d{4})'}
    call: {tool: cards.freeze, args: {card_id: "${card}", note: 'said "${user}"'}}
    usage: {in: 12, out: 3}
  - when: {contains: [Both, now]}
    calls: [{tool: cards.list}, {tool: cards.freeze, args: {card_id: "0001"}}]
  - when: {tool_result: {tool: cards.freeze, matches: '"status":"(\w+)"'}}
    reply: "Card ${result.card.id} is $1 (${result.card})."
  - when: {tool_result: down}
    reply: "Sorry: ${result}"
  - when: {contains: json}
    data: {intent: "${user}", n: 1}
  - when: {contains: again, turn: 2}
    reply: second
  - when: {contains: slow}
    delay: 3s
    reply: at last
  - when: {contains: break}
    error: interrupted
  - when: {contains: garble}
    malformed: true
  - when: {contains: ghost}
    call: {tool: cards.ghost}
  - when: {system: pirate}
    reply: Arr
default: {reply: "How can I help?"}
`

func TestScript(t *testing.T) {
	t.Parallel()
	virtual := clock.NewVirtual(time.Unix(0, 0))
	script, err := model.ScriptedAt([]byte(deskScript), virtual)
	if err != nil {
		t.Fatal(err)
	}
	result := func(tool, content string) []model.Message {
		return []model.Message{
			user("freeze 4711"),
			{Role: model.RoleAssistant, ToolCalls: []model.ToolCall{{ID: "call_1", Name: tool, Args: json.RawMessage("{}")}}},
			{Role: model.RoleTool, ToolCallID: "call_1", Content: content},
		}
	}
	call := func(id, tool, args string) model.ToolCall {
		return model.ToolCall{ID: id, Name: tool, Args: json.RawMessage(args)}
	}
	tests := map[string]struct {
		messages []model.Message
		reply    string
		calls    []model.ToolCall
		code     string
		waits    time.Duration
	}{
		"a call with captured arguments":       {messages: []model.Message{user(`please freeze "4711"`)}, calls: []model.ToolCall{call("call_1", "cards.freeze", `{"card_id":"4711","note":"said \"please freeze \"4711\"\""}`)}},
		"two calls":                            {messages: []model.Message{user("both NOW")}, calls: []model.ToolCall{call("call_1", "cards.list", "{}"), call("call_2", "cards.freeze", `{"card_id":"0001"}`)}},
		"a reply from the result":              {messages: result("cards.freeze", `{"card":{"id":4711},"status":"frozen"}`), reply: `Card 4711 is frozen ({"id":4711}).`},
		"a result of another tool":             {messages: result("cards.list", `the service is down`), reply: "Sorry: the service is down"},
		"no rule for this result: the default": {messages: result("cards.list", `[]`), reply: "How can I help?"},
		"data":                                 {messages: []model.Message{user(`json "x"`)}, reply: `{"intent":"json \"x\"","n":1}`},
		"the second turn":                      {messages: []model.Message{user("once"), {Role: model.RoleAssistant, Content: "yes?"}, user("again")}, reply: "second"},
		"not the second turn":                  {messages: []model.Message{user("again")}, reply: "How can I help?"},
		"a delay":                              {messages: []model.Message{user("slow")}, reply: "at last", waits: 3 * time.Second},
		"a broken stream":                      {messages: []model.Message{user("break")}, code: model.CodeInterrupted},
		"malformed":                            {messages: []model.Message{user("garble")}, code: model.CodeMalformed},
		"a tool that was not given":            {messages: []model.Message{user("ghost")}, code: model.CodeUnknownTool},
		"by system prompt":                     {messages: []model.Message{{Role: model.RoleSystem, Content: "You are a pirate."}, user("hi")}, reply: "Arr"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { // not parallel: they share the clock
			before := virtual.Now()
			req := model.Request{Model: "scripted/desk", Messages: tt.messages, Tools: []model.ToolDef{freeze, list}}
			r, deltas, err := chat(t, script, req)
			if !fault.HasCode(err, tt.code) && (tt.code != "" || err != nil) {
				t.Fatalf("got %v", err)
			}
			if tt.code == "" {
				if diff := cmp.Diff(tt.calls, r.Message.ToolCalls); diff != "" || r.Message.Content != tt.reply {
					t.Errorf("%q %s", r.Message.Content, diff)
				}
				streamed := ""
				for _, d := range deltas {
					streamed += d.Text
				}
				if streamed != tt.reply {
					t.Errorf("streamed %q", streamed)
				}
			}
			if r.Form != model.FormScripted || r.Model != "scripted/desk" {
				t.Errorf("the answer does not say that it is scripted: %+v", r)
			}
			if waited := virtual.Now().Sub(before); waited != tt.waits {
				t.Errorf("waited %s", waited)
			}
			again, _, _ := chat(t, script, req)
			if diff := cmp.Diff(r, again); diff != "" {
				t.Errorf("not the same twice: %s", diff)
			}
		})
	}
}

func TestScriptWithoutARule(t *testing.T) {
	t.Parallel()
	script, err := model.Scripted([]byte("rules: [{when: {contains: x}, reply: y}]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := chat(t, script, model.Request{Messages: []model.Message{user("z")}}); !fault.HasCode(err, model.CodeRefused) {
		t.Errorf("got %v", err)
	}
}

func TestBrokenScripts(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"YAML":         "rules: [",
		"unknown key":  "rules: [{when: {has: x}, reply: y}]",
		"no answer":    "rules: [{when: {contains: x}}]",
		"two answers":  "rules: [{reply: a, error: refused}]",
		"pattern":      "rules: [{when: {matches: '('}, reply: y}]",
		"delay":        "default: {reply: y, delay: soon}",
		"error kind":   "default: {error: boom}",
		"call":         "default: {call: {args: {}}}",
		"args":         "default: {call: {tool: x, args: [1]}}",
		"contains":     "rules: [{when: {contains: 3}, reply: y}]",
		"result key":   "rules: [{when: {tool_result: {name: x}}, reply: y}]",
		"result value": "rules: [{when: {tool_result: 3}, reply: y}]",
	} {
		if _, err := model.Scripted([]byte(text)); fault.KindOf(err) != fault.Invalid || !fault.HasCode(err, "model.bad_script") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkScripted(b *testing.B) {
	script, err := model.Scripted([]byte(deskScript))
	if err != nil {
		b.Fatal(err)
	}
	m := model.New(model.Deps{CacheDir: b.TempDir()})
	m.Register("scripted/desk", script)
	req := model.Request{Model: "scripted/desk", Messages: []model.Message{{Role: model.RoleSystem, Content: "Be short."}, user("please freeze card 4711")}, Tools: []model.ToolDef{freeze, list}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Chat(b.Context(), req, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
