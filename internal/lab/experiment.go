package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/id"
)

// checkSplit gives the split of a request, and refuses the audit split to everybody but the gate.
func checkSplit(split, purpose string) (string, error) {
	switch split {
	case "", SplitDev:
		return SplitDev, nil
	case SplitAudit, SplitAll:
		if purpose != PurposeGate {
			return "", fault.New(fault.Forbidden, "lab.audit_denied", "the audit split is read by the gate alone").
				WithHint("`flywheel release` runs the gate; `flywheel test --split dev` is for everything else")
		}
		return split, nil
	}
	return "", fault.New(fault.Invalid, "lab.split", "there is no split %q", split).WithHint("dev, audit or all")
}

// requestKey names a request, so that it can be continued.
func requestKey(parts ...any) string {
	b, err := json.Marshal(parts)
	if err != nil {
		return ""
	}
	return string(blob.Of(b))
}

// begin opens an experiment: the unfinished one of an equal request, or a new one. A use of the audit
// split is logged in the same transaction.
func (s *Service) begin(ctx context.Context, e *Experiment) error {
	e.StartedAt, e.Status = s.deps.Clock.Now(), StatusRunning
	old, err := unfinished(ctx, s.deps.DB, e.key)
	if err != nil {
		return fmt.Errorf("look for an unfinished experiment: %w", err)
	}
	s.mu.Lock()
	if old != nil && !s.active[old.ID] {
		e.ID, e.StartedAt = old.ID, old.StartedAt
	} else {
		old = nil
		e.ID = id.New("exp", e.StartedAt)
	}
	s.active[e.ID] = true
	s.mu.Unlock()
	err = s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		if old != nil {
			return updateExperiment(ctx, tx, e)
		}
		if e.Split != SplitDev {
			look := Look{
				ID: id.New("look", e.StartedAt), Experiment: e.ID, Requester: e.Requester, Purpose: e.Purpose,
				Base: e.Identity, Candidate: e.Candidate, SuiteID: e.SuiteID, Suite: e.Suite, At: e.StartedAt,
			}
			if e.Kind == KindTest {
				look.Base, look.Candidate = "", e.Identity
			}
			if err := insertLook(ctx, tx, look); err != nil {
				return err
			}
		}
		return insertExperiment(ctx, tx, e)
	})
	if err != nil {
		s.release(e)
		return fmt.Errorf("begin an experiment: %w", err)
	}
	return nil
}

func (s *Service) release(e *Experiment) {
	s.mu.Lock()
	delete(s.active, e.ID)
	s.mu.Unlock()
}

// finish keeps the report, whole or partial, even when ctx has ended.
func (s *Service) finish(ctx context.Context, e *Experiment, report any) error {
	defer s.release(e)
	b, err := json.Marshal(report)
	if err != nil {
		return err
	}
	e.report = string(b)
	e.EndedAt = s.deps.Clock.Now()
	err = s.deps.DB.Write(context.WithoutCancel(ctx), func(tx *db.Tx) error { return updateExperiment(ctx, tx, e) })
	if err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	return nil
}

// maxTapedKept is how many answers the tape keeps in the database.
const maxTapedKept = 200_000

// Recover marks experiments that an earlier process left running as partial, so that the same request
// continues them, and forgets the oldest taped answers beyond a limit. Call it when the home is opened.
func (s *Service) Recover(ctx context.Context) error {
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE lab_experiments SET status = $1, why = $2, ended_at = $3 WHERE status = $4`,
			StatusPartial, "the process that ran it ended; the same command continues it", db.FormatTime(s.deps.Clock.Now()), StatusRunning)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM lab_tape WHERE at < (SELECT at FROM lab_tape ORDER BY at DESC LIMIT 1 OFFSET $1)`, maxTapedKept)
		return err
	})
}

// why says in a sentence why an experiment is partial.
func why(err error, done, total int) string {
	at := fmt.Sprintf("after %d of %d trials", done, total)
	if errors.Is(err, context.Canceled) {
		return "stopped " + at + "; the same command continues it"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "out of time " + at + "; the same command continues it"
	}
	text := err.Error()
	if f := fault.From(err); f.Hint != "" {
		text += " (" + f.Hint + ")"
	}
	return "stopped " + at + ": " + text
}
