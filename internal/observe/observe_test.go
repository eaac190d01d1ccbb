package observe_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"flywheel/internal/observe"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// home is a store with a bus and the service, as the app has them.
type home struct {
	t     *testing.T
	path  string
	db    *db.DB
	bus   *bus.Bus
	svc   *observe.Service
	clock *clock.Virtual
}

func open(t *testing.T, path string, runs observe.Runs) *home {
	t.Helper()
	ctx := context.Background()
	store, err := db.Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(ctx, store, bus.Migrations, observe.Migrations); err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, path: path, db: store, bus: bus.New(store), clock: clock.NewVirtual(start)}
	h.svc = observe.New(observe.Deps{DB: store, Bus: h.bus, Clock: h.clock, Runs: runs})
	h.bus.Start(ctx)
	t.Cleanup(h.close)
	return h
}

func (h *home) close() {
	h.bus.Close()
	_ = h.db.Close()
}

func newHome(t *testing.T) *home {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "home.db"), nil)
}

func (h *home) emit(topic, subject string, payload any) {
	h.t.Helper()
	ctx := context.Background()
	err := h.db.Write(ctx, func(tx *db.Tx) error { return h.bus.Emit(ctx, tx, topic, subject, payload) })
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) drain() {
	h.t.Helper()
	if err := h.bus.Drain(context.Background()); err != nil {
		h.t.Fatal(err)
	}
}

