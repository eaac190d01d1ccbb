package db

import (
	"context"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
	"time"

	"flywheel/internal/platform/fault"
)

// Migrations are the schema steps of one domain: files NNNN_what.sql, forward only.
type Migrations struct {
	Domain string
	Files  fs.FS
}

// Migrate brings the schema of every domain up to date, each step in one transaction. A store that is
// newer than this binary is refused.
func Migrate(ctx context.Context, d *DB, domains ...Migrations) error {
	err := d.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS migrations (
			domain TEXT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, at TEXT NOT NULL,
			PRIMARY KEY (domain, version))`)
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	for _, m := range domains {
		if err := migrateDomain(ctx, d, m); err != nil {
			return fmt.Errorf("migrate %s: %w", m.Domain, err)
		}
	}
	return nil
}

func migrateDomain(ctx context.Context, d *DB, m Migrations) error {
	names, err := fs.Glob(m.Files, "migrations/*.sql")
	if err != nil {
		return err
	}
	sort.Strings(names)
	var have int
	if err := d.QueryRow(ctx, `SELECT COALESCE(MAX(version), 0) FROM migrations WHERE domain = $1`, m.Domain).Scan(&have); err != nil {
		return err
	}
	if have > len(names) {
		return fault.New(fault.Conflict, "db.newer", "the home was written by a newer flywheel (%s schema %d, this binary knows %d)",
			m.Domain, have, len(names)).WithHint("use the newer flywheel, or restore a backup made before the upgrade")
	}
	for i, name := range names {
		base := strings.TrimPrefix(name, "migrations/")
		version, err := strconv.Atoi(strings.SplitN(base, "_", 2)[0])
		if err != nil || version != i+1 {
			return fmt.Errorf("migration %s: want number %04d", base, i+1)
		}
		if version <= have {
			continue
		}
		text, err := fs.ReadFile(m.Files, name)
		if err != nil {
			return err
		}
		if err := d.Write(ctx, func(tx *Tx) error { return applyMigration(ctx, tx, m.Domain, base, version, string(text)) }); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return nil
}

func applyMigration(ctx context.Context, tx *Tx, domain, name string, version int, text string) error {
	for _, statement := range strings.Split(text, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := tx.conn.ExecContext(context.WithoutCancel(ctx), statement); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO migrations (domain, version, name, at) VALUES ($1, $2, $3, $4)`,
		domain, version, name, FormatTime(time.Now()))
	return err
}
