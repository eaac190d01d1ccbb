package run

import (
	"context"
	"time"

	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/db"
)

// journal is the Recorder of a run in the database.
type journal struct {
	service *Service
	run     *Run
}

// Intent writes the row; a question makes the run wait in the same transaction.
func (j *journal) Intent(ctx context.Context, r Row) error {
	s := j.service
	p, err := s.store.prepare(ctx, r)
	if err != nil {
		return err
	}
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		if err := s.store.insertRow(ctx, tx, p); err != nil {
			return err
		}
		if r.Kind != RowAsk {
			return nil
		}
		var wakeAt time.Time
		if ask := r.Command.Ask; ask.Timeout > 0 {
			wakeAt = r.StartedAt.Add(time.Duration(ask.Timeout))
		}
		why := Failure{}
		if r.Class != "" {
			why = Failure{Class: r.Class, Message: r.Command.Ask.Question, Node: r.Node}
		}
		return s.store.wait(ctx, tx, r.Run, string(p.row.Input), wakeAt, why)
	})
}

// Result writes the row; the last one ends the run, with its event, in the same transaction.
func (j *journal) Result(ctx context.Context, r Row) error {
	s := j.service
	if r.Kind == RowFinish {
		return j.finish(ctx, r)
	}
	p, err := s.store.prepare(ctx, r)
	if err != nil {
		return err
	}
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error { return s.store.insertRow(ctx, tx, p) })
}

func (j *journal) finish(ctx context.Context, r Row) error {
	s := j.service
	output, err := outputJSON(r.Ended.Output)
	if err != nil {
		return err
	}
	if r.Ended.Failure != nil {
		if output, err = canon.JSON(r.Ended.Failure); err != nil {
			return err
		}
	}
	r.Output, r.Answer = output, nil
	p, err := s.store.prepare(ctx, r)
	if err != nil {
		return err
	}
	kept := p.output
	if r.Ended.Failure != nil {
		kept = ""
	}
	facts := j.run.facts(r.Ended, r.EndedAt)
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		if err := s.store.insertRow(ctx, tx, p); err != nil {
			return err
		}
		if err := s.store.end(ctx, tx, r.Run, r.Ended, kept, r.EndedAt); err != nil {
			return err
		}
		return s.deps.Bus.Emit(ctx, tx, TopicEnded, string(r.Run), facts)
	})
}
