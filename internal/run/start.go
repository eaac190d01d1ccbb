package run

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/id"
	"flywheel/spec"
)

// StartRequest asks for a run.
type StartRequest struct {
	Identity blob.Digest
	Release  string
	Channel  string
	Source   string // see the Source constants
	Session  string // empty: none
	Input    Input
	// History is what was said before, when the caller keeps the conversation; nil: what the session's
	// earlier runs said.
	History []Message
	// Env replaces values of the environment that the package declares.
	Env map[string]string
	// OnDelta and OnStep are told what happens while it happens; neither may block for long.
	OnDelta func(Delta)
	OnStep  func(Step)
}

// Start makes a run durable and drives it in the background. wait returns it when it has ended or waits
// for a person; the run goes on when the context of wait or of Start ends.
func (s *Service) Start(ctx context.Context, req StartRequest) (ID, func(context.Context) (*Run, error), error) {
	program, err := s.programs.get(ctx, req.Identity)
	if err != nil {
		return "", nil, err
	}
	in := req.Input
	if req.Session != "" {
		in.Session = req.Session
	}
	if err := s.bind(ctx, program, &in, req.Env); err != nil {
		return "", nil, err
	}
	begin := setup{Input: in, History: req.History}
	if in.Session != "" && req.History == nil {
		if begin.History, err = s.store.history(ctx, in.Session, program.Package.Name, s.deps.HistoryTurns); err != nil {
			return "", nil, err
		}
	}
	r := &Run{
		ID: s.newID(), Package: program.Package.Name, Identity: program.Identity, Release: req.Release, Channel: req.Channel,
		Source: req.Source, Session: in.Session, Message: in.Message, Status: Running, StartedAt: s.deps.Clock.Now(),
	}
	if err := s.insert(ctx, r, begin); err != nil {
		return "", nil, err
	}
	d, err := s.launch(r, func(context.Context) (driveStart, error) {
		return driveStart{
			machine: NewMachine(program, begin.Input, begin.History), program: program, input: begin.Input,
			onDelta: req.OnDelta, onStep: req.OnStep,
		}, nil
	})
	if err != nil {
		return r.ID, nil, err
	}
	return r.ID, s.waiter(d), nil
}

func (s *Service) newID() ID { return ID(id.New("run", s.deps.Clock.Now())) }

// insert makes a new run durable, with its event.
func (s *Service) insert(ctx context.Context, r *Run, begin setup, rows ...stored) error {
	text, err := canon.JSON(begin)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "run.input", "the input has no JSON")
	}
	body, err := s.store.body(ctx, text)
	if err != nil {
		return fmt.Errorf("store the input: %w", err)
	}
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		if err := s.store.insertRun(ctx, tx, r, body); err != nil {
			return err
		}
		for _, row := range rows {
			if err := s.store.insertRow(ctx, tx, row); err != nil {
				return err
			}
		}
		return s.deps.Bus.Emit(ctx, tx, TopicStarted, string(r.ID), r.facts(nil, r.StartedAt))
	})
}

// bind resolves what differs between environments: declared values, model aliases, the seed.
func (s *Service) bind(ctx context.Context, p *Program, in *Input, env map[string]string) error {
	explicit := maps.Clone(in.Env)
	if explicit == nil {
		explicit = map[string]string{}
	}
	maps.Copy(explicit, env)
	values, err := s.environment(p, explicit)
	if err != nil {
		return err
	}
	maps.DeleteFunc(values, func(name, _ string) bool {
		_, given := explicit[name]
		return !given && !p.reads[name]
	})
	in.Env = values
	models := maps.Clone(in.Models)
	if models == nil {
		models = map[string]string{}
	}
	for _, alias := range p.Models() {
		choice, declared := p.Package.Models[alias]
		if _, set := models[alias]; set || !declared {
			continue
		}
		if models[alias], err = s.resolveModel(ctx, p, choice); err != nil {
			return err
		}
	}
	in.Models = models
	if in.Seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:])
		in.Seed = binary.LittleEndian.Uint64(b[:])>>1 | 1 // a seed of models is signed
	}
	return nil
}

func (s *Service) resolveModel(ctx context.Context, p *Program, choice spec.ModelChoice) (string, error) {
	if _, ours := p.Script(choice.First); ours || s.deps.Models == nil {
		return choice.First, nil
	}
	return s.deps.Models.Resolve(ctx, choice)
}

