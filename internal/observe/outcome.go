package observe

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/id"
)

// The verdicts.
const (
	Success = "success"
	Failure = "failure"
)

// The sources, the most trusted first.
const (
	SourceEvent     = "event"     // the business says what really happened
	SourcePerson    = "person"    // somebody looked
	SourceCheck     = "check"     // a predicate on the final state
	SourceJudge     = "judge"     // a model
	SourceHeuristic = "heuristic" // a rule over the facts of the run
)

var trust = map[string]int{SourceEvent: 5, SourcePerson: 4, SourceCheck: 3, SourceJudge: 2, SourceHeuristic: 1}

// Outcome is a verdict on a run, with who or what gave it and how sure.
type Outcome struct {
	ID      string `json:"id"`
	Run     string `json:"run,omitempty"` // empty while the run of the session is not known yet
	Session string `json:"session,omitempty"`
	Verdict string `json:"verdict"`
	Source  string `json:"source"`
	Who     string `json:"who"`
	Note    string `json:"note,omitempty"`
	// Expected and Got name the action that would have been right and the one that was taken.
	Expected   string    `json:"expected_action,omitempty"`
	Got        string    `json:"got,omitempty"`
	Confidence float64   `json:"confidence"` // 0 to 1
	At         time.Time `json:"at"`

	key string
}

// Given is an outcome as somebody reports it. Exactly one of Run and Session is set; a session stands for
// its newest run.
type Given struct {
	Run        string
	Session    string
	Verdict    string
	Source     string // default event
	Who        string
	Note       string
	Expected   string
	Got        string
	Confidence float64 // default 1
	Key        string  // the same key again is the same outcome
}

