package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Tx is a write transaction. It is valid only within the function that was given it.
type Tx struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

const maxStatements = 512

func (t *Tx) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := t.statements[text]; ok {
		return s, nil
	}
	if len(t.statements) >= maxStatements {
		t.closeStatements()
	}
	s, err := t.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	t.statements[text] = s
	return s, nil
}

func (t *Tx) closeStatements() {
	for _, s := range t.statements {
		_ = s.Close()
	}
	t.statements = map[string]*sql.Stmt{}
}

func (t *Tx) exec(ctx context.Context, text string) error {
	s, err := t.prepared(ctx, text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// attempt runs one caller's function; a failure undoes only that caller's changes.
func (t *Tx) attempt(w *write, shared bool) (err error) {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	ctx := context.Background()
	if shared {
		if err := t.exec(ctx, "SAVEPOINT caller"); err != nil {
			return err
		}
	}
	err = t.call(w.fn)
	if !shared {
		return err
	}
	if err != nil {
		return errors.Join(err, t.exec(ctx, "ROLLBACK TO caller"), t.exec(ctx, "RELEASE caller"))
	}
	return t.exec(ctx, "RELEASE caller")
}

func (t *Tx) call(fn func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a write: %v", p)
		}
	}()
	return fn(t)
}

// Exec runs a statement and returns how many rows it changed.
func (t *Tx) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	s, err := t.prepared(ctx, text)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Query reads within the transaction. The rows must be closed before the next statement.
func (t *Tx) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return t.conn.QueryContext(ctx, text, args...)
}

// QueryRow reads one row within the transaction.
func (t *Tx) QueryRow(ctx context.Context, text string, args ...any) *sql.Row {
	return t.conn.QueryRowContext(ctx, text, args...)
}

// Row is what a scan function reads from.
type Row interface{ Scan(dest ...any) error }

// All reads every row of a query.
func All[T any](ctx context.Context, q Querier, scan func(Row) (T, error), text string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// One reads the only row of a query; sql.ErrNoRows when there is none.
func One[T any](ctx context.Context, q Querier, scan func(Row) (T, error), text string, args ...any) (T, error) {
	return scan(q.QueryRow(ctx, text, args...))
}
