package model_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/fault"
)

const smol = "local/smollm2-135m-instruct"

// realModel is a service over the installed model; without one the test is skipped and says so.
func realModel(t *testing.T) *model.Service {
	t.Helper()
	if testing.Short() {
		t.Skip("the real model is not for -short")
	}
	m := model.New(model.Deps{Getenv: os.Getenv})
	t.Cleanup(func() { _ = m.Close() })
	for _, p := range m.Doctor(t.Context()) {
		if p.Name != "local" || !p.Reachable {
			continue
		}
		for _, r := range p.Models {
			if r.Ref == smol {
				return m
			}
		}
	}
	t.Skip("the local model is not installed: make local-model")
	return nil
}

func deskRequest(text string) model.Request {
	say := func(role, content string) model.Message { return model.Message{Role: role, Content: content} }
	call := func(tool, args string) model.Message {
		return model.Message{Role: model.RoleAssistant, ToolCalls: []model.ToolCall{{Name: tool, Args: json.RawMessage(args)}}}
	}
	return model.Request{
		Model: smol, MaxTokens: 48, Tools: []model.ToolDef{freeze, list},
		Messages: []model.Message{
			say(model.RoleSystem, "You are the card desk of a bank. Answer with one action: cards_freeze when a card is lost or stolen, cards_list to see the cards, reply for everything else."),
			say(model.RoleUser, "I lost my card 1234"), call("cards.freeze", `{"card_id":"1234","reason":"lost"}`),
			say(model.RoleUser, "Which cards do I have?"), call("cards.list", `{}`),
			say(model.RoleUser, "Thank you very much"), say(model.RoleAssistant, "You are welcome."),
			say(model.RoleUser, text),
		},
	}
}

// pidOf is the process that serves the model.
func pidOf(t *testing.T, m *model.Service) int {
	t.Helper()
	for _, p := range m.Doctor(t.Context()) {
		for _, r := range p.Models {
			if i := strings.Index(r.Server, "pid "); r.Ref == smol && i >= 0 {
				pid := 0
				if _, err := fmt.Sscanf(r.Server[i:], "pid %d", &pid); err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatal("no server is running")
	return 0
}

func TestRealModel(t *testing.T) {
	m := realModel(t) // not parallel: it needs the processors
	began := time.Now()
	if err := m.Warm(t.Context(), smol); err != nil {
		t.Fatal(err)
	}
	t.Logf("start to healthy: %s", time.Since(began).Round(time.Millisecond))

	for i, text := range []string{"My card 4711 was stolen", "Somebody took my card 9021", "My card 5530 is lost"} {
		began = time.Now()
		r, deltas, err := chat(t, m, deskRequest(text))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("action call %d: %s, compute %s, %d in (%d cached), %d out: %+v", i, time.Since(began).Round(time.Millisecond), r.Usage.Compute, r.Usage.In, r.Usage.Cached, r.Usage.Out, r.Message)
		if r.Form != model.FormAction || r.Usage.Compute <= 0 || r.Usage.Cost != 0 || r.Usage.Prices != "local" || len(deltas) == 0 {
			t.Errorf("%+v", r)
		}
		if i > 0 && r.Usage.Cached == 0 {
			t.Error("the constant beginning was not cached")
		}
		if len(r.Message.ToolCalls) == 1 && r.Message.ToolCalls[0].Name == "cards.freeze" {
			var args struct {
				Card string `json:"card_id"`
			}
			if err := json.Unmarshal(r.Message.ToolCalls[0].Args, &args); err != nil || len(args.Card) != 4 {
				t.Errorf("the grammar did not hold: %s", r.Message.ToolCalls[0].Args)
			}
		}
	}
	realReply(t, m)
	realOutput(t, m)
	realCancel(t, m)
	realCrash(t, m)

	pid := pidOf(t, m)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d outlived Close", pid)
	}
}

func realReply(t *testing.T, m *model.Service) {
	t.Helper()
	req := model.Request{Model: smol, MaxTokens: 24, Messages: []model.Message{user("Say hello to a customer.")}}
	began := time.Now()
	r, deltas, err := chat(t, m, req)
	if err != nil {
		t.Fatal(err)
	}
	streamed := ""
	for _, d := range deltas {
		streamed += d.Text
	}
	if streamed != r.Message.Content || len(deltas) < 3 || streamed == "" {
		t.Errorf("streamed %q in %d pieces of %q", streamed, len(deltas), r.Message.Content)
	}
	t.Logf("free reply: %s for %d tokens: %q", time.Since(began).Round(time.Millisecond), r.Usage.Out, streamed)
}

func realOutput(t *testing.T, m *model.Service) {
	t.Helper()
	req := model.Request{
		Model: smol, MaxTokens: 60, Messages: []model.Message{user("My card 4711 was stolen yesterday!")},
		Output: json.RawMessage(`{"type":"object","properties":{"intent":{"enum":["stolen","lost","other"]},"card":{"type":"string","pattern":"^\\d{4}$"},"amount":{"type":"integer","minimum":0,"maximum":500}},"required":["intent","card","amount"]}`),
	}
	r, _, err := chat(t, m, req)
	if err != nil {
		t.Fatal(err) // the answer was checked against the schema
	}
	t.Logf("output: %s", r.Message.Content)
}

func realCancel(t *testing.T, m *model.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req := model.Request{Model: smol, MaxTokens: 2000, Messages: []model.Message{user("Count from one to one thousand in words.")}}
	if _, err := m.Chat(ctx, req, func(model.Delta) { cancel() }); fault.KindOf(err) != fault.Canceled {
		t.Fatalf("got %v", err)
	}
	// The server noticed: the next call does not wait for two thousand tokens.
	began := time.Now()
	if _, _, err := chat(t, m, deskRequest("thanks")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the call after a cancelled one took %s", took)
	}
}

func realCrash(t *testing.T, m *model.Service) {
	t.Helper()
	pid := pidOf(t, m)
	var once sync.Once
	req := model.Request{Model: smol, MaxTokens: 500, Messages: []model.Message{user("Tell a long story.")}}
	_, err := m.Chat(t.Context(), req, func(model.Delta) {
		once.Do(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	})
	if !fault.HasCode(err, model.CodeInterrupted) {
		t.Fatalf("killed in mid-stream: %v", err)
	}
	began := time.Now()
	if _, _, err := chat(t, m, deskRequest("My card 4711 was stolen")); err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	if now := pidOf(t, m); now == pid {
		t.Error("the process is still the killed one")
	}
	t.Logf("first answer after kill -9: %s", time.Since(began).Round(time.Millisecond))
}