// environment gives the value of every name that the package declares: given explicitly, from the
// environment of the process, or the default.
func (s *Service) environment(p *Program, explicit map[string]string) (map[string]string, error) {
	values := make(map[string]string, len(p.Package.Env))
	for _, name := range sorted(p.Package.Env) {
		declared := p.Package.Env[name]
		value, given := explicit[name]
		if !given && s.deps.Getenv != nil {
			value = s.deps.Getenv(name)
		}
		if value == "" && !given {
			value = declared.Default
		}
		if value == "" && declared.Required {
			return nil, fault.New(fault.Invalid, "run.env", "the package needs a value for ${env.%s}: %s", name, declared.Description).
				WithHint("set %s in the environment of flywheel", name)
		}
		values[name] = value
	}
	return values, nil
}

// drive is a run that this process drives.
type drive struct {
	id     ID
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error
}

// driveStart is what a drive begins with.
type driveStart struct {
	machine *Machine
	program *Program
	input   Input
	seq     int // last in the journal
	intents map[int]Row
	effects func(live Effects) (Effects, error) // nil: the world itself
	onDelta func(Delta)
	onStep  func(Step)
}

// launch drives a run in a goroutine of its own, when a slot is free. begin is called in it.
func (s *Service) launch(r *Run, begin func(context.Context) (driveStart, error)) (*drive, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosing
	}
	if s.active[r.ID] != nil {
		return nil, fault.New(fault.Conflict, "run.active", "the run %s is being driven already", r.ID)
	}
	ctx, cancel := context.WithCancelCause(s.life)
	d := &drive{id: r.ID, cancel: cancel, done: make(chan struct{})}
	s.active[r.ID] = d
	s.drivers.Go(func() {
		defer func() {
			cancel(nil)
			s.mu.Lock()
			delete(s.active, r.ID)
			s.mu.Unlock()
			close(d.done)
		}()
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
			d.err = s.drive(ctx, r, begin)
		case <-ctx.Done():
			d.err = context.Cause(ctx)
		}
		if d.err != nil && !errors.Is(d.err, ErrClosing) && !errors.Is(d.err, errCanceled) && !errors.Is(d.err, ErrLost) {
			s.deps.Log.Error("run not driven to its end", slog.String("run", string(r.ID)), slog.Any("error", d.err))
		}
	})
	return d, nil
}

func (s *Service) drive(ctx context.Context, r *Run, begin func(context.Context) (driveStart, error)) error {
	start, err := begin(ctx)
	if err != nil {
		return err
	}
	env, err := s.environment(start.program, start.input.Env)
	if err != nil {
		return err
	}
	effects := s.Live(start.program, r.Release, env)
	if start.effects != nil {
		if effects, err = start.effects(effects); err != nil {
			return err
		}
	}
	_, err = Drive(ctx, DriveInput{
		Run: r.ID, Machine: start.machine, Effects: effects, Recorder: &journal{service: s, run: r}, Clock: s.deps.Clock,
		Secret: s.deps.Secret, Seq: start.seq, Intents: start.intents,
		OnDelta: func(node string, delta model.Delta) {
			e := Delta{Run: r.ID, Node: node, Delta: delta}
			if start.onDelta != nil {
				start.onDelta(e)
			}
			s.deps.Bus.Publish(TopicDelta, string(r.ID), e)
		},
		OnRow: func(row Row) {
			e := stepOf(row)
			if start.onStep != nil {
				start.onStep(e)
			}
			s.deps.Bus.Publish(TopicStep, string(r.ID), e)
		},
	})
	return err
}

// quiet waits until this process no longer drives a run.
func (s *Service) quiet(ctx context.Context, id ID) error {
	s.mu.Lock()
	d := s.active[id]
	s.mu.Unlock()
	if d == nil {
		return nil
	}
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waiter returns a function that waits for the end of a drive and reads the run.
func (s *Service) waiter(d *drive) func(context.Context) (*Run, error) {
	return func(ctx context.Context) (*Run, error) {
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		r, err := s.Get(context.WithoutCancel(ctx), d.id)
		if err != nil {
			return nil, err
		}
		if r.Status == Running && d.err != nil {
			return r, d.err
		}
		return r, nil
	}
}

// Wait waits until this process no longer drives the run, and reads it.
func (s *Service) Wait(ctx context.Context, id ID) (*Run, error) {
	s.mu.Lock()
	d := s.active[id]
	s.mu.Unlock()
	if d == nil {
		return s.Get(ctx, id)
	}
	return s.waiter(d)(ctx)
}
