package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flywheel/internal/tool/world"
	"flywheel/spec"
)

func base(tb testing.TB) *world.Base {
	tb.Helper()
	b, err := world.Parse([]byte(`{"cards": {"4711": {"status": "active", "limit": 500, "holds": [{"id": 1}]}, "4712": {"status": "active"}}, "disputes": [], "a.b": {"c": 1}}`))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func call(tool, args string) Call { return Call{Tool: tool, Args: json.RawMessage(args)} }

// gold is an episode that does everything right, and what was asked.
func gold(tb testing.TB) (spec.Expect, Evidence) {
	tb.Helper()
	b := base(tb)
	w := b.Fork()
	set(tb, w, "cards.4711.status", "frozen")
	set(tb, w, "disputes.0", map[string]any{"card": "4711", "amount": 12})
	want := spec.Expect{
		State: map[string]any{"cards.4711.status": "frozen", "disputes.0.card": "4711", "disputes.0.amount": 12},
		Calls: []spec.CallMatch{
			{Tool: "cards.find"},
			{Tool: "cards.freeze", Args: map[string]any{"card_id": "4711"}},
			{Tool: "disputes.open", Args: map[string]any{"by": map[string]any{"card": "4711"}}},
		},
		Never: []string{"cards.close", "payments.*"}, NeverClaims: []string{"cards.replace"},
		Says:   &spec.Says{Contains: []string{"is frozen"}, Not: []string{"replaced"}, Matches: `\d{4}`},
		Within: &spec.Limits{Steps: 8, Cost: 0.01, Time: spec.Duration(10 * time.Second)},
	}
	return want, Evidence{
		Base: b, World: w, Answer: "Your card 4711 is  Frozen.", Steps: 8, Cost: 10_000_000, Time: 10 * time.Second,
		Calls: []Call{
			call("cards.find", `{"name":"ada"}`),
			{Tool: "cards.freeze", Args: json.RawMessage(`{"card_id":"9"}`), Class: "rejected"},
			call("cards.freeze", `{"card_id":"4711","reason":"lost"}`), call("disputes.open", `{"by":{"card":"4711","who":"ada"},"amount":12}`),
		},
		Claims: map[string][]string{"cards.replace": {"has been replaced"}},
	}
}

func set(tb testing.TB, w *world.State, path string, v any) {
	tb.Helper()
	if err := w.Set(path, v); err != nil {
		tb.Fatal(err)
	}
}

func TestGoldEpisodePasses(t *testing.T) {
	t.Parallel()
	if failed := Run(gold(t)); len(failed) != 0 {
		t.Errorf("%+v", failed)
	}
}

// Every mutation of the gold episode must be found, by the check that is there for it, and say what was
// expected and what was got.
func TestEveryMutationOfTheGoldEpisodeIsFound(t *testing.T) {
	t.Parallel()
	mutations := map[string]struct {
		check  string
		mutate func(e *Evidence)
	}{
		"wrong value":           {State, func(e *Evidence) { set(t, e.World, "cards.4711.status", "closed") }},
		"wrong card":            {State, func(e *Evidence) { set(t, e.World, "cards.4712.status", "frozen") }},
		"write undone":          {State, func(e *Evidence) { set(t, e.World, "cards.4711.status", "active") }},
		"extra field":           {State, func(e *Evidence) { set(t, e.World, "cards.4711.note", "x") }},
		"extra field in new":    {State, func(e *Evidence) { set(t, e.World, "disputes.0.urgent", true) }},
		"extra element":         {State, func(e *Evidence) { set(t, e.World, "disputes.1", map[string]any{"card": "1"}) }},
		"extra empty container": {State, func(e *Evidence) { set(t, e.World, "cards.4713", map[string]any{}) }},
		"container emptied":     {State, func(e *Evidence) { set(t, e.World, "cards.4711.holds", []any{}) }},
		"value in a list":       {State, func(e *Evidence) { set(t, e.World, "cards.4711.holds.0.id", 2) }},
		"key with a dot":        {State, func(e *Evidence) { set(t, e.World, `a\.b.c`, 2) }},
		"number for text":       {State, func(e *Evidence) { set(t, e.World, "disputes.0.card", 4711) }},
		"nothing happened":      {State, func(e *Evidence) { e.World = e.Base.Fork() }},
		"no world":              {State, func(e *Evidence) { e.World, e.Base = nil, nil }},
		"call dropped":          {Calls, func(e *Evidence) { e.Calls = slices.Delete(slices.Clone(e.Calls), 2, 3) }},
		"look-up dropped":       {Calls, func(e *Evidence) { e.Calls = e.Calls[1:] }},
		"calls swapped":         {Calls, func(e *Evidence) { e.Calls[2], e.Calls[3] = e.Calls[3], e.Calls[2] }},
		"call failed":           {Calls, func(e *Evidence) { e.Calls[2].Class = "timeout" }},
		"argument changed":      {Calls, func(e *Evidence) { e.Calls[2].Args = json.RawMessage(`{"card_id":"4712"}`) }},
		"argument dropped":      {Calls, func(e *Evidence) { e.Calls[2].Args = json.RawMessage(`{"reason":"lost"}`) }},
		"argument's type":       {Calls, func(e *Evidence) { e.Calls[2].Args = json.RawMessage(`{"card_id":4711}`) }},
		"inner argument":        {Calls, func(e *Evidence) { e.Calls[3].Args = json.RawMessage(`{"by":{"card":"4712"}}`) }},
		"broken arguments":      {Calls, func(e *Evidence) { e.Calls[2].Args = json.RawMessage(`{`) }},
		"forbidden call":        {Never, func(e *Evidence) { e.Calls = append(e.Calls, call("cards.close", `{}`)) }},
		"forbidden by pattern":  {Never, func(e *Evidence) { e.Calls = append(e.Calls, call("payments.send", `{}`)) }},
		"forbidden, failed":     {Never, func(e *Evidence) { e.Calls = append(e.Calls, Call{Tool: "cards.close", Class: "rejected"}) }},
		"claim by suite's text": {NeverClaims, func(e *Evidence) { e.Answer += " It has been   REPLACED." }},
		"claim after a failure": {NeverClaims, func(e *Evidence) {
			e.Claims = nil
			e.Calls = append(e.Calls, Call{Tool: "cards.replace", Class: "timeout", Success: json.RawMessage(`{"id":"x","message":"A new card is on its way."}`)})
			e.Answer += " A new card is on its way!"
		}},
		"text missing":   {Says, func(e *Evidence) { e.Answer = "Card 4711: done." }},
		"text forbidden": {Says, func(e *Evidence) { e.Answer += " We replaced nothing." }},
		"no match":       {Says, func(e *Evidence) { e.Answer = "Your card is frozen." }},
		"no answer":      {Says, func(e *Evidence) { e.Answer = "" }},
		"too many steps": {Within, func(e *Evidence) { e.Steps = 9 }},
		"too expensive":  {Within, func(e *Evidence) { e.Cost = 10_000_001 }},
		"too slow":       {Within, func(e *Evidence) { e.Time = 10*time.Second + 1 }},
		"run failed":     {Ended, func(e *Evidence) { e.Failure = "limit.steps: the run may take 8 steps" }},
	}
	for name, m := range mutations {
		want, e := gold(t)
		m.mutate(&e)
		failed := Run(want, e)
		if !slices.ContainsFunc(failed, func(f Failed) bool { return f.Check == m.check && strings.Contains(f.Reason, "expected ") }) {
			t.Errorf("%s survived the check %s: %+v", name, m.check, failed)
		}
	}
}

func TestClaimsAreFineWhenTheToolSucceeded(t *testing.T) {
	t.Parallel()
	want, e := gold(t)
	want.Says = nil
	e.Answer = "Your card has been replaced."
	e.Calls = append(e.Calls, call("cards.replace", `{}`))
	if failed := Run(want, e); len(failed) != 0 {
		t.Errorf("%+v", failed)
	}
}

func TestExpectedAbsenceAndWholeObjects(t *testing.T) {
	t.Parallel()
	b := base(t)
	w := b.Fork()
	set(t, w, "cards.4712", nil)
	set(t, w, "disputes.0", map[string]any{"card": "4711", "lines": []any{1, 2}})
	want := spec.Expect{State: map[string]any{
		"cards.4712": nil, "cards.9999": nil, "disputes": []any{map[string]any{"card": "4711", "lines": []any{1.0, 2}}},
	}}
	if failed := Run(want, Evidence{Base: b, World: w}); len(failed) != 0 {
		t.Errorf("%+v", failed)
	}
	if failed := Run(spec.Expect{State: map[string]any{}}, Evidence{Base: b, World: b.Fork()}); len(failed) != 0 {
		t.Errorf("nothing changed: %+v", failed)
	}
	failed := Run(spec.Expect{State: map[string]any{}}, Evidence{Base: b, World: w})
	if len(failed) == 0 {
		t.Error("an empty state allows no change")
	}
}

// Whatever is written somewhere is either expected or found.
func TestNoStrayWriteIsMissed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b, err := world.Parse([]byte(`{"a": {"x": 1, "y": [1, 2]}, "b": {"x": 1, "z": {"q": 1}}}`))
		if err != nil {
			t.Fatal(err)
		}
		w := b.Fork()
		paths := []string{"a.x", "a.y.0", "a.y.2", "b.x", "b.z.q", "b.z.n", "c", "b.z"}
		want := map[string]any{}
		stray := false
		used := map[string]bool{}
		for i := range rapid.IntRange(0, 4).Draw(t, "writes") {
			p := rapid.SampledFrom(paths).Draw(t, "path")
			top := strings.Join(strings.SplitN(p, ".", 3)[:min(2, strings.Count(p, ".")+1)], ".")
			if used[top] {
				continue
			}
			used[top] = true
			if err := w.Set(p, fmt.Sprint("new ", i)); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "expected") {
				want[p] = fmt.Sprint("new ", i)
			} else {
				stray = true
			}
		}
		failed := Run(spec.Expect{State: want}, Evidence{Base: b, World: w})
		if (len(failed) > 0) != stray {
			t.Fatalf("stray %v, failed %+v", stray, failed)
		}
	})
}
