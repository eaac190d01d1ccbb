package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// packages finds one program under every name.
type packages struct{ p *run.Program }

func (p packages) Draft(_ context.Context, dir op.Dir) (run.Target, error) {
	if len(dir["flywheel.yaml"]) == 0 {
		return run.Target{}, fault.New(fault.Invalid, "package.invalid", "no flywheel.yaml")
	}
	return run.Target{Identity: p.p.Identity}, nil
}

func (p packages) Named(_ context.Context, name string) (run.Target, error) {
	return run.Target{Identity: p.p.Identity, Release: "sha256:0123456789abcdef", Channel: strings.TrimPrefix(name, "card-desk@")}, nil
}

type api struct {
	*home
	program *run.Program
	server  *httptest.Server
}

func serve(t *testing.T, pkg *spec.Package, c chat, tools attempts) *api {
	t.Helper()
	p := compile(t, pkg, nil)
	h := openHome(t, t.TempDir(), c, tools, func(d *run.Deps) { d.Packages = packages{p} })
	h.Use(p)
	router := op.NewRouter(op.RouterOptions{Guard: func(context.Context, string) error { return nil }})
	mux := http.NewServeMux()
	router.Mount(mux, h.Ops()...)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = router.Close(context.Background()) })
	return &api{h, p, server}
}

// do calls an operation and gives the status and the body.
func (a *api) do(t *testing.T, method, path, body, accept string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b.String()
}

