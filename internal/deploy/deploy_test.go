package deploy_test

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/deploy"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/internal/release"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// echo is a model that repeats the user after the first line of its prompt, word by word.
type echo struct {
	mu       sync.Mutex
	fail     error
	gate     chan struct{} // when set: answers wait for it after the first piece
	requests []model.Request
}

func (e *echo) Resolve(_ context.Context, c spec.ModelChoice) (string, error) { return c.First, nil }

func (e *echo) Chat(ctx context.Context, req model.Request, onDelta func(model.Delta)) (model.Response, error) {
	e.mu.Lock()
	e.requests = append(e.requests, req)
	fail, gate := e.fail, e.gate
	e.mu.Unlock()
	if fail != nil {
		return model.Response{}, fail
	}
	prompt, _, _ := strings.Cut(req.Messages[0].Content, "\n")
	text := prompt + " " + req.Messages[len(req.Messages)-1].Content
	for i, piece := range strings.SplitAfter(text, " ") {
		if onDelta != nil {
			onDelta(model.Delta{Text: piece})
		}
		if i == 0 && gate != nil {
			select {
			case <-gate:
			case <-ctx.Done():
				return model.Response{}, ctx.Err()
			}
		}
	}
	return model.Response{
		Message: model.Message{Role: model.RoleAssistant, Content: text}, Finish: "stop", Model: req.Model,
		Usage: model.Usage{In: 40, Out: 7, Cached: 10},
	}, nil
}

type noTools struct{}

func (noTools) Connect(string, map[string]string, *spec.Package) tool.Caller { return nil }

type home struct {
	t        *testing.T
	db       *db.DB
	blobs    *blob.Files
	releases *release.Service
	runs     *run.Service
	model    *echo
	svc      *deploy.Service
	runner   *recorder
}

// recorder passes on what it is asked, and remembers it.
type recorder struct {
	deploy.Runner
	mu   sync.Mutex
	seen []deploy.StartRequest
}

func (r *recorder) Start(ctx context.Context, req deploy.StartRequest) (string, func() (deploy.Result, error), error) {
	r.mu.Lock()
	r.seen = append(r.seen, req)
	r.mu.Unlock()
	return r.Runner.Start(ctx, req)
}

func (r *recorder) last() deploy.StartRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[len(r.seen)-1]
}

