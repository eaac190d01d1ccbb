package tool_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"flywheel/internal/tool"
	"flywheel/spec"
)

func TestSecretsReachTheToolAndNothingElse(t *testing.T) {
	t.Parallel()
	var header, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Get("Authorization")
		var in map[string]string
		_ = json.NewDecoder(r.Body).Decode(&in)
		body = in["note"]
		_, _ = w.Write([]byte(`{"ok":true}`))
	}))
	t.Cleanup(server.Close)
	s := tool.New(tool.Deps{Secret: func(name string) (string, error) {
		if name == "bank-key" {
			return "hunter2", nil
		}
		return "", fmt.Errorf("the secret %s is not set", name)
	}})
	t.Cleanup(func() { _ = s.Close() })
	pay := &spec.Tool{Name: "pay", Effect: spec.EffectRead, Call: spec.ToolCall{HTTP: &spec.HTTPCall{
		Method: "POST", URL: server.URL, Headers: map[string]string{"Authorization": "Bearer secret://bank-key"},
	}}}
	caller := s.Caller(nil, &spec.Package{Tools: map[string]*spec.Tool{"pay": pay}})

	a := caller.Attempt(t.Context(), tool.Call{Tool: pay, Name: "pay", Args: json.RawMessage(`{"note":"secret://bank-key"}`)})
	if a.Class != tool.OK || header != "Bearer hunter2" {
		t.Errorf("class %q, header %q", a.Class, header)
	}
	if body != "secret://bank-key" {
		t.Errorf("an argument named a secret and got %q", body)
	}

	pay.Call.HTTP.Headers["Authorization"] = "Bearer secret://other"
	a = caller.Attempt(t.Context(), tool.Call{Tool: pay, Name: "pay", Args: json.RawMessage(`{}`)})
	if a.Class != tool.Rejected || !strings.Contains(a.Message, "the secret other is not set") {
		t.Errorf("a missing secret: %q %q", a.Class, a.Message)
	}
}
