package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
)

// Resume drives every run that a crash or the end of a process interrupted, and wakes those whose
// waiting time is over. It returns how many it has taken up.
func (s *Service) Resume(ctx context.Context) (int, error) {
	ids, err := s.store.withStatus(ctx, Running)
	if err != nil {
		return 0, fmt.Errorf("find interrupted runs: %w", err)
	}
	n := 0
	for _, id := range ids {
		switch err := s.resume(ctx, id); {
		case err == nil:
			n++
		case fault.HasCode(err, "run.active"):
		default:
			s.deps.Log.Error("run not resumed", slog.String("run", string(id)), slog.Any("error", err))
		}
	}
	return n, s.Due(ctx)
}

// resume takes up one run. What is slow happens in its goroutine.
func (s *Service) resume(ctx context.Context, id ID) error {
	r, err := s.store.run(ctx, s.deps.DB, id)
	if err != nil {
		return err
	}
	_, err = s.take(r, nil)
	return err
}

// take drives a run from its journal; watch may be nil.
func (s *Service) take(r *Run, watch *Reply) (*drive, error) {
	return s.launch(r, func(ctx context.Context) (driveStart, error) {
		begin, program, rows, err := s.load(ctx, r)
		if err != nil {
			return driveStart{}, err
		}
		m := NewMachine(program, begin.Input, begin.History)
		diff, err := m.replay(rows)
		if err != nil {
			return driveStart{}, err
		}
		if diff != nil {
			return driveStart{}, s.diverged(r, m, len(rows), diff)
		}
		start := driveStart{machine: m, program: program, input: begin.Input, seq: len(rows), intents: openIntents(rows)}
		if watch != nil {
			start.onDelta, start.onStep = watch.OnDelta, watch.OnStep
		}
		if r.Parent != "" && !r.AllowWrites {
			start.effects = func(live Effects) (Effects, error) { return s.effectsOfFork(ctx, r, program, live, rows) }
		}
		return start, nil
	})
}

// load reads what the machine of a run is made from.
func (s *Service) load(ctx context.Context, r *Run) (setup, *Program, []Row, error) {
	begin, err := s.store.setup(ctx, r.ID)
	if err != nil {
		return setup{}, nil, nil, err
	}
	program, err := s.programs.get(ctx, r.Identity)
	if err != nil {
		return setup{}, nil, nil, err
	}
	rows, err := s.store.journal(ctx, r.ID, 0, 0)
	return begin, program, rows, err
}

// openIntents are the intents and questions, by step, that have no result.
func openIntents(rows []Row) map[int]Row {
	open := map[int]Row{}
	for _, r := range rows {
		switch r.Kind {
		case RowIntent, RowAsk:
			open[r.Step] = r
		default:
			delete(open, r.Step)
		}
	}
	return open
}

// diverged ends a run whose machine does not ask for what its journal holds: going on would be a guess.
func (s *Service) diverged(r *Run, m *Machine, seq int, d *Difference) error {
	ended := m.Ended()
	ended.Status, ended.Failure = Failed, &Failure{Class: ClassDiverged, Message: d.String(), Node: d.Node}
	if err := s.endNow(context.Background(), r, &ended, seq); err != nil {
		return err
	}
	return fault.New(fault.Internal, ClassDiverged, "the run %s does not follow its journal: %s", r.ID, d).WithHint("flywheel replay %s", r.ID)
}

// endNow ends a run from outside its machine; seq is the last row.
func (s *Service) endNow(ctx context.Context, r *Run, ended *Ended, seq int) error {
	at := s.deps.Clock.Now().Truncate(time.Microsecond)
	row := Row{
		Run: r.ID, Seq: seq + 1, Step: ended.Steps, Kind: RowFinish, Node: ended.Failure.Node,
		StartedAt: at, EndedAt: at, Class: ended.Failure.Class, Ended: ended,
	}
	return (&journal{service: s, run: r}).finish(ctx, row)
}

var errCanceled = errors.New("the run was canceled")

