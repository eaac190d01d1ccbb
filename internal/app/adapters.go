package app

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/observe"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/internal/release"
	"flywheel/internal/run"
)

// packages finds what a person wants to run or test: a directory, a channel, a release.
type packages struct {
	blobs    blob.Store
	checker  *agent.Checker
	releases *release.Service
}

// Draft checks and stores a package directory.
func (p packages) Draft(ctx context.Context, dir op.Dir) (run.Target, error) {
	resolved, problems := p.checker.Check(dir)
	if err := agent.Fault(problems); err != nil {
		return run.Target{}, err
	}
	if err := agent.Store(ctx, p.blobs, resolved); err != nil {
		return run.Target{}, fmt.Errorf("store package: %w", err)
	}
	return run.Target{Identity: resolved.Identity}, nil
}

// Named finds NAME@CHANNEL, or a release by number or digest.
func (p packages) Named(ctx context.Context, name string) (run.Target, error) {
	r, channel, err := named(ctx, p.releases, name)
	if err != nil {
		return run.Target{}, err
	}
	return run.Target{Identity: r.Identity, Release: string(r.Digest), Channel: channel}, nil
}

// named resolves NAME@CHANNEL, NAME, NAME/NUMBER, a number, or a digest. An empty name is the only agent.
func named(ctx context.Context, releases *release.Service, name string) (*release.Release, string, error) {
	name = strings.TrimPrefix(name, "agent/")
	agentName, ref, found := strings.Cut(name, "@")
	if !found {
		agentName, ref, found = strings.Cut(name, "/")
	}
	if !found {
		if r, err := releases.Get(ctx, "", name); name != "" && err == nil {
			return r, "", nil
		}
		ref = release.DefaultChannel
	}
	agentName, err := releases.Agent(ctx, agentName)
	if err != nil {
		return nil, "", err
	}
	if c, err := releases.Channel(ctx, agentName, ref); err == nil && c.Stable != "" {
		r, err := releases.Get(ctx, agentName, string(c.Stable))
		return r, ref, err
	}
	r, err := releases.Get(ctx, agentName, ref)
	return r, "", err
}

// verdicts gives runs their outcomes.
type verdicts struct{ observe *observe.Service }

// Outcomes looks the runs up.
func (v verdicts) Outcomes(ctx context.Context, runs []run.ID) (map[run.ID]run.Outcome, error) {
	ids := make([]string, len(runs))
	for i, r := range runs {
		ids[i] = string(r)
	}
	found, err := v.observe.Outcomes(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[run.ID]run.Outcome, len(found))
	for r, o := range found {
		out[run.ID(r)] = run.Outcome{Verdict: o.Verdict, Source: o.Source, Note: o.Note}
	}
	return out, nil
}

// runFinder tells observe which runs there are; the run service is made after observe.
type runFinder struct{ runs *run.Service }

