package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"flywheel/internal/agent"
	"flywheel/internal/evolve"
	"flywheel/internal/lab"
	"flywheel/internal/observe"
	"flywheel/internal/platform/blob"
	"flywheel/internal/release"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// operations reads what production recorded, for the proposers.
type operations struct {
	runs    *run.Service
	observe *observe.Service
}

// Observe lists the latest runs of a release that came from outside, oldest first.
func (o operations) Observe(ctx context.Context, digest string, limit int) ([]evolve.Observed, error) {
	var list []*run.Run
	filter := run.Filter{Release: digest, Limit: min(limit, 500)}
	for len(list) < limit {
		page, err := o.runs.List(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if r.Source != run.SourceFork && r.Status != run.Running && r.Status != run.Waiting {
				list = append(list, r)
			}
		}
		if len(page) < filter.Limit {
			break
		}
		filter.Before = page[len(page)-1].ID
	}
	slices.Reverse(list)
	ids := make([]string, len(list))
	for i, r := range list {
		ids[i] = string(r.ID)
	}
	outcomes, err := o.observe.Outcomes(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]evolve.Observed, 0, len(list))
	for _, r := range list {
		seen, err := o.one(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r.ID, err)
		}
		if v, ok := outcomes[string(r.ID)]; ok {
			seen.Verdict, seen.Source, seen.Expected = v.Verdict, v.Source, v.Expected
		}
		out = append(out, seen)
	}
	return out, nil
}

func (o operations) one(ctx context.Context, r *run.Run) (evolve.Observed, error) {
	seen := evolve.Observed{Run: string(r.ID), At: r.StartedAt, Message: r.Message, Reply: r.Output.Reply, Tokens: r.Usage.In}
	program, err := o.runs.Program(ctx, r.Identity)
	if err != nil {
		return seen, err
	}
	rows, err := o.runs.Journal(ctx, r.ID, 0, 1000)
	if err != nil {
		return seen, err
	}
	for _, row := range rows {
		if row.Kind != run.RowTool {
			continue
		}
		var in run.ToolInput
		if err := json.Unmarshal(row.Input, &in); err != nil {
			return seen, err
		}
		answer, _, err := row.Decode()
		if err != nil {
			return seen, err
		}
		result := answer.Tool
		for _, a := range result.Attempts {
			seen.Attempts = append(seen.Attempts, evolve.Observation{Tool: a.Tool, At: a.At, For: a.For, Class: a.Class})
		}
		if result.Class == tool.OK {
			seen.Calls = append(seen.Calls, spec.ExampleCall{Tool: in.Tool, Args: unbound(program.Package, in)})
		}
	}
	return seen, nil
}

// unbound are the arguments that the model itself chose: those that the package binds are not taught.
func unbound(p *spec.Package, in run.ToolInput) json.RawMessage {
	var args map[string]json.RawMessage
	if json.Unmarshal(in.Args, &args) != nil {
		return nil
	}
	for _, a := range p.Agents {
		for _, use := range a.Tools {
			if use.Matches(in.Tool) {
				for name := range use.With {
					delete(args, name)
				}
			}
		}
	}
	if len(args) == 0 {
		return nil
	}
	b, err := json.Marshal(args)
	if err != nil {
		return nil
	}
	return b
}

// releaser makes releases for evolve.
type releaser struct {
	releases *release.Service
	blobs    blob.Store
	locker   release.Locker
}

// Base resolves a release.
func (r releaser) Base(ctx context.Context, ref string) (evolve.BaseRelease, error) {
	found, _, err := named(ctx, r.releases, ref)
	if err != nil {
		return evolve.BaseRelease{}, err
	}
	return baseOf(found), nil
}

func baseOf(r *release.Release) evolve.BaseRelease {
	return evolve.BaseRelease{Digest: string(r.Digest), Number: r.Number, Agent: r.Agent, Identity: r.Identity, Suite: r.Suite}
}

// Make gates, builds and signs the release of approved proposals.
func (r releaser) Make(ctx context.Context, req evolve.MakeRequest) (evolve.BaseRelease, error) {
	pack, err := agent.Load(ctx, r.blobs, req.Identity)
	if err != nil {
		return evolve.BaseRelease{}, err
	}
	pins, err := r.locker.Lock(ctx, pack)
	if err != nil {
		return evolve.BaseRelease{}, fmt.Errorf("lock the package: %w", err)
	}
	lock, err := release.LockJSON(pins)
	if err != nil {
		return evolve.BaseRelease{}, err
	}
	made, err := r.releases.Create(ctx, release.CreateRequest{
		Package: pack, Lock: lock, Suite: string(req.Base.Suite), Force: req.Force, Notes: req.Note, By: req.By,
	}, func(p release.Progress) {
		if req.Progress != nil && p.Total > 0 {
			req.Progress(lab.Progress{Done: p.Done, Total: p.Total, Passed: p.Passed, Left: p.Left})
		}
	})
	if err != nil {
		return evolve.BaseRelease{}, err
	}
	return baseOf(made), nil
}
