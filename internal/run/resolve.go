package run

import (
	"context"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/op"
)

// Target is a package to run, with the release and channel that it was named by.
type Target struct {
	Identity blob.Digest `json:"identity"`
	Release  string      `json:"release,omitempty"`
	Channel  string      `json:"channel,omitempty"`
}

// Packages finds what a person wants to run.
type Packages interface {
	// Draft checks a package directory and stores it; the fault lists every error.
	Draft(ctx context.Context, dir op.Dir) (Target, error)
	// Named finds NAME@CHANNEL, or a release by number or digest.
	Named(ctx context.Context, name string) (Target, error)
}
