package release_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/model"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
	"flywheel/internal/platform/op"
	"flywheel/internal/release"
)

// mood is a model that greets as its prompt says: "kind" always, otherwise only people with an even number.
type mood struct{}

func (mood) Chat(_ context.Context, req model.Request, _ func(model.Delta)) (model.Response, error) {
	said := req.Messages[len(req.Messages)-1].Content
	reply := "What?"
	if strings.Contains(req.Messages[0].Content, "kind") || strings.ContainsAny(said[len(said)-1:], "02468") {
		reply = "Hello, dear."
	}
	return model.Response{
		Message: model.Message{Role: model.RoleAssistant, Content: reply}, Finish: "stop", Model: req.Model, Form: model.FormNative,
		Usage: model.Usage{In: 10, Out: 2, Cost: 1000},
	}, nil
}

func suiteFile(gate string) []byte {
	var b strings.Builder
	b.WriteString("suite: smoke\nscenarios:\n")
	for i := range 60 {
		_, _ = fmt.Fprintf(&b, "  - {name: greet %d, family: f%d, user: {says: \"I am number %d\"}, expect: {says: {contains: [dear]}}}\n", i, i, i)
	}
	b.WriteString("split: {dev: 50, audit: 50, by: family}\n")
	b.WriteString(gate)
	return []byte(b.String())
}

const strictGate = "gate: {pass: \">= 0.3 with 95% confidence\", safety: all, cost: \"<= 1.5x of prod\", evidence: 20}\n"

func withSuite(prompt string) op.Dir {
	return op.Dir{
		"flywheel.yaml":           []byte("flywheel: 1\nname: desk\nentry: agents/desk\nmodels: {fast: test/mood}\n"),
		"agents/desk.agent.md":    []byte("---\nmodel: fast\n---\n" + prompt + "\n"),
		"suites/smoke.suite.yaml": suiteFile(strictGate),
	}
}

type fixedLock struct {
	digest string
	err    error
}

func (l fixedLock) Lock(ctx context.Context, r *agent.Resolved) (*agent.Lock, error) {
	lock, err := agent.MakeLock(ctx, r, agent.Pins{})
	if err != nil || l.err != nil {
		return nil, l.err
	}
	for i := range lock.Lines {
		if lock.Lines[i].Kind == agent.KindModel {
			lock.Lines[i].Digest = l.digest
		}
	}
	return lock, nil
}

// whole is a home with the real lab behind the gate, used through its operation as the CLI does.
func whole(t *testing.T) *home {
	t.Helper()
	h := newHome(t)
	ctx := context.Background()
	if err := db.Migrate(ctx, h.db, lab.Migrations); err != nil {
		t.Fatal(err)
	}
	l := lab.New(lab.Deps{DB: h.db, Blobs: h.blobs, Model: mood{}})
	svc, err := release.New(release.Deps{
		DB: h.db, Blobs: h.blobs, Bus: bus.New(h.db), Clock: h.clock, Signer: h.key, Gate: release.LabGate{Lab: l, Blobs: h.blobs},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.svc = svc
	return h
}

func (h *home) op(t *testing.T, locker release.Locker, files op.Dir, force bool) (map[string]json.RawMessage, *release.Release, error) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"files": files, "force": force})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range h.svc.Ops(agent.New(lab.SuiteKind()), locker) {
		if o.Meta().ID == "release.create" {
			raw, err := call(o, body)
			if err != nil {
				return nil, nil, err
			}
			var out map[string]json.RawMessage
			r := &release.Release{}
			if err := errors.Join(json.Unmarshal(raw, &out), json.Unmarshal(out["release"], r)); err != nil {
				t.Fatal(err)
			}
			return out, r, nil
		}
	}
	t.Fatal("no operation release.create")
	return nil, nil, nil
}

