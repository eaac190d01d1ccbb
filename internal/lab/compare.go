package lab

import (
	"context"
	"maps"
	"slices"

	"flywheel/internal/lab/stat"
	"flywheel/spec"
)

// Compare tries two packages on the same scenarios with the same seeds and fault schedule. Evidence is
// looked at scenario by scenario in the planned order, whatever order trials end in, so that the result
// does not depend on speed; trials that were already running when it stops are kept but not counted.
// Partial results come together with the error, as with Test.
func (s *Service) Compare(ctx context.Context, req CompareRequest, progress func(Progress)) (*Comparison, error) {
	split, err := checkSplit(req.Split, req.Purpose)
	if err != nil {
		return nil, err
	}
	su, err := s.suite(ctx, req.Suite)
	if err != nil {
		return nil, err
	}
	base, err := s.subject(ctx, req.Base)
	if err != nil {
		return nil, err
	}
	candidate, err := s.subject(ctx, req.Candidate)
	if err != nil {
		return nil, err
	}
	chosen := su.choose(split, req.Limit, req.Seed)
	if len(chosen) == 0 {
		return nil, noScenarios(su, split)
	}
	p := &pairing{su: su, chosen: chosen, trials: trialsOf(req.Trials, su), stop: req.Stop, arms: [2]*subject{base, candidate}}
	exp := &Experiment{
		Kind: KindCompare, SuiteID: su.digest, Suite: su.spec.Name, Package: candidate.resolved.Package.Name, Identity: req.Base,
		Candidate: req.Candidate, Split: split, Trials: p.trials, Limit: req.Limit, Seed: req.Seed, Requester: req.Requester, Purpose: req.Purpose,
		key: requestKey(KindCompare, su.digest, base.key, candidate.key, split, p.trials, req.Limit, req.Seed, req.Requester, req.Purpose, req.Stop),
	}
	if err := s.begin(ctx, exp); err != nil {
		return nil, err
	}
	r := &runner{
		s: s, exp: exp, jobs: p.plan(req.Seed), parallel: parallelOf(req.Parallel, base, candidate), fresh: req.Fresh,
		progress: progress, each: p.take,
	}
	stopped := r.run(ctx)
	exp.Status = StatusDone
	if stopped != nil {
		exp.Status, exp.Why = StatusPartial, why(stopped, exp.Done, exp.Total)
	}
	c := p.comparison(exp)
	c.EndedAt = s.deps.Clock.Now()
	if err := s.finish(ctx, exp, c); err != nil {
		return c, err
	}
	return c, stopped
}

// pairing collects the results of both arms, scenario by scenario.
type pairing struct {
	su     *suite
	chosen []*spec.Scenario
	trials int
	stop   StopRule
	arms   [2]*subject

	jobs    []job
	results [][2][]*Trial // by scenario, by arm
	missing []int         // trials to come, by scenario
	next    int           // scenario to be looked at next
	looked  []int         // scenarios that count
	looks   int
	better  int
	worse   int
	stopped bool
}

// plan lists the trials: a scenario in both arms, then the next.
func (p *pairing) plan(seed uint64) []job {
	p.results = make([][2][]*Trial, len(p.chosen))
	p.missing = make([]int, len(p.chosen))
	for order, sc := range p.chosen {
		for t := range p.trials {
			for arm, sub := range p.arms {
				p.jobs = append(p.jobs, job{
					sub: sub, su: p.su, scenario: sc, trial: t, seed: seed, order: order, arm: arm,
					id: trialID(sub, p.su, sc.Name, t, seed),
				})
			}
		}
		p.missing[order] = 2 * p.trials
	}
	return p.jobs
}

// take adds a result and looks at every scenario that is now whole, in order.
func (p *pairing) take(i int, t *Trial, state *Progress) error {
	j := p.jobs[i]
	p.results[j.order][j.arm] = append(p.results[j.order][j.arm], t)
	p.missing[j.order]--
	for p.next < len(p.chosen) && p.missing[p.next] == 0 {
		p.look(p.next)
		p.next++
		state.Better, state.Worse, state.Evidence = p.better, p.worse, stat.EValue(p.better, p.worse)
		if p.decided() {
			p.stopped = p.next < len(p.chosen)
			return errStop
		}
	}
	return nil
}

