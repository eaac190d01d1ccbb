package release

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// Locker asks models and tool servers what a package resolves to now.
type Locker interface {
	Lock(ctx context.Context, r *agent.Resolved) (*agent.Lock, error)
}

// LockJSON is a lock as a release holds it: one order for the lines, whoever made them.
func LockJSON(l *agent.Lock) (json.RawMessage, error) {
	sorted := *l
	sorted.Lines = slices.Clone(l.Lines)
	slices.SortFunc(sorted.Lines, func(a, b agent.LockLine) int {
		return strings.Compare(a.Kind+" "+a.Name, b.Kind+" "+b.Name)
	})
	raw, err := json.Marshal(sorted)
	if err != nil {
		return nil, err
	}
	return compactJSON(raw)
}

// lockOf gives the lock of a package: the one in its files when it is fresh and still true, a new one when
// there is none. Codes: package.lock_stale, release.lock_drift.
func lockOf(ctx context.Context, files op.Dir, r *agent.Resolved, locker Locker) (lock *agent.Lock, made bool, err error) {
	text, ok := files[agent.LockFile]
	if !ok {
		lock, err = locker.Lock(ctx, r)
		if err != nil {
			return nil, false, fmt.Errorf("lock the package: %w", err)
		}
		return lock, true, nil
	}
	lock, problems := agent.ParseLock(text)
	if err := agent.Fault(problems); err != nil {
		return nil, false, err
	}
	if err := agent.LockFault(lock, r); err != nil {
		return nil, false, err
	}
	now, err := locker.Lock(ctx, r)
	if err == nil {
		return lock, false, drift(lock, now)
	}
	if !fault.KindOf(err).Retryable() {
		return nil, false, fmt.Errorf("compare the lock: %w", err)
	}
	// Nobody can be asked now: the pins are those of the file.
	return lock, false, ctx.Err()
}

// drift says what models and tool servers resolve to now, where that is not what is locked.
func drift(locked, now *agent.Lock) error {
	var fields []fault.Field
	for _, is := range now.Lines {
		was, ok := locked.Find(is.Kind, is.Name)
		if !ok {
			continue
		}
		var changed []string
		for _, d := range pins(was, is) {
			changed = append(changed, fmt.Sprintf("%s was %s, is now %s", d.Path, pinWord(d.Before), pinWord(d.After)))
		}
		if changed != nil {
			fields = append(fields, fault.Field{
				Path: is.Kind + " " + is.Name, Code: "release.lock_drift", Message: strings.Join(changed, "; "),
			})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return fault.New(fault.Conflict, "release.lock_drift", "%d pinned components are not what they were when they were locked", len(fields)).
		WithHint("flywheel lock accepts what is there now").WithFields(fields...)
}

// pins says where two lines pin a component to different things.
func pins(a, b agent.LockLine) []agent.FieldDiff {
	var out []agent.FieldDiff
	for _, x := range []struct{ path, before, after string }{
		{"reference", a.Ref, b.Ref}, {"digest", a.Digest, b.Digest}, {"schema", a.Schema, b.Schema},
	} {
		if x.before != x.after {
			out = append(out, agent.FieldDiff{Path: x.path, Before: orNil(x.before), After: orNil(x.after)})
		}
	}
	return out
}

func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// pinWord is a pin in a sentence: digests are cut, as they are everywhere.
func pinWord(v any) string {
	text, ok := v.(string)
	switch {
	case !ok:
		return "not pinned"
	case blob.Digest(text).Valid():
		return blob.Digest(text).Short()
	}
	return text
}
