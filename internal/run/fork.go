package run

import (
	"context"
	"fmt"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
)

// ForkRequest says where a fork leaves its parent and what is different in it.
type ForkRequest struct {
	At       int         // steps before At are shared
	Identity blob.Digest // another package; empty: the parent's
	Release  string      // of Identity, where it is one
	// AllowWrites lets tools reach the world that do not only read.
	AllowWrites bool
	OnDelta     func(Delta)
	OnStep      func(Step)
}

// Fork starts a run that shares the first steps of another and goes on live from there.
func (s *Service) Fork(ctx context.Context, id ID, req ForkRequest) (ID, func(context.Context) (*Run, error), error) {
	parent, err := s.store.run(ctx, s.deps.DB, id)
	if err != nil {
		return "", nil, err
	}
	rows, err := s.store.journal(ctx, id, 0, 0)
	if err != nil {
		return "", nil, err
	}
	if last := lastStep(rows); req.At < 0 || req.At > last+1 {
		return "", nil, fault.New(fault.Invalid, "run.fork_at", "the run %s has the steps 0 to %d", id, last).WithHint("flywheel show %s", id)
	}
	begin, err := s.store.setup(ctx, id)
	if err != nil {
		return "", nil, err
	}
	r := &Run{
		ID: s.newID(), Package: parent.Package, Identity: parent.Identity, Release: parent.Release, Channel: "", Source: SourceFork,
		Parent: id, ParentAt: req.At, AllowWrites: req.AllowWrites, Message: parent.Message, Status: Running,
		StartedAt: s.deps.Clock.Now(),
	}
	if req.Identity != "" && req.Identity != parent.Identity {
		r.Identity, r.Release = req.Identity, req.Release
	}
	program, err := s.programs.get(ctx, r.Identity)
	if err != nil {
		return "", nil, err
	}
	r.Package = program.Package.Name
	if r.Identity != parent.Identity {
		begin.Input.Models = nil
		if err := s.bind(ctx, program, &begin.Input, nil); err != nil {
			return "", nil, err
		}
	}
	m := NewMachine(program, begin.Input, begin.History)
	shared, err := share(m, r.ID, rows, req.At)
	if err != nil {
		return "", nil, err
	}
	prepared := make([]stored, len(shared))
	for i, row := range shared {
		if prepared[i], err = s.store.prepare(ctx, row); err != nil {
			return "", nil, err
		}
	}
	if err := s.insert(ctx, r, begin, prepared...); err != nil {
		return "", nil, err
	}
	start := driveStart{
		machine: m, program: program, input: begin.Input, seq: len(shared), onDelta: req.OnDelta, onStep: req.OnStep,
	}
	if !req.AllowWrites {
		start.effects = func(live Effects) (Effects, error) { return s.forkEffects(program, live, after(rows, req.At)) }
	}
	d, err := s.launch(r, func(context.Context) (driveStart, error) { return start, nil })
	if err != nil {
		return r.ID, nil, err
	}
	return r.ID, s.waiter(d), nil
}

// share applies the answers before a step to the machine of a fork and gives the rows that both have.
// The commands may differ, as they do with another package, but they must ask for the same thing.
func share(m *Machine, id ID, rows []Row, at int) ([]Row, error) {
	var out []Row
	for _, r := range rows {
		if r.Step >= at || r.Kind == RowFinish {
			continue
		}
		a, isAnswer, err := r.Decode()
		if err != nil {
			return nil, err
		}
		if !isAnswer {
			continue // intents and questions of answered steps have served
		}
		c := m.open(r.Step)
		if c == nil || !sameEffect(c, &r) {
			return nil, fault.New(fault.Conflict, "run.fork_differs", "the package asks for something else at step %d, so %d steps cannot be shared", r.Step, at).
				WithHint("fork at step %d or earlier", r.Step)
		}
		command := *c
		r.Run, r.Seq, r.Command = id, len(out)+1, &command
		if err := r.Encode(); err != nil {
			return nil, err
		}
		r.Command = nil
		out = append(out, r)
		if err := m.Apply(r.Step, a); err != nil {
			return nil, fmt.Errorf("share step %d: %w", r.Step, err)
		}
	}
	return out, nil
}

// sameEffect says whether an answer that was recorded can answer the command.
func sameEffect(c *Command, r *Row) bool {
	switch r.Kind {
	case RowModel:
		return c.Kind == KindModel
	case RowTool:
		return c.Kind == KindTool && recordedCall(r).Tool == c.Tool.Name
	case RowAnswer:
		return c.Kind == KindAsk
	}
	return false
}

func lastStep(rows []Row) int {
	last := -1
	for _, r := range rows {
		if r.Kind != RowFinish {
			last = max(last, r.Step)
		}
	}
	return last
}

func after(rows []Row, at int) []Row {
	var out []Row
	for _, r := range rows {
		if r.Step >= at {
			out = append(out, r)
		}
	}
	return out
}

// effectsOfFork makes the effects of a fork again, after a crash: answers of the tape that it has used
// already are not offered again.
func (s *Service) effectsOfFork(ctx context.Context, r *Run, p *Program, live Effects, own []Row) (Effects, error) {
	parent, err := s.store.journal(ctx, r.Parent, 0, 0)
	if err != nil {
		return nil, err
	}
	f, err := s.forkEffects(p, live, after(parent, r.ParentAt))
	if err != nil {
		return nil, err
	}
	for _, row := range after(own, r.ParentAt) {
		f.used(row)
	}
	return f, nil
}