// facts are those of a run that went well.
func facts(n int, change ...func(*observe.Facts)) observe.Facts {
	at := start.Add(time.Duration(n) * time.Second)
	f := observe.Facts{
		Run: fmt.Sprintf("run_%04d", n), Agent: "desk", Release: "sha256:r1", Source: "endpoint", Session: fmt.Sprintf("s%d", n),
		Status: "succeeded", User: "my card is gone", Reply: "Your card is frozen.", Steps: 3, ToolCalls: 1, ToolAttempts: 1,
		Calls:   []observe.Call{{Step: 2, Node: "desk", Tool: "cards.freeze", OK: true, Attempts: 1}},
		Path:    []string{"find_number", "desk", "answer"},
		Usage:   observe.Usage{In: 100, Out: 10, Compute: 20 * time.Millisecond},
		Elapsed: time.Duration(n) * time.Millisecond, StartedAt: at, EndedAt: at.Add(time.Second),
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func toolFails(class, reply string) func(*observe.Facts) {
	return func(f *observe.Facts) {
		f.Calls = []observe.Call{{Step: 2, Node: "desk", Tool: "cards.freeze", Class: class, Attempts: 2, Failures: 2}}
		f.ToolErrors, f.ToolFailures, f.ToolAttempts, f.Reply = 1, 2, 2, reply
	}
}

func (h *home) record(list ...observe.Facts) {
	h.t.Helper()
	for _, f := range list {
		h.emit("run.ended", f.Run, f)
	}
	h.drain()
}

func (h *home) give(g observe.Given) *observe.Outcome {
	h.t.Helper()
	o, err := h.svc.Give(context.Background(), g)
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

func (h *home) outcome(run string) observe.Outcome {
	h.t.Helper()
	m, err := h.svc.Outcomes(context.Background(), []string{run})
	if err != nil {
		h.t.Fatal(err)
	}
	return m[run]
}

func (h *home) findings(f observe.Filter) []*observe.Finding {
	h.t.Helper()
	list, err := h.svc.Findings(context.Background(), f)
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if !fault.HasCode(err, code) {
		t.Fatalf("got error %v, want code %s", err, code)
	}
}

func TestTheMostTrustedSourceCountsAndAmongEqualsTheNewest(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.record(facts(1, toolFails("timeout", "Your card is frozen.")))
	if o := h.outcome("run_0001"); o.Source != observe.SourceHeuristic || o.Verdict != observe.Failure {
		t.Fatalf("after the facts: %+v", o)
	}
	for _, step := range []struct{ source, verdict, wantSource, wantVerdict string }{
		{"check", "success", "check", "success"},
		{"judge", "failure", "check", "success"},
		{"event", "failure", "event", "failure"},
		{"person", "success", "event", "failure"},
		{"event", "success", "event", "success"},
		{"check", "failure", "event", "success"},
	} {
		h.clock.Advance(time.Second)
		h.give(observe.Given{Run: "run_0001", Verdict: step.verdict, Source: step.source, Who: "test"})
		o := h.outcome("run_0001")
		if o.Source != step.wantSource || o.Verdict != step.wantVerdict {
			t.Errorf("after %s by %s: %s by %s counts, want %s by %s", step.verdict, step.source, o.Verdict, o.Source, step.wantVerdict, step.wantSource)
		}
	}
	if list := h.findings(observe.Filter{}); len(list) != 0 {
		t.Errorf("a run that the business calls a success is in a finding: %+v", list[0])
	}
	all, err := h.svc.All(context.Background(), "run_0001")
	if err != nil || len(all) != 7 {
		t.Errorf("%d outcomes kept, want 7 (%v)", len(all), err)
	}
}

func TestHeuristicsSpeakOfFailuresOnly(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	failed := facts(2, func(f *observe.Facts) { f.Status, f.Class, f.Node = "failed", "limit.steps", "desk" })
	recovered := facts(4, func(f *observe.Facts) {
		f.Calls = []observe.Call{{Node: "desk", Tool: "cards.freeze", Class: "timeout", Attempts: 1}, {Node: "desk", Tool: "cards.freeze", OK: true, Attempts: 1}}
	})
	handed := facts(5, func(f *observe.Facts) {
		f.Calls = []observe.Call{{Node: "desk", Tool: "desk.hand_over", OK: true, Attempts: 1}}
	})
	canceled := facts(6, func(f *observe.Facts) { f.Status, f.Class = "canceled", "canceled" })
	h.record(facts(1), failed, facts(3, toolFails("timeout", "Sorry, I could not freeze it.")), recovered, handed, canceled,
		facts(7, toolFails("timeout", "Done, it is frozen!")))
	want := map[string]float64{"run_0002": 0.95, "run_0003": 0.7, "run_0005": 0.3, "run_0007": 0.8}
	for n := 1; n <= 7; n++ {
		run := fmt.Sprintf("run_%04d", n)
		o := h.outcome(run)
		if o.Confidence != want[run] || (want[run] > 0) != (o.Verdict == observe.Failure) {
			t.Errorf("%s: %+v, want failure with confidence %g", run, o, want[run])
		}
	}
}

func TestTheSameKeyIsTheSameOutcome(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.record(facts(1))
	first := h.give(observe.Given{Run: "run_0001", Verdict: "success", Who: "shop", Key: "order-1"})
	again := h.give(observe.Given{Run: "run_0001", Verdict: "success", Who: "shop", Key: "order-1"})
	if first.ID != again.ID {
		t.Errorf("the same key gave two outcomes: %s and %s", first.ID, again.ID)
	}
	_, err := h.svc.Give(context.Background(), observe.Given{Run: "run_0001", Verdict: "failure", Who: "shop", Key: "order-1"})
	wantCode(t, err, "observe.key_used")
}

func TestWrongOutcomesAreRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.record(facts(1))
	for name, g := range map[string]observe.Given{
		"neither":   {Verdict: "success"},
		"both":      {Run: "run_0001", Session: "s1", Verdict: "success"},
		"verdict":   {Run: "run_0001", Verdict: "maybe"},
		"source":    {Run: "run_0001", Verdict: "success", Source: "gut"},
		"heuristic": {Run: "run_0001", Verdict: "success", Source: "heuristic"},
		"sure":      {Run: "run_0001", Verdict: "success", Confidence: 2},
	} {
		if _, err := h.svc.Give(context.Background(), g); !fault.HasCode(err, "observe.outcome") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := h.svc.Give(context.Background(), observe.Given{Run: "run_9999", Verdict: "success"})
	wantCode(t, err, "observe.no_run")
}

func TestAnOutcomeBySessionIsAboutItsLastRun(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	same := func(f *observe.Facts) { f.Session = "talk" }
	h.clock.Advance(90 * time.Second) // both runs have begun
	h.give(observe.Given{Session: "talk", Verdict: "failure", Who: "shop"})
	h.record(facts(10, same))
	if o := h.outcome("run_0010"); o.Verdict != observe.Failure {
		t.Fatalf("the outcome that came first was not taken up: %+v", o)
	}
	h.record(facts(60, same))
	if o := h.outcome("run_0060"); o.Verdict != observe.Failure {
		t.Errorf("the later run did not get the outcome: %+v", o)
	}
	if o := h.outcome("run_0010"); o.ID != "" {
		t.Errorf("the earlier run kept it: %+v", o)
	}
	if list := h.findings(observe.Filter{}); len(list) != 1 || list[0].Count != 1 {
		t.Errorf("findings after the move: %+v", list)
	}
	h.record(facts(200, same))
	if o := h.outcome("run_0200"); o.ID != "" {
		t.Errorf("a run that began after the outcome took it: %+v", o)
	}
}

type lookup map[string]string

func (l lookup) HasRun(_ context.Context, run string) (bool, error) {
	for _, r := range l {
		if r == run {
			return true, nil
		}
	}
	return false, nil
}

func (l lookup) LastRun(_ context.Context, session string) (string, error) { return l[session], nil }

func TestAnOutcomeMayComeBeforeTheFacts(t *testing.T) {
	t.Parallel()
	h := open(t, filepath.Join(t.TempDir(), "home.db"), lookup{"s1": "run_0001"})
	o := h.give(observe.Given{Session: "s1", Verdict: "failure", Who: "shop", Expected: "cards.replace"})
	if o.Run != "run_0001" {
		t.Fatalf("the run of the session is %q", o.Run)
	}
	h.record(facts(1))
	list := h.findings(observe.Filter{})
	if len(list) != 1 || list[0].Class != "wrong_action" || list[0].Expected != "cards.replace" {
		t.Fatalf("findings: %+v", list)
	}
	_, err := h.svc.Give(context.Background(), observe.Given{Session: "nobody", Verdict: "success"})
	wantCode(t, err, "observe.no_run")
}

func TestARestartedConsumerLosesNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.record(facts(1, toolFails("timeout", "frozen")), facts(2))
	h.bus.Close() // the consumer is dead; runs go on and their events wait
	for n := 3; n <= 30; n++ {
		f := facts(n)
		h.emit("run.ended", f.Run, f)
	}
	h.emit("run.ended", "run_0001", facts(1, toolFails("timeout", "frozen"))) // delivered twice
	_ = h.db.Close()

	again := open(t, h.path, nil)
	again.drain()
	list, err := again.svc.Stats(context.Background(), observe.Filter{})
	if err != nil || len(list) != 1 || list[0].Runs != 30 {
		t.Fatalf("after the restart: %+v, %v", list, err)
	}
	all, err := again.svc.All(context.Background(), "run_0001")
	if err != nil || len(all) != 1 {
		t.Errorf("facts that came twice gave %d outcomes (%v)", len(all), err)
	}
}
