package deploy

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"flywheel/internal/platform/db"
)

type stored struct {
	agent, channel string
	env            map[string]string
	updatedAt      time.Time
	updatedBy      string
}

func scanStored(row db.Row) (stored, error) {
	var d stored
	var env, at string
	if err := row.Scan(&d.agent, &d.channel, &env, &at, &d.updatedBy); err != nil {
		return d, err
	}
	if err := json.Unmarshal([]byte(env), &d.env); err != nil {
		return d, fmt.Errorf("read environment of %s@%s: %w", d.agent, d.channel, err)
	}
	var err error
	d.updatedAt, err = db.ParseTime(at)
	return d, err
}

const storedColumns = `agent, channel, env, updated_at, updated_by`

// env gives the values of a deployment; none when nothing was set.
func (s *Service) env(ctx context.Context, agent, channel string) (map[string]string, error) {
	d, err := db.One(ctx, s.deps.DB, scanStored, `SELECT `+storedColumns+` FROM deployments WHERE agent = $1 AND channel = $2`, agent, channel)
	if errors.Is(err, sql.ErrNoRows) {
		return map[string]string{}, nil
	}
	return d.env, err
}

func (s *Service) saveEnv(ctx context.Context, agent, channel, who string, env map[string]string) error {
	raw, err := json.Marshal(env)
	if err != nil {
		return err
	}
	at := db.FormatTime(s.deps.Clock.Now())
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO deployments (agent, channel, env, created_at, updated_at, updated_by) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (agent, channel) DO UPDATE SET env = excluded.env, updated_at = excluded.updated_at, updated_by = excluded.updated_by`,
			agent, channel, string(raw), at, at, who)
		return err
	})
}
