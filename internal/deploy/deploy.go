package deploy

import (
	"context"
	"embed"
	"log/slog"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/release"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the tables of this domain.
var Migrations = db.Migrations{Domain: "deploy", Files: files}

// Runner starts runs; Runs adapts the run service.
type Runner interface {
	// Start begins a run; it goes on when ctx ends. wait returns when the run has ended or waits for a
	// person.
	Start(ctx context.Context, req StartRequest) (runID string, wait func() (Result, error), err error)
}

// StartRequest is what a deployment asks of a runner.
type StartRequest struct {
	Identity blob.Digest
	Release  blob.Digest
	Agent    string
	Channel  string
	Source   string
	Session  string
	Message  string
	// History is what was said before, when the request repeats it; nil: what the session knows.
	History []model.Message
	Fields  map[string]any
	Env     map[string]string
	// OnText is told pieces of the reply as they come; may be nil.
	OnText func(text string)
}

// Result is how a run ended.
type Result struct {
	Reply   string
	Data    map[string]any
	Waiting bool   // for a person
	Class   string // of the failure; empty when the run succeeded
	Message string // of the failure
	Usage   model.Usage
}

// Releases are the channels and releases behind deployments; *release.Service is one.
type Releases interface {
	Agent(ctx context.Context, name string) (string, error)
	Get(ctx context.Context, agent, ref string) (*release.Release, error)
	Channel(ctx context.Context, agent, name string) (*release.Channel, error)
	Channels(ctx context.Context, agent string) ([]*release.Channel, error)
	Deploy(ctx context.Context, req release.MoveRequest) (*release.Channel, *release.Move, error)
	Promote(ctx context.Context, req release.MoveRequest) (*release.Channel, *release.Move, error)
	Rollback(ctx context.Context, req release.MoveRequest) (*release.Channel, *release.Move, error)
	History(ctx context.Context, agent, channel string, limit int) ([]*release.Move, error)
}

// Deps is what deployments need.
type Deps struct {
	DB       *db.DB
	Releases Releases
	Packages Packages
	Runs     Runner
	// Getenv gives values of the process's environment, which the run service falls back on; may be nil.
	Getenv func(string) string
	Clock  clock.Clock
	Log    *slog.Logger
}

// Service serves deployments.
type Service struct{ deps Deps }

// New makes the service.
func New(deps Deps) *Service {
	if deps.Clock == nil {
		deps.Clock = clock.Real()
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{deps: deps}
}
