package observe

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"log/slog"

	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the tables of this domain.
var Migrations = db.Migrations{Domain: "observe", Files: files}

// TopicOutcome is emitted for every outcome; its payload is the Outcome.
const TopicOutcome = "outcome.given"

// Runs finds runs at once, where the facts of this package come a moment later.
type Runs interface {
	// HasRun says whether there is such a run.
	HasRun(ctx context.Context, run string) (bool, error)
	// LastRun is the newest run of a session, "" when there is none.
	LastRun(ctx context.Context, session string) (string, error)
}

// Deps is what observing needs.
type Deps struct {
	DB    *db.DB
	Bus   *bus.Bus // may be nil
	Clock clock.Clock
	// Runs may be nil: then an outcome by session waits until the facts of its run arrive.
	Runs Runs
	Log  *slog.Logger
}

// Service keeps facts and outcomes.
type Service struct{ deps Deps }

// New makes the service and registers its consumers with the bus.
func New(deps Deps) *Service {
	if deps.Clock == nil {
		deps.Clock = clock.Real()
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{deps: deps}
	if deps.Bus != nil {
		deps.Bus.Handle("observe.runs", "run.ended", consume(s.Record))
		deps.Bus.Handle("observe.releases", "release.created", consume(s.markRelease))
		deps.Bus.Handle("observe.channels", "channel.moved", consume(s.markMove))
	}
	return s
}

// consume decodes the payload of an event. A payload that cannot be read is an error that waiting does
// not cure, so the bus parks it.
func consume[T any](fn func(context.Context, T) error) func(context.Context, bus.Event) error {
	return func(ctx context.Context, e bus.Event) error {
		var v T
		if err := json.Unmarshal(e.Payload, &v); err != nil {
			return fmt.Errorf("read event %d on %s: %w", e.Seq, e.Topic, err)
		}
		return fn(ctx, v)
	}
}

// Topics lists what the service consumes, for the wiring and its test.
func Topics() []string { return []string{"run.ended", "release.created", "channel.moved"} }
