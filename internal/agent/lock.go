package agent

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// LockFile is where the lock is kept, beside flywheel.yaml.
const LockFile = "flywheel.lock"

const lockHead = "# Written by `flywheel lock`: what every component is, by digest. Commit it, do not edit it.\n"

// LockLine pins one component: kind, name, and what it resolves to.
type LockLine struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Ref    string `json:"ref,omitempty"`    // models: provider/name
	Digest string `json:"digest,omitempty"` // sha256:…; "" where the provider gives nothing to pin
	Schema string `json:"schema,omitempty"` // tools: digest of the schema that the server gave
	// Facts are further values, such as form and reproducible of a model.
	Facts map[string]string `json:"facts,omitempty"`
}

// String is the line of the file, without its end.
func (l LockLine) String() string {
	parts := []string{fmt.Sprintf("%-7s", l.Kind), l.Name}
	if l.Ref != "" {
		parts = append(parts, l.Ref)
	}
	if l.Digest != "" {
		parts = append(parts, l.Digest)
	}
	if l.Schema != "" {
		parts = append(parts, "schema="+l.Schema)
	}
	for _, k := range slices.Sorted(maps.Keys(l.Facts)) {
		parts = append(parts, k+"="+l.Facts[k])
	}
	return strings.Join(parts, " ")
}

// Lock is the content of flywheel.lock.
type Lock struct {
	Identity blob.Digest `json:"identity"`
	Lines    []LockLine  `json:"lines"`
}

// Find gives a line; ok is false when the component is not pinned.
func (l *Lock) Find(kind, name string) (line LockLine, ok bool) {
	for _, line := range l.Lines {
		if line.Kind == kind && line.Name == name {
			return line, true
		}
	}
	return LockLine{}, false
}

// ModelPin is what a model reference resolves to.
type ModelPin struct {
	Ref          string            // provider/name
	Digest       string            // sha256 of the weights; "" when the provider gives none
	Form         string            // how tool calls reach it
	Reproducible bool              // the same digest gives the same answers
	Params       map[string]string // further facts
}

// Pinner resolves model choices; the model domain has one.
type Pinner interface {
	// Resolve chooses the first reachable model of a choice.
	Resolve(ctx context.Context, choice spec.ModelChoice) (ref string, err error)
	// Pin says what a reference stands for now.
	Pin(ctx context.Context, ref string) (ModelPin, error)
}

// Schemer asks tool servers for the schemas of their tools; the tool domain has one.
type Schemer interface {
	// Schemas gives tool name → digest of its schema, for tools whose server tells one.
	Schemas(ctx context.Context, env map[string]string, pkg *spec.Package) (map[string]string, error)
}

// Pins is what MakeLock asks. Without Models or Tools nothing is asked, and the lines have what the
// package says alone.
type Pins struct {
	Models Pinner
	Tools  Schemer
	Env    map[string]string // values of the package's environment names
}

// MakeLock pins every component of the package.
func MakeLock(ctx context.Context, r *Resolved, pins Pins) (*Lock, error) {
	lock := &Lock{Identity: r.Identity}
	lock.Lines = packageLines(r)
	for i := range lock.Lines {
		line := &lock.Lines[i]
		if line.Kind != KindModel || pins.Models == nil {
			continue
		}
		choice, alias := r.Package.Models[line.Name]
		if !alias {
			choice = spec.ModelChoice{First: line.Name}
		}
		if rules, ours := Script(r.Data, choice.First); ours {
			line.Ref, line.Digest = choice.First, string(blob.Of(rules))
			line.Facts = map[string]string{"form": "scripted", "reproducible": "true"}
			continue
		}
		if err := line.pin(ctx, pins.Models, choice); err != nil {
			return nil, err
		}
	}
	if pins.Tools == nil {
		return lock, nil
	}
	schemas, err := pins.Tools.Schemas(ctx, pins.Env, r.Package)
	if err != nil {
		return nil, fmt.Errorf("asking the tools for their schemas: %w", err)
	}
	for i := range lock.Lines {
		if line := &lock.Lines[i]; line.Kind == KindTool {
			line.Schema = schemas[line.Name]
		}
	}
	return lock, nil
}

func (l *LockLine) pin(ctx context.Context, models Pinner, choice spec.ModelChoice) error {
	ref, err := models.Resolve(ctx, choice)
	if err != nil {
		return fmt.Errorf("resolving the model %s: %w", l.Name, err)
	}
	pin, err := models.Pin(ctx, ref)
	if err != nil {
		return fmt.Errorf("pinning the model %s: %w", ref, err)
	}
	l.Ref, l.Digest = pin.Ref, pin.Digest
	if l.Ref == "" {
		l.Ref = ref
	}
	l.Facts = map[string]string{"reproducible": fmt.Sprint(pin.Reproducible)}
	if pin.Form != "" {
		l.Facts["form"] = pin.Form
	}
	for k, v := range pin.Params {
		l.Facts[k] = strings.Join(strings.Fields(v), "_")
	}
	return nil
}

