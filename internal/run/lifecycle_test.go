package run_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/model"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/fault"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

func TestRunsAreListedByFilterAndPage(t *testing.T) {
	t.Parallel()
	h := openHome(t, t.TempDir(), chat(func(_ context.Context, req model.Request) (model.Response, error) {
		if strings.HasPrefix(req.Messages[1].Content, "fail") {
			return model.Response{}, fault.New(fault.Forbidden, run.ClassRefused, "no")
		}
		return say("ok"), nil
	}), nil, nil)
	p := h.use(compile(t, deskPackage(), nil))
	for i := range 5 {
		text := "ok"
		if i%2 == 1 {
			text = "fail"
		}
		h.start(t, message(p, fmt.Sprintf("%s %d", text, i)))
	}
	messages := func(f run.Filter) string {
		list, err := h.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range list {
			out = append(out, r.Message)
		}
		return strings.Join(out, ", ")
	}
	if got := messages(run.Filter{Status: run.Failed}); got != "fail 3, fail 1" {
		t.Errorf("failed: %s", got)
	}
	first, _ := h.List(t.Context(), run.Filter{Limit: 2})
	if got := messages(run.Filter{Before: first[1].ID, Limit: 2}); got != "ok 2, fail 1" {
		t.Errorf("second page: %s", got)
	}
	if got := messages(run.Filter{Class: run.ClassRefused, Since: epoch}); got != "fail 3, fail 1" {
		t.Errorf("by class: %s", got)
	}
	if got := messages(run.Filter{Package: "other"}); got != "" {
		t.Errorf("by package: %s", got)
	}
}

func TestManyRunsAtOnce(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	h := openHome(t, t.TempDir(), chat(func(context.Context, model.Request) (model.Response, error) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		return say("ok"), nil
	}), nil, func(d *run.Deps) { d.Parallel = 8 })
	p := h.use(compile(t, deskPackage(), nil))
	var waits []func(context.Context) (*run.Run, error)
	for range 100 {
		_, wait, err := h.Start(t.Context(), message(p, "x"))
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	for _, wait := range waits {
		if r, err := wait(t.Context()); err != nil || r.Status != run.Succeeded {
			t.Errorf("run = %+v, %v", r, err)
		}
	}
	if most.Load() > 8 {
		t.Errorf("%d runs at once", most.Load())
	}
}

func TestEnvironmentForToolsIsNotJournaled(t *testing.T) {
	t.Parallel()
	pkg := deskPackage()
	pkg.Env = map[string]spec.EnvVar{"BANK": {Required: true}, "TOKEN": {}}
	pkg.Agents["desk"].Prompt = "You work for {{env.BANK}}."
	env := map[string]string{"BANK": "First Bank", "TOKEN": "tok-very-secret"}
	var seen map[string]string
	h := openHome(t, t.TempDir(), script(call("cards.find", `{"name":"a"}`)), nil, func(d *run.Deps) {
		d.Getenv = func(name string) string { return env[name] }
		d.Tools = toolsFunc(func(e map[string]string) tool.Caller {
			seen = e
			return attempts((&ledger{}).attempt)
		})
	})
	p := h.use(compile(t, pkg, nil))
	r := h.start(t, message(p, "x"))
	if diff := cmp.Diff(env, seen); diff != "" || r.Status != run.Succeeded {
		t.Errorf("tools were given (-want +got):\n%s", diff)
	}
	var setup string
	if err := h.db.QueryRow(t.Context(), `SELECT setup FROM runs`).Scan(&setup); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(setup, "secret") || !strings.Contains(setup, "First Bank") {
		t.Errorf("setup = %s", setup)
	}
	delete(env, "BANK")
	if _, _, err := h.Start(t.Context(), message(p, "x")); !fault.HasCode(err, "run.env") {
		t.Errorf("without a required value: %v", err)
	}
}

type toolsFunc func(env map[string]string) tool.Caller

func (f toolsFunc) Connect(_ string, env map[string]string, _ *spec.Package) tool.Caller {
	return f(env)
}

func TestModelIsCalledOnceMoreWhenItCouldNotBeReached(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	h := openHome(t, t.TempDir(), chat(func(context.Context, model.Request) (model.Response, error) {
		if n.Add(1) == 1 {
			return model.Response{}, fault.New(fault.Unavailable, run.ClassUnreachable, "refused")
		}
		return say("ok"), nil
	}), nil, nil)
	if r := h.start(t, message(h.use(compile(t, deskPackage(), nil)), "x")); r.Status != run.Succeeded {
		t.Errorf("run = %+v", r.Failure)
	}
}

func TestStartAfterCloseKeepsTheRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := openHome(t, dir, script(say("ok")), nil, nil)
	p := h.use(compile(t, deskPackage(), nil))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	id, _, err := h.Start(t.Context(), message(p, "x"))
	if !errors.Is(err, run.ErrClosing) || id == "" {
		t.Fatalf("start = %s, %v", id, err)
	}
	later := run.New(run.Deps{DB: h.db, Blobs: h.blobs, Bus: h.bus, Clock: h.clock, Models: script(say("ok"))})
	defer func() { _ = later.Close() }()
	later.Use(p)
	if n, err := later.Resume(t.Context()); n != 1 || err != nil {
		t.Fatalf("resumed %d, %v", n, err)
	}
	if r, err := later.Wait(t.Context(), id); err != nil || r.Status != run.Succeeded {
		t.Errorf("run = %+v, %v", r, err)
	}
}

var _ run.Bus = (*bus.Bus)(nil)
