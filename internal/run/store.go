package run

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are the tables runs and journal.
var Migrations = db.Migrations{Domain: "run", Files: migrations}

// inlineBody is how many bytes of a body are kept in its row; longer ones are blobs.
const inlineBody = 64 << 10

// store is all SQL of this domain.
type store struct {
	db    *db.DB
	blobs blob.Store
}

// body gives the text that a row keeps: the JSON itself, or the digest of its blob.
func (s *store) body(ctx context.Context, b json.RawMessage) (string, error) {
	if len(b) <= inlineBody {
		return string(b), nil
	}
	d, err := blob.PutBytes(ctx, s.blobs, b)
	return string(d), err
}

func (s *store) load(ctx context.Context, text string) (json.RawMessage, error) {
	if !strings.HasPrefix(text, "sha256:") {
		return json.RawMessage(text), nil
	}
	return blob.Bytes(ctx, s.blobs, blob.Digest(text))
}

// stored is a journal row as its columns.
type stored struct {
	row                          Row
	input, output, usage, labels string
}

// prepare encodes a row and puts long bodies aside; the rest happens within the writer.
func (s *store) prepare(ctx context.Context, r Row) (stored, error) {
	out := stored{row: r}
	if err := r.Encode(); err != nil {
		return out, err
	}
	var err error
	if out.input, err = s.body(ctx, r.Input); err != nil {
		return out, fmt.Errorf("store the input of step %d: %w", r.Step, err)
	}
	if out.output, err = s.body(ctx, r.Output); err != nil {
		return out, fmt.Errorf("store the output of step %d: %w", r.Step, err)
	}
	if r.Usage != (model.Usage{}) {
		b, err := canon.JSON(r.Usage)
		if err != nil {
			return out, err
		}
		out.usage = string(b)
	}
	if len(r.Labels) > 0 {
		b, err := canon.JSON(r.Labels)
		if err != nil {
			return out, err
		}
		out.labels = string(b)
	}
	out.row = r
	return out, nil
}

func (s *store) insertRow(ctx context.Context, tx *db.Tx, p stored) error {
	r := p.row
	n, err := tx.Exec(ctx, `INSERT INTO journal
		(run, seq, step, kind, node, digest, input, output, started_at, ended_at, attempt, usage, class, labels)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (run, seq) DO NOTHING`,
		string(r.Run), r.Seq, r.Step, r.Kind, r.Node, r.Digest, p.input, p.output,
		db.FormatTime(r.StartedAt), db.FormatOptional(r.EndedAt), r.Attempt, p.usage, r.Class, p.labels)
	if err == nil && n == 0 {
		return ErrLost
	}
	return err
}

const rowColumns = `run, seq, step, kind, node, digest, input, output, started_at, ended_at, attempt, usage, class, labels`

// journal reads rows after a sequence number; limit 0 reads all.
func (s *store) journal(ctx context.Context, id ID, after, limit int) ([]Row, error) {
	if limit <= 0 {
		limit = 1 << 31
	}
	rows, err := db.All(ctx, s.db, scanRow, `SELECT `+rowColumns+` FROM journal WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
		string(id), after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the journal of %s: %w", id, err)
	}
	for i := range rows {
		if rows[i].Input, err = s.load(ctx, string(rows[i].Input)); err != nil {
			return nil, fmt.Errorf("row %d of %s: %w", rows[i].Seq, id, err)
		}
		if rows[i].Output, err = s.load(ctx, string(rows[i].Output)); err != nil {
			return nil, fmt.Errorf("row %d of %s: %w", rows[i].Seq, id, err)
		}
	}
	return rows, nil
}

func scanRow(r db.Row) (Row, error) {
	var row Row
	var run, input, output, startedAt, endedAt, usage, labels string
	err := r.Scan(&run, &row.Seq, &row.Step, &row.Kind, &row.Node, &row.Digest, &input, &output,
		&startedAt, &endedAt, &row.Attempt, &usage, &row.Class, &labels)
	if err != nil {
		return row, err
	}
	row.Run = ID(run)
	if input != "" {
		row.Input = json.RawMessage(input)
	}
	if output != "" {
		row.Output = json.RawMessage(output)
	}
	if row.StartedAt, err = db.ParseTime(startedAt); err != nil {
		return row, err
	}
	if row.EndedAt, err = db.ParseTime(endedAt); err != nil {
		return row, err
	}
	if usage != "" {
		if err := json.Unmarshal([]byte(usage), &row.Usage); err != nil {
			return row, err
		}
	}
	if labels != "" {
		err = json.Unmarshal([]byte(labels), &row.Labels)
	}
	return row, err
}

// insertRun writes a new run; its turn is the next of its session with the agent.
func (s *store) insertRun(ctx context.Context, tx *db.Tx, r *Run, setup string) error {
	if r.Session != "" && r.Turn == 0 {
		if err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(turn), 0) + 1 FROM runs WHERE session = $1 AND package = $2`,
			r.Session, r.Package).Scan(&r.Turn); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO runs
		(id, package, identity, release, channel, source, session, turn, parent, parent_at, allow_writes, setup, user_text, status, started_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		string(r.ID), r.Package, string(r.Identity), r.Release, r.Channel, r.Source, r.Session, r.Turn,
		string(r.Parent), r.ParentAt, db.Flag(r.AllowWrites), setup, r.Message, string(Running), db.FormatTime(r.StartedAt))
	return err
}

