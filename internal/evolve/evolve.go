package evolve

import (
	"context"
	"embed"
	"log/slog"
	"sync"
	"time"

	"flywheel/internal/lab"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/spec"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the tables of this domain.
var Migrations = db.Migrations{Domain: "evolve", Files: files}

// Lab runs paired trials; *lab.Service is one.
type Lab interface {
	Compare(ctx context.Context, req lab.CompareRequest, progress func(lab.Progress)) (*lab.Comparison, error)
}

// Operations is what production recorded of a release.
type Operations interface {
	// Observe lists the latest runs of a release that came from outside, oldest first.
	Observe(ctx context.Context, release string, limit int) ([]Observed, error)
}

// Observed is one production run as proposers see it.
type Observed struct {
	Run      string
	At       time.Time
	Message  string
	Reply    string
	Calls    []spec.ExampleCall // successful calls in order, without bound arguments
	Attempts []Observation
	Verdict  string // success, failure, or empty when nobody said
	Source   string // who gave the verdict: event, person, check, judge, heuristic
	Expected string // the tool that solved the case, where the outcome names it
	Tokens   int    // prompt tokens
}

// Verified says that the run is known to have solved its task, by somebody who can know.
func (o Observed) Verified() bool {
	return o.Verdict == "success" && (o.Source == "event" || o.Source == "person" || o.Source == "check")
}

// BaseRelease is the release that a cycle starts from.
type BaseRelease struct {
	Digest   string
	Number   int
	Agent    string
	Identity blob.Digest
	Suite    blob.Digest // canonical suite that its gate used
}

// Releases reads releases and makes the next one; the release domain is one.
type Releases interface {
	// Base resolves NAME@CHANNEL, a number or a digest.
	Base(ctx context.Context, ref string) (BaseRelease, error)
	// Make gates, builds and signs a release of the package with that identity.
	Make(ctx context.Context, req MakeRequest) (BaseRelease, error)
}

// MakeRequest asks for the release of approved proposals.
type MakeRequest struct {
	Identity blob.Digest
	Base     BaseRelease
	By, Note string
	Force    bool
	Progress func(lab.Progress)
}

// Publisher writes durable events within a transaction.
type Publisher interface {
	Emit(ctx context.Context, tx *db.Tx, topic, subject string, payload any) error
}

// Deps is what evolve needs.
type Deps struct {
	DB         *db.DB
	Blobs      blob.Store
	Bus        Publisher
	Clock      clock.Clock
	Log        *slog.Logger
	Lab        Lab
	Operations Operations
	Releases   Releases
	Proposers  []Proposer // default: DefaultProposers
}

// Service runs cycles and keeps proposals.
type Service struct {
	deps    Deps
	mu      sync.Mutex
	running map[string]bool // agent → a cycle is being driven
}

// New makes the service.
func New(deps Deps) *Service {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Clock == nil {
		deps.Clock = clock.Real()
	}
	if deps.Proposers == nil {
		deps.Proposers = DefaultProposers()
	}
	return &Service{deps: deps, running: map[string]bool{}}
}
