// Package db is the one door to the relational store. Reads go to a pool; writes go to one writer
// that commits many callers' changes together (group commit) with synchronous=FULL, so that a write
// is durable when Write returns.
//
// SQL is one text for SQLite and Postgres: $1 parameters, no engine functions, no JSON operators.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"

	_ "modernc.org/sqlite" // the driver
)

// Querier runs SQL; a transaction and the read pool are both one.
type Querier interface {
	Query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	QueryRow(ctx context.Context, text string, args ...any) *sql.Row
}

// DB is an open store.
type DB struct {
	readers *sql.DB
	writer  *sql.DB
	conn    *sql.Conn
	queue   chan *write
	closing chan struct{}
	stopped chan struct{}
	once    sync.Once
	closed  error // of Close, set once
}

type write struct {
	ctx  context.Context //nolint:containedctx // travels with its request to the writer
	fn   func(*Tx) error
	done chan error
}

// MaxBatch is how many callers share one commit at most.
const MaxBatch = 256

// ErrClosed is returned by writes after Close.
var ErrClosed = errors.New("the store is closed")

// Open opens or creates the SQLite file at path.
func Open(ctx context.Context, path string) (*DB, error) {
	dsn := func(extra url.Values) string {
		v := url.Values{"_pragma": {
			"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
			"cache_size(-8000)", "temp_store(MEMORY)",
		}}
		for k, x := range extra {
			v[k] = append(v[k], x...)
		}
		return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + v.Encode()
	}
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err == nil { // it holds what customers said
		_ = f.Close() // the files beside it take its mode
	}
	writer, err := sql.Open("sqlite", dsn(nil))
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	conn, err := writer.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	readers, err := sql.Open("sqlite", dsn(url.Values{"_pragma": {"query_only(1)"}}))
	if err != nil {
		return nil, errors.Join(err, conn.Close(), writer.Close())
	}
	readers.SetMaxOpenConns(8)
	readers.SetMaxIdleConns(4)
	d := &DB{
		readers: readers, writer: writer, conn: conn,
		queue: make(chan *write, 4*MaxBatch), closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	go d.run()
	return d, nil
}

// Close waits for the queued writes and closes the store. A second Close does nothing.
func (d *DB) Close() error {
	d.once.Do(func() {
		close(d.closing)
		<-d.stopped
		d.closed = errors.Join(d.readers.Close(), d.conn.Close(), d.writer.Close())
	})
	return d.closed
}

// Query runs a read on the pool.
func (d *DB) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return d.readers.QueryContext(ctx, text, args...)
}

// QueryRow runs a read of one row on the pool.
func (d *DB) QueryRow(ctx context.Context, text string, args ...any) *sql.Row {
	return d.readers.QueryRowContext(ctx, text, args...)
}

// Write runs fn in a transaction of its own as seen by its caller; when Write returns nil, its
// changes are durable. fn must not start another Write and may be run while others wait: keep it to SQL.
func (d *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	w := &write{ctx: ctx, fn: fn, done: make(chan error, 1)}
	select {
	case <-d.closing:
		return ErrClosed
	default:
	}
	select {
	case d.queue <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.closing:
		return ErrClosed
	}
	select {
	case err := <-w.done: // once queued the answer is awaited: the caller must know whether it is durable
		return err
	case <-d.stopped:
		select {
		case err := <-w.done:
			return err
		default:
			return ErrClosed
		}
	}
}

func (d *DB) run() {
	defer close(d.stopped)
	tx := &Tx{conn: d.conn, statements: map[string]*sql.Stmt{}}
	defer tx.closeStatements()
	for {
		select {
		case w := <-d.queue:
			d.commit(tx, d.collect(w))
		case <-d.closing:
			for {
				select {
				case w := <-d.queue:
					d.commit(tx, d.collect(w))
				default:
					return
				}
			}
		}
	}
}

func (d *DB) collect(first *write) []*write {
	batch := []*write{first}
	for len(batch) < MaxBatch {
		select {
		case w := <-d.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// commit runs a batch in one transaction, each caller within its savepoint, and answers all of them
// after the commit. When the transaction breaks half-way, the callers that took part fail and the rest
// starts again without them.
func (d *DB) commit(tx *Tx, batch []*write) {
	for len(batch) > 0 {
		ran, results, err := d.transact(tx, batch)
		hooks := tx.committed
		tx.committed = nil
		if err == nil {
			for _, fn := range hooks {
				fn()
			}
		}
		for i, w := range batch[:ran] {
			switch {
			case results[i] != nil:
				w.done <- results[i]
			case err != nil:
				w.done <- fmt.Errorf("commit: %w", err)
			default:
				w.done <- nil
			}
		}
		batch = batch[ran:]
	}
}

// transact returns how many callers of the batch took part, their own errors, and the error of the
// transaction.
func (d *DB) transact(tx *Tx, batch []*write) (ran int, results []error, err error) {
	ctx := context.Background()
	results = make([]error, len(batch))
	if err := tx.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return len(batch), results, err
	}
	for i, w := range batch {
		var broken error
		if results[i], broken = tx.attempt(w); broken != nil {
			_ = tx.exec(ctx, "ROLLBACK") // fails when the engine has done it already
			return i + 1, results, broken
		}
	}
	if err := tx.exec(ctx, "COMMIT"); err != nil {
		_ = tx.exec(ctx, "ROLLBACK")
		return len(batch), results, err
	}
	return len(batch), results, nil
}
