package release

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// LabGate runs the trials of a gate in the lab.
type LabGate struct {
	Lab interface {
		StoreSuite(ctx context.Context, su *spec.Suite) (blob.Digest, error)
		Test(ctx context.Context, req lab.Request, progress func(lab.Progress)) (*lab.Report, error)
		Compare(ctx context.Context, req lab.CompareRequest, progress func(lab.Progress)) (*lab.Comparison, error)
	}
	Blobs blob.Store
}

// Suite resolves a suite of the package. Codes: release.unknown_suite, release.which_suite.
func (g LabGate) Suite(ctx context.Context, r *agent.Resolved, name string) (Suite, bool, error) {
	names := slices.Sorted(maps.Keys(r.Suites))
	if len(names) == 0 {
		return Suite{}, false, nil
	}
	if name != "" {
		if r.Suites[name] == nil {
			f := fault.New(fault.Invalid, "release.unknown_suite", "the package has no suite %s", name)
			if near := fault.Suggest(name, names); near != "" {
				return Suite{}, false, f.WithHint("did you mean %s?", near)
			}
			return Suite{}, false, f.WithHint("it has: %s", strings.Join(names, ", "))
		}
		names = []string{name}
	}
	var all, gated []*spec.Suite
	for _, n := range names {
		su, err := lab.Expand(r.Suites[n])
		if err != nil {
			return Suite{}, false, err
		}
		all = append(all, su)
		if su.Gate != (spec.Gate{}) {
			gated = append(gated, su)
		}
	}
	chosen := gated
	if len(gated) == 0 {
		chosen = all
	}
	if len(chosen) != 1 {
		return Suite{}, false, fault.New(fault.Invalid, "release.which_suite", "several suites could be the gate: %s", strings.Join(names, ", ")).
			WithHint("flywheel release --suite NAME")
	}
	d, err := g.Lab.StoreSuite(ctx, chosen[0])
	if err != nil {
		return Suite{}, false, fmt.Errorf("store suite %s: %w", chosen[0].Name, err)
	}
	return Suite{Name: chosen[0].Name, Digest: d, Gate: chosen[0].Gate}, true, nil
}

// Test runs the candidate on the audit split.
func (g LabGate) Test(ctx context.Context, req GateRequest, progress func(Progress)) (*Test, error) {
	report, err := g.Lab.Test(ctx, lab.Request{
		Suite: req.Suite.Digest, Identity: req.Candidate, Split: lab.SplitAudit, Requester: req.Requester, Purpose: lab.PurposeGate,
	}, forward(progress, "audit split"))
	if err != nil {
		return nil, err
	}
	return g.TestOf(ctx, report)
}

// TestOf stores a report and sums it up for a gate.
func (g LabGate) TestOf(ctx context.Context, report *lab.Report) (*Test, error) {
	d, err := g.keep(ctx, report)
	if err != nil {
		return nil, err
	}
	t := &Test{
		Experiment: report.Experiment, Report: d, Suite: report.SuiteID, SuiteName: report.Suite, Split: report.Split,
		Scenarios: report.Total.Scenarios, Trials: report.Total.Trials, Passed: report.Total.Passed, Errors: report.Total.Errors, Effective: report.Total.Rate.N,
		Partial: report.Status != lab.StatusDone, SafetyFailed: len(report.SafetyFail), Scripted: report.Scripted,
	}
	t.summarize()
	t.Cost, t.Compute = perTrial(report.Total)
	return t, nil
}

// Compare runs the candidate paired with the base on the audit split.
func (g LabGate) Compare(ctx context.Context, req GateRequest, progress func(Progress)) (*Against, error) {
	c, err := g.Lab.Compare(ctx, lab.CompareRequest{
		Suite: req.Suite.Digest, Base: req.Base, Candidate: req.Candidate, Split: lab.SplitAudit,
		Requester: req.Requester, Purpose: lab.PurposeGate,
	}, forward(progress, "paired trials"))
	if err != nil {
		return nil, err
	}
	return g.AgainstOf(ctx, c)
}

// AgainstOf stores a comparison and sums it up for a gate. A comparison that stopped early because the
// evidence sufficed is whole.
func (g LabGate) AgainstOf(ctx context.Context, c *lab.Comparison) (*Against, error) {
	d, err := g.keep(ctx, c)
	if err != nil {
		return nil, err
	}
	a := &Against{
		Experiment: c.Experiment, Report: d, Scenarios: c.Scenarios, Better: c.Better, Worse: c.Worse,
		Evidence: c.Evidence, Contrary: c.Against, NewUnsafe: len(c.Safety),
		BaseRate: rateOf(c.Base), Rate: rateOf(c.Candidate), Partial: c.Status != lab.StatusDone, Why: c.Why,
	}
	baseCost, baseTime := perTrial(c.Base)
	cost, compute := perTrial(c.Candidate)
	a.BaseCost, a.Cost, a.BaseTime, a.Time = baseCost, cost, int64(baseTime), int64(compute)
	return a, nil
}

func (g LabGate) keep(ctx context.Context, v any) (blob.Digest, error) {
	raw, err := canon.JSON(v)
	if err != nil {
		return "", err
	}
	d, err := blob.PutBytes(ctx, g.Blobs, raw)
	if err != nil {
		return "", fmt.Errorf("store report: %w", err)
	}
	return d, nil
}

func rateOf(t lab.Tally) float64 {
	if t.Trials == 0 {
		return 0
	}
	return float64(t.Passed) / float64(t.Trials)
}

// perTrial gives money and processor time.
func perTrial(t lab.Tally) (int64, time.Duration) {
	n := max(1, t.Trials)
	return t.Usage.Cost / int64(n), t.Usage.Compute / time.Duration(n)
}

func forward(progress func(Progress), what string) func(lab.Progress) {
	if progress == nil {
		return nil
	}
	return func(p lab.Progress) {
		progress(Progress{Stage: "gate", Message: what, Done: p.Done, Total: p.Total, Passed: p.Passed, Left: p.Left})
	}
}