// packageLines are the lines that follow from the package alone, sorted.
func packageLines(r *Resolved) []LockLine {
	var out []LockLine
	for _, c := range Components(r) {
		line := LockLine{Kind: c.Kind, Name: c.Name, Digest: string(blob.Of(c.Content))}
		if c.Kind == KindModel {
			line.Digest, line.Ref = "", r.Package.Models[c.Name].First
		}
		out = append(out, line)
	}
	for _, a := range r.Package.Agents { // models that are named without an alias
		if strings.Contains(a.Model, "/") && !slices.ContainsFunc(out, func(l LockLine) bool { return l.Kind == KindModel && l.Name == a.Model }) {
			out = append(out, LockLine{Kind: KindModel, Name: a.Model, Ref: a.Model})
		}
	}
	sortLines(out)
	return out
}

func sortLines(lines []LockLine) {
	slices.SortFunc(lines, func(a, b LockLine) int { return strings.Compare(a.Kind+" "+a.Name, b.Kind+" "+b.Name) })
}

// Text is the file: one line per component, sorted, so that a review sees what changed.
func (l *Lock) Text() []byte {
	lines := slices.Clone(l.Lines)
	sortLines(lines)
	var out bytes.Buffer
	out.WriteString(lockHead)
	fmt.Fprintf(&out, "%-7s %s\n", "package", l.Identity)
	for _, line := range lines {
		out.WriteString(line.String() + "\n")
	}
	return out.Bytes()
}

// ParseLock reads the file back.
func ParseLock(text []byte) (*Lock, []Problem) {
	lock := &Lock{}
	var problems []Problem
	fail := func(line int, format string, args ...any) {
		problems = append(problems, Problem{
			File: LockFile, Line: line, Column: 1, Code: "package.lock",
			Message: fmt.Sprintf(format, args...), Hint: "flywheel lock",
		})
	}
	for i, raw := range strings.Split(normalText(text), "\n") {
		words := strings.Fields(raw)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch {
		case words[0] == "package" && len(words) == 2:
			if lock.Identity = blob.Digest(words[1]); !lock.Identity.Valid() {
				fail(i+1, "the identity is not a digest")
			}
			continue
		case len(words) < 3 || !slices.Contains([]string{KindCode, KindData, KindMemory, KindModel, KindPolicy, KindPrompt, KindTool}, words[0]):
			fail(i+1, "the line cannot be read")
			continue
		}
		line := LockLine{Kind: words[0], Name: words[1]}
		for _, w := range words[2:] {
			key, value, fact := strings.Cut(w, "=")
			switch {
			case strings.HasPrefix(w, "sha256:") && !fact:
				line.Digest = w
			case key == "schema" && fact:
				line.Schema = value
			case fact:
				if line.Facts == nil {
					line.Facts = map[string]string{}
				}
				line.Facts[key] = value
			default:
				line.Ref = w
			}
		}
		lock.Lines = append(lock.Lines, line)
	}
	if lock.Identity == "" && len(problems) == 0 {
		fail(1, "there is no line with the identity of the package")
	}
	return lock, problems
}

// Stale says where the lock does not match the package: each component that was added, removed or
// changed since. It is empty for a fresh lock. What models and servers say now is not asked.
func (l *Lock) Stale(r *Resolved) []Problem {
	var out []Problem
	say := func(format string, args ...any) {
		out = append(out, Problem{File: LockFile, Code: "package.lock_stale", Message: fmt.Sprintf(format, args...), Hint: "flywheel lock"})
	}
	want := map[string]bool{}
	for _, line := range packageLines(r) {
		want[line.Kind+" "+line.Name] = true
		have, ok := l.Find(line.Kind, line.Name)
		switch {
		case !ok:
			say("%s %s is not locked", line.Kind, line.Name)
		case line.Kind == KindModel:
			if c := r.Package.Models[line.Name]; have.Ref != line.Ref && (c.Else == "" || have.Ref != c.Else) {
				say("model %s is locked as %s and is now %s", line.Name, have.Ref, line.Ref)
			}
		case have.Digest != line.Digest:
			say("%s %s has changed since it was locked", line.Kind, line.Name)
		}
	}
	for _, line := range l.Lines {
		if !want[line.Kind+" "+line.Name] {
			say("%s %s is locked and no longer in the package", line.Kind, line.Name)
		}
	}
	if len(out) == 0 && l.Identity != r.Identity {
		say("the package is %s and was locked as %s", r.Identity.Short(), l.Identity.Short())
	}
	return out
}

// lockProblems are the problems of the lock in a package: a stale one is a warning, because an author
// edits first and locks later.
func lockProblems(r *Resolved, text []byte) []Problem {
	lock, problems := ParseLock(text)
	if len(problems) == 0 {
		problems = lock.Stale(r)
	}
	for i := range problems {
		problems[i].Warning = true
	}
	return problems
}

// LockFault turns a stale lock into a fault, for a release.
func LockFault(l *Lock, r *Resolved) error {
	stale := l.Stale(r)
	if len(stale) == 0 {
		return nil
	}
	fields := make([]fault.Field, len(stale))
	for i, p := range stale {
		fields[i] = fault.Field{Path: p.Place(), Code: p.Code, Message: p.Message, Hint: p.Hint}
	}
	return fault.New(fault.Conflict, "package.lock_stale", "flywheel.lock does not match the package").
		WithHint("flywheel lock").WithFields(fields...)
}
