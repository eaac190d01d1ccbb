package lab

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/db"
)

// maxTaped is how many answers the tape keeps in memory; the database keeps all.
const maxTaped = 20_000

// taped is an answer that a model gave before.
type taped struct {
	response model.Response
	took     time.Duration
}

// tape gives the answer of an equal request at temperature 0 again: two arms that differ in a tool's policy
// ask a slow model the same things.
type tape struct {
	db *db.DB

	mu    sync.Mutex
	byKey map[string]taped
	order []string // oldest first
	limit int
}

func newTape(d *db.DB, limit int) *tape {
	return &tape{db: d, byKey: map[string]taped{}, limit: limit}
}

// tapeKey names a request, or is "" when its answer must not be taken from a tape. pin says which weights
// stand behind the reference.
func tapeKey(req model.Request, pin string) string {
	if req.Temperature != 0 || strings.HasPrefix(req.Model, "scripted/") {
		return ""
	}
	req.Seed = 0 // without temperature it changes nothing
	b, err := json.Marshal(req)
	if err != nil {
		return ""
	}
	h := sha256.New()
	_, _ = h.Write([]byte(pin + "\n"))
	_, _ = h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

func (t *tape) get(ctx context.Context, key string) (taped, bool) {
	t.mu.Lock()
	v, ok := t.byKey[key]
	t.mu.Unlock()
	if ok {
		return v, true
	}
	v, err := loadTaped(ctx, t.db, key)
	if err != nil {
		return taped{}, false // the model answers instead
	}
	t.keep(key, v)
	return v, true
}

// put keeps an answer; durable when it returns nil.
func (t *tape) put(ctx context.Context, key, ref string, v taped, at time.Time) error {
	t.keep(key, v)
	return saveTaped(ctx, t.db, key, ref, v, at)
}

func (t *tape) keep(key string, v taped) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.byKey[key]; ok {
		return
	}
	for len(t.order) >= t.limit {
		delete(t.byKey, t.order[0])
		t.order = t.order[1:]
	}
	t.byKey[key] = v
	t.order = append(t.order, key)
}

func loadTaped(ctx context.Context, d *db.DB, key string) (taped, error) {
	var took int64
	var text string
	err := d.QueryRow(ctx, `SELECT took, response FROM lab_tape WHERE digest = $1`, key).Scan(&took, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return taped{}, err
	}
	if err != nil {
		return taped{}, err
	}
	v := taped{took: time.Duration(took)}
	return v, json.Unmarshal([]byte(text), &v.response)
}

func saveTaped(ctx context.Context, d *db.DB, key, ref string, v taped, at time.Time) error {
	text, err := json.Marshal(v.response)
	if err != nil {
		return err
	}
	return d.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO lab_tape (digest, model, took, response, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (digest) DO NOTHING`, key, ref, int64(v.took), string(text), db.FormatTime(at))
		return err
	})
}
