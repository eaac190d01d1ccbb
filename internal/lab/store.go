package lab

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

// Experiment is a test or a comparison as kept.
type Experiment struct {
	ID        string      `json:"id"`
	Kind      string      `json:"kind"` // test, compare
	SuiteID   blob.Digest `json:"suite_id"`
	Suite     string      `json:"suite"`
	Package   string      `json:"package"`
	Identity  blob.Digest `json:"identity"`
	Candidate blob.Digest `json:"candidate,omitempty"`
	Release   string      `json:"release,omitempty"`
	Split     string      `json:"split"`
	Trials    int         `json:"trials"`
	Limit     int         `json:"limit,omitempty"`
	Seed      uint64      `json:"seed"`
	Requester string      `json:"requester,omitempty"`
	Purpose   string      `json:"purpose,omitempty"`
	Status    string      `json:"status"`
	Done      int         `json:"done"`
	Total     int         `json:"total"`
	Passed    int         `json:"passed"`
	Why       string      `json:"why,omitempty"`
	StartedAt time.Time   `json:"started_at"`
	EndedAt   time.Time   `json:"ended_at,omitzero"`

	key    string
	report string
}

// The kinds of experiments.
const (
	KindTest    = "test"
	KindCompare = "compare"
)

const experimentColumns = `id, kind, request_key, suite, suite_name, package, identity, candidate, release_ref, split, trials,
	limit_n, seed, requester, purpose, status, num_done, num_total, num_passed, why, started_at, ended_at`

func insertExperiment(ctx context.Context, tx *db.Tx, e *Experiment) error {
	_, err := tx.Exec(ctx, `INSERT INTO lab_experiments (`+experimentColumns+`, report)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`,
		e.ID, e.Kind, e.key, string(e.SuiteID), e.Suite, e.Package, string(e.Identity), string(e.Candidate), e.Release, e.Split,
		e.Trials, e.Limit, strconv.FormatUint(e.Seed, 10), e.Requester, e.Purpose, e.Status, e.Done, e.Total, e.Passed, e.Why,
		db.FormatTime(e.StartedAt), db.FormatOptional(e.EndedAt), e.report)
	return err
}

func updateExperiment(ctx context.Context, tx *db.Tx, e *Experiment) error {
	_, err := tx.Exec(ctx, `UPDATE lab_experiments SET status = $2, num_done = $3, num_total = $4, num_passed = $5, why = $6,
		ended_at = $7, report = $8 WHERE id = $1`,
		e.ID, e.Status, e.Done, e.Total, e.Passed, e.Why, db.FormatOptional(e.EndedAt), e.report)
	return err
}

func scanExperiment(r db.Row) (*Experiment, error) {
	var e Experiment
	var suite, identity, candidate, seed, started, ended string
	err := r.Scan(&e.ID, &e.Kind, &e.key, &suite, &e.Suite, &e.Package, &identity, &candidate, &e.Release, &e.Split, &e.Trials,
		&e.Limit, &seed, &e.Requester, &e.Purpose, &e.Status, &e.Done, &e.Total, &e.Passed, &e.Why, &started, &ended)
	if err != nil {
		return nil, err
	}
	e.SuiteID, e.Identity, e.Candidate = blob.Digest(suite), blob.Digest(identity), blob.Digest(candidate)
	if e.Seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
		return nil, fmt.Errorf("experiment %s: seed: %w", e.ID, err)
	}
	if e.StartedAt, err = db.ParseTime(started); err != nil {
		return nil, err
	}
	e.EndedAt, err = db.ParseTime(ended)
	return &e, err
}

// unfinished is the latest experiment of a request that did not come to its end.
func unfinished(ctx context.Context, d *db.DB, key string) (*Experiment, error) {
	list, err := db.All(ctx, d, scanExperiment, `SELECT `+experimentColumns+` FROM lab_experiments
		WHERE request_key = $1 ORDER BY started_at DESC, id DESC LIMIT 1`, key)
	if err != nil || len(list) == 0 || list[0].Status == StatusDone {
		return nil, err
	}
	return list[0], nil
}

// ListFilter chooses experiments; zero chooses all.
type ListFilter struct {
	Identity blob.Digest
	Limit    int // default 50
}

// List gives experiments, latest first.
func (s *Service) List(ctx context.Context, f ListFilter) ([]*Experiment, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	return db.All(ctx, s.deps.DB, scanExperiment, `SELECT `+experimentColumns+` FROM lab_experiments
		WHERE ($1 = '' OR identity = $1 OR candidate = $1) ORDER BY started_at DESC, id DESC LIMIT $2`, string(f.Identity), limit)
}

