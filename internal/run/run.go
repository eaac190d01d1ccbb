package run

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// The topics of events.
const (
	TopicStarted = "run.started" // payload Facts
	TopicStep    = "run.step"    // payload Step; live only
	TopicEnded   = "run.ended"   // payload Facts
	TopicDelta   = "run.delta"   // payload Delta; live only
)

// Where runs come from.
const (
	SourceCLI      = "cli"
	SourceChat     = "chat"
	SourceEndpoint = "endpoint"
	SourceFork     = "fork"
	SourceDemo     = "demo"
)

// Bus tells others what happened; *bus.Bus is one.
type Bus interface {
	Emit(ctx context.Context, tx *db.Tx, topic, subject string, payload any) error
	Publish(topic, subject string, payload any)
}

// Models calls models and resolves aliases; *model.Service is one.
type Models interface {
	model.Chatter
	Resolve(ctx context.Context, c spec.ModelChoice) (string, error)
}

// Tools connects the tools of a package in an environment. A release has pinned what its tools look like:
// a tool that has changed since is refused.
type Tools interface {
	Connect(release string, env map[string]string, pkg *spec.Package) tool.Caller
}

// Deps is what the service needs. Packages and Outcomes may be nil.
type Deps struct {
	DB       *db.DB
	Blobs    blob.Store
	Bus      Bus
	Clock    clock.Clock
	Log      *slog.Logger
	Models   Models
	Tools    Tools
	Packages Packages
	Outcomes Outcomes
	// Secret keys the idempotency keys; it belongs to the home and never changes.
	Secret []byte
	// Getenv gives the environment's values for what packages declare; nil: only their defaults.
	Getenv func(string) string
	// Parallel is how many runs are driven at once; default 256.
	Parallel int
	// HistoryTurns is how many earlier turns of a session a run is given; default 10.
	HistoryTurns int
}

// Service drives runs and keeps their journals. One process per home drives.
type Service struct {
	deps  Deps
	store *store

	programs programs
	slots    chan struct{}

	mu      sync.Mutex
	active  map[ID]*drive
	closed  bool
	life    context.Context //nolint:containedctx // of all drives
	stop    context.CancelCauseFunc
	drivers sync.WaitGroup
}

// ErrClosing is the cause with which drives end when the process does: their runs go on later.
var ErrClosing error = fault.New(fault.Unavailable, "run.closing", "flywheel is stopping: the run is kept, and goes on when it is back").
	WithHint("flywheel runs")

// New makes the service. Runs that a crash interrupted wait for Resume.
func New(d Deps) *Service {
	if d.Clock == nil {
		d.Clock = clock.Real()
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Bus == nil {
		d.Bus = silent{}
	}
	if d.Parallel <= 0 {
		d.Parallel = 256
	}
	if d.HistoryTurns <= 0 {
		d.HistoryTurns = 10
	}
	s := &Service{
		deps: d, store: &store{db: d.DB, blobs: d.Blobs},
		slots: make(chan struct{}, d.Parallel), active: map[ID]*drive{},
	}
	s.programs.load = func(ctx context.Context, identity blob.Digest) (*Program, error) {
		r, err := agent.Load(ctx, d.Blobs, identity)
		if err != nil {
			return nil, err
		}
		return Compile(r)
	}
	s.life, s.stop = context.WithCancelCause(context.Background())
	return s
}

// Close stops driving and waits until every driver has ended; running runs go on after Resume.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop(ErrClosing)
	s.drivers.Wait()
	return nil
}

// Get reads a run.
func (s *Service) Get(ctx context.Context, id ID) (*Run, error) {
	r, err := s.store.run(ctx, s.deps.DB, id)
	if err != nil {
		return nil, err
	}
	return r, s.addOutcomes(ctx, r)
}

// List reads runs, newest first.
func (s *Service) List(ctx context.Context, f Filter) ([]*Run, error) {
	if !f.Failed {
		list, err := s.store.list(ctx, f)
		if err != nil {
			return nil, err
		}
		return list, s.addOutcomes(ctx, list...)
	}
	// Verdicts are kept elsewhere: look page by page.
	var failed []*Run
	page := f
	page.Failed, page.Limit = false, maxPage
	for {
		list, err := s.List(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if r.unsolved() {
				if failed = append(failed, r); len(failed) == f.Limit {
					return failed, nil
				}
			}
		}
		if len(list) < page.Limit {
			return failed, nil
		}
		page.Before = list[len(list)-1].ID
	}
}

func (s *Service) addOutcomes(ctx context.Context, list ...*Run) error {
	if s.deps.Outcomes == nil || len(list) == 0 {
		return nil
	}
	ids := make([]ID, len(list))
	for i, r := range list {
		ids[i] = r.ID
	}
	known, err := s.deps.Outcomes.Outcomes(ctx, ids)
	if err != nil {
		return err
	}
	for _, r := range list {
		if o, ok := known[r.ID]; ok {
			r.Outcome = &o
		}
	}
	return nil
}

