package release

import (
	"context"
	"encoding/json"
	"fmt"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
)

// AgentPackages gives back packages of format 1 from their blobs.
type AgentPackages struct{ Blobs blob.Store }

// Source loads a package and lists what its release consists of.
func (p AgentPackages) Source(ctx context.Context, identity blob.Digest, lock json.RawMessage) (Source, error) {
	r, err := agent.Load(ctx, p.Blobs, identity)
	if err != nil {
		return Source{}, fmt.Errorf("load package %s: %w", identity.Short(), err)
	}
	return SourceOf(r, lock), nil
}

// SourceOf is a resolved package with its lock, as a release is built from it.
func SourceOf(r *agent.Resolved, lock json.RawMessage) Source {
	src := Source{
		Name: r.Package.Name, Goal: r.Package.Goal, Identity: r.Identity, Canonical: r.Canonical,
		Lock: lock, Data: r.Data,
	}
	for _, c := range agent.Components(r) {
		src.Components = append(src.Components, Component{Kind: c.Kind, Name: c.Name, Content: c.Content})
	}
	return src
}
