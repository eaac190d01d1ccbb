package lab

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"time"

	"flywheel/internal/lab/stat"
	"flywheel/internal/platform/blob"
	"flywheel/spec"
)

const level = 0.95 // of intervals in reports

// buildReport sums trials up; entries of done may be nil.
func (s *Service) buildReport(e *Experiment, sub *subject, su *suite, chosen []*spec.Scenario, done []*Trial) *Report {
	r := &Report{
		Experiment: e.ID, Suite: su.spec.Name, SuiteID: su.digest, Package: e.Package, Identity: e.Identity, Release: e.Release,
		Models: sub.refs, Scripted: sub.scripted(), Split: e.Split, Seed: e.Seed, Trials: e.Trials, Status: e.Status, Why: e.Why,
		StartedAt: e.StartedAt, EndedAt: s.deps.Clock.Now(),
	}
	byScenario := map[string][]*Trial{}
	for _, t := range done {
		if t != nil {
			byScenario[t.Scenario] = append(byScenario[t.Scenario], t)
		}
	}
	r.Total = tallyOf(chosen, byScenario, e.Trials)
	r.Total.Planned = len(chosen) * e.Trials
	for _, sc := range chosen {
		list := byScenario[sc.Name]
		if len(list) == 0 {
			continue
		}
		t := scenarioTally(sc, list)
		r.Scenarios = append(r.Scenarios, t)
		if sc.Safety && t.Passed < t.Trials {
			r.SafetyFail = append(r.SafetyFail, sc.Name)
		}
	}
	sort.SliceStable(r.Scenarios, func(i, j int) bool { return worse(r.Scenarios[i], r.Scenarios[j]) })
	slices.Sort(r.SafetyFail)
	r.Families = groups(chosen, byScenario, func(sc *spec.Scenario) []string { return []string{sc.Family} })
	r.Tags = groups(chosen, byScenario, func(sc *spec.Scenario) []string { return sc.Tags })
	all := judged(done)
	r.Failing, r.Slowest, r.Tools = failing(all), slowest(all), toolTallies(all)
	r.Baselines = baselines(sub, su, chosen)
	r.Deterministic = deterministic(done)
	return r
}

func worse(a, b ScenarioTally) bool {
	ra, rb := a.Rate.Rate, b.Rate.Rate
	if (a.Trials == 0) != (b.Trials == 0) {
		return a.Trials > 0 // errors last: they say nothing
	}
	return cmp.Or(cmp.Compare(ra, rb), cmp.Compare(a.Name, b.Name)) < 0
}

// tallyOf sums the judged trials of scenarios up.
func tallyOf(chosen []*spec.Scenario, byScenario map[string][]*Trial, k int) Tally {
	t := Tally{K: k}
	clusters := map[string]*stat.Cluster{}
	var latencies []time.Duration
	expected, right, labels := 0, 0, labelsOf(chosen)
	for _, sc := range chosen {
		n, c := 0, 0
		for _, trial := range byScenario[sc.Name] {
			if trial.Status == Errored {
				t.Errors++
				continue
			}
			n++
			if trial.Status == Passed {
				c++
			}
			t.Usage = t.Usage.add(trial.Usage)
			latencies = append(latencies, trial.Latency())
			if label, ok := labelOf(sc); ok {
				expected++
				if label == decision(trial.Called, labels) {
					right++
				}
			}
		}
		if n == 0 {
			continue
		}
		t.Scenarios++
		t.Trials += n
		t.Passed += c
		t.PassAll += stat.PassAll(n, c, k)
		t.PassAny += stat.PassAny(n, c, k)
		cl := clusters[sc.Family]
		if cl == nil {
			cl = &stat.Cluster{}
			clusters[sc.Family] = cl
		}
		cl.Passed += float64(c)
		cl.Trials += float64(n)
	}
	if t.Scenarios > 0 {
		t.PassAll /= float64(t.Scenarios)
		t.PassAny /= float64(t.Scenarios)
	}
	if expected > 0 {
		t.Action = float64(right) / float64(expected)
	}
	list := make([]stat.Cluster, 0, len(clusters))
	for _, f := range slices.Sorted(maps.Keys(clusters)) {
		list = append(list, *clusters[f])
	}
	t.Rate = stat.ClusteredRate(list, t.Scenarios, level)
	t.Latency = Latency{P50: stat.Quantile(latencies, 0.5), P95: stat.Quantile(latencies, 0.95)}
	return t
}

func (u Usage) add(o Usage) Usage {
	u.In += o.In
	u.Out += o.Out
	u.Cached += o.Cached
	u.Cost += o.Cost
	u.Compute += o.Compute
	u.Calls += o.Calls
	u.Taped += o.Taped
	u.Tools += o.Tools
	u.Failed += o.Failed
	u.Attempts += o.Attempts
	u.Missed += o.Missed
	u.Steps += o.Steps
	return u
}