// Get finds an experiment by id, with its report: a *Report, a *Comparison, or nil while it runs.
func (s *Service) Get(ctx context.Context, id string) (*Experiment, any, error) {
	e, err := db.One(ctx, s.deps.DB, scanExperiment, `SELECT `+experimentColumns+` FROM lab_experiments WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, fault.New(fault.NotFound, "lab.no_experiment", "there is no experiment %s", id).WithHint("flywheel experiments")
	}
	if err != nil {
		return nil, nil, err
	}
	var text string
	if err := s.deps.DB.QueryRow(ctx, `SELECT report FROM lab_experiments WHERE id = $1`, id).Scan(&text); err != nil {
		return nil, nil, err
	}
	if text == "" {
		return e, nil, nil
	}
	var report any = &Report{}
	if e.Kind == KindCompare {
		report = &Comparison{}
	}
	return e, report, json.Unmarshal([]byte(text), report)
}

// Trial finds a trial with its transcript.
func (s *Service) Trial(ctx context.Context, id string) (*Trial, error) {
	var result, transcript string
	err := s.deps.DB.QueryRow(ctx, `SELECT result, transcript FROM lab_trials WHERE id = $1`, id).Scan(&result, &transcript)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "lab.no_trial", "there is no trial %s", id).WithHint("flywheel experiments show EXPERIMENT names trials")
	}
	if err != nil {
		return nil, err
	}
	t := &Trial{}
	if err := json.Unmarshal([]byte(result), t); err != nil {
		return nil, err
	}
	return t, json.Unmarshal([]byte(transcript), &t.Transcript)
}

// stored is a trial ready to be written.
type stored struct {
	trial              *Trial
	result, transcript string
}

func encodeTrial(t *Trial) (stored, error) {
	steps := t.Transcript
	if steps == nil {
		steps = []Step{}
	}
	transcript, err := json.Marshal(steps)
	if err != nil {
		return stored{}, err
	}
	t.Transcript = nil
	result, err := json.Marshal(t)
	return stored{t, string(result), string(transcript)}, err
}

func saveTrials(ctx context.Context, d *db.DB, list []stored) error {
	if len(list) == 0 {
		return nil
	}
	return d.Write(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		for _, s := range list {
			t := s.trial
			_, err := tx.Exec(ctx, `INSERT INTO lab_trials (id, experiment, suite, identity, scenario, trial, seed, status, at, result, transcript)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
				ON CONFLICT (id) DO UPDATE SET experiment = excluded.experiment, status = excluded.status, at = excluded.at,
					result = excluded.result, transcript = excluded.transcript`,
				t.ID, t.Experiment, string(t.Suite), string(t.Identity), t.Scenario, t.Trial, strconv.FormatUint(t.Seed, 10), t.Status,
				db.FormatTime(t.At), s.result, s.transcript)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// storedTrials finds judged trials by id.
func storedTrials(ctx context.Context, d *db.DB, ids []string) (map[string]*Trial, error) {
	const chunk = 100
	out := map[string]*Trial{}
	scan := func(r db.Row) (*Trial, error) {
		var text string
		if err := r.Scan(&text); err != nil {
			return nil, err
		}
		t := &Trial{}
		return t, json.Unmarshal([]byte(text), t)
	}
	marks := make([]string, chunk)
	for i := range marks {
		marks[i] = "$" + strconv.Itoa(i+1)
	}
	text := `SELECT result FROM lab_trials WHERE status <> 'error' AND id IN (` + strings.Join(marks, ", ") + `)`
	for len(ids) > 0 {
		args := make([]any, chunk)
		n := min(chunk, len(ids))
		for i := range args {
			args[i] = ids[min(i, n-1)]
		}
		ids = ids[n:]
		list, err := db.All(ctx, d, scan, text, args...)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			out[t.ID] = t
		}
	}
	return out, nil
}

// Look is one use of the audit split.
type Look struct {
	ID         string      `json:"id"`
	Experiment string      `json:"experiment"`
	Requester  string      `json:"requester"`
	Purpose    string      `json:"purpose"`
	Base       blob.Digest `json:"base,omitempty"`
	Candidate  blob.Digest `json:"candidate"`
	SuiteID    blob.Digest `json:"suite_id"`
	Suite      string      `json:"suite"`
	At         time.Time   `json:"at"`
}

func insertLook(ctx context.Context, tx *db.Tx, l Look) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit_looks (id, experiment, requester, purpose, base, candidate, suite, suite_name, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		l.ID, l.Experiment, l.Requester, l.Purpose, string(l.Base), string(l.Candidate), string(l.SuiteID), l.Suite, db.FormatTime(l.At))
	return err
}

// Looks lists who has used the audit split, latest first.
func (s *Service) Looks(ctx context.Context, limit int) ([]Look, error) {
	if limit <= 0 {
		limit = 100
	}
	scan := func(r db.Row) (Look, error) {
		var l Look
		var base, candidate, suite, at string
		err := r.Scan(&l.ID, &l.Experiment, &l.Requester, &l.Purpose, &base, &candidate, &suite, &l.Suite, &at)
		if err != nil {
			return l, err
		}
		l.Base, l.Candidate, l.SuiteID = blob.Digest(base), blob.Digest(candidate), blob.Digest(suite)
		l.At, err = db.ParseTime(at)
		return l, err
	}
	return db.All(ctx, s.deps.DB, scan, `SELECT id, experiment, requester, purpose, base, candidate, suite, suite_name, at
		FROM audit_looks ORDER BY at DESC, id DESC LIMIT $1`, limit)
}
