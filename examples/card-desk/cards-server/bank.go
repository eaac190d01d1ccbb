package main

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed seed.json
var seedJSON []byte

// seed is what a new file holds; the world of the package's suites is the same.
type seed struct {
	Cards        map[string]card          `json:"cards"`
	Transactions map[string][]transaction `json:"transactions"`
}

type card struct {
	Holder string `json:"holder"`
	Kind   string `json:"kind"`
	Status string `json:"status"` // active, frozen, replaced
}

type transaction struct {
	ID       string `json:"id"`
	Date     string `json:"date"`
	Merchant string `json:"merchant"`
	Amount   string `json:"amount"` // with currency
}

// effect is a line of the ledger: something that really happened, once.
type effect struct {
	Seq     int64           `json:"seq"`
	At      string          `json:"at"`
	Tool    string          `json:"tool"`
	Card    string          `json:"card,omitempty"`
	Key     string          `json:"key,omitempty"`
	Repeats int             `json:"repeats"` // how often the same key came again
	Result  json.RawMessage `json:"result"`
}

// bank is the data file.
type bank struct{ db *sql.DB }

const schema = `
CREATE TABLE IF NOT EXISTS cards (card TEXT PRIMARY KEY, holder TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS transactions (id TEXT PRIMARY KEY, card TEXT NOT NULL, date TEXT NOT NULL, merchant TEXT NOT NULL, amount TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS effects (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, tool TEXT NOT NULL, action TEXT NOT NULL,
	card TEXT NOT NULL, key TEXT UNIQUE, repeats INTEGER NOT NULL DEFAULT 0, result TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS failures (tool TEXT PRIMARY KEY, n INTEGER NOT NULL);`

// openBank opens the file, and makes and seeds it when it is not there.
func openBank(ctx context.Context, file string) (*bank, error) {
	options := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+options.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	b := &bank{db}
	if err := b.write(ctx, b.seed); err != nil {
		b.close()
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	return b, nil
}

func (b *bank) close() { _ = b.db.Close() }

// write runs fn in one transaction.
func (b *bank) write(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (b *bank) seed(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM cards`).Scan(&n); err != nil || n > 0 {
		return err
	}
	var s seed
	if err := json.Unmarshal(seedJSON, &s); err != nil {
		return err
	}
	for number, c := range s.Cards {
		if _, err := tx.ExecContext(ctx, `INSERT INTO cards VALUES ($1, $2, $3, $4)`, number, c.Holder, c.Kind, c.Status); err != nil {
			return err
		}
	}
	for number, list := range s.Transactions {
		for _, t := range list {
			if _, err := tx.ExecContext(ctx, `INSERT INTO transactions VALUES ($1, $2, $3, $4, $5)`, t.ID, number, t.Date, t.Merchant, t.Amount); err != nil {
				return err
			}
		}
	}
	return nil
}

// card finds a card; a refusal when there is none.
func (b *bank) card(ctx context.Context, number string) (card, error) {
	var c card
	err := b.db.QueryRowContext(ctx, `SELECT holder, kind, status FROM cards WHERE card = $1`, number).Scan(&c.Holder, &c.Kind, &c.Status)
	if errors.Is(err, sql.ErrNoRows) {
		return c, noCard(number)
	}
	return c, err
}

// transactions lists a card's, the newest first.
func (b *bank) transactions(ctx context.Context, number string) ([]transaction, error) {
	rows, err := b.db.QueryContext(ctx, `SELECT id, date, merchant, amount FROM transactions WHERE card = $1 ORDER BY date DESC, id DESC`, number)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	list := []transaction{}
	for rows.Next() {
		var t transaction
		if err := rows.Scan(&t.ID, &t.Date, &t.Merchant, &t.Amount); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, rows.Err()
}

// order is a write that somebody asks for.
type order struct {
	tool, action, card, key string
	status                  string // the card's new one; empty leaves it
}

// do has the effect once per key. result makes the answer from the number of the effect; the same key
// gets the first answer again, and a key that was used for something else is refused.
func (b *bank) do(ctx context.Context, o order, result func(seq int64) any) (json.RawMessage, error) {
	var out json.RawMessage
	err := b.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if o.key != "" {
			again, err := repeat(ctx, tx, o)
			if err != nil || again != nil {
				out = again
				return err
			}
		}
		if o.status != "" {
			if _, err := tx.ExecContext(ctx, `UPDATE cards SET status = $1 WHERE card = $2`, o.status, o.card); err != nil {
				return err
			}
		}
		var seq int64
		if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) + 1 FROM effects`).Scan(&seq); err != nil {
			return err
		}
		var err error
		if out, err = json.Marshal(result(seq)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO effects (seq, at, tool, action, card, key, result) VALUES ($1, $2, $3, $4, $5, nullif($6, ''), $7)`,
			seq, time.Now().UTC().Format(time.RFC3339Nano), o.tool, o.action, o.card, o.key, string(out))
		return err
	})
	return out, err
}

func repeat(ctx context.Context, tx *sql.Tx, o order) (json.RawMessage, error) {
	var action, number, result string
	err := tx.QueryRowContext(ctx, `SELECT action, card, result FROM effects WHERE key = $1`, o.key).Scan(&action, &number, &result)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if action != o.action || number != o.card {
		return nil, &refusal{Class: "rejected", Status: 409, Message: "The idempotency key was used for another call."}
	}
	_, err = tx.ExecContext(ctx, `UPDATE effects SET repeats = repeats + 1 WHERE key = $1`, o.key)
	return json.RawMessage(result), err
}

// ledger lists the effects in order.
func (b *bank) ledger(ctx context.Context) ([]effect, error) {
	rows, err := b.db.QueryContext(ctx, `SELECT seq, at, tool, card, coalesce(key, ''), repeats, result FROM effects ORDER BY seq`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []effect
	for rows.Next() {
		var e effect
		var result string
		if err := rows.Scan(&e.Seq, &e.At, &e.Tool, &e.Card, &e.Key, &e.Repeats, &result); err != nil {
			return nil, err
		}
		e.Result = json.RawMessage(result)
		list = append(list, e)
	}
	return list, rows.Err()
}

// countFailure numbers the failures of a tool from 0, over restarts.
func (b *bank) countFailure(ctx context.Context, tool string) (int, error) {
	var n int
	err := b.db.QueryRowContext(ctx,
		`INSERT INTO failures VALUES ($1, 1) ON CONFLICT (tool) DO UPDATE SET n = n + 1 RETURNING n - 1`, tool).Scan(&n)
	return n, err
}
