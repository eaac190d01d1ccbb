package observe

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"flywheel/internal/platform/db"
)

// settle computes again what counts for a run: the verdict of its effective outcome and, for a failure,
// the finding that it belongs to. Without facts there is nothing to settle yet.
func settle(ctx context.Context, tx *db.Tx, run string, now time.Time) error {
	if run == "" {
		return nil
	}
	var raw string
	err := tx.QueryRow(ctx, `SELECT facts FROM run_facts WHERE run = $1`, run).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	var f Facts
	if err := json.Unmarshal([]byte(raw), &f); err != nil {
		return fmt.Errorf("read facts of %s: %w", run, err)
	}
	list, err := db.All(ctx, tx, scanOutcome, `SELECT `+outcomeColumns+` FROM outcomes WHERE run = $1`, run)
	if err != nil {
		return err
	}
	o, _ := effective(list)
	fingerprint := ""
	if o.Verdict == Failure {
		x := diagnose(&f, o)
		fingerprint = x.fingerprint()
		if err := writeTitle(ctx, tx, fingerprint, x, now); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE run_facts SET verdict = $1, verdict_source = $2, fingerprint = $3 WHERE run = $4`,
		o.Verdict, o.Source, fingerprint, run)
	return err
}

func writeTitle(ctx context.Context, tx *db.Tx, fingerprint string, x failing, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO finding_titles
			(fingerprint, agent, title, node, class, what, path, expected, component, name, why, found_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (fingerprint) DO NOTHING`,
		fingerprint, x.Agent, x.title, x.Node, x.Class, x.What, x.Path, x.Want,
		x.suspect.Component, x.suspect.Name, x.suspect.Why, db.FormatTime(now))
	return err
}