// Cancel ends a run. What its tools have done stays done.
func (s *Service) Cancel(ctx context.Context, id ID, by string) (*Run, error) {
	r, err := s.store.run(ctx, s.deps.DB, id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	d := s.active[id]
	s.mu.Unlock()
	if d != nil {
		d.cancel(errCanceled)
		<-d.done
		if r, err = s.store.run(ctx, s.deps.DB, id); err != nil {
			return nil, err
		}
	}
	if r.Status.Done() {
		return nil, fault.New(fault.Conflict, "run.ended", "the run %s has ended as %s", id, r.Status)
	}
	m, rows, err := s.rebuild(ctx, r)
	if err != nil {
		return nil, err
	}
	ended := m.Ended()
	message := "canceled"
	if by != "" {
		message += " by " + by
	}
	ended.Status, ended.Ask, ended.Failure = Canceled, nil, &Failure{Class: ClassCanceled, Message: message}
	if open := m.Next(); len(open) > 0 {
		ended.Failure.Node = open[0].Node
	}
	if err := s.endNow(ctx, r, &ended, len(rows)); err != nil {
		return nil, err
	}
	return s.Get(ctx, id)
}

// rebuild makes the machine of a run as its journal leaves it, whether or not the commands agree.
func (s *Service) rebuild(ctx context.Context, r *Run) (*Machine, []Row, error) {
	begin, program, rows, err := s.load(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	m := NewMachine(program, begin.Input, begin.History)
	_, err = m.replay(rows)
	return m, rows, err
}

// Reply is what a person says to a run that waits.
type Reply struct {
	Approve bool
	Text    string
	By      string
	// OnDelta and OnStep are told how the run goes on.
	OnDelta func(Delta)
	OnStep  func(Step)

	timedOut bool
}

// Answer records what a person says and lets the run go on. Only the first answer counts.
func (s *Service) Answer(ctx context.Context, id ID, reply Reply) (*Run, func(context.Context) (*Run, error), error) {
	r, err := s.store.run(ctx, s.deps.DB, id)
	if err != nil {
		return nil, nil, err
	}
	if r.Status != Waiting {
		return nil, nil, fault.New(fault.Conflict, "run.not_waiting", "the run %s waits for nobody: it is %s", id, r.Status).
			WithHint("flywheel show %s", id)
	}
	if err := s.quiet(ctx, id); err != nil { // the driver that asked is about to end
		return nil, nil, err
	}
	m, rows, err := s.rebuild(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	open := m.Next()
	if len(open) == 0 || len(rows) == 0 || open[0].Kind != KindAsk && open[0].Kind != KindTool {
		return nil, nil, fault.New(fault.Internal, ClassDiverged, "the run %s waits, but its journal has no open question", id)
	}
	row := answerRow(r, &open[0], rows[len(rows)-1], reply)
	row.EndedAt = s.deps.Clock.Now().Truncate(time.Microsecond)
	if row.Kind == RowTool {
		row.StartedAt = row.EndedAt // the wait is not the tool's time
	}
	p, err := s.store.prepare(ctx, row)
	if err != nil {
		return nil, nil, err
	}
	err = s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		if err := s.store.wake(ctx, tx, id); err != nil {
			return err
		}
		return s.store.insertRow(ctx, tx, p)
	})
	if errors.Is(err, ErrLost) {
		return nil, nil, fault.New(fault.Conflict, "run.not_waiting", "somebody else has answered the run %s", id).WithHint("flywheel show %s", id)
	}
	if err != nil {
		return nil, nil, err
	}
	s.deps.Bus.Publish(TopicStep, string(id), stepOf(row))
	r.Status, r.Ask = Running, nil
	d, err := s.take(r, &reply)
	if err != nil {
		return r, nil, err
	}
	return r, s.waiter(d), nil
}

// answerRow is the row of a person's answer: to a question, or about a call that may have happened.
func answerRow(r *Run, c *Command, last Row, reply Reply) Row {
	row := Row{Run: r.ID, Seq: last.Seq + 1, Step: c.Step, Node: c.Node, StartedAt: last.StartedAt, Command: c, Attempt: 1}
	if reply.By != "" {
		row.Labels = map[string]string{"by": reply.By}
	}
	if c.Kind == KindAsk {
		row.Kind = RowAnswer
		row.Answer = &Answer{Human: &Human{Approved: reply.Approve, Text: reply.Text, By: reply.By, TimedOut: reply.timedOut}}
		return row
	}
	row.Kind = RowTool
	result := &tool.Result{Tool: c.Tool.Name, Attempts: []tool.Attempt{}}
	if reply.Approve {
		result.Out = jsonOrText(reply.Text)
	} else {
		result.Class = tool.Uncertain
		result.Message = "it was interrupted, and a person says that it did not happen"
		if reply.Text != "" {
			result.Message += ": " + reply.Text
		}
	}
	row.Class = string(result.Class)
	row.Answer = &Answer{Tool: result}
	return row
}

// Due lets runs go on whose waiting time is over.
func (s *Service) Due(ctx context.Context) error {
	ids, err := s.store.due(ctx, s.deps.Clock.Now())
	if err != nil {
		return fmt.Errorf("find runs whose time is up: %w", err)
	}
	for _, id := range ids {
		if _, _, err := s.Answer(ctx, id, Reply{timedOut: true}); err != nil && !fault.HasCode(err, "run.not_waiting") {
			s.deps.Log.Error("run not woken", slog.String("run", string(id)), slog.Any("error", err))
		}
	}
	return nil
}

// Watch calls Due every few seconds until ctx ends.
func (s *Service) Watch(ctx context.Context) {
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.life.Done():
			return
		case <-t.C:
			if err := s.Due(ctx); err != nil {
				s.deps.Log.Error("timers not looked at", slog.Any("error", err))
			}
		}
	}
}
