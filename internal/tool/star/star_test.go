package star

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/tool/world"
)

var at = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

func load(tb testing.TB, src string) *Program {
	tb.Helper()
	p, err := LoadFile("mocks/cards.star", []byte(src))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func fork(tb testing.TB, src string) (*world.Base, *world.State) {
	tb.Helper()
	b, err := world.Parse([]byte(src))
	if err != nil {
		tb.Fatal(err)
	}
	return b, b.Fork()
}

const cards = `
def freeze(world, args, now):
    card = world["cards"].get(args["card"])
    if not card:
        fail("rejected", "There is no card %s." % args["card"])
    card["status"] = "frozen"
    world["log"].append({"at": now, "what": "freeze"})
    return {"card": args["card"], "status": card["status"], "message": "Card %s is frozen." % args["card"]}

def down(world, args, now):
    fail("unavailable", "try later", status=503)
`

func TestAMockActsOnItsWorld(t *testing.T) {
	t.Parallel()
	base, w := fork(t, `{"cards":{"4711":{"limit":500,"status":"active"}},"log":[]}`)
	out, mockErr := load(t, cards).Call("freeze", w, json.RawMessage(`{"card":"4711"}`), at)
	if mockErr != nil {
		t.Fatal(mockErr)
	}
	if got, want := string(out), `{"card":"4711","message":"Card 4711 is frozen.","status":"frozen"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := map[string][2]any{
		"cards.4711.status": {"active", "frozen"},
		"log.0":             {world.Absent, map[string]any{"at": "2026-03-01T09:30:00Z", "what": "freeze"}},
	}
	if d := cmp.Diff(want, w.Diff(base), cmp.Comparer(func(a, b fmt.Stringer) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestAMockRefuses(t *testing.T) {
	t.Parallel()
	_, w := fork(t, `{"cards":{}}`)
	p := load(t, cards)
	_, got := p.Call("freeze", w, json.RawMessage(`{"card":"1"}`), at)
	if d := cmp.Diff(&MockError{Class: "rejected", Message: "There is no card 1."}, got); d != "" {
		t.Error(d)
	}
	_, got = p.Call("down", w, nil, at)
	if d := cmp.Diff(&MockError{Class: "unavailable", Message: "try later", Status: 503}, got); d != "" {
		t.Error(d)
	}
}

func TestMistakesInAMockNameTheirPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, want string }{
		"missing key":         {`    return world["nope"]`, `mocks/cards.star:2:17: in f: key "nope" not in dict`},
		"endless":             {"    for i in range(1000000000):\n        pass", "stopped after 2000000 steps"},
		"no such method":      {`    world.push(1)`, "mocks/cards.star:2:10: in f: dict has no .push"},
		"in a helper":         {"    return g(world)\ndef g(w):\n    return w + 1", "mocks/cards.star:4:14: in f: unknown binary op"},
		"answer is no JSON":   {`    return f`, "the answer: a function is not JSON"},
		"answer is too large": {`    return "x" * 2000000`, "larger than 1048576 bytes"},
		"stored a function":   {`    world["x"] = f`, "a function cannot be stored in the world"},
		"stored inside":       {`    world["x"] = [{"y": f}]`, "x: 0: y: a function is not JSON"},
		"stored a cycle":      {"    x = []\n    x.append(x)\n    world[\"x\"] = x", "a value contains itself"},
		"world in itself":     {`    world["x"]["y"] = world`, "a value contains itself"},
		"returned a cycle":    {"    x = []\n    x.append(x)\n    return x", "nested too deep, or contains itself"},
		"changed while read":  {"    for k in world:\n        world[k + \"!\"] = 1", "take a copy of its keys first"},
		"list while read":     {"    for k in world[\"l\"]:\n        world[\"l\"].append(k)", "iterate over a copy"},
		"compared the wrong way": {
			`    return [1, 2, 3] == world["l"]`,
			"put the world's on the left of ==",
		},
		"key is no string": {`    world[1] = 2`, "a key of the world is a string, not int"},
		"open a file":      {`    return open("/etc/passwd")`, ""},
		"fixed globals":    {`    G.append(1)`, "cannot append to frozen list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := "def f(world, args, now):\n" + c.body + "\nG = []\n"
			p, err := LoadFile("mocks/cards.star", []byte(src))
			if c.want == "" {
				var at *Error
				if !errors.As(err, &at) || at.Line != 2 || !strings.Contains(at.Message, "undefined: open") {
					t.Fatalf("loaded with %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, w := fork(t, `{"x":{},"l":[1,2,3]}`)
			_, got := p.Call("f", w, nil, at)
			if got == nil || !got.Bug || got.Class != "rejected" || !strings.Contains(got.Message, c.want) {
				t.Errorf("got %+v, want %q", got, c.want)
			}
			if _, err := w.MarshalJSON(); err != nil {
				t.Errorf("the world is broken after a mistake: %v", err)
			}
			if err := w.Set("l.0", 7); err != nil {
				t.Errorf("the world cannot be changed after a mistake: %v", err)
			}
		})
	}
}

func TestFilesThatCannotBeLoadedNameTheirPlace(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"def f(world:\n":                       "m.star:1:13: got ':'",
		"x = 1\ny = undefinedThing\n":          "m.star:2:5: undefined: undefinedThing",
		"x = 1 // 0\n":                         "m.star:1:7: floored division by zero",
		"load(\"a\", \"b\")\n":                 "m.star:1:1: ",
		"x = [i for i in range(1000000000)]\n": "too many steps",
	} {
		_, err := LoadFile("m.star", []byte(src))
		var at *Error
		if !errors.As(err, &at) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", src, err, want)
		}
	}
}

func TestCheckKnowsTheSignature(t *testing.T) {
	t.Parallel()
	p := load(t, "def freeze(world, args, now):\n    return 1\ndef two(a, b):\n    return 1\n")
	if err := p.Check("freeze"); err != nil {
		t.Error(err)
	}
	if err := p.Check("freese"); err == nil || !strings.Contains(err.Error(), "did you mean freeze?") {
		t.Errorf("misspelt: %v", err)
	}
	if err := p.Check("two"); err == nil || err.Error() != "mocks/cards.star:3:1: a mock is written as def two(world, args, now)" {
		t.Errorf("two parameters: %v", err)
	}
}

// TestTheWorldIsADictOfDicts holds the behaviour of world values against that of plain ones.
func TestTheWorldIsADictOfDicts(t *testing.T) {
	t.Parallel()
	const data = `{"d":{"a":1,"b":{"c":[1,2,3]}},"l":[3,{"x":1},"s",3]}`
	for _, expr := range []string{
		`w["d"]["a"]`, `w["d"].get("z", 5)`, `sorted(w["d"].keys())`, `[k for k in w]`, `len(w["l"])`,
		`w["l"][1:]`, `w["l"][::-1]`, `w["l"][-1]`, `3 in w["l"]`, `"d" in w`, `"z" not in w["d"]`,
		`w["l"] + [1]`, `[1] + w["l"]`, `w["d"].items()`, `w["d"].values()`, `dict(w["d"])`, `list(w["l"])`,
		`w["d"].pop("a")`, `w["d"].pop("z", None)`, `w["d"].setdefault("n", [])`, `w["l"].index("s")`,
		`w["l"].index(3, 1)`, `w["l"].pop()`, `w["l"].pop(0)`, `w["l"].pop(-2)`,
		`[w["l"].append(9), w["l"].insert(1, 8), w["l"].insert(-1, 7), w["l"].remove(3), w["l"].extend([1, 2]), w["l"]][-1]`,
		`[w["d"].update({"q": 1}, r=2), w["d"]][-1]`, `[w["d"].clear(), w["d"]][-1]`, `[w["l"].clear(), w][-1]`,
		`w["d"]["b"]["c"] == [1, 2, 3]`, `w["d"] == {"a": 1, "b": {"c": [1, 2, 3]}}`, `w["d"] != {}`,
		`w["l"] == [3, {"x": 1}, "s", 3]`, `w["d"] == w["d"]`, `w["l"] == w["d"]`, `bool(w["d"])`,
		`[type(w), type(w["l"])]`, `w["d"] | {"z": 1}`, `{"z": 1} | w["d"]`, `max(w["d"]["b"]["c"])`, `json.decode(json.encode(w))`,
		`["%s" % x for x in w["d"]["b"]["c"]]`, `[x * 2 for x in w["d"]["b"]["c"] if x > 1]`, `",".join(w["d"])`,
	} {
		p := load(t, fmt.Sprintf("def plain(world, args, now):\n    w = args\n    return [%[1]s, w]\ndef real(world, args, now):\n    w = world\n    return [%[1]s, w]\n", expr))
		_, w := fork(t, data)
		want, mockErr := p.Call("plain", w, json.RawMessage(data), at)
		if mockErr != nil {
			t.Errorf("%s on plain values: %v", expr, mockErr)
			continue
		}
		got, mockErr := p.Call("real", w, nil, at)
		if mockErr != nil || string(got) != string(want) {
			t.Errorf("%s: %s (%v), want %s", expr, got, mockErr, want)
		}
	}
}

func TestValuesStoredTwiceAreTwoValuesAfterTheCall(t *testing.T) {
	t.Parallel()
	p := load(t, `
def store(world, args, now):
    card = {"n": 1}
    world["a"] = card
    world["b"] = card
    world["c"] = world["a"]
    card["n"] = 2 # still the same object
    return world["b"]["n"]
def change(world, args, now):
    world["a"]["n"] = 3
    return [world["a"]["n"], world["b"]["n"], world["c"]["n"]]
`)
	_, w := fork(t, `{}`)
	if got, err := p.Call("store", w, nil, at); err != nil || string(got) != `2` {
		t.Errorf("in the call: %s %v", got, err)
	}
	if got, err := p.Call("change", w, nil, at); err != nil || string(got) != `[3,2,2]` {
		t.Errorf("after the call: %s %v", got, err)
	}
}

func TestOneProgramServesManyGoroutines(t *testing.T) {
	t.Parallel()
	p := load(t, cards)
	base, _ := fork(t, `{"cards":{"1":{"n":1}},"log":[]}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			w := base.Fork()
			for range 50 {
				if _, err := p.Call("freeze", w, json.RawMessage(`{"card":"1"}`), at); err != nil {
					t.Error(err)
				}
			}
			if log, _ := w.Get("log"); len(log.([]any)) != 50 {
				t.Errorf("%d log lines", len(log.([]any)))
			}
		})
	}
	wg.Wait()
}

// bigWorld has n cards.
func bigWorld(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"cards":{`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%d":{"holder":"Customer %d","limit":%d,"status":"active","notes":["%s"]}`, 1000+i, i, i, strings.Repeat("n", 40))
	}
	b.WriteString(`},"log":[]}`)
	return []byte(b.String())
}

func BenchmarkCall(b *testing.B) {
	for _, n := range []int{20, 25_000} {
		src := bigWorld(n)
		base, err := world.Parse(src)
		if err != nil {
			b.Fatal(err)
		}
		p := load(b, cards)
		b.Run(fmt.Sprintf("%dkB", len(src)/1000), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := base.Fork()
				if _, err := p.Call("freeze", w, json.RawMessage(`{"card":"1011"}`), at); err != nil {
					b.Fatal(err)
				}
				if len(w.Diff(base)) != 2 {
					b.Fatal("not two differences")
				}
			}
		})
	}
}