func newHome(t *testing.T) *home {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	h := &home{t: t, model: &echo{}}
	var err error
	if h.db, err = db.Open(ctx, filepath.Join(dir, "home.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close() })
	if err := db.Migrate(ctx, h.db, bus.Migrations, run.Migrations, release.Migrations, deploy.Migrations); err != nil {
		t.Fatal(err)
	}
	if h.blobs, err = blob.OpenFiles(filepath.Join(dir, "cas")); err != nil {
		t.Fatal(err)
	}
	key, err := release.OpenKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	events := bus.New(h.db)
	if h.releases, err = release.New(release.Deps{DB: h.db, Blobs: h.blobs, Bus: events, Clock: clock.NewVirtual(start), Signer: key}); err != nil {
		t.Fatal(err)
	}
	h.runs = run.New(run.Deps{DB: h.db, Blobs: h.blobs, Bus: events, Models: h.model, Tools: noTools{}, Secret: []byte("secret")})
	t.Cleanup(func() { _ = h.runs.Close() })
	h.runner = &recorder{Runner: deploy.Runs{Service: h.runs}}
	h.svc = deploy.New(deploy.Deps{DB: h.db, Releases: h.releases, Packages: deploy.AgentPackages{Blobs: h.blobs}, Runs: h.runner})
	return h
}

func files(prompt string) op.Dir {
	return op.Dir{
		"flywheel.yaml":        []byte("flywheel: 1\nname: desk\ngoal: Help.\nentry: agents/desk\nmodels: {fast: local/echo}\nenv:\n  CARDS_URL: {description: Where the cards are, default: \"http://localhost\"}\n"),
		"agents/desk.agent.md": []byte("---\nmodel: fast\n---\n" + prompt + "\n"),
	}
}

func (h *home) release(dir op.Dir) *release.Release {
	h.t.Helper()
	ctx := context.Background()
	r, problems := agent.New().Check(dir)
	if err := agent.Fault(problems); err != nil {
		h.t.Fatalf("%v: %+v", err, fault.From(err).Fields)
	}
	l, err := agent.MakeLock(ctx, r, agent.Pins{})
	if err != nil {
		h.t.Fatal(err)
	}
	raw, err := release.LockJSON(l)
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := h.releases.Create(ctx, release.CreateRequest{Package: r, Lock: raw, Force: true, By: "ann"}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *home) deploy(ref string, share float64) {
	h.t.Helper()
	_, _, err := h.svc.Deploy(context.Background(), deploy.Request{MoveRequest: release.MoveRequest{Channel: "prod", Release: ref, Share: share, Who: "ann"}})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) serve() *httptest.Server {
	h.t.Helper()
	s := httptest.NewServer(h.svc.Handler())
	h.t.Cleanup(s.Close)
	return s
}

func wantCode(t *testing.T, err error, code string) *fault.Error {
	t.Helper()
	if !fault.HasCode(err, code) {
		t.Fatalf("got %v, want code %s", err, code)
	}
	return fault.From(err)
}

func TestADeploymentRunsItsDigestWhateverHappensToThePackage(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	one := h.release(files("First."))
	h.deploy("1", 0)
	s := h.serve()
	before := h.ask(s, "hello", "s1")
	h.release(files("Second.")) // the package has changed, and is even released: prod has not moved
	after := h.ask(s, "hello", "s2")
	if before.content != "First. hello" || after.content != before.content || after.header.Get(deploy.HeaderRelease) != string(one.Digest) {
		t.Errorf("before %q, after %q by %s", before.content, after.content, after.header.Get(deploy.HeaderRelease))
	}
	r, err := h.runs.Get(context.Background(), run.ID(after.header.Get(deploy.HeaderRun)))
	if err != nil || r.Release != string(one.Digest) || r.Identity != one.Identity || r.Channel != "prod" || r.Session != "s2" || r.Source != run.SourceEndpoint {
		t.Errorf("the run: %+v, %v", r, err)
	}
	h.deploy("2", 0)
	if now := h.ask(s, "hello", "s3"); now.content != "Second. hello" {
		t.Errorf("after the move: %q", now.content)
	}
	if _, _, err := h.releases.Rollback(context.Background(), release.MoveRequest{Channel: "prod"}); err != nil {
		t.Fatal(err)
	}
	if back := h.ask(s, "hello", "s4"); back.content != "First. hello" {
		t.Errorf("after the rollback: %q", back.content)
	}
}

func TestTheEnvironmentIsCheckedAndKept(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	needy := files("First.")
	needy["flywheel.yaml"] = []byte(strings.Replace(string(needy["flywheel.yaml"]), `default: "http://localhost"`, "required: true", 1))
	h.release(needy)
	req := deploy.Request{MoveRequest: release.MoveRequest{Channel: "prod", Who: "ann"}}
	_, _, err := h.svc.Deploy(ctx, req)
	wantCode(t, err, "deploy.env")
	req.Env = map[string]string{"CARD_URL": "x"}
	_, _, err = h.svc.Deploy(ctx, req)
	if f := wantCode(t, err, "deploy.env"); !strings.Contains(f.Hint, "CARDS_URL") {
		t.Errorf("hint: %s", f.Hint)
	}
	if list, err := h.svc.List(ctx, ""); err != nil || len(list) != 0 {
		t.Fatalf("a refused deployment is served: %+v, %v", list, err)
	}
	req.Env = map[string]string{"CARDS_URL": "http://cards"}
	d, m, err := h.svc.Deploy(ctx, req)
	if err != nil || m == nil || d.Model != "agent/desk@prod" || len(d.Env) != 1 {
		t.Fatalf("%+v, %+v, %v", d, m, err)
	}
	target, err := h.svc.Route(ctx, "desk", "prod", "s")
	if err != nil || target.Env["CARDS_URL"] != "http://cards" || target.Number != 1 {
		t.Errorf("%+v, %v", target, err)
	}
}

func TestOpsReadSharesAndEnvironments(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for _, o := range h.svc.Ops() {
		if m := o.Meta(); m.Permission == "" || m.Stage != 6 || m.Example == "" {
			t.Errorf("%+v", m)
		}
	}
	for text, want := range map[string]float64{"": 0, "20%": 0.2, "0.5": 0.5, " 5 % ": 0.05, "100%": 1} {
		if got, err := deploy.ParseShare(text); err != nil || got != want {
			t.Errorf("%q: %g, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-1%", "120%", "some", "NaN", "20"} {
		if _, err := deploy.ParseShare(text); !fault.HasCode(err, "deploy.share") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
