package run

import (
	"context"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/db"
)

// Run is an execution as it is listed and shown.
type Run struct {
	ID          ID          `json:"id"`
	Package     string      `json:"package"`
	Identity    blob.Digest `json:"identity"`
	Release     string      `json:"release,omitempty"`
	Channel     string      `json:"channel,omitempty"`
	Source      string      `json:"source"`
	Session     string      `json:"session,omitempty"`
	Turn        int         `json:"turn,omitempty"`
	Parent      ID          `json:"parent,omitempty"`    // of a fork
	ParentAt    int         `json:"parent_at,omitempty"` // first step that is not shared
	AllowWrites bool        `json:"allow_writes,omitempty"`
	Message     string      `json:"message"` // of the user

	Status  Status   `json:"status"`
	Output  Output   `json:"output"`
	Failure *Failure `json:"failure,omitempty"`
	Ask     *Ask     `json:"ask,omitempty"` // of a waiting run
	// Outcome is the verdict on the run, where somebody gave one.
	Outcome *Outcome `json:"outcome,omitempty"`

	WakeAt    time.Time     `json:"wake_at,omitzero"` // when waiting ends by itself
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`
	Elapsed   time.Duration `json:"elapsed,omitempty"` // in effects, nanoseconds
	Steps     int           `json:"steps"`
	Usage     model.Usage   `json:"usage"`
	Malformed int           `json:"malformed,omitempty"`
	ToolTally
	// Streamed says, in the result of a streamed operation, that its events have told the whole reply.
	Streamed bool `json:"streamed,omitempty"`

	outputText string
}

// Outcome says whether a run solved its task, and who says so.
type Outcome struct {
	Verdict string `json:"verdict"` // success or failure
	Source  string `json:"source"`  // check, event, person, judge, heuristic
	Note    string `json:"note,omitempty"`
}

// Outcomes knows the verdicts; observe is one.
type Outcomes interface {
	Outcomes(ctx context.Context, runs []ID) (map[ID]Outcome, error)
}

// Filter selects runs; empty fields select all.
type Filter struct {
	Package  string
	Identity blob.Digest
	Release  string
	Channel  string
	Session  string
	Source   string
	Status   Status
	Class    string
	Parent   ID
	Since    time.Time
	Before   ID // only older ones: the last id of the page before
	Limit    int
	// Failed selects runs that broke off and runs whose verdict is failure.
	Failed bool
}

// unsolved says whether the run broke off or did not solve its task.
func (r *Run) unsolved() bool {
	return r.Status == Failed || r.Outcome != nil && r.Outcome.Verdict == "failure"
}

const (
	defaultPage = 50
	maxPage     = 1000
)

// list reads runs, newest first.
func (s *store) list(ctx context.Context, f Filter) ([]*Run, error) {
	var where []string
	var args []any
	add := func(condition string, v any) {
		args = append(args, v)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	for _, c := range []struct{ column, value string }{
		{"package", f.Package},
		{"identity", string(f.Identity)},
		{"release", f.Release},
		{"channel", f.Channel},
		{"session", f.Session},
		{"source", f.Source},
		{"status", string(f.Status)},
		{"class", f.Class},
		{"parent", string(f.Parent)},
	} {
		if c.value != "" {
			add(c.column+" = $%d", c.value)
		}
	}
	if !f.Since.IsZero() {
		add("started_at >= $%d", db.FormatTime(f.Since))
	}
	if f.Before != "" {
		add("id < $%d", string(f.Before))
	}
	text := `SELECT ` + runColumns + ` FROM runs`
	if len(where) > 0 {
		text += " WHERE " + strings.Join(where, " AND ")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	args = append(args, min(limit, maxPage))
	text += fmt.Sprintf(" ORDER BY id DESC LIMIT $%d", len(args))
	found, err := db.All(ctx, s.db, scanRun, text, args...)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	out := make([]*Run, len(found))
	for i := range found {
		out[i] = &found[i]
		if err := s.loadOutput(ctx, out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
