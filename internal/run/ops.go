package run

import (
	"context"
	"strings"
	"sync"
	"time"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// The permissions of this domain.
const (
	PermissionRead   = "run.read"
	PermissionStart  = "run.start"
	PermissionAnswer = "run.answer"
)

// Ops are the operations on runs.
func (s *Service) Ops() []op.Op {
	ops := []op.Op{
		following(op.Stream(op.Meta{
			ID: "run.start", Path: "/api/v1/runs", Stage: 3, CLI: "run", Permission: PermissionStart, Audit: "start run",
			Summary: "Run the agent of this directory, or a released one, on a message",
			Example: `flywheel run "I lost my card in Rome"`, MCP: true,
		}, s.opStart)),
		op.WithText(op.New(op.Meta{
			ID: "run.list", Method: "GET", Path: "/api/v1/runs", Stage: 7, CLI: "runs", Permission: PermissionRead,
			Summary: "List runs, newest first", Example: "flywheel runs --failed --since 24h", MCP: true,
		}, s.opList), textList),
		op.WithText(op.New(op.Meta{
			ID: "run.show", Method: "GET", Path: "/api/v1/runs/{run}", Stage: 7, CLI: "show", Permission: PermissionRead,
			Summary: "Show the steps of a run", Example: "flywheel show run_01jd3k7v0q", MCP: true,
		}, s.opShow), textShow),
		op.New(op.Meta{
			ID: "run.journal", Method: "GET", Path: "/api/v1/runs/{run}/journal", Stage: 7, Permission: PermissionRead,
			Summary: "Read the journal of a run, row by row",
		}, s.opJournal),
	}
	return append(ops, s.moreOps()...)
}

func (s *Service) moreOps() []op.Op {
	return []op.Op{
		op.WithText(op.New(op.Meta{
			ID: "run.replay", Method: "GET", Path: "/api/v1/runs/{run}/replay", Stage: 7, CLI: "replay", Permission: PermissionRead,
			Summary: "Compute a run again from its journal and name the first difference; nothing is called",
			Example: "flywheel replay run_01jd3k7v0q",
		}, s.opReplay), textReplay),
		following(op.Stream(op.Meta{
			ID: "run.fork", Path: "/api/v1/runs/{run}/fork", Stage: 7, CLI: "fork", Permission: PermissionStart, Audit: "fork run",
			Summary: "Go on live from a step of a run; tools that write are mocked unless allowed",
			Example: "flywheel fork run_01jd3k7v0q --at 7",
		}, s.opFork)),
		op.WithText(op.New(op.Meta{
			ID: "run.cancel", Path: "/api/v1/runs/{run}/cancel", Stage: 7, CLI: "cancel", Permission: PermissionStart, Audit: "cancel run",
			Summary: "End a run; what its tools have done stays done", Example: "flywheel cancel run_01jd3k7v0q",
		}, s.opCancel), textRun),
		following(op.Stream(op.Meta{
			ID: "run.answer", Path: "/api/v1/runs/{run}/answer", Stage: 7, CLI: "answer", Permission: PermissionAnswer, Audit: "answer run",
			Summary: "Answer a run that waits for a person", Example: "flywheel answer run_01jd3k7v0q --approve",
		}, s.opAnswer)),
	}
}

// following gives an operation that follows a run to its end its text forms, and its failure when the
// run has failed.
func following(o op.Op) op.Op {
	return op.WithFailure(op.WithEventText(op.WithText(o, textEnd), textEvent), (*Run).failed)
}

// failed is the error for whoever asked for a run that has failed.
func (r *Run) failed() error {
	if r.Status != Failed && r.Status != Canceled {
		return nil
	}
	f := Failure{Class: ClassCanceled, Message: "canceled"}
	if r.Failure != nil {
		f = *r.Failure
	}
	at := ""
	if f.Node != "" {
		at = " at " + f.Node
	}
	err := fault.New(KindOf(f.Class), f.Class, "the run %s%s: %s", r.Status, at, f.Message)
	if r.Status == Canceled {
		err.Message = "the run was " + f.Message
	}
	if f.Class == ClassUnreachable {
		return err.WithHint("flywheel doctor says which models can be reached; flywheel show %s", r.ID)
	}
	return err.WithHint("flywheel show %s", r.ID)
}

// Event is what a streamed operation tells while the run goes on: exactly one field is set.
type Event struct {
	Run   ID     `json:"run,omitempty"` // first: the run that was made
	Delta *Delta `json:"delta,omitempty"`
	Step  *Step  `json:"step,omitempty"`
}

type startIn struct {
	Message string         `json:"message" cli:"rest" doc:"what the user says" required:"true"`
	Dir     op.Dir         `json:"dir,omitempty" cli:"dir" doc:"the package to run"`
	Agent   string         `json:"agent,omitempty" doc:"a released agent instead of a directory: NAME@CHANNEL"`
	Release string         `json:"release,omitempty" doc:"a release instead of a directory: number or digest"`
	Session string         `json:"session,omitempty" doc:"the conversation that this message belongs to"`
	Fields  map[string]any `json:"fields,omitempty" cli:"-" doc:"further input fields"`
	Source  string         `json:"source,omitempty" cli:"-" doc:"where the run comes from" enum:"cli,chat,demo,ui"`
}

func (s *Service) opStart(ctx context.Context, in *startIn, emit func(Event)) (*Run, error) {
	target, err := s.target(ctx, in)
	if err != nil {
		return nil, err
	}
	source := in.Source
	if source == "" {
		source = SourceCLI
	}
	w := &watcher{emit: emit}
	id, wait, err := s.Start(ctx, StartRequest{
		Identity: target.Identity, Release: target.Release, Channel: target.Channel, Source: source, Session: in.Session,
		Input: Input{Message: in.Message, Fields: in.Fields}, OnDelta: w.delta, OnStep: w.step,
	})
	if err != nil {
		return nil, err
	}
	emit(Event{Run: id})
	return s.follow(ctx, id, w, wait)
}

func (s *Service) target(ctx context.Context, in *startIn) (Target, error) {
	if s.deps.Packages == nil {
		return Target{}, fault.New(fault.Internal, "run.packages", "no packages are connected")
	}
	switch {
	case in.Agent != "" && in.Release != "":
		return Target{}, fault.New(fault.Invalid, "run.target", "give an agent or a release, not both")
	case in.Agent != "":
		return s.deps.Packages.Named(ctx, in.Agent)
	case in.Release != "":
		return s.deps.Packages.Named(ctx, in.Release)
	case len(in.Dir) > 0:
		return s.deps.Packages.Draft(ctx, in.Dir)
	}
	return Target{}, fault.New(fault.Invalid, "run.target", "there is nothing to run: no package directory, agent or release").
		WithHint("flywheel init my-desk --template help-desk")
}

// watcher passes on what happens in a run and remembers the words of the answer under way.
type watcher struct {
	emit func(Event)

	mu    sync.Mutex
	words strings.Builder
	last  string // words of the last whole answer
}

func (w *watcher) delta(d Delta) {
	w.mu.Lock()
	w.words.WriteString(d.Text)
	w.mu.Unlock()
	w.emit(Event{Delta: &d})
}

func (w *watcher) step(st Step) {
	w.mu.Lock()
	if st.Kind == RowModel {
		w.last = w.words.String()
		w.words.Reset()
	}
	w.mu.Unlock()
	w.emit(Event{Step: &st})
}

// follow waits for the end of a run; a caller who cancels the operation cancels the run. When the
// process ends, the run goes on later.
func (s *Service) follow(ctx context.Context, id ID, w *watcher, wait func(context.Context) (*Run, error)) (*Run, error) {
	r, err := wait(ctx)
	if err == nil {
		w.mu.Lock()
		r.Streamed = r.Output.Reply != "" && w.last == r.Output.Reply
		w.mu.Unlock()
	}
	if ctx.Err() == nil || s.life.Err() != nil {
		return r, err
	}
	if r, err := s.Cancel(context.WithoutCancel(ctx), id, op.Actor(ctx)); err == nil {
		return r, nil
	}
	return nil, ctx.Err()
}

type listIn struct {
	Failed  bool   `query:"failed" doc:"only runs that broke off, or did not solve their task"`
	Waiting bool   `query:"waiting" doc:"only runs that wait for a person"`
	Agent   string `query:"agent" doc:"package name"`
	Release string `query:"release" doc:"release: number, NAME@CHANNEL or digest"`
	Channel string `query:"channel" doc:"channel"`
	Session string `query:"session" doc:"conversation"`
	Source  string `query:"source" doc:"where the runs come from"`
	Class   string `query:"class" doc:"class of the failure"`
	Since   string `query:"since" doc:"started within this time, such as 24h, or after this moment"`
	Limit   int    `query:"limit" default:"50" doc:"at most so many"`
	Before  string `query:"before" doc:"older than this run: next of the page before"`
}

// Page is a part of a list.
type Page struct {
	Runs []*Run `json:"runs"`
	Next ID     `json:"next,omitempty"` // for before, when there are more
}

func (s *Service) opList(ctx context.Context, in *listIn) (*Page, error) {
	f := Filter{
		Package: in.Agent, Release: in.Release, Channel: in.Channel, Session: in.Session, Source: in.Source, Class: in.Class,
		Before: ID(in.Before), Limit: min(max(1, in.Limit), maxPage), Failed: in.Failed,
	}
	if in.Waiting {
		f.Status = Waiting
	}
	var err error
	if f.Since, err = s.since(in.Since); err != nil {
		return nil, err
	}
	if f.Release != "" && !blob.Digest(f.Release).Valid() && s.deps.Packages != nil {
		target, err := s.deps.Packages.Named(ctx, f.Release)
		if err != nil {
			return nil, err
		}
		f.Release = target.Release
	}
	page := &Page{}
	if page.Runs, err = s.List(ctx, f); err != nil {
		return nil, err
	}
	if page.Runs == nil {
		page.Runs = []*Run{}
	}
	if len(page.Runs) == f.Limit {
		page.Next = page.Runs[len(page.Runs)-1].ID
	}
	return page, nil
}

func (s *Service) since(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return s.deps.Clock.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.New(fault.Invalid, "run.since", "%q is neither a time span such as 24h nor a moment such as 2026-01-31", text)
}

type runIn struct {
	Run ID `path:"run" cli:"arg" doc:"run"`
}

type journalIn struct {
	Run   ID  `path:"run" doc:"run"`
	After int `query:"after" doc:"only rows with a greater sequence number"`
	Limit int `query:"limit" default:"1000" doc:"at most so many"`
}

// Rows is a part of a journal.
type Rows struct {
	Rows []Row `json:"rows"`
	Next int   `json:"next,omitempty"` // for after, when there are more
}

func (s *Service) opJournal(ctx context.Context, in *journalIn) (*Rows, error) {
	limit := min(max(1, in.Limit), 10*maxPage)
	rows, err := s.Journal(ctx, in.Run, in.After, limit)
	if err != nil {
		return nil, err
	}
	out := &Rows{Rows: rows}
	if rows == nil {
		out.Rows = []Row{}
	}
	if len(rows) == limit {
		out.Next = rows[len(rows)-1].Seq
	}
	return out, nil
}

type replayIn struct {
	Run      ID     `path:"run" cli:"arg" doc:"run"`
	Identity string `query:"identity" doc:"another package instead of the run's own"`
}

func (s *Service) opReplay(ctx context.Context, in *replayIn) (*ReplayReport, error) {
	return s.ReplayOn(ctx, in.Run, blob.Digest(in.Identity))
}

type forkIn struct {
	Run         ID     `path:"run" cli:"arg" doc:"run"`
	At          int    `json:"at" doc:"the first step that is not shared" required:"true"`
	AllowWrites bool   `json:"allow_writes,omitempty" doc:"let tools that write reach the world"`
	Release     string `json:"release,omitempty" doc:"another release, or NAME@CHANNEL"`
	Dir         op.Dir `json:"dir,omitempty" cli:"-" doc:"another package"`
}

func (s *Service) opFork(ctx context.Context, in *forkIn, emit func(Event)) (*Run, error) {
	w := &watcher{emit: emit}
	req := ForkRequest{At: in.At, AllowWrites: in.AllowWrites, OnDelta: w.delta, OnStep: w.step}
	if in.Release != "" || len(in.Dir) > 0 {
		target, err := s.target(ctx, &startIn{Release: in.Release, Dir: in.Dir})
		if err != nil {
			return nil, err
		}
		req.Identity, req.Release = target.Identity, target.Release
	}
	id, wait, err := s.Fork(ctx, in.Run, req)
	if err != nil {
		return nil, err
	}
	emit(Event{Run: id})
	return s.follow(ctx, id, w, wait)
}

func (s *Service) opCancel(ctx context.Context, in *runIn) (*Run, error) {
	return s.Cancel(ctx, in.Run, op.Actor(ctx))
}

type answerIn struct {
	Run     ID     `path:"run" cli:"arg" doc:"run"`
	Approve bool   `json:"approve,omitempty" doc:"yes; of an uncertain call: it did happen"`
	Deny    bool   `json:"deny,omitempty" doc:"no; of an uncertain call: it did not happen"`
	Text    string `json:"text,omitempty" doc:"what you say; of an uncertain call: what it gave, as JSON"`
}

func (s *Service) opAnswer(ctx context.Context, in *answerIn, emit func(Event)) (*Run, error) {
	if in.Approve == in.Deny && (in.Approve || in.Text == "") {
		return nil, fault.New(fault.Invalid, "run.answer", "say one of --approve, --deny, or --text").WithHint("flywheel show %s", in.Run)
	}
	w := &watcher{emit: emit}
	_, wait, err := s.Answer(ctx, in.Run, Reply{
		Approve: in.Approve, Text: in.Text, By: op.Actor(ctx), OnDelta: w.delta, OnStep: w.step,
	})
	if err != nil {
		return nil, err
	}
	return s.follow(ctx, in.Run, w, wait)
}
