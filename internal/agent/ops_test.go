package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"flywheel/internal/agent"
	"flywheel/internal/platform/op"
)

func TestOperationsAreDeclared(t *testing.T) {
	t.Parallel()
	want := map[string]string{"package.check": "check", "package.format": "fmt", "package.lock": "lock", "package.init": "", "package.diff": ""}
	for _, o := range (agent.Deps{}).Ops() {
		m := o.Meta()
		if cli, ok := want[m.ID]; !ok || cli != m.CLI {
			t.Errorf("%s has the command %q", m.ID, m.CLI)
		}
		delete(want, m.ID)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// call sends JSON to an operation as a client does.
func call(t *testing.T, id string, in any) (status int, body map[string]any) {
	t.Helper()
	router := op.NewRouter(op.RouterOptions{Guard: func(context.Context, string) error { return nil }})
	mux := http.NewServeMux()
	ops := agent.Deps{}.Ops()
	router.Mount(mux, ops...)
	path := ""
	for _, o := range ops {
		if o.Meta().ID == id {
			path = o.Meta().Path
		}
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	mux.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s answers %q: %v", id, w.Body, err)
	}
	return w.Code, body
}

func TestCheckAnswersWithTheIdentityOrEveryError(t *testing.T) {
	t.Parallel()
	files, err := agent.Template("help-desk")
	if err != nil {
		t.Fatal(err)
	}
	status, body := call(t, "package.check", map[string]any{"files": files})
	if identity, _ := body["identity"].(string); status != http.StatusOK || !strings.HasPrefix(identity, "sha256:") {
		t.Fatalf("%d %v", status, body)
	}
	files["agents/desk.agent.md"] = []byte("---\nmodl: fast\n---\n")
	status, body = call(t, "package.check", map[string]any{"files": files})
	if errs, _ := body["errors"].([]any); status != http.StatusUnprocessableEntity || body["code"] != "package.invalid" || len(errs) < 3 {
		t.Errorf("%d %v", status, body)
	}
}

func TestLockFormatInitAndDiffGiveFiles(t *testing.T) {
	t.Parallel()
	status, body := call(t, "package.init", map[string]any{"name": "my-desk"})
	made, _ := body["files"].(map[string]any)
	if status != http.StatusOK || made["flywheel.yaml"] == nil {
		t.Fatalf("%d %v", status, body)
	}
	status, body = call(t, "package.lock", map[string]any{"files": made})
	if locked, _ := body["files"].(map[string]any); status != http.StatusOK || locked[agent.LockFile] == nil {
		t.Errorf("%d %v", status, body)
	}
	status, body = call(t, "package.format", map[string]any{"files": op.Dir{"flywheel.yaml": []byte("name:   x\n")}})
	if changed, _ := body["changed"].([]any); status != http.StatusOK || len(changed) != 1 {
		t.Errorf("%d %v", status, body)
	}
	other, err := agent.NewFrom("help-desk", "other")
	if err != nil {
		t.Fatal(err)
	}
	status, body = call(t, "package.diff", map[string]any{"before": made, "after": other})
	if diffs, _ := body["diffs"].([]any); status != http.StatusOK || len(diffs) != 1 {
		t.Errorf("%d %v", status, body)
	}
}