func TestRunStreamsItsWordsAndSteps(t *testing.T) {
	t.Parallel()
	a := serve(t, deskPackage(), script(call("cards.find", `{"name":"Ann"}`), say("Here it is.")), (&ledger{}).attempt)
	status, body := a.do(t, "POST", "/api/v1/runs", `{"message":"x","dir":{"flywheel.yaml":"eA=="}}`, "text/event-stream")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, want := range []string{`"delta":{"run":"run_`, `"text":"Here it is."`, `"kind":"tool"`, "event: result", `"streamed":true`, `"reply":"Here it is."`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if status, body = a.do(t, "POST", "/api/v1/runs", `{"message":"x"}`, "application/json"); status != 422 || !strings.Contains(body, "run.target") {
		t.Errorf("without a target: %d %s", status, body)
	}
	if status, body = a.do(t, "POST", "/api/v1/runs", `{"message":"x","agent":"card-desk@prod"}`, "application/json"); status != 200 || !strings.Contains(body, `"channel":"prod"`) {
		t.Errorf("a released agent: %d %s", status, body)
	}
	if status, body = a.do(t, "GET", "/api/v1/runs/run_nothing", "", "application/json"); status != 404 || !strings.Contains(body, "run.not_found") {
		t.Errorf("unknown run: %d %s", status, body)
	}
	if status, body = a.do(t, "GET", "/api/v1/runs?since=yesterday", "", "application/json"); status != 422 || !strings.Contains(body, "run.since") {
		t.Errorf("bad since: %d %s", status, body)
	}
}

func TestACommandThatAskedForAFailedRunFails(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	pkg.Limits.Steps = 1
	a := serve(t, pkg, script(call("cards.find", `{"name":"Ann"}`)), (&ledger{}).attempt)
	_, body := a.do(t, "POST", "/api/v1/runs", `{"message":"x","agent":"card-desk@prod"}`, "application/json")
	var r run.Run
	if err := json.Unmarshal([]byte(body), &r); err != nil || r.Status != run.Failed {
		t.Fatalf("%v %s", err, body)
	}
	canceled := fmt.Sprintf(`{"id":"%s","status":"canceled","failure":{"class":"canceled","message":"canceled by ann"}}`, r.ID)
	following := 0
	for _, o := range a.Ops() {
		if id := o.Meta().ID; id != "run.start" && id != "run.answer" && id != "run.fork" {
			if err := o.Failure([]byte(body)); err != nil {
				t.Errorf("%s only tells of the run, and fails: %v", id, err)
			}
			continue
		}
		following++
		err := fault.From(o.Failure([]byte(body)))
		if err == nil || err.Code != run.ClassLimitSteps || err.Kind.ExitCode() != 1 || err.Hint != "flywheel show "+string(r.ID) || !strings.Contains(err.Message, "failed at ") {
			t.Errorf("%s: %+v", o.Meta().ID, err)
		}
		var text bytes.Buffer
		if ok, err := o.RenderResult(&text, []byte(body)); !ok || err != nil || !strings.HasPrefix(text.String(), "failed: limit.steps\n"+string(r.ID)) {
			t.Errorf("%s: %v %v %q", o.Meta().ID, ok, err, text.String())
		}
		if err := fault.From(o.Failure([]byte(canceled))); err == nil || err.Kind != fault.Canceled || err.Message != "the run was canceled by ann" {
			t.Errorf("canceled: %+v", err)
		}
		if err := o.Failure([]byte(`{"id":"run_1","status":"waiting","failure":{"class":"uncertain"}}`)); err != nil {
			t.Errorf("a run that waits has not failed: %v", err)
		}
	}
	if following != 3 {
		t.Errorf("%d operations follow a run", following)
	}
	if run.KindOf(run.ClassUnreachable) != fault.Unavailable || run.KindOf(run.ClassLimitTime) != fault.Timeout {
		t.Error("what may go away by itself must be told apart")
	}
}

func TestQuestionsAreAnsweredThroughTheAPI(t *testing.T) {
	t.Parallel()
	a := serve(t, refundPackage(), script(say("Paid.")), (&ledger{}).attempt)
	_, body := a.do(t, "POST", "/api/v1/runs", `{"message":"pay 4711","agent":"x@prod"}`, "application/json")
	var r run.Run
	if err := json.Unmarshal([]byte(body), &r); err != nil || r.Status != run.Waiting {
		t.Fatalf("%v %s", err, body)
	}
	path := "/api/v1/runs/" + string(r.ID)
	if status, body := a.do(t, "POST", path+"/answer", `{"approve":true,"deny":true}`, "application/json"); status != 422 {
		t.Errorf("approve and deny: %d %s", status, body)
	}
	status, body := a.do(t, "POST", path+"/answer", `{"approve":true}`, "application/json")
	if status != 200 || !strings.Contains(body, `"reply":"Paid."`) {
		t.Errorf("answer: %d %s", status, body)
	}
	if status, body = a.do(t, "GET", path+"/replay", "", "application/json"); status != 200 || !strings.Contains(body, `"equal":true`) {
		t.Errorf("replay: %d %s", status, body)
	}
	if status, body = a.do(t, "POST", path+"/fork", `{"at":1}`, "application/json"); status != 200 || !strings.Contains(body, `"status":"waiting"`) {
		t.Errorf("fork: %d %s", status, body)
	}
	if status, body = a.do(t, "GET", path+"/journal?limit=2", "", "application/json"); status != 200 || !strings.Contains(body, `"next":2`) {
		t.Errorf("journal: %d %s", status, body)
	}
	if status, body = a.do(t, "POST", path+"/cancel", "", "application/json"); status != 409 {
		t.Errorf("cancel after the end: %d %s", status, body)
	}
}

// The text forms are compared with golden files; UPDATE=1 writes them.
func TestTextForms(t *testing.T) {
	t.Parallel()
	n := 0
	a := serve(t, deskPackage(), script(call("cards.find", `{"name":"Ann"}`), call("cards.freeze", `{"card_id":"4711"}`), say("Your card is frozen.\nAnything else?")),
		func(_ context.Context, c tool.Call) tool.Attempt {
			if n++; n == 2 {
				return tool.Attempt{Class: tool.Unavailable, Status: 503, Message: "the card service is down"}
			}
			return tool.Attempt{Out: json.RawMessage(`{"id":"4711"}`)}
		})
	a.start(t, run.StartRequest{
		Identity: a.program.Identity, Input: run.Input{Message: "I lost my card"}, Source: run.SourceChat, Session: "s1",
		Release: "sha256:0123456789abcdef", Channel: "prod",
	})
	_, list1 := a.do(t, "GET", "/api/v1/runs", "", "application/json")
	var page run.Page
	if err := json.Unmarshal([]byte(list1), &page); err != nil {
		t.Fatal(err)
	}
	id := string(page.Runs[0].ID)
	_, show := a.do(t, "GET", "/api/v1/runs/"+id, "", "application/json")
	_, replay := a.do(t, "GET", "/api/v1/runs/"+id+"/replay", "", "application/json")
	var out bytes.Buffer
	for _, part := range []struct{ op, body string }{{"run.list", list1}, {"run.show", show}, {"run.replay", replay}} {
		out.WriteString("$ " + part.op + "\n")
		for _, o := range a.Ops() {
			if o.Meta().ID != part.op {
				continue
			}
			if ok, err := o.RenderResult(&out, []byte(part.body)); !ok || err != nil {
				t.Errorf("%s: %v %v", part.op, ok, err)
			}
		}
	}
	text := regexp.MustCompile(`run_[0-9a-z]{26}`).ReplaceAllString(out.String(), "run_ID")
	text = strings.ReplaceAll(text, epoch.Local().Format(time.DateTime), "DATE TIME")
	text = strings.ReplaceAll(text, epoch.Local().Format("01-02 15:04:05"), "01-02 15:04:05")
	golden := filepath.Join("testdata", "text.golden")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}
