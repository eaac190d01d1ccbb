package observe

import (
	"context"
	"time"

	"flywheel/internal/platform/db"
)

// Mark is a moment on the time line of an agent: a release was made, or a channel moved.
type Mark struct {
	At      time.Time `json:"at"`
	Agent   string    `json:"agent"`
	Kind    string    `json:"kind"` // created, release, canary, promote, rollback
	Channel string    `json:"channel,omitempty"`
	From    int       `json:"from,omitempty"` // release numbers
	To      int       `json:"to"`
	Share   float64   `json:"share,omitempty"`
	Who     string    `json:"who,omitempty"`
	Why     string    `json:"why,omitempty"`
}

// releaseEvent is what this package reads of release.created.
type releaseEvent struct {
	Digest    string    `json:"digest"`
	Agent     string    `json:"agent"`
	Number    int       `json:"number"`
	Forced    bool      `json:"forced"`
	CreatedAt time.Time `json:"created_at"`
}

// moveEvent is what this package reads of channel.moved.
type moveEvent struct {
	Agent   string    `json:"agent"`
	Channel string    `json:"channel"`
	Seq     int64     `json:"seq"`
	Kind    string    `json:"kind"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Share   float64   `json:"share"`
	Who     string    `json:"who"`
	Why     string    `json:"why"`
	At      time.Time `json:"at"`
}

func (s *Service) markRelease(ctx context.Context, e releaseEvent) error {
	forced := 0
	if e.Forced {
		forced = 1
	}
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO release_marks (release, agent, number, forced, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (release) DO UPDATE SET forced = excluded.forced`, e.Digest, e.Agent, e.Number, forced, db.FormatTime(e.CreatedAt))
		return err
	})
}

func (s *Service) markMove(ctx context.Context, e moveEvent) error {
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO channel_marks (agent, channel, seq, kind, from_release, to_release, share, who, why, at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (agent, channel, seq) DO NOTHING`,
			e.Agent, e.Channel, e.Seq, e.Kind, e.From, e.To, e.Share, e.Who, e.Why, db.FormatTime(e.At))
		return err
	})
}

// Timeline lists releases and moves, the oldest first.
func (s *Service) Timeline(ctx context.Context, agent string) ([]Mark, error) {
	return db.All(ctx, s.deps.DB, func(row db.Row) (Mark, error) {
		var m Mark
		var at string
		err := row.Scan(&at, &m.Agent, &m.Kind, &m.Channel, &m.From, &m.To, &m.Share, &m.Who, &m.Why)
		if err != nil {
			return m, err
		}
		m.At, err = db.ParseTime(at)
		return m, err
	}, `SELECT at, agent, 'created', '', 0, number, 0.0, '', '' FROM release_marks WHERE ($1 = '' OR agent = $2)
		UNION ALL
		SELECT c.at, c.agent, c.kind, c.channel, COALESCE(a.number, 0), COALESCE(b.number, 0), c.share, c.who, c.why
		FROM channel_marks c LEFT JOIN release_marks a ON a.release = c.from_release LEFT JOIN release_marks b ON b.release = c.to_release
		WHERE ($3 = '' OR c.agent = $4) ORDER BY 1, 3`, agent, agent, agent, agent)
}
