package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Tx is a write transaction. It is valid only within the function that was given it.
//
// Its statements do not stop when the caller's context ends: an interrupted statement would undo the
// transaction of all callers that share the commit. Write looks at the context before it starts.
type Tx struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	committed  []func() // run after the commit of the batch
}

// OnCommit runs fn after this caller's changes are durable, and never when they are undone. fn runs
// on the writer: it must not wait.
func (t *Tx) OnCommit(fn func()) { t.committed = append(t.committed, fn) }

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
	s, err := t.prepared(ctx, text) //nolint:sqlclosecheck // kept for the next write, closed with the connection
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// errBroken says that the transaction of a whole batch is gone, not only one caller's part of it.
var errBroken = errors.New("the transaction was rolled back")

// attempt runs one caller's function within a savepoint; a failure undoes only that caller's changes.
// broken is set when it could not be confined.
func (t *Tx) attempt(w *write) (err, broken error) {
	if err := w.ctx.Err(); err != nil {
		return err, nil
	}
	ctx := context.Background()
	if err := t.exec(ctx, "SAVEPOINT caller"); err != nil {
		return err, errors.Join(errBroken, err)
	}
	hooks := len(t.committed)
	if err = t.call(w.fn); err == nil {
		err = t.exec(ctx, "RELEASE caller")
		if err == nil {
			return nil, nil
		}
	}
	t.committed = t.committed[:hooks]
	// An error of the disk or of memory may have ended the transaction already; then there is no
	// savepoint to go back to.
	if undo := errors.Join(t.exec(ctx, "ROLLBACK TO caller"), t.exec(ctx, "RELEASE caller")); undo != nil {
		return err, errors.Join(errBroken, err, undo)
	}
	return err, nil
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
	ctx = context.WithoutCancel(ctx)
	s, err := t.prepared(ctx, text) //nolint:sqlclosecheck // kept for the next write, closed with the connection
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
	return t.conn.QueryContext(context.WithoutCancel(ctx), text, args...)
}

// QueryRow reads one row within the transaction.
func (t *Tx) QueryRow(ctx context.Context, text string, args ...any) *sql.Row {
	return t.conn.QueryRowContext(context.WithoutCancel(ctx), text, args...)
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
