package bus

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"flywheel/internal/platform/db"
)

// append gives the event its number. The store has one writer, so numbers rise in commit order; a
// rolled back caller leaves a gap.
func (b *Bus) append(ctx context.Context, tx *db.Tx, e *Event) error {
	if !b.loaded {
		if err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0) FROM events`).Scan(&b.last); err != nil {
			return err
		}
		b.loaded = true
	}
	b.last++
	e.Seq = b.last
	_, err := tx.Exec(ctx, `INSERT INTO events (seq, at, topic, subject, payload) VALUES ($1, $2, $3, $4, $5)`,
		e.Seq, db.FormatTime(e.At), e.Topic, e.Subject, string(e.Payload))
	return err
}

const eventColumns = `seq, at, topic, subject, payload`

func scanEvent(r db.Row) (Event, error) {
	var e Event
	var at, payload string
	if err := r.Scan(&e.Seq, &at, &e.Topic, &e.Subject, &payload); err != nil {
		return e, err
	}
	e.Payload = []byte(payload)
	var err error
	e.At, err = db.ParseTime(at)
	return e, err
}

// Since reads the durable events after a number, oldest first; an empty topic means all.
func (b *Bus) Since(ctx context.Context, topic string, after int64, limit int) ([]Event, error) {
	if topic == "" {
		return db.All(ctx, b.db, scanEvent,
			`SELECT `+eventColumns+` FROM events WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	}
	return db.All(ctx, b.db, scanEvent,
		`SELECT `+eventColumns+` FROM events WHERE topic = $1 AND seq > $2 ORDER BY seq LIMIT $3`, topic, after, limit)
}

// Last is the number of the newest durable event.
func (b *Bus) Last(ctx context.Context) (int64, error) {
	var last int64
	err := b.db.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0) FROM events`).Scan(&last)
	return last, err
}

// Prune forgets events older than the moment that every consumer has read. The newest stays, since
// numbers continue from it.
func (b *Bus) Prune(ctx context.Context, before time.Time) (int64, error) {
	var n int64
	err := b.db.Write(ctx, func(tx *db.Tx) error {
		var err error
		n, err = tx.Exec(ctx, `DELETE FROM events WHERE at < $1
			AND seq <= (SELECT COALESCE(MIN(seq), 9223372036854775807) FROM consumers)
			AND seq < (SELECT MAX(seq) FROM events)`, db.FormatTime(before))
		return err
	})
	return n, err
}

func (b *Bus) cursor(ctx context.Context, name string) (int64, error) {
	var seq int64
	err := b.db.QueryRow(ctx, `SELECT seq FROM consumers WHERE name = $1`, name).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

func (b *Bus) saveCursor(ctx context.Context, name string, seq int64) error {
	return b.db.Write(ctx, func(tx *db.Tx) error { return setCursor(ctx, tx, name, seq) })
}

func setCursor(ctx context.Context, tx *db.Tx, name string, seq int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO consumers (name, seq) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET seq = excluded.seq`, name, seq)
	return err
}

// park sets an event aside that a consumer cannot take, and moves on.
func (b *Bus) park(ctx context.Context, name string, seq int64, cause error) error {
	return b.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO parked_events (consumer, seq, at, error) VALUES ($1, $2, $3, $4)
			ON CONFLICT (consumer, seq) DO UPDATE SET at = excluded.at, error = excluded.error`,
			name, seq, db.FormatTime(b.clock.Now()), cause.Error())
		if err != nil {
			return err
		}
		return setCursor(ctx, tx, name, seq)
	})
}
