package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

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

// named finds a release by AGENT@CHANNEL, AGENT:NUMBER, number or digest, and the channel that it was
// named by. An empty name is what the only agent serves on its default channel.
func named(ctx context.Context, releases *release.Service, name string) (*release.Release, string, error) {
	name = strings.TrimPrefix(name, "agent/")
	if name == "" {
		only, err := releases.Agent(ctx, "")
		if err != nil {
			return nil, "", err
		}
		name = only + "@" + release.DefaultChannel
	}
	r, err := releases.Get(ctx, "", name)
	_, channel, _ := strings.Cut(name, "@")
	return r, channel, err
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

// gate runs the trials of a release gate in the lab. A release that is made of proposals has no sources:
// it names the suite of the release that it starts from, by digest.
type gate struct {
	release.LabGate
	suites *lab.Service
}

// Suite resolves a suite of the package by name, or a stored one by digest.
func (g gate) Suite(ctx context.Context, r *agent.Resolved, name string) (release.Suite, bool, error) {
	d := blob.Digest(name)
	if !d.Valid() {
		return g.LabGate.Suite(ctx, r, name)
	}
	su, err := g.suites.LoadSuite(ctx, d)
	if err != nil {
		return release.Suite{}, false, err
	}
	return release.Suite{Name: su.Name, Digest: d, Gate: su.Gate}, true, nil
}