func scenarioTally(sc *spec.Scenario, list []*Trial) ScenarioTally {
	t := ScenarioTally{Name: sc.Name, Family: sc.Family, Tags: sc.Tags, Safety: sc.Safety}
	var latencies []time.Duration
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *Trial) int { return cmp.Compare(a.Trial, b.Trial) })
	for _, trial := range list {
		switch trial.Status {
		case Errored:
			t.Errors++
		case Passed:
			t.Passed++
			t.Trials++
		default:
			t.Trials++
		}
		if trial.Status != Passed && t.Reason == "" {
			t.Reason, t.Trial = trial.reason(), trial.ID
		}
		latencies = append(latencies, trial.Latency())
	}
	t.Rate = stat.Wilson(float64(t.Passed), float64(t.Trials), level)
	t.PassAll = stat.PassAll(t.Trials, t.Passed, t.Trials)
	t.Latency = stat.Quantile(latencies, 0.5)
	return t
}

func groups(chosen []*spec.Scenario, byScenario map[string][]*Trial, of func(*spec.Scenario) []string) []GroupTally {
	byName := map[string]*GroupTally{}
	for _, sc := range chosen {
		list := judged(byScenario[sc.Name])
		if len(list) == 0 {
			continue
		}
		for _, name := range of(sc) {
			g := byName[name]
			if g == nil {
				g = &GroupTally{Name: name}
				byName[name] = g
			}
			g.Scenarios++
			g.Trials += len(list)
			for _, t := range list {
				if t.Status == Passed {
					g.Passed++
				}
			}
		}
	}
	out := make([]GroupTally, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		g := *byName[name]
		g.Rate = stat.Wilson(float64(g.Passed), float64(g.Trials), level)
		out = append(out, g)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Rate.Rate < out[j].Rate.Rate })
	return out
}

func failing(all []*Trial) []FailingCheck {
	byCheck := map[string]*FailingCheck{}
	for _, t := range all {
		seen := map[string]bool{}
		for _, f := range t.Failed {
			if seen[f.Check] {
				continue
			}
			seen[f.Check] = true
			c := byCheck[f.Check]
			if c == nil {
				c = &FailingCheck{Check: f.Check, Example: f.Reason, Trial: t.ID}
				byCheck[f.Check] = c
			}
			c.Count++
		}
	}
	out := make([]FailingCheck, 0, len(byCheck))
	for _, name := range slices.Sorted(maps.Keys(byCheck)) {
		out = append(out, *byCheck[name])
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Count > out[j].Count })
	return out
}

func slowest(all []*Trial) []SlowTrial {
	list := slices.Clone(all)
	sort.SliceStable(list, func(i, j int) bool { return list[i].Latency() > list[j].Latency() })
	var out []SlowTrial
	for _, t := range list[:min(5, len(list))] {
		out = append(out, SlowTrial{Trial: t.ID, Scenario: t.Scenario, Latency: t.Latency()})
	}
	return out
}

func toolTallies(all []*Trial) []ToolTally {
	byTool := map[string]*ToolTally{}
	for _, trial := range all {
		for _, t := range trial.Tools {
			sum := byTool[t.Tool]
			if sum == nil {
				sum = &ToolTally{Tool: t.Tool, Classes: map[string]int{}}
				byTool[t.Tool] = sum
			}
			sum.Calls += t.Calls
			sum.Failed += t.Failed
			sum.Attempts += t.Attempts
			sum.Missed += t.Missed
			for class, n := range t.Classes {
				sum.Classes[class] += n
			}
		}
	}
	var out []ToolTally
	for _, name := range slices.Sorted(maps.Keys(byTool)) {
		out = append(out, *byTool[name])
	}
	return out
}

// deterministic is the digest of what wall time, caches and stored results do not touch.
func deterministic(done []*Trial) blob.Digest {
	type part struct {
		Scenario         string
		Trial            int
		Status           string
		Failed           any
		Replies          []string
		Called           []string
		In, Out          int
		Cost             int64
		Calls, Tools     int
		Failures, Missed int
		Steps            int
		ToolTime         time.Duration
	}
	var parts []part
	for _, t := range done {
		if t == nil {
			continue
		}
		u := t.Usage
		parts = append(parts, part{
			t.Scenario, t.Trial, t.Status, t.Failed, t.Replies, t.Called, u.In, u.Out, u.Cost, u.Calls, u.Tools, u.Failed, u.Missed, u.Steps, t.ToolTime,
		})
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.Scenario, b.Scenario), cmp.Compare(a.Trial, b.Trial))
	})
	b, err := json.Marshal(parts)
	if err != nil {
		return ""
	}
	return blob.Of(b)
}
