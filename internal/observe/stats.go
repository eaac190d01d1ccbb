package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"flywheel/internal/platform/db"
	"flywheel/internal/platform/interval"
)

// Stats are the numbers of one agent under one release. Sums are over runs; forks do not count.
type Stats struct {
	Agent   string `json:"agent"`
	Release string `json:"release,omitempty"` // empty: runs of packages that were not released
	Number  int    `json:"number,omitempty"`
	Forced  bool   `json:"forced,omitempty"` // the gate of the release had failed
	Runs    int    `json:"runs"`
	Failed  int    `json:"failed_runs"` // runs that ended with an error, whatever their outcome
	// Success is over the runs that have an outcome; Unknown have none.
	Success interval.Rate `json:"success"`
	Unknown int           `json:"unknown"`
	// Sources counts the outcomes that decided, by who gave them.
	Sources      map[string]int `json:"sources,omitempty"`
	TokensIn     int64          `json:"tokens_in"`
	TokensOut    int64          `json:"tokens_out"`
	Cost         int64          `json:"cost"`    // nano-USD
	Compute      time.Duration  `json:"compute"` // processor time, nanoseconds
	Steps        int64          `json:"steps"`
	ToolCalls    int64          `json:"tool_calls"`
	ToolErrors   int64          `json:"tool_errors"`
	ToolAttempts int64          `json:"tool_attempts"`
	ToolFailures int64          `json:"tool_failures"`
	Tools        []ToolStats    `json:"tools,omitempty"`
	P50          time.Duration  `json:"p50"` // latency, nanoseconds
	P95          time.Duration  `json:"p95"`
	FirstAt      time.Time      `json:"first_at"`
	LastAt       time.Time      `json:"last_at"`
}

// ToolStats is what happened to one tool.
type ToolStats struct {
	Tool     string `json:"tool"`
	Calls    int64  `json:"calls"`
	Errors   int64  `json:"errors"` // calls that failed after retries and backup
	Attempts int64  `json:"attempts"`
	Failures int64  `json:"failures"` // tries that failed
}

// Stats gives the numbers per agent and release, the newest release first.
func (s *Service) Stats(ctx context.Context, filter Filter) ([]*Stats, error) {
	where, args := filter.where()
	list, err := db.All(ctx, s.deps.DB, scanStats, `SELECT f.agent, f.release, COALESCE(MAX(m.number), 0), COALESCE(MAX(m.forced), 0), COUNT(*),
			SUM(CASE WHEN f.status = 'failed' THEN 1 ELSE 0 END), SUM(CASE WHEN f.verdict = 'success' THEN 1 ELSE 0 END),
			SUM(CASE WHEN f.verdict = 'failure' THEN 1 ELSE 0 END), SUM(f.tokens_in), SUM(f.tokens_out), SUM(f.cost),
			SUM(f.compute), SUM(f.steps), SUM(f.tool_calls), SUM(f.tool_errors), SUM(f.tool_attempts), SUM(f.tool_failures),
			MIN(f.started_at), MAX(f.started_at)
		FROM run_facts f LEFT JOIN release_marks m ON m.release = f.release
		WHERE `+where+` GROUP BY f.agent, f.release ORDER BY f.agent, COALESCE(MAX(m.number), 0) DESC, f.release`, args...)
	if err != nil {
		return nil, fmt.Errorf("read stats: %w", err)
	}
	for _, st := range list {
		if err := s.detail(ctx, st, filter); err != nil {
			return nil, fmt.Errorf("read stats of %s: %w", st.Agent, err)
		}
	}
	return list, nil
}

func scanStats(row db.Row) (*Stats, error) {
	var st Stats
	var forced, compute int64
	var good, bad int
	var first, last string
	err := row.Scan(&st.Agent, &st.Release, &st.Number, &forced, &st.Runs, &st.Failed, &good, &bad, &st.TokensIn, &st.TokensOut,
		&st.Cost, &compute, &st.Steps, &st.ToolCalls, &st.ToolErrors, &st.ToolAttempts, &st.ToolFailures, &first, &last)
	if err != nil {
		return nil, err
	}
	st.Forced, st.Compute = forced != 0, time.Duration(compute)
	st.Success, st.Unknown = interval.Of(good, good+bad), st.Runs-good-bad
	if st.FirstAt, err = db.ParseTime(first); err != nil {
		return nil, err
	}
	st.LastAt, err = db.ParseTime(last)
	return &st, err
}

// detail adds what needs rows of its own: who decided, the tools, and percentiles of the latency.
func (s *Service) detail(ctx context.Context, st *Stats, filter Filter) error {
	where, args := filter.where()
	args = append(args, st.Agent, st.Release)
	mine := where + fmt.Sprintf(" AND f.agent = $%d AND f.release = $%d", len(args)-1, len(args))
	type count struct {
		source string
		n      int
	}
	sources, err := db.All(ctx, s.deps.DB, func(row db.Row) (c count, err error) {
		err = row.Scan(&c.source, &c.n)
		return c, err
	}, `SELECT f.verdict_source, COUNT(*) FROM run_facts f WHERE f.verdict_source <> '' AND `+mine+` GROUP BY f.verdict_source`, args...)
	if err != nil {
		return err
	}
	st.Sources = map[string]int{}
	for _, c := range sources {
		st.Sources[c.source] = c.n
	}
	st.Tools, err = db.All(ctx, s.deps.DB, func(row db.Row) (t ToolStats, err error) {
		err = row.Scan(&t.Tool, &t.Calls, &t.Errors, &t.Attempts, &t.Failures)
		return t, err
	}, `SELECT t.tool, SUM(t.calls), SUM(t.errors), SUM(t.attempts), SUM(t.failures) FROM run_tools t JOIN run_facts f ON f.run = t.run
		WHERE `+mine+` GROUP BY t.tool ORDER BY SUM(t.failures) DESC, t.tool`, args...)
	if err != nil {
		return err
	}
	for _, q := range []struct {
		share float64
		into  *time.Duration
	}{{0.50, &st.P50}, {0.95, &st.P95}} {
		at := int(q.share * float64(st.Runs-1))
		var elapsed int64
		err := s.deps.DB.QueryRow(ctx, `SELECT f.elapsed FROM run_facts f WHERE `+mine+
			fmt.Sprintf(` ORDER BY f.elapsed LIMIT 1 OFFSET %d`, max(0, at)), args...).Scan(&elapsed)
		if err != nil {
			return err
		}
		*q.into = time.Duration(elapsed)
	}
	return nil
}

func scanExample(row db.Row) (Example, error) {
	var e Example
	var at, raw string
	if err := row.Scan(&e.Run, &e.Release, &at, &raw); err != nil {
		return e, err
	}
	var f Facts
	if err := json.Unmarshal([]byte(raw), &f); err != nil {
		return e, err
	}
	e.User, e.Reply = f.User, f.Reply
	var err error
	e.At, err = db.ParseTime(at)
	return e, err
}