// HasRun says whether there is such a run.
func (f *runFinder) HasRun(ctx context.Context, id string) (bool, error) {
	_, err := f.runs.Get(ctx, run.ID(id))
	if fault.KindOf(err) == fault.NotFound || errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// LastRun is the newest run of a session.
func (f *runFinder) LastRun(ctx context.Context, session string) (string, error) {
	list, err := f.runs.List(ctx, run.Filter{Session: session, Limit: 1})
	if err != nil || len(list) == 0 {
		return "", err
	}
	return string(list[0].ID), nil
}

// gate runs the trials of a release gate in the lab.
type gate struct {
	lab   *lab.Service
	blobs blob.Store
}

// Suite resolves a suite of the package by name, or a stored one by digest.
func (g gate) Suite(ctx context.Context, r *agent.Resolved, name string) (release.Suite, bool, error) {
	if d := blob.Digest(name); d.Valid() {
		su, err := g.lab.LoadSuite(ctx, d)
		if err != nil {
			return release.Suite{}, false, err
		}
		return release.Suite{Name: su.Name, Digest: d, Gate: su.Gate}, true, nil
	}
	source, err := chooseSuite(r, name)
	if err != nil || source == nil {
		return release.Suite{}, false, err
	}
	su, err := lab.Expand(source)
	if err != nil {
		return release.Suite{}, false, err
	}
	d, err := g.lab.StoreSuite(ctx, su)
	return release.Suite{Name: su.Name, Digest: d, Gate: su.Gate}, err == nil, err
}

func chooseSuite(r *agent.Resolved, name string) (*agent.SuiteSource, error) {
	if name != "" {
		if s := r.Suites[name]; s != nil {
			return s, nil
		}
		known := make([]string, 0, len(r.Suites))
		for n := range r.Suites {
			known = append(known, n)
		}
		err := fault.New(fault.NotFound, "release.suite_missing", "%s has no suite %q", r.Package.Name, name)
		if like := fault.Suggest(name, known); like != "" {
			return nil, err.WithHint("did you mean %q?", like)
		}
		return nil, err
	}
	var only *agent.SuiteSource
	for _, s := range r.Suites {
		if !strings.Contains(string(s.Source), `"gate"`) {
			continue
		}
		if only != nil {
			return nil, fault.New(fault.Invalid, "release.suite_choice", "%s has several suites with a gate", r.Package.Name).
				WithHint("flywheel release --suite NAME")
		}
		only = s
	}
	return only, nil
}

// Test runs the candidate on the audit split.
func (g gate) Test(ctx context.Context, req release.GateRequest, progress func(release.Progress)) (*release.Test, error) {
	report, err := g.lab.Test(ctx, lab.Request{
		Suite: req.Suite.Digest, Identity: req.Candidate, Split: lab.SplitAudit, Seed: gateSeed,
		Requester: req.Requester, Purpose: lab.PurposeGate,
	}, relay(progress))
	if err != nil {
		return nil, err
	}
	digest, err := g.store(ctx, report)
	if err != nil {
		return nil, err
	}
	t := report.Total
	n := int64(max(t.Trials, 1))
	return &release.Test{
		Experiment: report.Experiment, Report: digest, Suite: report.SuiteID, SuiteName: report.Suite, Split: report.Split,
		Scenarios: t.Scenarios, Trials: t.Trials, Passed: t.Passed, Errors: t.Errors, Partial: report.Status == lab.StatusPartial,
		Low: t.Rate.Low, High: t.Rate.High, Confidence: t.Rate.Level, SafetyFailed: len(report.SafetyFail),
		Cost: t.Usage.Cost / n, Compute: t.Usage.Compute / time.Duration(n), Scripted: report.Scripted,
	}, nil
}

// gateSeed is one for all gates, so that the trials of a release are paired with those of the next.
const gateSeed = 1

// Compare runs candidate and base paired on the audit split.
func (g gate) Compare(ctx context.Context, req release.GateRequest, progress func(release.Progress)) (*release.Against, error) {
	c, err := g.lab.Compare(ctx, lab.CompareRequest{
		Suite: req.Suite.Digest, Base: req.Base, Candidate: req.Candidate, Split: lab.SplitAudit, Seed: gateSeed,
		Requester: req.Requester, Purpose: lab.PurposeGate,
	}, relay(progress))
	if err != nil {
		return nil, err
	}
	digest, err := g.store(ctx, c)
	if err != nil {
		return nil, err
	}
	base, candidate := int64(max(c.Base.Trials, 1)), int64(max(c.Candidate.Trials, 1))
	return &release.Against{
		Experiment: c.Experiment, Report: digest, Scenarios: c.Scenarios, Better: c.Better, Worse: c.Worse,
		Evidence: c.Evidence, Contrary: c.Against, NewUnsafe: len(c.Safety),
		BaseRate: c.Base.Rate.Rate, Rate: c.Candidate.Rate.Rate,
		BaseCost: c.Base.Usage.Cost / base, Cost: c.Candidate.Usage.Cost / candidate,
		BaseTime: int64(c.Base.Usage.Compute) / base, Time: int64(c.Candidate.Usage.Compute) / candidate,
		Partial: c.Status == lab.StatusPartial, Why: c.Why,
	}, nil
}

func (g gate) store(ctx context.Context, v any) (blob.Digest, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return blob.PutBytes(ctx, g.blobs, b)
}

func relay(progress func(release.Progress)) func(lab.Progress) {
	return func(p lab.Progress) {
		if progress != nil {
			progress(release.Progress{Stage: "gate", Done: p.Done, Total: p.Total, Passed: p.Passed, Left: p.Left})
		}
	}
}