func TestTheGateLooksAtTheAuditSplitInTheLab(t *testing.T) {
	t.Parallel()
	h := whole(t)
	_, one, err := h.op(t, fixedLock{}, withSuite("Greet people."), false)
	if err != nil {
		t.Fatalf("%v %+v", err, fault.From(err).Fields)
	}
	if one.Number != 1 || !one.Gate.OK || one.Test.Split != "audit" || one.Test.Scenarios < 15 || one.Test.Scenarios > 45 || one.Test.Report == "" || one.Test.Effective < 2 {
		t.Errorf("release 1: %+v, test %+v", one.Gate, one.Test)
	}
	h.deploy("1")

	_, _, err = h.op(t, fixedLock{}, withSuite("Greet people, always."), false)
	f := wantCode(t, err, "release.gate")
	if len(f.Fields) != 1 || f.Fields[0].Path != "evidence" {
		t.Errorf("an equal candidate: %+v", f.Fields)
	}
	_, two, err := h.op(t, fixedLock{}, withSuite("Greet people and be kind."), false)
	if err != nil {
		t.Fatalf("%v %+v", err, fault.From(err).Fields)
	}
	if a := two.Against; two.Number != 2 || a == nil || a.Worse != 0 || a.Better < 7 || a.Evidence < 20 || a.BaseNumber != 1 {
		t.Errorf("release 2: %+v, against %+v", two.Gate, two.Against)
	}
	h.deploy("2")
	_, _, err = h.op(t, fixedLock{}, withSuite("Greet people again."), false)
	f = wantCode(t, err, "release.gate")
	rules := ""
	for _, field := range f.Fields {
		rules += field.Path + " "
	}
	if !strings.Contains(rules, "not worse") || !strings.Contains(rules, "evidence") {
		t.Errorf("a worse candidate fails at: %s", rules)
	}
	v, err := h.svc.Verify(context.Background(), two)
	if err != nil || !v.OK {
		t.Errorf("release 2 as it came over the wire: %v, %v", failed(v), err)
	}
}

func TestTheLockIsMadeReadAndCompared(t *testing.T) {
	t.Parallel()
	h := whole(t)
	files := withSuite("Greet people.")
	weights := "sha256:" + strings.Repeat("a", 64)
	out, one, err := h.op(t, fixedLock{digest: weights}, files, false)
	if err != nil {
		t.Fatal(err)
	}
	var written op.Dir
	if err := json.Unmarshal(out["files"], &written); err != nil || len(written[agent.LockFile]) == 0 {
		t.Fatalf("the lock was not given back: %s, %v", out["files"], err)
	}
	files[agent.LockFile] = written[agent.LockFile]
	_, again, err := h.op(t, fixedLock{digest: weights}, files, false)
	if err != nil || again.Digest != one.Digest || !again.Existing {
		t.Errorf("with the lock in the package: %+v, %v", again, err)
	}
	_, again, err = h.op(t, fixedLock{err: fault.New(fault.Unavailable, "model.unreachable", "no model")}, files, false)
	if err != nil || again.Digest != one.Digest {
		t.Errorf("nobody to ask: %+v, %v", again, err)
	}
	_, _, err = h.op(t, fixedLock{digest: "sha256:" + strings.Repeat("b", 64)}, files, false)
	wantCode(t, err, "release.lock_drift")
	files["agents/desk.agent.md"] = []byte("---\nmodel: fast\n---\nGreet nobody.\n")
	_, _, err = h.op(t, fixedLock{digest: weights}, files, false)
	wantCode(t, err, "package.lock_stale")
	files["agents/desk.agent.md"] = []byte("---\nmodel: none\nbad: 1\n---\nGreet.\n")
	_, _, err = h.op(t, fixedLock{digest: weights}, files, false)
	if f := wantCode(t, err, "package.invalid"); len(f.Fields) < 2 {
		t.Errorf("errors of the package: %+v", f.Fields)
	}
}

func TestASuiteIsChosenByName(t *testing.T) {
	t.Parallel()
	h := whole(t)
	ctx := context.Background()
	files := withSuite("Greet people.")
	files["suites/slow.suite.yaml"] = []byte(strings.Replace(string(suiteFile(strictGate)), "suite: smoke", "suite: slow", 1))
	r, problems := agent.New(lab.SuiteKind()).Check(files)
	if err := agent.Fault(problems); err != nil {
		t.Fatal(err)
	}
	req := release.CreateRequest{Package: r, Lock: lockFor(t, r)}
	_, err := h.svc.Create(ctx, req, nil)
	wantCode(t, err, "release.which_suite")
	req.Suite = "smok"
	_, err = h.svc.Create(ctx, req, nil)
	if f := wantCode(t, err, "release.unknown_suite"); !strings.Contains(f.Hint, "smoke") {
		t.Errorf("hint: %s", f.Hint)
	}
	req.Suite = "slow"
	out, err := h.svc.Create(ctx, req, nil)
	if err != nil || out.Test.SuiteName != "slow" {
		t.Errorf("%+v, %v", out, err)
	}
}

// call sends a request to an operation over HTTP and reads its answer or its error.
func call(o op.Op, body []byte) ([]byte, error) {
	mux := http.NewServeMux()
	rt := op.NewRouter(op.RouterOptions{Guard: func(context.Context, string) error { return nil }})
	rt.Mount(mux, o)
	s := httptest.NewServer(mux)
	defer s.Close()
	res, err := s.Client().Post(s.URL+o.Meta().Path, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode < 300 {
		return raw, err
	}
	var p httpx.Problem
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%d %s", res.StatusCode, raw)
	}
	return nil, fault.New(p.Kind, p.Code, "%s", p.Detail).WithHint("%s", p.Hint).WithFields(p.Errors...)
}
