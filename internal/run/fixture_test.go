package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// deskPackage is a help desk: one agent with a reading tool, a write without a key, and one with.
func deskPackage() *spec.Package {
	object := func(properties string, required ...string) json.RawMessage {
		b, _ := json.Marshal(required)
		return json.RawMessage(fmt.Sprintf(`{"type":"object","properties":{%s},"required":%s,"additionalProperties":false}`, properties, b))
	}
	card := object(`"card_id":{"type":"string"},"reason":{"type":"string"}`, "card_id")
	return &spec.Package{
		Name: "card-desk", Entry: "agents/desk",
		Models: map[string]spec.ModelChoice{"fast": {First: "scripted/desk"}},
		Agents: map[string]*spec.Agent{"desk": {
			Name: "desk", Model: "fast", Prompt: "You help with bank cards.",
			Tools: []spec.ToolUse{{Tool: "cards.*"}},
		}},
		Tools: map[string]*spec.Tool{
			"cards.find":   {Name: "cards.find", Does: "Find cards.", Effect: spec.EffectRead, In: object(`"name":{"type":"string"}`, "name")},
			"cards.freeze": {Name: "cards.freeze", Does: "Freeze a card.", Effect: spec.EffectWrite, In: card, Idempotency: "arg:key"},
			"cards.pay":    {Name: "cards.pay", Does: "Pay.", Effect: spec.EffectWrite, In: card},
		},
	}
}

func compile(tb testing.TB, pkg *spec.Package, data map[string][]byte) *run.Program {
	tb.Helper()
	text, err := json.Marshal(pkg)
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range data {
		text = append(text, file...)
	}
	p, err := run.CompilePackage(pkg, blob.Of(text), data)
	if err != nil {
		tb.Fatalf("compile: %v", err)
	}
	return p
}

// say is a model's answer in words.
func say(text string) model.Response {
	return model.Response{
		Message: model.Message{Role: model.RoleAssistant, Content: text}, Finish: "stop",
		Usage: model.Usage{In: 10, Out: 2, Cost: 1000}, Form: model.FormScripted,
	}
}

// call is a model's answer that calls tools: name, arguments, name, arguments…
func call(pairs ...string) model.Response {
	r := say("")
	r.Finish = "tool_calls"
	for i := 0; i < len(pairs); i += 2 {
		r.Message.ToolCalls = append(r.Message.ToolCalls, model.ToolCall{
			ID: fmt.Sprintf("c%d", i/2), Name: pairs[i], Args: json.RawMessage(pairs[i+1]),
		})
	}
	return r
}

// chat is a model that a function plays.
type chat func(ctx context.Context, req model.Request) (model.Response, error)

func (c chat) Chat(ctx context.Context, req model.Request, onDelta func(model.Delta)) (model.Response, error) {
	r, err := c(ctx, req)
	if err == nil && onDelta != nil && r.Message.Content != "" {
		onDelta(model.Delta{Text: r.Message.Content})
	}
	return r, err
}

func (c chat) Resolve(_ context.Context, choice spec.ModelChoice) (string, error) {
	return choice.First, nil
}

// script answers by turn: the number of assistant messages after the last user message.
func script(answers ...model.Response) chat {
	return func(_ context.Context, req model.Request) (model.Response, error) {
		n := 0
		for i := len(req.Messages) - 1; i >= 0 && req.Messages[i].Role != model.RoleUser; i-- {
			if req.Messages[i].Role == model.RoleAssistant {
				n++
			}
		}
		if n >= len(answers) {
			return say("done"), nil
		}
		return answers[n], nil
	}
}

// attempts is a tool caller that a function plays.
type attempts func(ctx context.Context, c tool.Call) tool.Attempt

func (a attempts) Attempt(ctx context.Context, c tool.Call) tool.Attempt { return a(ctx, c) }

func (a attempts) Connect(string, map[string]string, *spec.Package) tool.Caller { return a }

// ok answers every call with its arguments and counts them.
type ledger struct {
	mu    sync.Mutex
	calls []tool.Call
}

func (l *ledger) attempt(_ context.Context, c tool.Call) tool.Attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
	return tool.Attempt{Tool: c.Name, Out: json.RawMessage(fmt.Sprintf(`{"did":%q,"n":%d}`, c.Name, len(l.calls))), At: time.Unix(0, 0).UTC(), For: time.Millisecond}
}

func (l *ledger) names() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, c := range l.calls {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// world is effects without policy, for machines that a test drives itself.
type world struct {
	chat  chat
	tools attempts
}

func (w world) Model(ctx context.Context, req model.Request, onDelta func(model.Delta)) (model.Response, error) {
	return w.chat.Chat(ctx, req, onDelta)
}

func (w world) Tool(ctx context.Context, c tool.Call) tool.Result {
	a := w.tools(ctx, c)
	return tool.Result{Out: a.Out, Class: a.Class, Message: a.Message, Tool: c.Name, Attempts: []tool.Attempt{a}}
}

// home is a store with a service over it.
type home struct {
	*run.Service
	db    *db.DB
	bus   *bus.Bus
	blobs *blob.Files
	clock *clock.Virtual
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// openStore opens the store of a home.
func openStore(dir string) (*home, error) {
	ctx := context.Background()
	store, err := db.Open(ctx, filepath.Join(dir, "flywheel.db"))
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, store, bus.Migrations, run.Migrations); err != nil {
		return nil, err
	}
	blobs, err := blob.OpenFiles(filepath.Join(dir, "cas"))
	return &home{db: store, bus: bus.New(store), blobs: blobs, clock: clock.NewVirtual(epoch)}, err
}

func openHome(tb testing.TB, dir string, c chat, tools run.Tools, change func(*run.Deps)) *home {
	tb.Helper()
	h, err := openStore(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.db.Close() })
	d := run.Deps{
		DB: h.db, Blobs: h.blobs, Bus: h.bus, Clock: h.clock, Models: c, Tools: tools, Secret: []byte("secret of this home"),
	}
	if change != nil {
		change(&d)
	}
	h.Service = run.New(d)
	tb.Cleanup(func() { _ = h.Close() })
	return h
}

// start runs a message to its end, or until it waits.
func (h *home) start(tb testing.TB, req run.StartRequest) *run.Run {
	tb.Helper()
	_, wait, err := h.Start(tb.Context(), req)
	if err != nil {
		tb.Fatalf("start: %v", err)
	}
	r, err := wait(tb.Context())
	if err != nil {
		tb.Fatalf("wait: %v", err)
	}
	return r
}

func (h *home) use(p *run.Program) *run.Program {
	h.Use(p)
	return p
}

func message(p *run.Program, text string) run.StartRequest {
	return run.StartRequest{Identity: p.Identity, Source: run.SourceCLI, Input: run.Input{Message: text}}
}
