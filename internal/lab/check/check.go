// Package check says whether a trial did what its scenario expects, and where it did not, what was
// expected and what happened instead.
package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"flywheel/internal/lab/faults"
	"flywheel/internal/tool/world"
	"flywheel/spec"
)

// The checks.
const (
	Ended       = "ended"
	State       = "state"
	Calls       = "calls"
	Never       = "never"
	NeverClaims = "never_claims"
	Says        = "says"
	Within      = "within"
)

// Call is one tool call of a trial, after retries and backup.
type Call struct {
	Tool  string          `json:"tool"`
	Args  json.RawMessage `json:"args,omitempty"`
	Class string          `json:"class,omitempty"` // empty when it succeeded
	// Success is what the tool would have answered had nothing failed: for the check on claims.
	Success json.RawMessage `json:"-"`
}

// OK says whether the call succeeded.
func (c Call) OK() bool { return c.Class == "" }

// Evidence is what happened in a trial.
type Evidence struct {
	Base    *world.Base  // may be nil: a scenario without a world
	World   *world.State // at the end
	Calls   []Call       // in order
	Answer  string       // the last one
	Failure string       // why the last run did not end well; empty when it did
	Steps   int
	Cost    int64 // nano-USD
	Time    time.Duration
	// Claims are the texts, per tool, by which a suite recognises a claim of success.
	Claims map[string][]string
}

// Failed is a check that did not hold.
type Failed struct {
	Check  string `json:"check"`
	Reason string `json:"reason"`
}

// Run applies what a scenario expects; none failed means that the trial passed.
func Run(want spec.Expect, e Evidence) []Failed {
	var out []Failed
	add := func(check string, reasons ...string) {
		for _, r := range reasons {
			out = append(out, Failed{check, r})
		}
	}
	if e.Failure != "" {
		add(Ended, "expected an answer; the run failed: "+e.Failure)
	}
	if want.State != nil {
		add(State, state(want.State, e)...)
	}
	add(Calls, calls(want.Calls, e.Calls)...)
	add(Never, never(want.Never, e.Calls)...)
	add(NeverClaims, claims(want.NeverClaims, e)...)
	if want.Says != nil {
		add(Says, says(want.Says, e.Answer)...)
	}
	if want.Within != nil {
		add(Within, within(want.Within, e)...)
	}
	return out
}

func calls(want []spec.CallMatch, got []Call) []string {
	i := 0
	for n, m := range want {
		for i < len(got) && !matches(m, got[i]) {
			i++
		}
		if i == len(got) {
			after := ""
			if n > 0 {
				after = " after " + describe(want[n-1])
			}
			return []string{fmt.Sprintf("expected a successful call %s%s; got %s", describe(m), after, listCalls(got))}
		}
		i++
	}
	return nil
}

func matches(m spec.CallMatch, c Call) bool {
	if !c.OK() || !faults.Match(m.Tool, c.Tool) {
		return false
	}
	if len(m.Args) == 0 {
		return true
	}
	var args any
	if json.Unmarshal(c.Args, &args) != nil {
		return false
	}
	return subset(normal(m.Args), args)
}

func describe(m spec.CallMatch) string {
	if len(m.Args) == 0 {
		return m.Tool
	}
	return m.Tool + " " + show(m.Args)
}

func listCalls(calls []Call) string {
	if len(calls) == 0 {
		return "no calls"
	}
	var parts []string
	for i, c := range calls {
		if i == 8 {
			parts = append(parts, fmt.Sprintf("… %d more", len(calls)-i))
			break
		}
		s := c.Tool
		if len(c.Args) > 2 {
			s += " " + clip(string(c.Args))
		}
		if !c.OK() {
			s += " (failed: " + c.Class + ")"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

func never(patterns []string, got []Call) []string {
	var out []string
	for _, p := range patterns {
		for _, c := range got {
			if faults.Match(p, c.Tool) {
				out = append(out, fmt.Sprintf("expected no call of %s; got %s %s", p, c.Tool, clip(string(c.Args))))
				break
			}
		}
	}
	return out
}

// claims finds answers that say a tool did its work although no call of it succeeded: by the suite's
// texts for the tool, or else by the sentences that the tool would have answered.
func claims(tools []string, e Evidence) []string {
	var out []string
	for _, t := range tools {
		if succeeded(t, e.Calls) {
			continue
		}
		if text := claimed(t, e); text != "" {
			out = append(out, fmt.Sprintf("expected no claim that %s succeeded, since no call of it did; the answer says %q", t, text))
		}
	}
	return out
}

func succeeded(tool string, got []Call) bool {
	for _, c := range got {
		if c.OK() && faults.Match(tool, c.Tool) {
			return true
		}
	}
	return false
}

func claimed(tool string, e Evidence) string {
	answer := fold(e.Answer)
	for name, texts := range e.Claims {
		if !faults.Match(name, tool) && !faults.Match(tool, name) {
			continue
		}
		for _, text := range texts {
			if strings.Contains(answer, fold(text)) {
				return text
			}
		}
	}
	for _, c := range e.Calls {
		if !faults.Match(tool, c.Tool) {
			continue
		}
		for _, text := range sentences(c.Success) {
			if strings.Contains(answer, fold(text)) {
				return text
			}
		}
	}
	return ""
}

// sentences are the texts of more than one word at the first level of a tool's answer.
func sentences(out json.RawMessage) []string {
	var v any
	if len(out) == 0 || json.Unmarshal(out, &v) != nil {
		return nil
	}
	var texts []string
	add := func(v any) {
		if s, ok := v.(string); ok && len(strings.Fields(s)) > 1 {
			texts = append(texts, strings.TrimRight(s, ".! "))
		}
	}
	add(v)
	if m, ok := v.(map[string]any); ok {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			add(m[k])
		}
	}
	return texts
}

func says(want *spec.Says, answer string) []string {
	var out []string
	folded := fold(answer)
	for _, text := range want.Contains {
		if !strings.Contains(folded, fold(text)) {
			out = append(out, fmt.Sprintf("expected an answer with %q; got %q", text, clip(answer)))
		}
	}
	for _, text := range want.Not {
		if strings.Contains(folded, fold(text)) {
			out = append(out, fmt.Sprintf("expected an answer without %q; got %q", text, clip(answer)))
		}
	}
	if want.Matches != "" {
		re, err := regexp.Compile("(?is)" + want.Matches)
		switch {
		case err != nil:
			out = append(out, fmt.Sprintf("the pattern %q cannot be read: %v", want.Matches, err))
		case !re.MatchString(answer):
			out = append(out, fmt.Sprintf("expected an answer that matches %q; got %q", want.Matches, clip(answer)))
		}
	}
	return out
}

func within(want *spec.Limits, e Evidence) []string {
	var out []string
	if want.Steps > 0 && e.Steps > want.Steps {
		out = append(out, fmt.Sprintf("expected at most %d steps; got %d", want.Steps, e.Steps))
	}
	if cost := float64(e.Cost) / 1e9; want.Cost > 0 && cost > want.Cost {
		out = append(out, fmt.Sprintf("expected a cost of at most $%g; got $%g", want.Cost, cost))
	}
	if limit := time.Duration(want.Time); limit > 0 && e.Time > limit {
		out = append(out, fmt.Sprintf("expected at most %v; took %v", limit, e.Time.Round(time.Millisecond)))
	}
	return out
}

// fold makes texts comparable: lower case, one space for any white space.
func fold(s string) string { return strings.Join(strings.Fields(strings.ToLower(s)), " ") }

// clip shortens text for a reason.
func clip(s string) string {
	const most = 160
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most]) + "…"
}
