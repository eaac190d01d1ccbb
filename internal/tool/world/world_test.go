package world

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.starlark.net/starlark"
	"pgregory.net/rapid"
)

const bank = `{"cards":{"4711":{"holder":"Ada","limit":500,"holds":[1,2]},"4712":{"status":"active"}},"log":[],"rate":1.0}`

func mustParse(tb testing.TB, src string) *Base {
	tb.Helper()
	b, err := Parse([]byte(src))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func mustJSON(tb testing.TB, s *State) string {
	tb.Helper()
	b, err := s.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestAWriteIsSeenByItsForkAlone(t *testing.T) {
	t.Parallel()
	base := mustParse(t, bank)
	a, b := base.Fork(), base.Fork()
	if err := a.Set("cards.4711.limit", 9); err != nil {
		t.Fatal(err)
	}
	c := a.Fork()
	if err := c.Set("cards.4711.holds.2", "x"); err != nil {
		t.Fatal(err)
	}
	if got, _ := a.Get("cards.4711.limit"); got != int64(9) {
		t.Errorf("limit in the fork: %v", got)
	}
	if got := mustJSON(t, b); got != mustJSON(t, base.Fork()) {
		t.Errorf("a sibling changed: %s", got)
	}
	want := map[string][2]any{
		"cards.4711.limit":   {int64(500), int64(9)},
		"cards.4711.holds.2": {Absent, "x"},
	}
	if d := cmp.Diff(want, c.Diff(base), cmp.AllowUnexported(absent{})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string][2]any{"cards.4711.limit": {int64(500), int64(9)}}, a.Diff(base)); d != "" {
		t.Error(d)
	}
}

func TestAValueWrittenBackIsNoDifference(t *testing.T) {
	t.Parallel()
	base := mustParse(t, bank)
	s := base.Fork()
	for _, v := range []int{1, 500} {
		if err := s.Set("cards.4711.limit", v); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Set("cards.4711.holds", []int{1, 2}); err != nil {
		t.Fatal(err)
	}
	if d := s.Diff(base); len(d) != 0 {
		t.Errorf("differences: %v", d)
	}
}

func TestNumbersKeepTheirKind(t *testing.T) {
	t.Parallel()
	const src = `{"big":123456789012345678901234567890,"exp":1e300,"f":1.0,"g":0.1,"i":1,"n":-0.5,"s":"ü\"\n<"}`
	s := mustParse(t, src).Fork()
	if got, want := mustJSON(t, s), strings.Replace(src, "1e300", "1e+300", 1); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPathsWithDotsInKeys(t *testing.T) {
	t.Parallel()
	base := mustParse(t, `{"users":{"a@b.example":{"n":1}}}`)
	s := base.Fork()
	if err := s.Set(`users.a@b\.example.n`, 2); err != nil {
		t.Fatal(err)
	}
	want := map[string][2]any{`users.a@b\.example.n`: {int64(1), int64(2)}}
	if d := cmp.Diff(want, s.Diff(base)); d != "" {
		t.Error(d)
	}
}

func TestSetSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := mustParse(t, bank).Fork()
	for path, want := range map[string]string{
		"":                   "path is empty",
		"cards.9.status":     "cards.9 does not exist",
		"log.1":              `"1" is not an index`,
		"cards.4711.limit.x": "holds a int",
	} {
		if err := s.Set(path, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Set(%q): %v, want %q", path, err, want)
		}
	}
	if err := s.Set("x", func() {}); err == nil {
		t.Error("a function was stored")
	}
}

func TestParseRefusesWhatIsNoObject(t *testing.T) {
	t.Parallel()
	for _, src := range []string{``, `[]`, `{"a":1}{`, `{"a":1e999}`, `{`} {
		if _, err := Parse([]byte(src)); err == nil {
			t.Errorf("%s was accepted", src)
		}
	}
}

// TestForksEqualDeepCopies plays random operations on forks, and the same on deep copies.
func TestForksEqualDeepCopies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		model := map[string]any{}
		for k := range rapid.IntRange(0, 4).Draw(t, "keys") {
			model[fmt.Sprintf("k%d", k)] = jsonValue(3).Draw(t, "value")
		}
		src, err := json.Marshal(model)
		if err != nil {
			t.Fatal(err)
		}
		base, err := Parse(src)
		if err != nil {
			t.Fatal(err)
		}
		type pair struct {
			state *State
			model map[string]any
		}
		pairs := []pair{{base.Fork(), deepCopy(model).(map[string]any)}}
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			p := pairs[rapid.IntRange(0, len(pairs)-1).Draw(t, "which")]
			if rapid.IntRange(0, 9).Draw(t, "fork") == 0 {
				pairs = append(pairs, pair{p.state.Fork(), deepCopy(p.model).(map[string]any)})
				continue
			}
			err := p.state.Use(func(root *Dict) error {
				for range rapid.IntRange(1, 3).Draw(t, "in one call") {
					operate(t, root, p.model)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range pairs {
			want, err := json.Marshal(p.model)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.state.MarshalJSON()
			if err != nil || string(got) != string(want) {
				t.Fatalf("fork %d (%v):\n got %s\nwant %s", i, err, got, want)
			}
			again, err := Parse(got)
			if err != nil {
				t.Fatal(err)
			}
			fromScratch := again.Fork().Diff(base)
			if d := cmp.Diff(fromScratch, p.state.Diff(base), cmp.AllowUnexported(absent{})); d != "" {
				t.Fatalf("fork %d: the cheap difference is not the full one: %s", i, d)
			}
		}
		if got := mustMarshal(t, base.Fork()); got != string(src) {
			t.Fatalf("the base changed: %s", got)
		}
	})
}

func mustMarshal(t *rapid.T, s *State) string {
	b, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// operate does one random thing to both sides, below a random container.
func operate(t *rapid.T, root *Dict, model map[string]any) {
	var at starlark.Value = root
	var m any = model
	var replace func(any) // puts a changed slice back into its parent
	for rapid.Bool().Draw(t, "deeper") {
		child, childModel, put := descend(t, at, m, replace)
		if child == nil {
			break
		}
		at, m, replace = child, childModel, put
	}
	switch c := at.(type) {
	case *Dict:
		operateDict(t, c, m.(map[string]any))
	case *List:
		replace(operateList(t, c, m.([]any)))
	}
}

func descend(t *rapid.T, at starlark.Value, m any, replace func(any)) (starlark.Value, any, func(any)) {
	var v starlark.Value
	var child any
	var put func(any)
	switch c := at.(type) {
	case *Dict:
		mm := m.(map[string]any)
		keys := slices.Sorted(maps.Keys(mm))
		if len(keys) == 0 {
			return nil, nil, nil
		}
		k := rapid.SampledFrom(keys).Draw(t, "key")
		v, _ = c.get(k)
		child, put = mm[k], func(n any) { mm[k] = n }
	case *List:
		s := m.([]any)
		if len(s) == 0 {
			return nil, nil, nil
		}
		i := rapid.IntRange(0, len(s)-1).Draw(t, "index")
		v = c.Index(i)
		child, put = s[i], func(n any) { s[i] = n }
	}
	if _, ok := v.(container); !ok {
		return nil, nil, nil // a scalar, or a plain value that was stored in this call
	}
	return v, child, put
}

func operateDict(t *rapid.T, d *Dict, m map[string]any) {
	keys := slices.Sorted(maps.Keys(m))
	op := rapid.SampledFrom([]string{"set", "remove", "clear", "alias"}).Draw(t, "op")
	k := rapid.StringMatching(`k[0-5]`).Draw(t, "key")
	switch {
	case op == "set":
		v := jsonValue(2).Draw(t, "value")
		check(t, d.SetKey(starlark.String(k), plain(t, v)))
		m[k] = deepCopy(v)
	case op == "remove" && len(keys) > 0:
		gone := rapid.SampledFrom(keys).Draw(t, "gone")
		d.remove(gone)
		delete(m, gone)
	case op == "clear" && rapid.IntRange(0, 4).Draw(t, "really") == 0:
		d.clear()
		clear(m)
	case op == "alias" && len(keys) > 0:
		from := rapid.SampledFrom(keys).Draw(t, "from")
		v, _ := d.get(from)
		b, err := Encode(v) // as it is now: within one call an alias would show later changes too
		check(t, err)
		p, err := Decode(b)
		check(t, err)
		check(t, d.SetKey(starlark.String(k), p))
		m[k] = deepCopy(m[from])
	}
}

func operateList(t *rapid.T, l *List, s []any) []any {
	op := rapid.SampledFrom([]string{"push", "set", "insert", "remove", "clear"}).Draw(t, "op")
	i := rapid.IntRange(0, max(len(s)-1, 0)).Draw(t, "index")
	v := jsonValue(2).Draw(t, "value")
	switch {
	case op == "push":
		check(t, l.push(plain(t, v)))
		return append(s, deepCopy(v))
	case op == "insert":
		check(t, l.insert(i, plain(t, v)))
		return slices.Insert(s, i, deepCopy(v))
	case op == "clear" && rapid.IntRange(0, 4).Draw(t, "really") == 0:
		l.clear()
		return []any{}
	case len(s) == 0:
	case op == "set":
		check(t, l.SetIndex(i, plain(t, v)))
		s[i] = deepCopy(v)
	case op == "remove":
		_, err := l.removeAt(i)
		check(t, err)
		return slices.Delete(s, i, i+1)
	}
	return s
}

func check(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func plain(t *rapid.T, v any) starlark.Value {
	p, err := fromGo(v)
	check(t, err)
	return p
}

func jsonValue(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(
		rapid.Map(rapid.IntRange(-3, 1000), func(i int) any { return i }),
		rapid.Map(rapid.StringMatching(`[a-cü"]{0,3}`), func(s string) any { return s }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](nil),
	)
	if depth == 0 {
		return scalar
	}
	return rapid.OneOf(scalar,
		rapid.Map(rapid.SliceOfN(jsonValue(depth-1), 0, 3), func(s []any) any { return s }),
		rapid.Map(rapid.MapOfN(rapid.StringMatching(`k[0-5]`), jsonValue(depth-1), 0, 3), func(m map[string]any) any { return m }))
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, c := range v {
			m[k] = deepCopy(c)
		}
		return m
	case []any:
		s := make([]any, len(v))
		for i, c := range v {
			s[i] = deepCopy(c)
		}
		return s
	}
	return v
}
