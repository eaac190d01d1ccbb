package release

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/db"
)

const releaseColumns = `digest, agent, number, identity, suite, size, verdict, forced, test, comparison, notes, created_by, created_at`

func scanRelease(row db.Row) (*Release, error) {
	var r Release
	var verdict, test, comparison, at string
	var forced int64
	err := row.Scan(&r.Digest, &r.Agent, &r.Number, &r.Identity, &r.Suite, &r.Size, &verdict, &forced, &test,
		&comparison, &r.Notes, &r.CreatedBy, &at)
	if err != nil {
		return nil, err
	}
	r.Forced = forced != 0
	if r.CreatedAt, err = db.ParseTime(at); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(verdict), &r.Gate); err != nil {
		return nil, fmt.Errorf("read verdict of %s: %w", r.Digest.Short(), err)
	}
	return &r, errors.Join(fromText(test, &r.Test), fromText(comparison, &r.Against))
}

func fromText[T any](text string, into **T) error {
	if text == "" {
		return nil
	}
	*into = new(T)
	return json.Unmarshal([]byte(text), *into)
}

func toText[T any](v *T) (string, error) {
	if v == nil {
		return "", nil
	}
	b, err := canon.JSON(v)
	return string(b), err
}

// insert writes a release with its attestations and sets its number. A release that is there keeps its
// number, notes and maker, and takes the newer verdict.
func (s *Service) insert(ctx context.Context, r *Release, attestations []Attestation) error {
	verdict, err1 := canon.JSON(r.Gate)
	test, err2 := toText(r.Test)
	comparison, err3 := toText(r.Against)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	at := db.FormatTime(r.CreatedAt)
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		old, err := db.One(ctx, tx, scanRelease, `SELECT `+releaseColumns+` FROM releases WHERE digest = $1`, r.Digest)
		switch {
		case err == nil:
			r.Existing, r.Number, r.Notes = true, old.Number, old.Notes
			r.CreatedBy, r.CreatedAt = old.CreatedBy, old.CreatedAt
			_, err = tx.Exec(ctx, `UPDATE releases SET suite = $1, verdict = $2, forced = $3, test = $4, comparison = $5 WHERE digest = $6`,
				r.Suite, string(verdict), db.Flag(r.Forced), test, comparison, r.Digest)
		case errors.Is(err, sql.ErrNoRows):
			if err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(number), 0) + 1 FROM releases WHERE agent = $1`, r.Agent).Scan(&r.Number); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO releases (`+releaseColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
				r.Digest, r.Agent, r.Number, r.Identity, r.Suite, r.Size, string(verdict), db.Flag(r.Forced), test,
				comparison, r.Notes, r.CreatedBy, at)
		}
		if err != nil {
			return fmt.Errorf("store release: %w", err)
		}
		if err := insertAttestations(ctx, tx, attestations, at); err != nil {
			return err
		}
		return s.emit(ctx, tx, TopicCreated, string(r.Digest), r)
	})
}

func insertAttestations(ctx context.Context, tx *db.Tx, list []Attestation, at string) error {
	for _, a := range list {
		_, err := tx.Exec(ctx, `INSERT INTO release_attestations (release, seq, manifest, kind, predicate, at)
			SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5 FROM release_attestations WHERE release = $6`,
			a.Release, a.Manifest, a.Kind, a.Predicate, at, a.Release)
		if err != nil {
			return fmt.Errorf("store attestation: %w", err)
		}
	}
	return nil
}

func (s *Service) emit(ctx context.Context, tx *db.Tx, topic, subject string, payload any) error {
	if s.deps.Bus == nil {
		return nil
	}
	return s.deps.Bus.Emit(ctx, tx, topic, subject, payload)
}

// attestations gives those of a release, oldest first.
func (s *Service) attestations(ctx context.Context, release blob.Digest) ([]Attestation, error) {
	return db.All(ctx, s.deps.DB, func(row db.Row) (a Attestation, err error) {
		err = row.Scan(&a.Release, &a.Manifest, &a.Kind, &a.Predicate)
		return a, err
	}, `SELECT release, manifest, kind, predicate FROM release_attestations WHERE release = $1 ORDER BY seq`, release)
}

func (s *Service) query(ctx context.Context, where string, args ...any) ([]*Release, error) {
	return db.All(ctx, s.deps.DB, scanRelease, `SELECT `+releaseColumns+` FROM releases `+where, args...)
}

const moveColumns = `agent, channel, seq, kind, from_release, to_release, on_canary, share, who, why, verdict, at`

func scanMove(row db.Row) (*Move, error) {
	var m Move
	var onCanary int64
	var at string
	err := row.Scan(&m.Agent, &m.Channel, &m.Seq, &m.Kind, &m.From, &m.To, &onCanary, &m.Share, &m.Who, &m.Why, &m.Gate, &at)
	if err != nil {
		return nil, err
	}
	m.OnCanary = onCanary != 0
	m.At, err = db.ParseTime(at)
	return &m, err
}

func scanChannel(row db.Row) (*Channel, error) {
	var c Channel
	var at string
	if err := row.Scan(&c.Agent, &c.Name, &c.Stable, &c.Canary, &c.Share, &at); err != nil {
		return nil, err
	}
	var err error
	c.MovedAt, err = db.ParseTime(at)
	return &c, err
}

const channelColumns = `agent, name, stable, canary, share, moved_at`

// writeMove stores a move and the channel as it is after it.
func (s *Service) writeMove(ctx context.Context, tx *db.Tx, m *Move, after *Channel) error {
	at := db.FormatTime(m.At)
	err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0) + 1 FROM channel_moves WHERE agent = $1 AND channel = $2`,
		m.Agent, m.Channel).Scan(&m.Seq)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO channel_moves (`+moveColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		m.Agent, m.Channel, m.Seq, m.Kind, m.From, m.To, db.Flag(m.OnCanary), m.Share, m.Who, m.Why, m.Gate, at)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO channels (`+channelColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (agent, name) DO UPDATE SET stable = excluded.stable, canary = excluded.canary,
		share = excluded.share, moved_at = excluded.moved_at`,
		after.Agent, after.Name, after.Stable, after.Canary, after.Share, at)
	if err != nil {
		return err
	}
	return s.emit(ctx, tx, TopicMoved, m.Agent+"@"+m.Channel, m)
}
