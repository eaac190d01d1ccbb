package expr

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func eval(t *testing.T, src string, vars map[string]any) (any, error) {
	t.Helper()
	p, err := Compile(src)
	if err != nil {
		t.Fatalf("Compile(%s): %v", src, err)
	}
	return p.Eval(vars)
}

func TestValuesComeOutAsJSON(t *testing.T) {
	t.Parallel()
	vars := map[string]any{
		"input": map[string]any{"message": "card 4711 is lost", "n": 3.0, "price": 9.5, "list": []any{1.0, "a", nil}},
		"raw":   json.RawMessage(`{"deep": {"x": 7}}`),
		"num":   json.Number("12"),
	}
	for src, want := range map[string]any{
		`input.message`: "card 4711 is lost",
		`regex.extract(input.message, '([0-9]{4})').orValue('')`: "4711",
		`regex.extract('none', '([0-9]{4})')`:                    nil,
		`input.n + 1`:                                            int64(4),
		`input.price > 9`:                                        true,
		`input.n < 3.5`:                                          true,
		`input.list`:                                             []any{int64(1), "a", nil},
		`{'b': [1.5, true], 'a': null}`:                          map[string]any{"a": nil, "b": []any{1.5, true}},
		`raw.deep.x`:                                             int64(7),
		`num * 2`:                                                int64(24),
		`input.message.split(' ').size()`:                        int64(4),
		`math.greatest(1, 5, 3)`:                                 int64(5),
		`base64.encode(b'hi')`:                                   "aGk=",
		`b'hi'`:                                                  "aGk=",
		`[3, 1, 2].sort()`:                                       []any{int64(1), int64(2), int64(3)},
		`input.?missing.orValue('x')`:                            "x",
		`has(input.missing)`:                                     false,
		`cel.bind(x, 2, x * x)`:                                  int64(4),
		`duration('90s')`:                                        "1m30s",
		`input.list.exists(x, x == 'a')`:                         true,
	} {
		got, err := eval(t, src, vars)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", src, diff)
		}
	}
}

func TestMapsAreWalkedInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	m := map[string]any{}
	for _, k := range strings.Split("z y x w v u t s r q p o n m l k j i h g f e d c b a", " ") {
		m[k] = 1.0
	}
	for _, src := range []string{`m.map(k, k)`, `{'c': 1, 'a': 2, 'b': 3, 'd': 4}.map(k, k)`, `m.filter(k, k > 'm')`} {
		p, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		first, err := p.Eval(map[string]any{"m": m})
		if err != nil {
			t.Fatal(err)
		}
		list := first.([]any)
		for i := 1; i < len(list); i++ {
			if list[i-1].(string) >= list[i].(string) {
				t.Fatalf("%s: %v is not sorted", src, list)
			}
		}
		for range 20 {
			again, _ := p.Eval(map[string]any{"m": m})
			if diff := cmp.Diff(first, again); diff != "" {
				t.Fatalf("%s differs between evaluations:\n%s", src, diff)
			}
		}
	}
}

func TestRootsAreKnownAndUnknownOnesAreErrors(t *testing.T) {
	t.Parallel()
	p, err := Compile(`desk.out.text + input.list.filter(x, x != env.A).map(y, string(y)).join(',') + string(math.abs(-1))`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"desk", "env", "input"}, p.Vars()); diff != "" {
		t.Error(diff)
	}
	_, err = Compile("input.a +\n  inptu.b", "input", "env")
	var e *Error
	if !errors.As(err, &e) || e.Unknown != "inptu" || e.Line != 2 || e.Column != 3 {
		t.Errorf("error = %#v, want the unknown name at 2:3", err)
	}
	for _, src := range []string{`input.`, `1 +`, `"a`, `nope(1)`, `now()`, strings.Repeat("a", maxSource+1), strings.Repeat("(", 500)} {
		if _, err := Compile(src); err == nil {
			t.Errorf("Compile(%.20s) has no error", src)
		}
	}
}

func TestARootThatIsNotGivenIsEmpty(t *testing.T) {
	t.Parallel()
	if got, err := eval(t, `has(order.out) ? 'ran' : 'not yet'`, nil); err != nil || got != "not yet" {
		t.Errorf("has(order.out) = %v, %v", got, err)
	}
	if _, err := eval(t, `order.out.total`, nil); !errors.Is(err, ErrMissing) {
		t.Errorf("error = %v, want ErrMissing", err)
	}
}

func TestTextsKeepTypesAndInsertValues(t *testing.T) {
	t.Parallel()
	vars := map[string]any{"order": map[string]any{"total": 12.5, "id": "A1", "items": []any{"x", "<b>"}, "note": nil}}
	for src, want := range map[string]any{
		"${order.total}":                         12.5,
		"${order.items}":                         []any{"x", "<b>"},
		"Refund ${order.total} for ${order.id}?": "Refund 12.5 for A1?",
		"items ${order.items}":                   `items ["x","<b>"]`,
		"${?order.nothing.at.all}":               nil,
		"a${?order.nothing}b${order.note}c":      "abc",
		"costs $${order.total}":                  "costs ${order.total}",
		"${ {'a': '}'}.a }":                      "}",
		"${'{'}":                                 "{",
		"plain":                                  "plain",
		"":                                       "",
		"$5 and {x}":                             "$5 and {x}",
	} {
		text, err := CompileText(src)
		if err != nil {
			t.Errorf("CompileText(%q): %v", src, err)
			continue
		}
		got, err := text.Eval(vars)
		if err != nil {
			t.Errorf("%q: %v", src, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" && (src != "" || got != "") {
			t.Errorf("%q (-want +got):\n%s", src, diff)
		}
	}
	text, _ := CompileText("${order.nothing}")
	if _, err := text.Eval(vars); !errors.Is(err, ErrMissing) {
		t.Errorf("error = %v, want ErrMissing", err)
	}
}

func TestErrorsInTextsHaveTheirPlace(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"é ${a +}":           "1:8",
		"one\ntwo ${nope.x}": "2:7",
		"open ${a":           "1:6",
		"x ${?nope}":         "1:6",
	} {
		_, err := CompileText(src, "a")
		if err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("%q: %v, want it at %s", src, err, want)
		}
	}
}

func TestRunawayExpressionsAreStopped(t *testing.T) {
	t.Parallel()
	list := make([]any, 2000)
	for i := range list {
		list[i] = "x"
	}
	if _, err := eval(t, `l.map(a, l.map(b, a + b)).size()`, map[string]any{"l": list}); err == nil {
		t.Error("four million steps were allowed")
	}
}

func TestConditionsAreTrueOrFalse(t *testing.T) {
	t.Parallel()
	p, _ := Compile("out.x")
	if _, err := p.Bool(map[string]any{"out": map[string]any{"x": "yes"}}); err == nil {
		t.Error("a text is not a condition")
	}
	if ok, err := p.Bool(map[string]any{"out": map[string]any{"x": true}}); err != nil || !ok {
		t.Errorf("Bool = %v, %v", ok, err)
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"${a.b}", "x ${?a} $${b}", "${'}'}", "${", "}${}", "${a[0]}", "${a.map(x, x)}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		text, err := CompileText(src)
		if err != nil {
			return
		}
		vars := map[string]any{"a": map[string]any{"b": 1.0}}
		first, err1 := text.Eval(vars)
		second, err2 := text.Eval(vars)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("%q: %v, then %v", src, err1, err2)
		}
		if err1 == nil && !cmp.Equal(first, second) {
			t.Fatalf("%q: %v, then %v", src, first, second)
		}
	})
}
