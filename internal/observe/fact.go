package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/platform/db"
)

// Facts is the payload of run.ended: what one run did.
type Facts struct {
	Run          string        `json:"run"`
	Agent        string        `json:"package"`
	Identity     string        `json:"identity,omitempty"`
	Release      string        `json:"release,omitempty"`
	Channel      string        `json:"channel,omitempty"`
	Source       string        `json:"source,omitempty"` // cli, endpoint, chat, fork, demo
	Session      string        `json:"session,omitempty"`
	Status       string        `json:"status"`
	Class        string        `json:"class,omitempty"`
	Message      string        `json:"message,omitempty"`
	Node         string        `json:"node,omitempty"` // where it failed
	User         string        `json:"user,omitempty"`
	Reply        string        `json:"reply,omitempty"`
	Usage        Usage         `json:"usage"`
	Steps        int           `json:"steps"`
	ToolCalls    int           `json:"tool_calls"`
	ToolErrors   int           `json:"tool_errors"`   // calls that failed after retries and backup
	ToolAttempts int           `json:"tool_attempts"` // single tries
	ToolFailures int           `json:"tool_failures"` // tries that failed
	Calls        []Call        `json:"calls,omitempty"`
	Path         []string      `json:"path,omitempty"` // nodes in the order of their visits
	Elapsed      time.Duration `json:"elapsed"`        // in effects, nanoseconds
	StartedAt    time.Time     `json:"started_at"`
	EndedAt      time.Time     `json:"ended_at,omitzero"`
}

// Usage is what a run consumed.
type Usage struct {
	In      int64         `json:"in"`                // tokens
	Out     int64         `json:"out"`               // tokens
	Cost    int64         `json:"cost,omitempty"`    // nano-USD
	Compute time.Duration `json:"compute,omitempty"` // processor time on this machine, nanoseconds
}

// Call is one tool call of a run.
type Call struct {
	Step     int    `json:"step"`
	Node     string `json:"node"`
	Tool     string `json:"tool"`
	OK       bool   `json:"ok"`
	Class    string `json:"class,omitempty"`
	Attempts int    `json:"attempts"`
	Failures int    `json:"failures,omitempty"`
}

// Run states that matter here.
const (
	statusSucceeded = "succeeded"
	statusFailed    = "failed"
	sourceFork      = "fork" // forks are experiments of a person: they count nowhere
)

// Record takes the facts of an ended run, lets the heuristics judge it and settles what counts. Facts of
// the same run again replace the former.
func (s *Service) Record(ctx context.Context, f Facts) error {
	if f.Run == "" {
		return errors.New("facts without a run")
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	guess := heuristic(f)
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		if err := writeFacts(ctx, tx, f, string(raw)); err != nil {
			return fmt.Errorf("store facts of %s: %w", f.Run, err)
		}
		losers, err := adopt(ctx, tx, f)
		if err != nil {
			return fmt.Errorf("find outcomes of %s: %w", f.Run, err)
		}
		if guess != nil {
			guess.At = s.deps.Clock.Now()
			if _, err := s.insert(ctx, tx, guess); err != nil {
				return err
			}
		}
		for _, run := range append(losers, f.Run) {
			if err := settle(ctx, tx, run, s.deps.Clock.Now()); err != nil {
				return fmt.Errorf("settle %s: %w", run, err)
			}
		}
		return nil
	})
}

func writeFacts(ctx context.Context, tx *db.Tx, f Facts, raw string) error {
	_, err := tx.Exec(ctx, `INSERT INTO run_facts (run, agent, release, identity, channel, source, session, status, class,
			started_at, ended_at, elapsed, tokens_in, tokens_out, cost, compute, steps, tool_calls, tool_errors,
			tool_attempts, tool_failures, facts, verdict, verdict_source, fingerprint)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, '', '', '')
		ON CONFLICT (run) DO UPDATE SET status = excluded.status, class = excluded.class, ended_at = excluded.ended_at,
			elapsed = excluded.elapsed, tokens_in = excluded.tokens_in, tokens_out = excluded.tokens_out,
			cost = excluded.cost, compute = excluded.compute, steps = excluded.steps, tool_calls = excluded.tool_calls,
			tool_errors = excluded.tool_errors, tool_attempts = excluded.tool_attempts,
			tool_failures = excluded.tool_failures, facts = excluded.facts`,
		f.Run, f.Agent, f.Release, f.Identity, f.Channel, f.Source, f.Session, f.Status, f.Class,
		db.FormatTime(f.StartedAt), db.FormatTime(f.EndedAt), int64(f.Elapsed), f.Usage.In, f.Usage.Out, f.Usage.Cost,
		int64(f.Usage.Compute), f.Steps, f.ToolCalls, f.ToolErrors, f.ToolAttempts, f.ToolFailures, raw)
	if err != nil {
		return err
	}
	type counts struct{ calls, errors, attempts, failures int }
	tools := map[string]*counts{}
	for _, c := range f.Calls {
		t := tools[c.Tool]
		if t == nil {
			t = &counts{}
			tools[c.Tool] = t
		}
		t.calls++
		t.attempts += c.Attempts
		t.failures += c.Failures
		if !c.OK {
			t.errors++
		}
	}
	for tool, t := range tools {
		_, err := tx.Exec(ctx, `INSERT INTO run_tools (run, tool, calls, errors, attempts, failures) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (run, tool) DO UPDATE SET calls = excluded.calls, errors = excluded.errors,
			attempts = excluded.attempts, failures = excluded.failures`, f.Run, tool, t.calls, t.errors, t.attempts, t.failures)
		if err != nil {
			return err
		}
	}
	return nil
}

// adopt gives the run those outcomes of its session that were given after it had begun: an outcome by
// session is about the last run that had begun by then. It returns the earlier runs that lose one.
func adopt(ctx context.Context, tx *db.Tx, f Facts) ([]string, error) {
	if f.Session == "" {
		return nil, nil
	}
	type given struct{ id, run string }
	began := db.FormatTime(f.StartedAt)
	list, err := db.All(ctx, tx, func(row db.Row) (g given, err error) {
		err = row.Scan(&g.id, &g.run)
		return g, err
	}, `SELECT id, run FROM outcomes WHERE session = $1 AND source <> 'heuristic' AND at >= $2 AND (run = '' OR run IN
		(SELECT run FROM run_facts WHERE session = $3 AND started_at < $4))`, f.Session, began, f.Session, began)
	if err != nil {
		return nil, err
	}
	var losers []string
	for _, g := range list {
		if _, err := tx.Exec(ctx, `UPDATE outcomes SET run = $1 WHERE id = $2`, f.Run, g.id); err != nil {
			return nil, err
		}
		losers = append(losers, g.run)
	}
	return losers, nil
}

// recovered says whether a failed call was made good by a later call of the same tool.
func (f *Facts) recovered(failed int) bool {
	for _, c := range f.Calls[failed+1:] {
		if c.Tool == f.Calls[failed].Tool && c.OK {
			return true
		}
	}
	return false
}

// firstFailure is the index of the first call that failed for good, or -1.
func (f *Facts) firstFailure() int {
	for i, c := range f.Calls {
		if !c.OK && !f.recovered(i) {
			return i
		}
	}
	return -1
}

var handovers = []string{"hand_over", "handover", "escalate", "transfer_to_human", "human_agent"}

// handedOver says whether the run ended with a person.
func (f *Facts) handedOver() bool {
	for _, c := range f.Calls {
		name := strings.ToLower(c.Tool)
		for _, h := range handovers {
			if c.OK && strings.Contains(name, h) {
				return true
			}
		}
	}
	return false
}
