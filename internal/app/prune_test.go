package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
)

// hours counts how often somebody waits, and ends it after a few times.
type hours struct {
	clock.Clock
	waits []time.Duration
	end   context.CancelFunc
}

func (h *hours) Sleep(ctx context.Context, d time.Duration) error {
	if h.waits = append(h.waits, d); len(h.waits) == 3 {
		h.end()
	}
	return ctx.Err()
}

func TestOldEventsAreForgottenEveryHour(t *testing.T) {
	t.Parallel()
	d, err := db.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := db.Migrate(t.Context(), d, bus.Migrations); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 8, 12, 0, 0, 0, time.UTC)
	if err := d.Write(t.Context(), func(tx *db.Tx) error {
		for i, age := range []time.Duration{8 * 24 * time.Hour, 6 * 24 * time.Hour, time.Hour} {
			if _, err := tx.Exec(t.Context(), `INSERT INTO events (seq, at, topic, subject, payload) VALUES ($1, $2, 'run.ended', 'r', '{}')`,
				i+1, db.FormatTime(now.Add(-age))); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &hours{Clock: clock.NewVirtual(now), end: cancel}
	(&home{db: d, bus: bus.New(d), log: slog.New(slog.DiscardHandler)}).prune(ctx, c)
	var n, first int
	if err := d.QueryRow(t.Context(), `SELECT COUNT(*), MIN(seq) FROM events`).Scan(&n, &first); err != nil {
		t.Fatal(err)
	}
	if n != 2 || first != 2 || len(c.waits) != 3 || c.waits[0] != time.Hour {
		t.Errorf("%d events from %d on; waited %v", n, first, c.waits)
	}
}