// Journal reads rows of a run with a sequence number greater than after; limit 0 reads all.
func (s *Service) Journal(ctx context.Context, id ID, after, limit int) ([]Row, error) {
	if _, err := s.store.run(ctx, s.deps.DB, id); err != nil {
		return nil, err
	}
	return s.store.journal(ctx, id, after, limit)
}

// Program is the compiled package of an identity; it is compiled once and shared.
func (s *Service) Program(ctx context.Context, identity blob.Digest) (*Program, error) {
	return s.programs.get(ctx, identity)
}

// Use makes a program known that need not be in the blob store.
func (s *Service) Use(p *Program) { s.programs.put(p) }

// setup is what a machine starts from; with the program and the answers it decides everything.
type setup struct {
	Input   Input     `json:"input"`
	History []Message `json:"history,omitempty"`
}

// Step is the payload of run.step.
type Step struct {
	Run   ID     `json:"run"`
	Seq   int    `json:"seq"`
	Step  int    `json:"step"`
	Kind  string `json:"kind"`
	Node  string `json:"node"`
	Name  string `json:"name,omitempty"` // model or tool
	Class string `json:"class,omitempty"`
	// Text is the question, the answer's words or the tool's arguments, cut for a line.
	Text    string        `json:"text,omitempty"`
	Usage   model.Usage   `json:"usage,omitzero"`
	Took    time.Duration `json:"took,omitempty"` // nanoseconds
	Attempt int           `json:"attempt,omitempty"`
}

// Delta is the payload of run.delta: a piece of an answer that is being written.
type Delta struct {
	Run  ID     `json:"run"`
	Node string `json:"node"`
	model.Delta
}

// stepOf is a row as watchers see it.
func stepOf(r Row) Step {
	s := Step{
		Run: r.Run, Seq: r.Seq, Step: r.Step, Kind: r.Kind, Node: r.Node, Class: r.Class,
		Usage: r.Usage, Attempt: r.Attempt,
	}
	if !r.EndedAt.IsZero() {
		s.Took = max(0, r.EndedAt.Sub(r.StartedAt))
	}
	if c := r.Command; c != nil {
		switch {
		case c.Model != nil:
			s.Name = c.Model.Model
		case c.Tool != nil:
			s.Name, s.Text = c.Tool.Name, line(string(c.Tool.Args))
		case c.Ask != nil:
			s.Text = line(c.Ask.Question)
		}
	}
	if a := r.Answer; a != nil {
		switch {
		case a.Failure != nil:
			s.Text = line(a.Failure.Message)
		case a.Model != nil:
			s.Text = line(a.Model.Message.Content)
		}
	}
	return s
}

const maxLine = 200

func line(s string) string {
	if len(s) <= maxLine {
		return s
	}
	return s[:maxLine] + "…"
}

type silent struct{}

func (silent) Emit(context.Context, *db.Tx, string, string, any) error { return nil }
func (silent) Publish(string, string, any)                             {}

// programs is a bounded cache of compiled packages.
type programs struct {
	load func(context.Context, blob.Digest) (*Program, error)

	mu   sync.Mutex
	list []*Program // least recently used first
}

const maxPrograms = 64

func (c *programs) find(identity blob.Digest) *Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.list {
		if p.Identity == identity {
			c.list = append(append(c.list[:i:i], c.list[i+1:]...), p)
			return p
		}
	}
	return nil
}

func (c *programs) get(ctx context.Context, identity blob.Digest) (*Program, error) {
	if p := c.find(identity); p != nil {
		return p, nil
	}
	p, err := c.load(ctx, identity)
	if err != nil {
		return nil, err
	}
	c.put(p)
	return p, nil
}

func (c *programs) put(p *Program) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, old := range c.list {
		if old.Identity == p.Identity {
			c.list = append(c.list[:i:i], c.list[i+1:]...)
			break
		}
	}
	if len(c.list) >= maxPrograms {
		c.list = c.list[1:]
	}
	c.list = append(c.list, p)
}

// facts describes a run for those who watch.
func (r *Run) facts(e *Ended, endedAt time.Time) Facts {
	f := Facts{
		Run: r.ID, Package: r.Package, Identity: r.Identity, Release: r.Release, Channel: r.Channel, Source: r.Source,
		Session: r.Session, Turn: r.Turn, Parent: r.Parent, Status: Running, User: cut(r.Message), StartedAt: r.StartedAt,
	}
	if e == nil {
		return f
	}
	f.Status, f.Reply, f.Usage, f.Steps, f.ToolTally = e.Status, cut(e.Output.Reply), e.Usage, e.Steps, e.ToolTally
	f.Malformed, f.Calls, f.Path, f.Elapsed, f.EndedAt = e.Malformed, e.Calls, e.Path, e.Elapsed, endedAt
	if e.Failure != nil {
		f.Class, f.Message, f.Node = e.Failure.Class, cut(e.Failure.Message), e.Failure.Node
	}
	return f
}

// outputJSON is the output as its row keeps it.
func outputJSON(o Output) (json.RawMessage, error) { return canon.JSON(o) }
