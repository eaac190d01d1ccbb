package release

import (
	"context"
	"fmt"

	"flywheel/internal/agent"
)

// Difference is what changed from one release to another, component by component.
type Difference struct {
	Agent      string                `json:"agent"`
	From       int                   `json:"from"`
	To         int                   `json:"to"`
	Same       bool                  `json:"same"` // the packages are equal
	Components []agent.ComponentDiff `json:"components"`
}

// Diff compares two releases of one agent. It reads both packages from their blobs.
func (s *Service) Diff(ctx context.Context, a, b *Release) (*Difference, error) {
	left, err := agent.Load(ctx, s.deps.Blobs, a.Identity)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", a.Name(), err)
	}
	right, err := agent.Load(ctx, s.deps.Blobs, b.Identity)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", b.Name(), err)
	}
	pinned, err := s.pinned(ctx, a, b)
	if err != nil {
		return nil, err
	}
	return &Difference{
		Agent: b.Agent, From: a.Number, To: b.Number, Same: a.Identity == b.Identity,
		Components: append(agent.Diff(left, right), pinned...),
	}, nil
}

// pinned are the models and tools that equal packages were locked to differently: other weights behind a
// name, another schema of a tool.
func (s *Service) pinned(ctx context.Context, a, b *Release) ([]agent.ComponentDiff, error) {
	before, err := s.LockOf(ctx, a.Digest)
	if err != nil {
		return nil, err
	}
	after, err := s.LockOf(ctx, b.Digest)
	if err != nil {
		return nil, err
	}
	var out []agent.ComponentDiff
	for _, is := range after.Lines {
		was, ok := before.Find(is.Kind, is.Name)
		if !ok || is.Kind != agent.KindModel && is.Kind != agent.KindTool {
			continue
		}
		if is.Kind == agent.KindTool {
			was.Digest = is.Digest // what the package says of it is compared already
		}
		if fields := pins(was, is); fields != nil {
			for i := range fields {
				fields[i].Path = "locked " + fields[i].Path
			}
			out = append(out, agent.ComponentDiff{Kind: is.Kind, Name: is.Name, Change: "changed", Fields: fields})
		}
	}
	return out, nil
}