// wait marks a running run as waiting for a person; why is set when something went wrong.
func (s *store) wait(ctx context.Context, tx *db.Tx, id ID, ask string, wakeAt time.Time, why Failure) error {
	return changed(tx.Exec(ctx, `UPDATE runs SET status = $1, ask = $2, wake_at = $3, class = $4, message = $5, node = $6
		WHERE id = $7 AND status = $8`,
		string(Waiting), ask, db.FormatOptional(wakeAt), why.Class, why.Message, why.Node, string(id), string(Running)))
}

// wake marks a waiting run as running again.
func (s *store) wake(ctx context.Context, tx *db.Tx, id ID) error {
	return changed(tx.Exec(ctx, `UPDATE runs SET status = $1, ask = '', wake_at = '', class = '', message = '', node = ''
		WHERE id = $2 AND status = $3`, string(Running), string(id), string(Waiting)))
}

// end writes how a run has ended.
func (s *store) end(ctx context.Context, tx *db.Tx, id ID, e *Ended, output string, at time.Time) error {
	f := Failure{}
	if e.Failure != nil {
		f = *e.Failure
	}
	u := e.Usage
	return changed(tx.Exec(ctx, `UPDATE runs SET status = $1, class = $2, message = $3, node = $4, reply = $5, output = $6,
		ask = '', wake_at = '', ended_at = $7, steps = $8, tokens_in = $9, tokens_out = $10, tokens_cached = $11, compute = $12,
		cost = $13, prices = $14, tool_calls = $15, tool_errors = $16, tool_attempts = $17, tool_failures = $18,
		malformed = $19, elapsed = $20 WHERE id = $21 AND ended_at = ''`,
		string(e.Status), f.Class, f.Message, f.Node, e.Output.Reply, output, db.FormatTime(at), e.Steps, u.In, u.Out, u.Cached,
		int64(u.Compute), u.Cost, u.Prices, e.ToolCalls, e.ToolErrors, e.ToolAttempts, e.ToolFailures, e.Malformed,
		int64(e.Elapsed), string(id)))
}

func changed(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrLost
	}
	return err
}

const runColumns = `id, package, identity, release, channel, source, session, turn, parent, parent_at, allow_writes, user_text,
	status, class, message, node, reply, output, ask, wake_at, started_at, ended_at, steps, tokens_in, tokens_out,
	tokens_cached, compute, cost, prices, tool_calls, tool_errors, tool_attempts, tool_failures, malformed, elapsed`

func (s *store) run(ctx context.Context, q db.Querier, id ID) (*Run, error) {
	r, err := db.One(ctx, q, scanRun, `SELECT `+runColumns+` FROM runs WHERE id = $1`, string(id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "run.not_found", "there is no run %s", id).WithHint("flywheel runs")
	}
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", id, err)
	}
	return &r, s.loadOutput(ctx, &r)
}

