package tool

import (
	"context"
	"time"

	"flywheel/internal/platform/clock"
	"flywheel/spec"
)

// Policy is what Do needs besides the call.
type Policy struct {
	Clock  clock.Clock
	Tools  map[string]*spec.Tool
	Caller Caller
}

// Do makes a call.
func Do(ctx context.Context, p Policy, call Call) Result {
	a := p.Caller.Attempt(ctx, call)
	return Result{Out: a.Out, Class: a.Class, Message: a.Message, Tool: call.Name, Attempts: []Attempt{a}}
}

// DefaultTimeout bounds one attempt of a tool that declares no timeout.
const DefaultTimeout = 30 * time.Second

// TimeoutOf is the time that one attempt of t may take.
func TimeoutOf(t *spec.Tool) time.Duration { return t.Timeout.Or(DefaultTimeout) }