// look counts a scenario, unless an arm has no trial in it that could be judged.
func (p *pairing) look(i int) {
	base, ok := rate(p.results[i][0])
	candidate, ok2 := rate(p.results[i][1])
	if !ok || !ok2 {
		return
	}
	p.looks++
	p.looked = append(p.looked, i)
	switch {
	case candidate > base:
		p.better++
	case candidate < base:
		p.worse++
	}
}

func (p *pairing) decided() bool {
	if p.stop.MaxLooks > 0 && p.looks >= p.stop.MaxLooks {
		return true
	}
	if p.stop.Evidence <= 0 || p.looks < p.stop.MinLooks {
		return false
	}
	return stat.EValue(p.better, p.worse) >= p.stop.Evidence || stat.EValue(p.worse, p.better) >= p.stop.Evidence
}

// rate is the share of judged trials that passed; false when a trial is missing, since then the arms do
// not stand on the same seeds.
func rate(list []*Trial) (float64, bool) {
	passed := 0
	for _, t := range list {
		switch t.Status {
		case Errored:
			return 0, false
		case Passed:
			passed++
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	return float64(passed) / float64(len(list)), true
}

// comparison sums up what has been looked at.
func (p *pairing) comparison(e *Experiment) *Comparison {
	c := &Comparison{
		Experiment: e.ID, Suite: e.Suite, SuiteID: e.SuiteID, BaseID: e.Identity, CandID: e.Candidate, Split: e.Split, Seed: e.Seed,
		Trials: e.Trials, Status: e.Status, Why: e.Why, StartedAt: e.StartedAt, Planned: len(p.chosen), Scenarios: len(p.looked),
		Better: p.better, Worse: p.worse, Ties: len(p.looked) - p.better - p.worse, Looks: p.looks, Stopped: p.stopped,
		Evidence: stat.EValue(p.better, p.worse), Against: stat.EValue(p.worse, p.better), Bound: p.stop.Evidence,
		Verdict: VerdictInconclusive,
	}
	if c.Bound <= 0 {
		c.Bound = DefaultEvidence
	}
	switch {
	case c.Evidence >= c.Bound:
		c.Verdict = VerdictBetter
	case c.Against >= c.Bound:
		c.Verdict = VerdictWorse
	}
	var pairs []stat.Pair
	var counted []*spec.Scenario
	byName := [2]map[string][]*Trial{{}, {}}
	for _, i := range p.looked {
		sc, both := p.chosen[i], p.results[i]
		counted = append(counted, sc)
		base, _ := rate(both[0])
		candidate, _ := rate(both[1])
		pairs = append(pairs, stat.Pair{Cluster: sc.Family, Base: base, Candidate: candidate})
		byName[0][sc.Name], byName[1][sc.Name] = both[0], both[1]
		if base != candidate {
			c.Discordant = append(c.Discordant, pairTally(sc, base, candidate, both))
		}
		if sc.Safety && candidate < 1 {
			c.SafetyFail = append(c.SafetyFail, sc.Name)
			if candidate < base {
				c.Safety = append(c.Safety, sc.Name)
			}
		}
	}
	c.Diff = stat.PairedDiff(pairs, level)
	c.Base, c.Candidate = tallyOf(counted, byName[0], p.trials), tallyOf(counted, byName[1], p.trials)
	c.Slices = slicesOf(counted, pairs)
	return c
}

func pairTally(sc *spec.Scenario, base, candidate float64, both [2][]*Trial) PairTally {
	t := PairTally{Name: sc.Name, Family: sc.Family, Safety: sc.Safety, Base: base, Candidate: candidate}
	worse := both[1]
	if candidate > base {
		worse = both[0]
	}
	for _, trial := range worse {
		if trial.Status == Failed {
			t.Reason, t.Trial = trial.reason(), trial.ID
			break
		}
	}
	return t
}

func slicesOf(counted []*spec.Scenario, pairs []stat.Pair) []SliceTally {
	byName := map[string][]stat.Pair{}
	for i, sc := range counted {
		byName["family:"+sc.Family] = append(byName["family:"+sc.Family], pairs[i])
		for _, tag := range sc.Tags {
			byName["tag:"+tag] = append(byName["tag:"+tag], pairs[i])
		}
	}
	var out []SliceTally
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		b, c, _ := stat.Signs(byName[name])
		if b+c == 0 {
			continue
		}
		out = append(out, SliceTally{Name: name, Better: b, Worse: c, Against: stat.EValue(c, b)})
	}
	slices.SortStableFunc(out, func(a, b SliceTally) int { return b.Worse - a.Worse })
	return out
}
