package lab

import (
	"context"
	"embed"
	"log/slog"
	"runtime"
	"sync"

	"flywheel/internal/agent"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/spec"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the tables of this domain.
var Migrations = db.Migrations{Domain: "lab", Files: files}

// Publisher sends ephemeral events; *bus.Bus is one.
type Publisher interface {
	Publish(topic, subject string, payload any)
}

// Deps is what the lab needs.
type Deps struct {
	DB    *db.DB
	Blobs blob.Store
	Bus   Publisher // may be nil
	Clock clock.Clock
	Model model.Chatter
	Log   *slog.Logger
	// Pin names what a model reference stands for at the moment, such as the digest of its weights, so that
	// taped answers and stored trials of other weights are not used. May be nil.
	Pin func(ctx context.Context, ref string) (string, error)
	// Resolve chooses the reference of a model alias; may be nil: then the first choice is taken.
	Resolve func(ctx context.Context, choice spec.ModelChoice) (string, error)
	// Checker reads package directories; default: one that knows suites.
	Checker *agent.Checker
	// Release finds what a reference to a release means; may be nil.
	Release func(ctx context.Context, ref string) (Released, error)
}

// Service runs experiments.
type Service struct {
	deps Deps
	tape *tape

	mu       sync.Mutex
	programs map[blob.Digest]*subject
	suites   map[blob.Digest]*suite
	active   map[string]bool // experiments of this process
}

// New makes the service.
func New(deps Deps) *Service {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Clock == nil {
		deps.Clock = clock.Real()
	}
	return &Service{
		deps: deps, tape: newTape(deps.DB, maxTaped),
		programs: map[blob.Digest]*subject{}, suites: map[blob.Digest]*suite{},
		active: map[string]bool{},
	}
}

// cores is how many trials of a scripted model run at once.
func cores() int { return max(2, runtime.GOMAXPROCS(0)) }
