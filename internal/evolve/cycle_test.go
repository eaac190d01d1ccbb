package evolve

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/lab/stat"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// bench is a service over a real store, with a lab whose answers a test decides.
type bench struct {
	*Service
	lab      *scriptedLab
	releases *onlyRelease
	base     *agent.Resolved
}

type scriptedLab struct {
	requests []lab.CompareRequest
	answer   func(req lab.CompareRequest) (*lab.Comparison, error)
}

func (l *scriptedLab) Compare(_ context.Context, req lab.CompareRequest, _ func(lab.Progress)) (*lab.Comparison, error) {
	l.requests = append(l.requests, req)
	return l.answer(req)
}

type onlyRelease struct {
	base BaseRelease
	made []MakeRequest
	err  error
}

func (r *onlyRelease) Base(context.Context, string) (BaseRelease, error) { return r.base, nil }

func (r *onlyRelease) Make(_ context.Context, req MakeRequest) (BaseRelease, error) {
	r.made = append(r.made, req)
	return BaseRelease{Digest: "sha256:" + strings.Repeat("2", 64), Number: 2, Agent: req.Base.Agent, Identity: req.Identity}, r.err
}

type seen []Observed

func (s seen) Observe(context.Context, string, int) ([]Observed, error) { return s, nil }

func newBench(t *testing.T, runs []Observed) *bench {
	t.Helper()
	ctx := t.Context()
	store, err := db.Open(ctx, filepath.Join(t.TempDir(), "t.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := db.Migrate(ctx, store, bus.Migrations, Migrations); err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files, err := agent.Template("help-desk")
	if err != nil {
		t.Fatal(err)
	}
	checker := agent.New(lab.SuiteKind())
	base, problems := checker.Check(files)
	if err := agent.Fault(problems); err != nil {
		t.Fatal(err)
	}
	if err := agent.Store(ctx, blobs, base); err != nil {
		t.Fatal(err)
	}
	b := &bench{
		lab: &scriptedLab{answer: func(req lab.CompareRequest) (*lab.Comparison, error) { return compared(req, 12, 0), nil }},
		releases: &onlyRelease{base: BaseRelease{
			Digest: "sha256:" + strings.Repeat("1", 64), Number: 1, Agent: "help-desk", Identity: base.Identity, Suite: "sha256:suite",
		}},
		base: base,
	}
	b.Service = New(Deps{DB: store, Blobs: blobs, Bus: bus.New(store), Lab: b.lab, Operations: seen(runs), Releases: b.releases})
	return b
}

// compared is a comparison in which the candidate is better and worse on so many of 20 scenarios.
func compared(req lab.CompareRequest, better, worse int) *lab.Comparison {
	c := &lab.Comparison{
		Split: req.Split, Status: lab.StatusDone, Scenarios: 20, Better: better, Worse: worse, Ties: 20 - better - worse,
		Evidence: stat.EValue(better, worse), Against: stat.EValue(worse, better),
	}
	c.Diff.Diff = float64(better-worse) / 20
	c.Diff.Low, c.Diff.High = c.Diff.Diff-0.1, c.Diff.Diff+0.1
	c.Base.Trials, c.Candidate.Trials = 20, 20
	c.Base.Usage.In, c.Candidate.Usage.In = 2000, 1000
	return c
}

// production is traffic in which orders.find fails in outages and the model often takes the wrong tool.
func production() []Observed {
	start := time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)
	var out []Observed
	for i := range 60 {
		at := start.Add(time.Duration(i) * time.Second)
		o := Observed{Run: fmt.Sprintf("run_%02d", i), At: at, Message: fmt.Sprintf("where is order %04d please", i), Source: "event", Verdict: "success", Tokens: 200}
		class := tool.OK
		if i%20 < 5 {
			class, o.Verdict, o.Expected = tool.Unavailable, "failure", "orders.find"
		} else {
			o.Calls = []spec.ExampleCall{{Tool: "orders.find"}}
		}
		o.Attempts = []Observation{{Tool: "orders.find", At: at, For: 30 * time.Millisecond, Class: class}}
		out = append(out, o)
	}
	return out
}

func ignore(Event) {}

func TestCycleProposesProvesAndWaitsForAPerson(t *testing.T) {
	t.Parallel()
	b := newBench(t, production())
	b.lab.answer = func(req lab.CompareRequest) (*lab.Comparison, error) {
		trimmed, err := agent.Load(context.Background(), b.deps.Blobs, req.Candidate)
		if err != nil {
			return nil, err
		}
		if p := trimmed.Package; p.Agents["desk"].Examples == "" && p.Memories["episodes"] == nil {
			return compared(req, 1, 14), nil
		}
		return compared(req, 14, 0), nil
	}
	c, err := b.Evolve(t.Context(), Request{Agent: "help-desk@prod", By: "tester"}, ignore)
	if err != nil {
		t.Fatal(err)
	}
	states := map[Kind]State{}
	for _, p := range c.Proposals {
		states[p.Kind] = p.State
	}
	want := map[Kind]State{KindToolPolicy: Ready, KindPromptExamples: Ready, KindPromptTrim: Rejected}
	for kind, state := range want {
		if states[kind] != state {
			t.Errorf("%s is %q, want %q", kind, states[kind], state)
		}
	}
	for _, r := range b.lab.requests {
		if (r.Split == lab.SplitAudit) != (r.Purpose == lab.PurposeGate) {
			t.Errorf("split %s was asked for with purpose %q", r.Split, r.Purpose)
		}
	}
	var ready []string
	for _, p := range c.Proposals {
		if p.State == Ready {
			ready = append(ready, p.ID)
		}
	}
	for _, p := range c.Proposals {
		if p.Kind != KindToolPolicy {
			continue
		}
		if !slices.Equal(p.On, ready[:1]) || p.Audit.Comparison == nil {
			t.Errorf("the tool policy stands on %v, want %v", p.On, ready[:1])
		}
		_, err := b.Approve(t.Context(), Decision{Proposals: []string{p.ID}, By: "ann"})
		if !fault.HasCode(err, "evolve.incomplete") {
			t.Errorf("approved without what it was proven on: %v", err)
		}
	}
	if _, err := b.Approve(t.Context(), Decision{Proposals: ready, By: "ann"}); err != nil {
		t.Fatal(err)
	}
	made, err := agent.Load(t.Context(), b.deps.Blobs, b.releases.made[0].Identity)
	if err != nil {
		t.Fatal(err)
	}
	if made.Package.Memories["episodes"] == nil || made.Package.Tools["orders.find"].Retry == nil {
		t.Error("the release does not hold the changes of both proposals")
	}
	p, err := b.Get(t.Context(), ready[0])
	if err != nil {
		t.Fatal(err)
	}
	var way []State
	for _, tr := range p.Transitions {
		way = append(way, tr.To)
	}
	if want := []State{Proposed, DevTested, Ready, Approved, Released}; !slices.Equal(way, want) {
		t.Errorf("the proposal went %v, want %v", way, want)
	}
	if err := b.Follow(t.Context(), ChannelMoved{Kind: "canary", To: p.Release}); err != nil {
		t.Fatal(err)
	}
	if err := b.Follow(t.Context(), ChannelMoved{Kind: "rollback", From: p.Release}); err != nil {
		t.Fatal(err)
	}
	if p, _ = b.Get(t.Context(), ready[0]); p.State != RolledBack {
		t.Errorf("after a rollback the proposal is %s", p.State)
	}
}

func TestInterruptedCycleContinuesWhereItWas(t *testing.T) {
	t.Parallel()
	b := newBench(t, production())
	calls := 0
	b.lab.answer = func(req lab.CompareRequest) (*lab.Comparison, error) {
		if calls++; calls == 2 {
			return nil, errors.New("power cut")
		}
		return compared(req, 14, 0), nil
	}
	if _, err := b.Evolve(t.Context(), Request{Agent: "help-desk@prod"}, ignore); err == nil {
		t.Fatal("the cycle did not notice the power cut")
	}
	before, err := b.List(t.Context(), "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Evolve(t.Context(), Request{Agent: "help-desk@prod"}, ignore)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Continued || len(c.Proposals) != len(before) {
		t.Errorf("continued %v with %d proposals, before %d", c.Continued, len(c.Proposals), len(before))
	}
	looks := map[int]bool{}
	for _, p := range c.Proposals {
		if p.Audit != nil {
			if looks[p.Audit.Look] {
				t.Errorf("look %d was used twice", p.Audit.Look)
			}
			looks[p.Audit.Look] = true
		}
	}
	if len(looks) == 0 || !looks[1] {
		t.Errorf("looks %v: a resumed candidate must keep its look", looks)
	}
	for i := range b.lab.requests[2:] {
		if r := b.lab.requests[2+i]; r.Split == lab.SplitDev && r.Candidate == b.lab.requests[0].Candidate {
			t.Error("the dev trials of the first proposal were asked for again")
		}
	}
}

func TestProofGetsDearerWithEveryLook(t *testing.T) {
	t.Parallel()
	sum := 0.0
	for look := 1; look < 5000; look++ {
		sum += 1 / Bound(look)
	}
	if sum > alpha || sum < alpha*0.99 {
		t.Errorf("the levels add up to %.4f, want %.2f", sum, alpha)
	}
	req := lab.CompareRequest{Split: lab.SplitAudit}
	weak := judge(GoalBetter, compared(req, 6, 0), Bound(1), 1) // e-value 18
	if weak.Verdict != "fail" || weak.reason() == "" {
		t.Errorf("six of six is no proof at the first look: %+v", weak.Lines)
	}
	if strong := judge(GoalBetter, compared(req, 14, 0), Bound(2), 2); strong.Verdict != "pass" {
		t.Errorf("fourteen of fourteen is proof at the second look: %+v", strong.Lines)
	}
	unsafe := compared(req, 14, 0)
	unsafe.Safety = []string{"a stranger's card"}
	if v := judge(GoalBetter, unsafe, Bound(1), 1); v.Verdict != "fail" {
		t.Error("a new safety failure must block")
	}
	partial := compared(req, 14, 0)
	partial.Status = lab.StatusPartial
	if v := judge(GoalBetter, partial, Bound(1), 1); v.Verdict != "fail" {
		t.Error("a part of the trials is no proof")
	}
}

func TestApprovalRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t, production())
	b.lab.answer = func(req lab.CompareRequest) (*lab.Comparison, error) { return compared(req, 0, 9), nil }
	c, err := b.Evolve(t.Context(), Request{Agent: "help-desk@prod"}, ignore)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Approve(t.Context(), Decision{Proposals: []string{c.Proposals[0].ID}, By: "ann"})
	if !fault.HasCode(err, "evolve.not_ready") || fault.From(err).Hint == "" {
		t.Errorf("approving a rejected proposal: %v", err)
	}
	if _, err = b.Approve(t.Context(), Decision{Proposals: []string{"prop_nobody"}}); !fault.HasCode(err, "evolve.proposal_missing") {
		t.Errorf("approving what is not there: %v", err)
	}
	same := []*Proposal{
		{ID: "a", Draft: Draft{Changes: []agent.Change{{File: "f", Path: []string{"x"}}}}},
		{ID: "b", Draft: Draft{Changes: []agent.Change{{File: "f", Path: []string{"x"}}}}},
	}
	if changes, err := together(same); err != nil || len(changes) != 1 {
		t.Errorf("two that want the same agree: %v, %v", changes, err)
	}
	same[1].Changes[0].Value = "y"
	if _, err := together(same); !fault.HasCode(err, "evolve.clash") {
		t.Errorf("two changes of one place: %v", err)
	}
}

func TestNothingSeenIsSaid(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	_, err := b.Evolve(t.Context(), Request{Agent: "help-desk@prod"}, ignore)
	if !fault.HasCode(err, "evolve.nothing_seen") {
		t.Errorf("got %v", err)
	}
}

func TestAWriteWithoutIdempotencyIsNeverMadeRepeatable(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	runs := production()
	for i := range runs {
		for j := range runs[i].Attempts {
			runs[i].Attempts[j].Tool = "tickets.open" // a write without idempotency
		}
	}
	drafts, err := (ToolPolicyProposer{}).Propose(t.Context(), Situation{Base: b.releases.base, Runs: runs, Pack: b.base})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drafts {
		for _, c := range d.Changes {
			if slices.Contains(c.Path, "retry") || slices.Contains(c.Path, "backup") {
				t.Errorf("proposed %v for a write that may not be repeated", c.Path)
			}
		}
	}
}