// loadOutput reads the data of the output from the text that the scan left.
func (s *store) loadOutput(ctx context.Context, r *Run) error {
	if r.outputText == "" {
		return nil
	}
	b, err := s.load(ctx, r.outputText)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, &r.Output)
}

func scanRun(row db.Row) (Run, error) {
	var r Run
	var id, identity, parent, status, ask, wakeAt, startedAt, endedAt string
	var allow, compute, elapsed int64
	f := &Failure{}
	err := row.Scan(&id, &r.Package, &identity, &r.Release, &r.Channel, &r.Source, &r.Session, &r.Turn, &parent, &r.ParentAt,
		&allow, &r.Message, &status, &f.Class, &f.Message, &f.Node, &r.Output.Reply, &r.outputText, &ask, &wakeAt, &startedAt,
		&endedAt, &r.Steps, &r.Usage.In, &r.Usage.Out, &r.Usage.Cached, &compute, &r.Usage.Cost, &r.Usage.Prices,
		&r.ToolCalls, &r.ToolErrors, &r.ToolAttempts, &r.ToolFailures, &r.Malformed, &elapsed)
	if err != nil {
		return r, err
	}
	r.ID, r.Identity, r.Parent, r.Status = ID(id), blob.Digest(identity), ID(parent), Status(status)
	r.AllowWrites = allow == 1
	r.Usage.Compute, r.Elapsed = time.Duration(compute), time.Duration(elapsed)
	if f.Class != "" {
		r.Failure = f
	}
	if ask != "" {
		r.Ask = new(Ask)
		if err := json.Unmarshal([]byte(ask), r.Ask); err != nil {
			return r, err
		}
	}
	for _, t := range []struct {
		text string
		into *time.Time
	}{{wakeAt, &r.WakeAt}, {startedAt, &r.StartedAt}, {endedAt, &r.EndedAt}} {
		if *t.into, err = db.ParseTime(t.text); err != nil {
			return r, err
		}
	}
	return r, nil
}

// setup reads what the machine of a run starts from.
func (s *store) setup(ctx context.Context, id ID) (setup, error) {
	var text string
	if err := s.db.QueryRow(ctx, `SELECT setup FROM runs WHERE id = $1`, string(id)).Scan(&text); err != nil {
		return setup{}, fmt.Errorf("read the setup of %s: %w", id, err)
	}
	b, err := s.load(ctx, text)
	if err != nil {
		return setup{}, err
	}
	var out setup
	return out, json.Unmarshal(b, &out)
}

// history gives the last turns of a session with an agent as messages, oldest first. Agents do not
// overhear each other: whoever talks to two under one session has two conversations.
func (s *store) history(ctx context.Context, session, pkg string, turns int) ([]Message, error) {
	type turn struct{ user, reply string }
	list, err := db.All(ctx, s.db, func(r db.Row) (turn, error) {
		var t turn
		return t, r.Scan(&t.user, &t.reply)
	}, `SELECT user_text, reply FROM runs WHERE session = $1 AND package = $2 AND status = $3 ORDER BY turn DESC LIMIT $4`,
		session, pkg, string(Succeeded), turns)
	if err != nil {
		return nil, fmt.Errorf("read the session %s: %w", session, err)
	}
	var out []Message
	for i := len(list) - 1; i >= 0; i-- {
		out = append(out, Message{Role: model.RoleUser, Content: list[i].user})
		if list[i].reply != "" {
			out = append(out, Message{Role: model.RoleAssistant, Content: list[i].reply})
		}
	}
	return out, nil
}

func (s *store) withStatus(ctx context.Context, status Status) ([]ID, error) {
	return db.All(ctx, s.db, scanID, `SELECT id FROM runs WHERE status = $1 ORDER BY id`, string(status))
}

// due lists waiting runs whose time is up.
func (s *store) due(ctx context.Context, now time.Time) ([]ID, error) {
	return db.All(ctx, s.db, scanID, `SELECT id FROM runs WHERE status = $1 AND wake_at <> '' AND wake_at <= $2 ORDER BY id`,
		string(Waiting), db.FormatTime(now))
}

func scanID(r db.Row) (ID, error) {
	var id string
	err := r.Scan(&id)
	return ID(id), err
}
