package lab

import (
	"context"
	"slices"

	"flywheel/internal/platform/fault"
)

// Test tries a package on a suite. Results are durable as they come; the same request continues an
// unfinished experiment. When it stops before its end (ctx ended, the model is gone) the partial report
// comes together with the error. progress may be nil; it is called from one goroutine.
func (s *Service) Test(ctx context.Context, req Request, progress func(Progress)) (*Report, error) {
	split, err := checkSplit(req.Split, req.Purpose)
	if err != nil {
		return nil, err
	}
	su, err := s.suite(ctx, req.Suite)
	if err != nil {
		return nil, err
	}
	sub, err := s.subject(ctx, req.Identity)
	if err != nil {
		return nil, err
	}
	trials := trialsOf(req.Trials, su)
	chosen := su.choose(split, req.Limit, req.Seed)
	if len(chosen) == 0 {
		return nil, noScenarios(su, split)
	}
	exp := &Experiment{
		Kind: KindTest, SuiteID: su.digest, Suite: su.spec.Name, Package: sub.resolved.Package.Name, Identity: req.Identity,
		Release: req.Release, Split: split, Trials: trials, Limit: req.Limit, Seed: req.Seed, Requester: req.Requester, Purpose: req.Purpose,
		key: requestKey(KindTest, su.digest, sub.key, split, trials, req.Limit, req.Seed, req.Requester, req.Purpose, req.Release),
	}
	if err := s.begin(ctx, exp); err != nil {
		return nil, err
	}
	var jobs []job
	for order, sc := range chosen {
		for t := range trials {
			jobs = append(jobs, job{
				sub: sub, su: su, scenario: sc, trial: t, seed: req.Seed, order: order,
				id: trialID(sub, su, sc.Name, t, req.Seed),
			})
		}
	}
	done := make([]*Trial, len(jobs))
	r := &runner{s: s, exp: exp, jobs: jobs, parallel: parallelOf(req.Parallel, sub), fresh: req.Fresh, progress: progress}
	r.each = func(i int, t *Trial, _ *Progress) error {
		done[i] = t
		return nil
	}
	stopped := r.run(ctx)
	exp.Status = StatusDone
	if stopped != nil {
		exp.Status, exp.Why = StatusPartial, why(stopped, exp.Done, exp.Total)
	}
	report := s.buildReport(exp, sub, su, chosen, done)
	report.Reused = r.state.Reused
	if err := s.finish(ctx, exp, report); err != nil {
		return report, err
	}
	return report, stopped
}

func trialsOf(asked int, su *suite) int {
	if asked > 0 {
		return asked
	}
	return max(1, su.spec.Trials)
}

func parallelOf(asked int, subs ...*subject) int {
	if asked > 0 {
		return asked
	}
	n := subs[0].parallel()
	for _, sub := range subs[1:] {
		n = min(n, sub.parallel())
	}
	return n
}

func noScenarios(su *suite, split string) error {
	e := fault.New(fault.Invalid, "lab.no_scenarios", "the suite %s has no scenario in the %s split", su.spec.Name, split)
	if split == SplitAudit {
		return e.WithHint("add `split: {dev: 50, audit: 50, by: family}` to suites/%s.suite.yaml", su.spec.Name)
	}
	return e.WithHint("write scenarios of more families in suites/%s.suite.yaml", su.spec.Name)
}

// judged are the trials that say something about the agent.
func judged(all []*Trial) []*Trial {
	return slices.DeleteFunc(slices.Clone(all), func(t *Trial) bool { return t == nil || t.Status == Errored })
}
