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
	return &Difference{
		Agent: b.Agent, From: a.Number, To: b.Number, Same: a.Identity == b.Identity,
		Components: agent.Diff(left, right),
	}, nil
}
