package observe_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/model"
	"flywheel/internal/observe"
	"flywheel/internal/run"
)

// The domain run emits run.ended and this package reads it, without importing each other: their two
// types must agree on the wire.
func TestFactsAreThoseThatRunsEmit(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	emitted := run.Facts{
		Run: "run_1", Package: "desk", Identity: "sha256:p", Release: "sha256:r", Channel: "prod", Source: run.SourceEndpoint,
		Session: "s", Status: run.Failed, Class: run.ClassLimitSteps, Message: "m", Node: "desk", User: "u", Reply: "r",
		Usage: model.Usage{In: 1, Out: 2, Cost: 3, Compute: 4}, Steps: 5, ToolTally: run.ToolTally{ToolCalls: 6, ToolErrors: 7, ToolAttempts: 8, ToolFailures: 9},
		Calls: []run.CallFact{{Step: 1, Node: "desk", Tool: "cards.freeze", Class: "timeout", Attempts: 2, Failures: 2}},
		Path:  []string{"desk"}, Elapsed: 10, StartedAt: at, EndedAt: at.Add(time.Second),
	}
	raw, err := json.Marshal(emitted)
	if err != nil {
		t.Fatal(err)
	}
	var got observe.Facts
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := observe.Facts{
		Run: "run_1", Agent: "desk", Identity: "sha256:p", Release: "sha256:r", Channel: "prod", Source: "endpoint",
		Session: "s", Status: "failed", Class: "limit.steps", Message: "m", Node: "desk", User: "u", Reply: "r",
		Usage: observe.Usage{In: 1, Out: 2, Cost: 3, Compute: 4}, Steps: 5, ToolCalls: 6, ToolErrors: 7, ToolAttempts: 8, ToolFailures: 9,
		Calls: []observe.Call{{Step: 1, Node: "desk", Tool: "cards.freeze", Class: "timeout", Attempts: 2, Failures: 2}},
		Path:  []string{"desk"}, Elapsed: 10, StartedAt: at, EndedAt: at.Add(time.Second),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
