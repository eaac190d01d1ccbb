package identity

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

func (s *Service) addCode(ctx context.Context, hash, actor string, now, expires time.Time) error {
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM login_codes WHERE expires_at <= $1`, db.FormatTime(now)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO login_codes (hash, actor, expires_at) VALUES ($1, $2, $3)`,
			hash, actor, db.FormatTime(expires))
		return err
	})
}

// spend deletes a code and opens the session in one transaction, so that a code works once.
func (s *Service) spend(ctx context.Context, code, session string, now time.Time) (actor string, err error) {
	used := fault.New(fault.Unauthenticated, "identity.link_used", "the link was used already or is older than ten minutes").
		WithHint("flywheel login")
	err = s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		row := tx.QueryRow(ctx, `SELECT actor FROM login_codes WHERE hash = $1 AND expires_at > $2`, code, db.FormatTime(now))
		if err := row.Scan(&actor); errors.Is(err, sql.ErrNoRows) {
			return used
		} else if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM login_codes WHERE hash = $1`, code); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE expires_at <= $1`, db.FormatTime(now)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO sessions (hash, actor, created_at, expires_at) VALUES ($1, $2, $3, $4)`,
			session, actor, db.FormatTime(now), db.FormatTime(now.Add(sessionFor)))
		return err
	})
	return actor, err
}

// session is the actor of an open session, or "".
func (s *Service) session(ctx context.Context, hash string, now time.Time) (actor string, err error) {
	err = s.deps.DB.QueryRow(ctx, `SELECT actor FROM sessions WHERE hash = $1 AND expires_at > $2`,
		hash, db.FormatTime(now)).Scan(&actor)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return actor, err
}

func (s *Service) endSessions(ctx context.Context, actor string) (n int64, err error) {
	err = s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, `DELETE FROM sessions WHERE actor = $1`, actor)
		return err
	})
	return n, err
}
