package observe

import (
	"context"
	"fmt"
	"time"

	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

// Finding is a group of runs that failed the same way.
type Finding struct {
	Fingerprint string    `json:"fingerprint"`
	Agent       string    `json:"agent"`
	Title       string    `json:"title"`
	Node        string    `json:"node"`               // of the first bad step
	Class       string    `json:"class"`              // error class, wrong_action, no_action, handed_over, unexplained
	What        string    `json:"what,omitempty"`     // the tool, or the action that was taken
	Expected    string    `json:"expected,omitempty"` // the action that would have been right
	Path        string    `json:"path"`
	Suspect     Suspect   `json:"suspect"`
	Count       int       `json:"count"` // failed runs
	Runs        int       `json:"runs"`  // all runs of the agent in the same selection
	Share       float64   `json:"share"` // Count of Runs
	FirstAt     time.Time `json:"first_at"`
	LastAt      time.Time `json:"last_at"`
	// Since is the release of the first run of the group; its number is 0 for runs without a release.
	Since       string         `json:"since_release,omitempty"`
	SinceNumber int            `json:"since_number,omitempty"`
	Releases    []ReleaseCount `json:"releases"`
	Examples    []Example      `json:"examples"` // newest first
}

// ReleaseCount is how often a finding occurred under one release.
type ReleaseCount struct {
	Release string  `json:"release,omitempty"`
	Number  int     `json:"number,omitempty"`
	Count   int     `json:"count"`
	Runs    int     `json:"runs"`
	Share   float64 `json:"share"`
}

// Example is a run of a finding.
type Example struct {
	Run     string    `json:"run"`
	Release string    `json:"release,omitempty"`
	User    string    `json:"user,omitempty"`
	Reply   string    `json:"reply,omitempty"`
	At      time.Time `json:"at"`
}

// Filter selects runs. Empty fields select all; forks never count.
type Filter struct {
	Agent   string
	Release string // digest
	Channel string
	Since   time.Time
	Until   time.Time
}

// where is the condition on run_facts f; parameters start at $1.
func (f Filter) where() (string, []any) {
	text := `f.source <> 'fork'`
	var args []any
	add := func(condition string, v any) {
		args = append(args, v)
		text += fmt.Sprintf(" AND "+condition, len(args))
	}
	if f.Agent != "" {
		add("f.agent = $%d", f.Agent)
	}
	if f.Release != "" {
		add("f.release = $%d", f.Release)
	}
	if f.Channel != "" {
		add("f.channel = $%d", f.Channel)
	}
	if !f.Since.IsZero() {
		add("f.started_at >= $%d", db.FormatTime(f.Since))
	}
	if !f.Until.IsZero() {
		add("f.started_at < $%d", db.FormatTime(f.Until))
	}
	return text, args
}

const numExamples = 5

// Findings lists the groups of failed runs, the largest first.
func (s *Service) Findings(ctx context.Context, filter Filter) ([]*Finding, error) {
	where, args := filter.where()
	list, err := db.All(ctx, s.deps.DB, scanFinding, `SELECT t.fingerprint, t.agent, t.title, t.node, t.class, t.what, t.path,
			t.expected, t.component, t.name, t.why, COUNT(*), MIN(f.started_at), MAX(f.started_at)
		FROM run_facts f JOIN finding_titles t ON t.fingerprint = f.fingerprint
		WHERE f.fingerprint <> '' AND `+where+`
		GROUP BY t.fingerprint, t.agent, t.title, t.node, t.class, t.what, t.path, t.expected, t.component, t.name, t.why
		ORDER BY COUNT(*) DESC, t.fingerprint`, args...)
	if err != nil {
		return nil, fmt.Errorf("read findings: %w", err)
	}
	totals, err := s.runsByRelease(ctx, filter)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		if err := s.complete(ctx, f, filter, totals); err != nil {
			return nil, fmt.Errorf("read finding %s: %w", f.Fingerprint, err)
		}
	}
	return list, nil
}

// Finding gives one group by its fingerprint; code observe.no_finding.
func (s *Service) Finding(ctx context.Context, fingerprint string) (*Finding, error) {
	list, err := s.Findings(ctx, Filter{})
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		if f.Fingerprint == fingerprint {
			return f, nil
		}
	}
	return nil, fault.New(fault.NotFound, "observe.no_finding", "there is no finding %s", fingerprint).WithHint("flywheel findings")
}

func scanFinding(row db.Row) (*Finding, error) {
	var f Finding
	var first, last string
	err := row.Scan(&f.Fingerprint, &f.Agent, &f.Title, &f.Node, &f.Class, &f.What, &f.Path, &f.Expected,
		&f.Suspect.Component, &f.Suspect.Name, &f.Suspect.Why, &f.Count, &first, &last)
	if err != nil {
		return nil, err
	}
	if f.FirstAt, err = db.ParseTime(first); err != nil {
		return nil, err
	}
	f.LastAt, err = db.ParseTime(last)
	return &f, err
}

type releaseKey struct{ agent, release string }

// runsByRelease counts the runs of every agent and release in a selection.
func (s *Service) runsByRelease(ctx context.Context, filter Filter) (map[releaseKey]int, error) {
	where, args := filter.where()
	rows, err := s.deps.DB.Query(ctx, `SELECT f.agent, f.release, COUNT(*) FROM run_facts f WHERE `+where+` GROUP BY f.agent, f.release`, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := map[releaseKey]int{}
	for rows.Next() {
		var k releaseKey
		var n int
		if err := rows.Scan(&k.agent, &k.release, &n); err != nil {
			return nil, err
		}
		out[k] = n
	}
	return out, rows.Err()
}

// complete adds shares, releases and examples.
func (s *Service) complete(ctx context.Context, f *Finding, filter Filter, totals map[releaseKey]int) error {
	where, args := filter.where()
	args = append(args, f.Fingerprint)
	mine := where + fmt.Sprintf(" AND f.fingerprint = $%d", len(args))
	var err error
	f.Releases, err = db.All(ctx, s.deps.DB, func(row db.Row) (r ReleaseCount, err error) {
		var first string
		err = row.Scan(&r.Release, &r.Number, &r.Count, &first)
		r.Runs = totals[releaseKey{f.Agent, r.Release}]
		r.Share = float64(r.Count) / float64(max(1, r.Runs))
		return r, err
	}, `SELECT f.release, COALESCE(MAX(m.number), 0), COUNT(*), MIN(f.started_at) AS first_at FROM run_facts f
		LEFT JOIN release_marks m ON m.release = f.release WHERE `+mine+` GROUP BY f.release ORDER BY first_at`, args...)
	if err != nil {
		return err
	}
	for k, n := range totals {
		if k.agent == f.Agent {
			f.Runs += n
		}
	}
	f.Share = float64(f.Count) / float64(max(1, f.Runs))
	if len(f.Releases) > 0 {
		f.Since, f.SinceNumber = f.Releases[0].Release, f.Releases[0].Number
	}
	f.Examples, err = db.All(ctx, s.deps.DB, scanExample, `SELECT f.run, f.release, f.started_at, f.facts FROM run_facts f WHERE `+mine+
		fmt.Sprintf(` ORDER BY f.started_at DESC, f.run DESC LIMIT %d`, numExamples), args...)
	return err
}
