package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// brain is a model whose name says how it behaves: test/gold does what the scenarios of testdata/card-desk
// ask for, the others are wrong in one way.
type brain struct {
	calls  atomic.Int64
	before func(n int64) error // told of each call
}

var (
	whoText  = regexp.MustCompile(`I am (ada|bob)`)
	cardText = regexp.MustCompile(`4\d{3}`)
)

func (b *brain) Chat(ctx context.Context, req model.Request, _ func(model.Delta)) (model.Response, error) {
	n := b.calls.Add(1)
	if b.before != nil {
		if err := b.before(n); err != nil {
			return model.Response{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return model.Response{}, err
	}
	way := strings.TrimPrefix(req.Model, "test/")
	var who string
	var since []model.Message
	lost := false
	for _, m := range req.Messages {
		if m.Role == model.RoleUser {
			if found := whoText.FindStringSubmatch(m.Content); found != nil {
				who = found[1]
			}
			lost, since = lost || strings.Contains(m.Content, "lost"), nil
			continue
		}
		since = append(since, m)
	}
	r := model.Response{Model: req.Model, Form: model.FormNative, Usage: model.Usage{In: 10 * len(req.Messages), Out: 5, Cost: 1000}}
	r.Message = b.answer(way, who, lost, since)
	return r, nil
}

func (b *brain) answer(way, who string, lost bool, since []model.Message) model.Message {
	say := func(text string) model.Message { return model.Message{Role: model.RoleAssistant, Content: text} }
	call := func(name string, args map[string]any) model.Message {
		raw, _ := json.Marshal(args)
		return model.Message{Role: model.RoleAssistant, ToolCalls: []model.ToolCall{{ID: "c", Name: name, Args: raw}}}
	}
	if !lost {
		return say("How can I help?")
	}
	step := 0
	card, last := "", ""
	for _, m := range since {
		if m.Role == model.RoleTool {
			step, last = step+1, m.Content
			if found := cardText.FindString(m.Content); found != "" {
				card = found
			}
		}
	}
	if way == "wrong_card" && card != "" {
		card = map[string]string{"4711": "4712", "4712": "4711"}[card]
	}
	switch {
	case step == 0 && way == "missing_find":
		return call("cards.freeze", map[string]any{"card_id": map[string]string{"ada": "4711", "bob": "4712"}[who]})
	case step == 0:
		return call("cards.find", map[string]any{"customer": who})
	case strings.Contains(last, `"error"`) && way == "liar":
		return say("The card " + card + " is frozen.")
	case strings.Contains(last, `"error"`):
		return say("Sorry, it did not work. Please call us about card " + card + ".")
	case way == "never_freezes":
		return say("Your card " + card + " is frozen.")
	case step == 1 && way != "missing_find":
		return call("cards.freeze", map[string]any{"card_id": card})
	case step == 2 && way == "extra_change":
		return call("cards.note", map[string]any{"card_id": card, "text": "x"})
	case step == 2 && way == "forbidden":
		return call("cards.close", map[string]any{"card_id": card})
	case step == 2 && way == "twice":
		return call("cards.freeze", map[string]any{"card_id": card})
	case way == "rude":
		return say("Done.")
	}
	return say("Your card " + card + " is frozen.")
}

// desk is the package of testdata/card-desk with some texts replaced: pairs of old and new.
func desk(tb testing.TB, replace ...string) op.Dir {
	tb.Helper()
	files := op.Dir{}
	root := filepath.Join("testdata", "card-desk")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		files[filepath.ToSlash(rel)] = []byte(strings.NewReplacer(replace...).Replace(string(b)))
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

type bench struct {
	*Service
	t     testing.TB
	model *brain
	db    *db.DB
}

func open(tb testing.TB, dir string) *bench {
	tb.Helper()
	ctx := context.Background()
	d, err := db.Open(ctx, filepath.Join(dir, "home.db"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Close() })
	if err := db.Migrate(ctx, d, Migrations); err != nil {
		tb.Fatal(err)
	}
	blobs, err := blob.OpenFiles(filepath.Join(dir, "cas"))
	if err != nil {
		tb.Fatal(err)
	}
	b := &brain{}
	s := New(Deps{DB: d, Blobs: blobs, Clock: clock.Real(), Model: b, Log: slog.New(slog.DiscardHandler)})
	return &bench{Service: s, t: tb, model: b, db: d}
}

// draft stores a package and gives a request for its suite.
func (b *bench) draft(files op.Dir) Request {
	b.t.Helper()
	r, suite, err := b.Draft(context.Background(), files, "smoke")
	if err != nil {
		b.t.Fatalf("%v %+v", err, fault.From(err).Fields)
	}
	return Request{Suite: suite, Identity: r.Identity, Split: SplitAll, Purpose: PurposeGate, Requester: "test", Parallel: 2, Seed: 7}
}

func (b *bench) test(req Request) *Report {
	b.t.Helper()
	r, err := b.Test(context.Background(), req, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func scenario(tb testing.TB, r *Report, name string) ScenarioTally {
	tb.Helper()
	for _, s := range r.Scenarios {
		if s.Name == name {
			return s
		}
	}
	tb.Fatalf("no scenario %q in the report", name)
	return ScenarioTally{}
}

func TestGoldAgentPassesEverything(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	r := b.test(b.draft(desk(t)))
	for _, s := range r.Scenarios {
		if s.Passed != s.Trials || s.Trials != 2 {
			t.Errorf("%s: %d of %d: %s", s.Name, s.Passed, s.Trials, s.Reason)
		}
	}
	if r.Total.Scenarios != 6 || r.Total.Trials != 12 || r.Total.PassAll != 1 || r.Status != StatusDone {
		t.Errorf("total %+v", r.Total)
	}
	if r.Total.Rate.N > 6 {
		t.Errorf("12 trials of 6 scenarios that all passed count as at most 6, not %v", r.Total.Rate.N)
	}
	if r.Total.Action != 1 || r.Baselines == nil || r.Baselines.Majority <= 0 {
		t.Errorf("action %v, baselines %+v", r.Total.Action, r.Baselines)
	}
	if r.Total.Usage.Cost == 0 || r.Total.Usage.In == 0 || r.Total.Latency.P95 < 3*time.Second {
		t.Errorf("usage %+v, latency %+v: one tool times out after 3 s", r.Total.Usage, r.Total.Latency)
	}
}

// Each broken trajectory must score 0 on the scenario that it breaks, by the check that is meant for it.
func TestBrokenAgentsFail(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	for way, want := range map[string]struct{ scenario, check, text string }{
		"wrong_card":    {"freeze a lost card", "state", "expected cards.4711.status = \"frozen\"; got \"active\""},
		"extra_change":  {"freeze a lost card", "state", "expected cards.4711.note unchanged (absent); got \"x\""},
		"never_freezes": {"freeze a lost card", "calls", "cards.freeze"},
		"missing_find":  {"freeze a lost card", "calls", "expected a successful call cards.find"},
		"forbidden":     {"freeze a lost card", "never", "expected no call of cards.close"},
		"liar":          {"the card service is down", "never_claims", "no call of it did"},
		"rude":          {"freeze a lost card", "says", `expected an answer with "frozen"; got "Done."`},
		"twice":         {"freeze a lost card", "state", "events"},
	} {
		r := b.test(b.draft(desk(t, "test/gold", "test/"+way)))
		s := scenario(t, r, want.scenario)
		if s.Passed != 0 || s.Trials != 2 {
			t.Errorf("%s: %d of %d trials passed", way, s.Passed, s.Trials)
			continue
		}
		trial, err := b.Trial(context.Background(), s.Trial)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range trial.Failed {
			found = found || f.Check == want.check && strings.Contains(f.Reason, want.text)
		}
		if !found {
			t.Errorf("%s: no %s failure with %q in %+v", way, want.check, want.text, trial.Failed)
		}
		if len(trial.Transcript) < 3 {
			t.Errorf("%s: transcript %+v", way, trial.Transcript)
		}
	}
}

func TestStepsAndTimeAreLimited(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	r := b.test(b.draft(desk(t, "steps: 6, time: 60s", "steps: 2, time: 2s")))
	s := scenario(t, r, "freeze a lost card")
	trial, err := b.Trial(context.Background(), s.Trial)
	if err != nil {
		t.Fatal(err)
	}
	if len(trial.Failed) != 1 || !strings.Contains(trial.Failed[0].Reason, "at most 2 steps; got 5") {
		t.Errorf("failed %+v", trial.Failed)
	}
}

func TestSameSeedGivesTheSameDeterministicParts(t *testing.T) {
	t.Parallel()
	noisy := func(t *testing.T) op.Dir {
		t.Helper()
		return desk(t, "faults: [{tool: cards.freeze, on: 1, do: timeout}]", "faults: [{tool: cards.*, probability: 0.4, do: {status: 503}}]")
	}
	one, two := open(t, t.TempDir()), open(t, t.TempDir())
	req := one.draft(noisy(t))
	req.Trials = 8
	other := two.draft(noisy(t))
	other.Trials = 8
	if req.Suite != other.Suite || req.Identity != other.Identity {
		t.Fatal("the same files have other digests")
	}
	a := one.test(req)
	other.Parallel = 1
	if b := two.test(other); a.Deterministic != b.Deterministic {
		t.Errorf("%s and %s", a.Deterministic, b.Deterministic)
	}
	req.Seed++
	if b := one.test(req); a.Deterministic == b.Deterministic {
		t.Error("another seed gave the same faults")
	}
}

func TestStoredTrialsAreUsedAgainAndFreshOnesAreNot(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.draft(desk(t))
	first := b.test(req)
	before := b.model.calls.Load()
	var last Progress
	again, err := b.Test(context.Background(), req, func(p Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if n := b.model.calls.Load(); n != before || last.Reused != 12 || again.Deterministic != first.Deterministic {
		t.Errorf("%d more model calls, %d reused", n-before, last.Reused)
	}
	if again.Experiment == first.Experiment {
		t.Error("a finished experiment is not continued")
	}
	req.Fresh = true
	if _, err := b.Test(context.Background(), req, func(p Progress) { last = p }); err != nil || last.Reused != 0 {
		t.Errorf("fresh: %v, %d reused", err, last.Reused)
	}
	if n := b.model.calls.Load() - before; n == 0 {
		t.Error("fresh: the model was not asked again")
	}
	// The tape answers equal requests at temperature 0, also in trials that are new.
	req.Fresh = false
	req.Seed++
	before = b.model.calls.Load()
	if r := b.test(req); r.Total.Usage.Taped != r.Total.Usage.Calls || r.Total.Usage.Calls == 0 || b.model.calls.Load() != before {
		t.Errorf("%d of %d taped", r.Total.Usage.Taped, r.Total.Usage.Calls)
	}
}

func TestOtherWeightsDoNotUseStoredResults(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	weights := "one"
	b.deps.Pin = func(context.Context, string) (string, error) { return weights, nil }
	req := b.draft(desk(t))
	b.test(req)
	before := b.model.calls.Load()
	b.test(req)
	if b.model.calls.Load() != before {
		t.Error("the same weights were asked again")
	}
	weights = "two"
	b.test(req)
	if b.model.calls.Load() == before {
		t.Error("other weights were not asked")
	}
}

func TestAuditIsForTheGateAndEachLookIsLogged(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.draft(desk(t))
	ctx := context.Background()
	for _, split := range []string{SplitAudit, SplitAll} {
		req.Split, req.Purpose, req.Requester = split, "evolve", "prompt-examples"
		if _, err := b.Test(ctx, req, nil); !fault.HasCode(err, "lab.audit_denied") || fault.KindOf(err) != fault.Forbidden {
			t.Errorf("%s: %v", split, err)
		}
		_, err := b.Compare(ctx, CompareRequest{Suite: req.Suite, Base: req.Identity, Candidate: req.Identity, Split: split, Purpose: "evolve"}, nil)
		if !fault.HasCode(err, "lab.audit_denied") {
			t.Errorf("compare %s: %v", split, err)
		}
	}
	if looks, err := b.Looks(ctx, 0); err != nil || len(looks) != 0 {
		t.Fatalf("refused looks are none: %v %v", looks, err)
	}
	req.Split = SplitDev
	r := b.test(req)
	for _, s := range r.Scenarios {
		if s.Family == "stolen" {
			t.Error("an audit scenario in dev")
		}
	}
	req.Split, req.Purpose, req.Requester = SplitAudit, PurposeGate, "ada"
	r = b.test(req)
	if len(r.Scenarios) != 1 || r.Scenarios[0].Family != "stolen" {
		t.Errorf("audit: %+v", r.Scenarios)
	}
	looks, err := b.Looks(ctx, 0)
	if err != nil || len(looks) != 1 || looks[0].Requester != "ada" || looks[0].Candidate != req.Identity || looks[0].Experiment != r.Experiment {
		t.Errorf("looks %+v, %v", looks, err)
	}
	_, err = b.testOp(ctx, &testIn{Split: SplitAudit, Files: desk(t)}, func(Progress) {})
	if f := fault.From(err); f.Code != "lab.audit_denied" || !strings.Contains(f.Hint, "flywheel release") {
		t.Errorf("a person: %v, hint %q", err, f.Hint)
	}
}

func TestCancelLeavesAReadablePartialReportThatContinues(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.draft(desk(t))
	req.Parallel, req.Trials = 1, 20
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := b.Test(ctx, req, func(p Progress) {
		if p.Done >= 10 {
			cancel()
		}
	})
	if fault.KindOf(err) != fault.Canceled || r == nil || r.Status != StatusPartial {
		t.Fatalf("%+v %v", r, err)
	}
	if r.Total.Trials < 10 || r.Total.Trials >= 120 || !strings.Contains(r.Why, "of 120 trials") {
		t.Errorf("trials %d, why %q", r.Total.Trials, r.Why)
	}
	e, kept, err := b.Get(context.Background(), r.Experiment)
	if err != nil || e.Status != StatusPartial || kept.(*Report).Total.Trials != r.Total.Trials {
		t.Errorf("kept %+v %v", e, err)
	}
	var text strings.Builder
	WriteText(&text, kept.(*Report))
	if !strings.Contains(text.String(), "PARTIAL: stopped after") {
		t.Errorf("text:\n%s", text.String())
	}
	var last Progress
	whole, err := b.Test(context.Background(), req, func(p Progress) { last = p })
	if err != nil || whole.Experiment != r.Experiment || last.Reused < 10 || whole.Total.Trials != 120 {
		t.Errorf("continued: %v, experiment %s after %s, %d reused, %d trials", err, whole.Experiment, r.Experiment, last.Reused, whole.Total.Trials)
	}
}

func TestALostModelIsAnErrorNotAFailure(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.draft(desk(t))
	req.Parallel = 1
	b.model.before = func(n int64) error {
		if n > 12 {
			return fault.New(fault.Unavailable, "model.unreachable", "connection refused").WithHint("flywheel doctor")
		}
		return nil
	}
	r, err := b.Test(context.Background(), req, nil)
	if !fault.HasCode(err, "model.unreachable") {
		t.Fatalf("error %v", err)
	}
	if r.Status != StatusPartial || r.Total.Trials == 0 || r.Total.Trials != r.Total.Passed || r.Total.Errors != maxErrors {
		t.Errorf("%+v", r.Total)
	}
	if !strings.Contains(r.Why, "connection refused (flywheel doctor)") {
		t.Errorf("why %q", r.Why)
	}
	b.model.before = nil
	if r = b.test(req); r.Total.Trials != 12 || r.Total.Errors != 0 {
		t.Errorf("errors are tried again: %+v", r.Total)
	}
}

func TestAToolWithoutMockIsAnErrorWithAHint(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.draft(desk(t, "    mock: {star: mocks/cards.star, func: find}\n", ""))
	_, err := b.Test(context.Background(), req, nil)
	if f := fault.From(err); f.Code != "lab.no_mock" || !strings.Contains(f.Hint, "mock:") {
		t.Errorf("%v", err)
	}
}

// A mistake of the model is the agent's failure: it must count.
func TestAMalformedAnswerIsAFailureNotAnError(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	b.model.before = func(int64) error { return fault.New(fault.Invalid, "model.malformed", "no JSON") }
	r := b.test(b.draft(desk(t)))
	if r.Total.Errors != 0 || r.Total.Passed != 0 || r.Total.Trials != 12 || r.Failing[0].Check != "ended" {
		t.Errorf("%+v %+v", r.Total, r.Failing)
	}
}

// Nobody sits at the other side of a human node: the question times out and the flow goes on.
func TestAQuestionToAPersonTimesOut(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	files := desk(t, "entry: agents/desk", "entry: flows/asking")
	files["flows/asking.flow.yaml"] = []byte("flow: asking\nin: {message: string}\nnodes:\n  ask: {human: {ask: \"May I?\", timeout: 1h, else: desk}, next: refused}\n" +
		"  refused: {end: {reply: \"no\"}}\n  desk: {agent: desk, in: {message: \"${input.message}\"}, next: answer}\n  answer: {end: {reply: \"${desk.out.text}\"}}\n")
	r := b.test(b.draft(files))
	if r.Total.Passed != 12 {
		t.Errorf("%d passed: %+v", r.Total.Passed, r.Scenarios[0])
	}
}

func TestResolverChoosesTheModel(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	files := desk(t, "main: test/gold", "main: {first: other/x, else: test/gold}")
	req := b.draft(files)
	if r, err := agent.New(SuiteKind()).Check(files); r == nil {
		t.Fatal(err)
	}
	b.deps.Resolve = func(_ context.Context, c specChoice) (string, error) { return c.Else, nil }
	if r := b.test(req); r.Total.Passed != 12 || fmt.Sprint(r.Models) != "[test/gold]" {
		t.Errorf("models %v, %d passed", r.Models, r.Total.Passed)
	}
}
