package lab

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"flywheel/internal/lab/stat"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// crowd is the desk with many families of one scenario each.
func crowd(tb testing.TB, n int, replace ...string) op.Dir {
	tb.Helper()
	dir := desk(tb, append(replace, "in_audit: [stolen], in_dev: [freeze a lost card, turns, in a taxi]", "in_dev: [turns]")...)
	var rows strings.Builder
	for i := range n {
		fmt.Fprintf(&rows, `{"name": "case %03d", "family": "case %03d", "says": "I am ada, case %d, lost it", "tags": ["even%v"]}`+"\n", i, i, i, i%2 == 0)
	}
	dir["suites/cases.jsonl"] = []byte(rows.String())
	return dir
}

func (b *bench) pair(base, candidate op.Dir) CompareRequest {
	b.t.Helper()
	x, y := b.draft(base), b.draft(candidate)
	if x.Suite != y.Suite {
		b.t.Fatal("the arms have other suites")
	}
	return CompareRequest{
		Suite: x.Suite, Base: x.Identity, Candidate: y.Identity, Split: SplitAll, Purpose: PurposeGate, Requester: "gate",
		Trials: 1, Seed: 3, Parallel: 3, Stop: StopRule{Evidence: 20},
	}
}

func TestABetterCandidateIsProvedEarly(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.pair(crowd(t, 60, "test/gold", "test/rude"), crowd(t, 60))
	c, err := b.Compare(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Verdict != VerdictBetter || c.Better != 7 || c.Worse != 0 || !c.Stopped || c.Evidence < 31 || c.Evidence > 32 {
		t.Errorf("verdict %s, %d better, %d worse, e-value %v, stopped %v", c.Verdict, c.Better, c.Worse, c.Evidence, c.Stopped)
	}
	if c.Diff.Low <= 0 || c.Candidate.Passed != c.Candidate.Trials || len(c.Discordant) != 7 {
		t.Errorf("diff %+v, candidate %+v, discordant %d", c.Diff, c.Candidate, len(c.Discordant))
	}
	if !strings.Contains(c.Discordant[0].Reason, "says") || c.Discordant[0].Trial == "" {
		t.Errorf("discordant %+v", c.Discordant[0])
	}
	var text strings.Builder
	WriteComparison(&text, c)
	if !strings.Contains(text.String(), "verdict    better") || !strings.Contains(text.String(), "stopped early") {
		t.Errorf("text:\n%s", text.String())
	}
}

func TestAWorseCandidateStopsEarlyTooAndSafetyIsNamed(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	c, err := b.Compare(context.Background(), b.pair(crowd(t, 60), crowd(t, 60, "test/gold", "test/never_freezes")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Verdict != VerdictWorse || c.Against < 20 || !c.Stopped || c.Better != 0 || len(c.Safety) == 0 {
		t.Errorf("%+v", c)
	}
	blocked := false
	for _, s := range c.Slices {
		blocked = blocked || strings.HasPrefix(s.Name, "tag:even") && s.Worse > 0
	}
	if !blocked {
		t.Errorf("slices %+v", c.Slices)
	}
}

func TestEqualsAreInconclusiveWhateverTheOrderOfTrials(t *testing.T) {
	t.Parallel()
	noisy := []string{"trials: 2", "trials: 3", "safety: true", "faults: [{tool: cards.freeze, probability: 0.3, do: {status: 503}}]"}
	b := open(t, t.TempDir())
	req := b.pair(crowd(t, 30, noisy...), crowd(t, 30, append(noisy, "You help the customers", "You gladly help the customers")...))
	req.Trials = 3
	var seen []*Comparison
	for _, parallel := range []int{1, 4} {
		req.Parallel, req.Fresh = parallel, true
		c, err := b.Compare(context.Background(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		// Under the same faults two packages that act alike differ nowhere.
		if c.Verdict != VerdictInconclusive || c.Better+c.Worse != 0 || c.Ties != c.Scenarios || c.Scenarios != 33 {
			t.Errorf("%d better, %d worse of %d, %s", c.Better, c.Worse, c.Scenarios, c.Verdict)
		}
		if c.Base.Usage.Failed == 0 || c.Base.Usage.Failed != c.Candidate.Usage.Failed || c.Base.Usage.Missed != c.Candidate.Usage.Missed {
			t.Errorf("the arms met other faults: %+v and %+v", c.Base.Usage, c.Candidate.Usage)
		}
		if c.Diff.Low >= 0 || c.Diff.High <= 0 || c.Evidence != 1 {
			t.Errorf("diff %+v, evidence %v", c.Diff, c.Evidence)
		}
		seen = append(seen, c)
	}
	if !reflect.DeepEqual(seen[0].Discordant, seen[1].Discordant) || seen[0].Base.Passed != seen[1].Base.Passed {
		t.Error("parallel trials changed the result")
	}
}

// The same agent with retries is better where a tool fails in bursts: the difference is in the tool alone.
func TestAToolPolicyIsComparedUnderTheSameFaults(t *testing.T) {
	t.Parallel()
	burst := "faults: [{tool: cards.freeze, bursts: {every: 20s, for: 8s}, do: {status: 503}}]"
	base := []string{"safety: true", burst}
	retry := append(base, "    timeout: 3s\n", "    timeout: 3s\n    idempotency: header:Idempotency-Key\n    retry: {max: 4, for: [5xx], backoff: 2s..16s}\n")
	b := open(t, t.TempDir())
	req := b.pair(crowd(t, 80, base...), crowd(t, 80, retry...))
	c, err := b.Compare(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Verdict != VerdictBetter || c.Worse != 0 || c.Candidate.Usage.Failed >= c.Base.Usage.Failed {
		t.Errorf("verdict %s, %d better, %d worse, failed calls %d → %d", c.Verdict, c.Better, c.Worse, c.Base.Usage.Failed, c.Candidate.Usage.Failed)
	}
	if c.Candidate.Latency.P95 <= c.Base.Latency.P95 {
		t.Errorf("waiting takes virtual time: p95 %v → %v", c.Base.Latency.P95, c.Candidate.Latency.P95)
	}
	if c.Base.Usage.Taped+c.Candidate.Usage.Taped == 0 {
		t.Error("equal requests of the arms were not answered by the tape")
	}
}

func TestLooksAreLimited(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.pair(crowd(t, 40, "test/gold", "test/rude"), crowd(t, 40))
	req.Stop = StopRule{Evidence: 1e9, MaxLooks: 5}
	c, err := b.Compare(context.Background(), req, nil)
	if err != nil || c.Looks != 5 || c.Scenarios != 5 || !c.Stopped {
		t.Errorf("%v, looks %d", err, c.Looks)
	}
	req.Stop = StopRule{}
	c, err = b.Compare(context.Background(), req, nil)
	if err != nil || c.Stopped || c.Scenarios != c.Planned || c.Bound != DefaultEvidence {
		t.Errorf("without a rule everything is compared: %v, %d of %d", err, c.Scenarios, c.Planned)
	}
	looks, err := b.Looks(context.Background(), 0)
	if err != nil || len(looks) != 2 || looks[0].Base != req.Base || looks[0].Candidate != req.Candidate {
		t.Errorf("looks %+v %v", looks, err)
	}
}

func TestACancelledComparisonIsPartialAndContinues(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.pair(crowd(t, 40, "test/gold", "test/rude"), crowd(t, 40))
	req.Stop, req.Parallel = StopRule{}, 1
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := b.Compare(ctx, req, func(p Progress) {
		if p.Done > 20 {
			cancel()
		}
	})
	if fault.KindOf(err) != fault.Canceled || c == nil || c.Status != StatusPartial || c.Scenarios == 0 || c.Scenarios >= c.Planned {
		t.Fatalf("%v %+v", err, c)
	}
	first := c.Experiment
	c, err = b.Compare(context.Background(), req, nil)
	if err != nil || c.Experiment != first || c.Scenarios != c.Planned {
		t.Errorf("%v, experiment %s after %s, %d of %d", err, c.Experiment, first, c.Scenarios, c.Planned)
	}
	e, report, err := b.Get(context.Background(), first)
	if err != nil || e.Status != StatusDone || report.(*Comparison).Evidence != stat.EValue(c.Better, c.Worse) {
		t.Errorf("kept %+v %v", e, err)
	}
}