// Give records an outcome. Codes: observe.no_run (not found), observe.outcome (invalid),
// observe.key_used (conflict: the key belongs to an outcome that says something else).
func (s *Service) Give(ctx context.Context, g Given) (*Outcome, error) {
	o, err := g.outcome()
	if err != nil {
		return nil, err
	}
	if err := s.locate(ctx, o); err != nil {
		return nil, err
	}
	o.At = s.deps.Clock.Now().UTC().Truncate(time.Microsecond)
	var stored *Outcome
	err = s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		var err error
		if stored, err = s.insert(ctx, tx, o); err != nil || stored.Run == "" {
			return err
		}
		return settle(ctx, tx, stored.Run, o.At)
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

func (g Given) outcome() (*Outcome, error) {
	invalid := func(format string, args ...any) (*Outcome, error) {
		return nil, fault.New(fault.Invalid, "observe.outcome", format, args...).
			WithHint("flywheel outcome RUN --success, or --failure --note \"what went wrong\"")
	}
	o := &Outcome{
		Run: g.Run, Session: g.Session, Verdict: g.Verdict, Source: g.Source, Who: g.Who, Note: g.Note,
		Expected: g.Expected, Got: g.Got, Confidence: g.Confidence,
	}
	if o.Source == "" {
		o.Source = SourceEvent
	}
	if o.Confidence == 0 {
		o.Confidence = 1
	}
	if g.Key != "" {
		o.key = "given/" + g.Key
	}
	switch {
	case (o.Run == "") == (o.Session == ""):
		return invalid("an outcome is about a run or a session, one of them")
	case o.Verdict != Success && o.Verdict != Failure:
		return invalid("the verdict is %q, not success or failure", o.Verdict)
	case o.Source == SourceHeuristic:
		return invalid("heuristics are Flywheel's own; say event, person, check or judge")
	case trust[o.Source] == 0:
		return invalid("the source %q is none of event, person, check, judge", o.Source)
	case o.Confidence < 0 || o.Confidence > 1:
		return invalid("a confidence of %g is not between 0 and 1", o.Confidence)
	}
	return o, nil
}

// locate finds the run that an outcome is about.
func (s *Service) locate(ctx context.Context, o *Outcome) error {
	if o.Run != "" {
		ok, err := s.known(ctx, o.Run)
		if err == nil && !ok {
			err = fault.New(fault.NotFound, "observe.no_run", "there is no run %s", o.Run).WithHint("flywheel runs")
		}
		return err
	}
	if s.deps.Runs == nil {
		return nil // the facts of the run take it up
	}
	run, err := s.deps.Runs.LastRun(ctx, o.Session)
	if err != nil {
		return fmt.Errorf("find the runs of session %s: %w", o.Session, err)
	}
	if run == "" {
		return fault.New(fault.NotFound, "observe.no_run", "there is no run in session %s", o.Session).WithHint("flywheel runs")
	}
	o.Run = run
	return nil
}

func (s *Service) known(ctx context.Context, run string) (bool, error) {
	if s.deps.Runs != nil {
		return s.deps.Runs.HasRun(ctx, run)
	}
	var n int
	err := s.deps.DB.QueryRow(ctx, `SELECT COUNT(*) FROM run_facts WHERE run = $1`, run).Scan(&n)
	return n > 0, err
}

// insert writes an outcome, or gives the one that has its key already.
func (s *Service) insert(ctx context.Context, tx *db.Tx, o *Outcome) (*Outcome, error) {
	if o.key != "" {
		old, err := db.One(ctx, tx, scanOutcome, `SELECT `+outcomeColumns+` FROM outcomes WHERE key = $1`, o.key)
		switch {
		case err == nil && o.Source == SourceHeuristic:
			return s.replace(ctx, tx, old, o)
		case err == nil && !old.says(o):
			return nil, fault.New(fault.Conflict, "observe.key_used", "the key %q belongs to an outcome that says something else",
				strings.TrimPrefix(o.key, "given/")).WithHint("a new verdict needs a new key")
		case err == nil:
			return &old, nil
		case !errors.Is(err, sql.ErrNoRows):
			return nil, err
		}
	}
	o.ID = id.New("out", s.deps.Clock.Now())
	var key any
	if o.key != "" {
		key = o.key
	}
	_, err := tx.Exec(ctx, `INSERT INTO outcomes (`+outcomeColumns+`, key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		o.ID, o.Run, o.Session, o.Verdict, o.Source, o.Who, o.Note, o.Expected, o.Got, o.Confidence, db.FormatTime(o.At), key)
	if err != nil {
		return nil, fmt.Errorf("store outcome: %w", err)
	}
	return o, s.emit(ctx, tx, o)
}

// replace keeps one heuristic outcome per run; facts that come again change nothing.
func (s *Service) replace(ctx context.Context, tx *db.Tx, old Outcome, o *Outcome) (*Outcome, error) {
	if old.Note == o.Note {
		return &old, nil
	}
	_, err := tx.Exec(ctx, `UPDATE outcomes SET note = $1, confidence = $2 WHERE id = $3`, o.Note, o.Confidence, old.ID)
	old.Note, old.Confidence = o.Note, o.Confidence
	return &old, err
}

func (s *Service) emit(ctx context.Context, tx *db.Tx, o *Outcome) error {
	if s.deps.Bus == nil {
		return nil
	}
	return s.deps.Bus.Emit(ctx, tx, TopicOutcome, o.Run, o)
}

// says compares what two outcomes state. A repeated report by session may find a newer run meanwhile: it
// is still the same report.
func (o *Outcome) says(other *Outcome) bool {
	sameSubject := o.Run == other.Run || (o.Session != "" && o.Session == other.Session)
	return sameSubject && o.Verdict == other.Verdict && o.Source == other.Source && o.Expected == other.Expected && o.Got == other.Got
}

const outcomeColumns = `id, run, session, verdict, source, who, note, expected, got, confidence, at`

func scanOutcome(row db.Row) (Outcome, error) {
	var o Outcome
	var at string
	err := row.Scan(&o.ID, &o.Run, &o.Session, &o.Verdict, &o.Source, &o.Who, &o.Note, &o.Expected, &o.Got, &o.Confidence, &at)
	if err != nil {
		return o, err
	}
	o.At, err = db.ParseTime(at)
	return o, err
}

// effective is the outcome that counts: the newest of the most trusted source.
func effective(list []Outcome) (Outcome, bool) {
	var best Outcome
	for _, o := range list {
		switch d := trust[o.Source] - trust[best.Source]; {
		case d > 0, d == 0 && o.At.After(best.At), d == 0 && o.At.Equal(best.At) && o.ID > best.ID:
			best = o
		}
	}
	return best, best.ID != ""
}

// Outcomes gives the outcome that counts for each of the runs that have one.
func (s *Service) Outcomes(ctx context.Context, runs []string) (map[string]Outcome, error) {
	const chunk = 400
	byRun := map[string][]Outcome{}
	for start := 0; start < len(runs); start += chunk {
		part := runs[start:min(start+chunk, len(runs))]
		marks := make([]string, len(part))
		args := make([]any, len(part))
		for i, r := range part {
			marks[i], args[i] = fmt.Sprintf("$%d", i+1), r
		}
		list, err := db.All(ctx, s.deps.DB, scanOutcome,
			`SELECT `+outcomeColumns+` FROM outcomes WHERE run IN (`+strings.Join(marks, ", ")+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("read outcomes: %w", err)
		}
		for _, o := range list {
			byRun[o.Run] = append(byRun[o.Run], o)
		}
	}
	out := make(map[string]Outcome, len(byRun))
	for run, list := range byRun {
		if o, ok := effective(list); ok {
			out[run] = o
		}
	}
	return out, nil
}

// All lists every outcome of a run, the oldest first.
func (s *Service) All(ctx context.Context, run string) ([]Outcome, error) {
	return db.All(ctx, s.deps.DB, scanOutcome, `SELECT `+outcomeColumns+` FROM outcomes WHERE run = $1 ORDER BY at, id`, run)
}
