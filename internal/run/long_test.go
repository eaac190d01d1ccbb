package run_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// A run of 10,000 steps costs what its steps cost: nothing is quadratic but the requests themselves.
func TestTenThousandSteps(t *testing.T) {
	t.Parallel()
	steps := 10_000
	if testing.Short() {
		steps = 1000
	}
	pkg := deskPackage()
	pkg.Limits = spec.Limits{Steps: steps + 1, Time: spec.Duration(time.Hour)}
	n := 0
	h := openHome(t, t.TempDir(), chat(func(_ context.Context, req model.Request) (model.Response, error) {
		if n++; 2*n > steps {
			return say("enough"), nil
		}
		return call("cards.find", fmt.Sprintf(`{"name":"customer %d"}`, n)), nil
	}), attempts(quick), nil)
	p := h.use(compile(t, pkg, nil))
	began := time.Now()
	r := h.start(t, message(p, "go"))
	drove := time.Since(began)
	if r.Status != run.Succeeded || r.Steps != steps+1 {
		t.Fatalf("run = %+v %+v", r, r.Failure)
	}
	began = time.Now()
	report, err := h.Replay(t.Context(), r.ID)
	if err != nil || !report.Equal {
		t.Fatalf("replay = %+v, %v", report, err)
	}
	replayed := time.Since(began)
	began = time.Now()
	n = steps
	id, wait, err := h.Fork(t.Context(), r.ID, run.ForkRequest{At: steps / 2})
	if err != nil {
		t.Fatal(err)
	}
	forked := time.Since(began)
	if f, err := wait(t.Context()); err != nil || f.Status != run.Succeeded || f.Steps != steps/2+1 {
		t.Fatalf("fork %s = %+v, %v", id, f, err)
	}
	rows, err := h.Journal(t.Context(), r.ID, steps, 10)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if size := len(rows[0].Input); size > 2000 {
		t.Errorf("the last request is journaled with %d bytes", size)
	}
	t.Logf("driven in %v, replayed in %v, forked in %v", drove, replayed, forked)
}

// A thousand interrupted runs are taken up at once.
func TestThousandRunsAreResumed(t *testing.T) {
	t.Parallel()
	const runs = 1000
	dir := t.TempDir()
	hang := chat(func(ctx context.Context, req model.Request) (model.Response, error) {
		if len(req.Messages) == 2 {
			return call("cards.find", `{"name":"a"}`), nil
		}
		<-ctx.Done()
		return model.Response{}, ctx.Err()
	})
	h := openHome(t, dir, hang, attempts(quick), func(d *run.Deps) { d.Parallel = runs })
	p := h.use(compile(t, deskPackage(), nil))
	reached := make(chan struct{}, runs)
	for range runs {
		req := message(p, "x")
		req.OnStep = func(s run.Step) {
			if s.Kind == run.RowTool {
				reached <- struct{}{}
			}
		}
		if _, _, err := h.Start(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	for range runs {
		<-reached
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	again := run.New(run.Deps{
		DB: h.db, Blobs: h.blobs, Bus: bus.New(h.db), Clock: clock.Real(), Models: script(call("cards.find", `{"name":"a"}`), say("ok")),
		Tools: attempts(func(context.Context, tool.Call) tool.Attempt {
			t.Error("a recorded step was repeated")
			return tool.Attempt{}
		}),
	})
	t.Cleanup(func() { _ = again.Close() })
	again.Use(p)
	began := time.Now()
	n, err := again.Resume(t.Context())
	if n != runs || err != nil {
		t.Fatalf("resumed %d, %v", n, err)
	}
	taken := time.Since(began)
	list, err := again.List(t.Context(), run.Filter{Limit: runs})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r, err := again.Wait(t.Context(), r.ID); err != nil || r.Status != run.Succeeded {
			t.Fatalf("run = %+v, %v", r, err)
		}
	}
	t.Logf("taken up in %v, ended after %v", taken, time.Since(began))
}
