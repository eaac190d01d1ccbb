package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/release"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// toolbox connects the tools of runs. Those of a release must look as they did when it was made.
type toolbox struct {
	tools    *tool.Service
	releases *release.Service
	blobs    blob.Store
	log      *slog.Logger

	pinned sync.Map // release digest → map[string]tool.Schema: a release never changes
}

// Connect makes a caller.
func (b *toolbox) Connect(digest string, env map[string]string, pkg *spec.Package) tool.Caller {
	if digest == "" {
		return b.tools.Caller(env, pkg)
	}
	pins, err := b.pins(context.Background(), digest)
	if err != nil {
		b.log.Error("pins not read", slog.String("release", digest), slog.Any("error", err))
		return unreadable{err}
	}
	return b.tools.PinnedCaller(env, pkg, pins)
}

func (b *toolbox) pins(ctx context.Context, digest string) (map[string]tool.Schema, error) {
	if known, ok := b.pinned.Load(digest); ok {
		return known.(map[string]tool.Schema), nil
	}
	lock, err := b.releases.LockOf(ctx, blob.Digest(digest))
	if err != nil {
		return nil, err
	}
	pins := map[string]tool.Schema{}
	for _, line := range lock.Lines {
		if line.Kind != agent.KindTool || line.Schema == "" {
			continue
		}
		pins[line.Name] = tool.Schema{Name: line.Name, Digest: line.Schema}
		if raw, err := blob.Bytes(ctx, b.blobs, blob.Digest(line.Schema)); err == nil {
			if pins[line.Name], err = tool.ReadSchema(raw); err != nil {
				return nil, fmt.Errorf("pin of %s: %w", line.Name, err)
			}
		}
	}
	b.pinned.Store(digest, pins)
	return pins, nil
}

// unreadable refuses every call of a release whose lock cannot be read: what its tools were is unknown.
type unreadable struct{ err error }

// Attempt refuses.
func (u unreadable) Attempt(_ context.Context, call tool.Call) tool.Attempt {
	return tool.Attempt{Tool: call.Name, Class: tool.Drift, Message: "the pins of the release cannot be read: " + u.err.Error()}
}
