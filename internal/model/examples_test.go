package model_test

import (
	"encoding/json"
	"testing"

	"flywheel/internal/model"
	"flywheel/internal/model/modeltest"
)

// A server with native tool calls refuses a conversation in which a call has no answer; examples show
// the choice alone.
func TestExamplesGetAnswersWhereToolCallsAreNative(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: "hello"})
	call := func(id, name string) model.Message {
		return model.Message{Role: model.RoleAssistant, ToolCalls: []model.ToolCall{{ID: id, Name: name, Args: json.RawMessage(`{}`)}}}
	}
	req := request(user("freeze it"), call("", "cards.freeze"), user("list them"), call("x", "cards.list"),
		user("and now"), call("real", "cards.list"), model.Message{Role: model.RoleTool, ToolCallID: "real", Content: "[]"})
	if _, _, err := chat(t, service(t, s, model.FormNative), req); err != nil {
		t.Fatal(err)
	}
	type calls struct{ ID string }
	var raw struct {
		Messages []struct {
			Role      string
			ID        string  `json:"tool_call_id"`
			ToolCalls []calls `json:"tool_calls"`
		}
	}
	if err := json.Unmarshal(s.Requests()[0].Raw, &raw); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, m := range raw.Messages {
		for _, c := range m.ToolCalls {
			if c.ID == "" || seen[c.ID] {
				t.Errorf("message %d: call id %q is empty or used before", i, c.ID)
			}
			seen[c.ID] = true
			if i+1 >= len(raw.Messages) || raw.Messages[i+1].Role != model.RoleTool || raw.Messages[i+1].ID != c.ID {
				t.Errorf("message %d: call %q is not answered by the next message", i, c.ID)
			}
		}
	}
	if len(seen) != 3 || len(raw.Messages) != len(req.Messages)+2 {
		t.Errorf("%d calls in %d messages, want 3 in %d", len(seen), len(raw.Messages), len(req.Messages)+2)
	}
}
