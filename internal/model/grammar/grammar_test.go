package grammar

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"
)

func mustRead(tb testing.TB, text string) *gbnf {
	tb.Helper()
	g, err := readGBNF(text)
	if err != nil {
		tb.Fatalf("the grammar cannot be read: %v\n%s", err, text)
	}
	return g
}

func TestSchemaAcceptsAndRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		schema   string
		yes, not []string
	}{
		"object in the order of the schema": {
			`{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"integer"}},"required":["a","b"]}`,
			[]string{`{"b":"x","a":1}`, `{"b":"","a":-20}`},
			[]string{`{"a":1,"b":"x"}`, `{"b":"x"}`, `{"b":"x", "a":1}`, `{"b":"x","a":01}`, `{"b":"x","a":1.5}`, `{"b":"x","a":-0}`},
		},
		"optional before and after a required one": {
			`{"type":"object","properties":{"a":{"const":1},"b":{"const":2},"c":{"const":3}},"required":["b"]}`,
			[]string{`{"b":2}`, `{"a":1,"b":2}`, `{"b":2,"c":3}`, `{"a":1,"b":2,"c":3}`},
			[]string{`{}`, `{"a":1}`, `{"a":1,"c":3}`, `{,"b":2}`, `{"b":2,}`},
		},
		"all optional": {
			`{"type":"object","properties":{"a":{"const":1},"b":{"const":2}}}`,
			[]string{`{}`, `{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
			[]string{`{"b":2,"a":1}`, `{,}`, `{"c":1}`},
		},
		"enum of any JSON": {
			`{"enum":["lost","a \"quote\"",3,null,{"x": [1, 2]}]}`,
			[]string{`"lost"`, `"a \"quote\""`, `3`, `null`, `{"x":[1,2]}`},
			[]string{`"los"`, `lost`, `""`},
		},
		"four digits by pattern": {
			`{"type":"string","pattern":"^[0-9]{4}$"}`,
			[]string{`"4711"`},
			[]string{`"471"`, `"47111"`, `"47a1"`, `4711`},
		},
		"pattern without anchors": {
			`{"type":"string","pattern":"ab+"}`,
			[]string{`"ab"`, `"xxabbby"`},
			[]string{`"a"`, `""`},
		},
		"pattern with groups and alternatives": {
			`{"type":"string","pattern":"^(ORD|INV)-\\d{2,3}(\\.[a-f])?$"}`,
			[]string{`"ORD-12"`, `"INV-123.c"`},
			[]string{`"ORD-1"`, `"XXX-12"`, `"ORD-12.g"`},
		},
		"integer bounds": {
			`{"type":"integer","minimum":-5,"maximum":120}`,
			[]string{`-5`, `-1`, `0`, `9`, `10`, `99`, `100`, `120`},
			[]string{`-6`, `121`, `-0`, `00`, `130`, `200`, `1000`},
		},
		"exclusive bounds": {
			`{"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":3}`,
			[]string{`1`, `2`},
			[]string{`0`, `3`},
		},
		"array bounds": {
			`{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":3}`,
			[]string{`[true]`, `[true,false,true]`},
			[]string{`[]`, `[true,true,true,true]`, `[true,]`, `[1]`},
		},
		"free array": {`{"type":"array"}`, []string{`[]`, `[1,"a",{"b":[null]}]`}, []string{`[1 ,2]`, `{}`}},
		"free object": {
			`{"type":"object"}`, []string{`{}`, `{"a":{"b":[1.5,true]}}`}, []string{`[]`, `{"a":}`},
		},
		"several types": {`{"type":["string","null"]}`, []string{`"x"`, `null`}, []string{`1`}},
		"any of": {
			`{"anyOf":[{"type":"integer"},{"type":"object","properties":{"v":{"type":"number"}},"required":["v"]}]}`,
			[]string{`12`, `{"v":1.25}`},
			[]string{`"x"`, `{"v":"1"}`},
		},
		"recursive reference": {
			`{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}}}`,
			[]string{`{"v":1,"next":null}`, `{"v":1,"next":{"v":2,"next":null}}`},
			[]string{`{"v":1}`, `{"v":1,"next":2}`},
		},
		"string length": {`{"type":"string","minLength":1,"maxLength":3}`, []string{`"a"`, `"äöü"`, `"\n\"x"`}, []string{`""`, `"abcd"`}},
		"date":          {`{"type":"string","format":"date"}`, []string{`"2026-02-28"`}, []string{`"2026-13-01"`, `"26-01-01"`}},
		"no raw control characters": {
			`{"type":"string"}`, []string{`"a\nb"`}, []string{"\"a\nb\"", "\"\x01\"", `"\u00"`, `"\x"`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := ForSchema(json.RawMessage(tt.schema))
			if err != nil {
				t.Fatal(err)
			}
			g := mustRead(t, text)
			for _, s := range tt.yes {
				if !g.matches(s) {
					t.Errorf("refuses %s\n%s", s, text)
				}
			}
			for _, s := range tt.not {
				if g.matches(s) {
					t.Errorf("accepts %s\n%s", s, text)
				}
			}
			checkSentences(t, g, tt.schema)
		})
	}
}

// checkSentences validates random sentences of the grammar with an independent validator.
func checkSentences(t *testing.T, g *gbnf, schema string) {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal([]byte(schema), &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		text := g.sentence(r)
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("not JSON: %s: %v", text, err)
		}
		if err := resolved.Validate(v); err != nil {
			t.Fatalf("not valid: %s: %v", text, err)
		}
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	text, err := ForActions([]Action{
		{"cards_freeze", json.RawMessage(`{"type":"object","properties":{"card_id":{"type":"string","pattern":"^[0-9]{4}$"},"reason":{"enum":["lost","stolen"]}},"required":["card_id"]}`)},
		{"cards_list", json.RawMessage(`{"type":"object","properties":{}}`)},
		{"reply", json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := mustRead(t, text)
	for _, s := range []string{
		`{"action":"cards_freeze","card_id":"4711"}`,
		`{"action":"cards_freeze","card_id":"4711","reason":"lost"}`,
		`{"action":"cards_list"}`,
		`{"action":"reply","text":"Done.\n\"Hi\""}`,
	} {
		if !g.matches(s) {
			t.Errorf("refuses %s\n%s", s, text)
		}
	}
	for _, s := range []string{
		`{"action":"cards_freeze"}`, `{"action":"reply"}`, `{"action":"other"}`,
		`{"action": "cards_list"}`, `{"card_id":"4711","action":"cards_freeze"}`, `{"action":"cards_list","text":"x"}`,
	} {
		if g.matches(s) {
			t.Errorf("accepts %s", s)
		}
	}
}

func TestSchemasThatAreNoGrammar(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`false`, `{"type":"strong"}`, `{"allOf":[{}]}`, `{"$ref":"https://example.org/x"}`, `{"$ref":"#/$defs/no"}`,
		`{"$ref":"#"}`, `{"enum":[]}`, `{"type":"integer","minimum":5,"maximum":4}`, `{"type":"string","pattern":"(?i)x"}`,
		`{"type":"string","pattern":"["}`, `{"type":"array","minItems":3,"maxItems":1}`, `{"type":"string","minLength":9,"maxLength":2}`,
		`[]`, `{"properties":[]}`, `{"type":"string","pattern":"^[\"\\\\]$"}`, strings.Repeat(`{"items":`, 99) + "{}" + strings.Repeat("}", 99),
	} {
		if text, err := ForSchema(json.RawMessage(schema)); err == nil {
			t.Errorf("%s became\n%s", schema, text)
		}
	}
}

func TestIntegerRangesAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Int64Range(-2500, 2500).Draw(t, "low")
		high := rapid.Int64Range(low, 2600).Draw(t, "high")
		text, err := ForSchema(json.RawMessage(`{"type":"integer","minimum":` + strconv.FormatInt(low, 10) + `,"maximum":` + strconv.FormatInt(high, 10) + `}`))
		if err != nil {
			t.Fatal(err)
		}
		g, err := readGBNF(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []int64{low - 1, low, low + 1, (low + high) / 2, high - 1, high, high + 1, 0, rapid.Int64Range(-3000, 3000).Draw(t, "v")} {
			if got, want := g.matches(strconv.FormatInt(v, 10)), v >= low && v <= high; got != want {
				t.Fatalf("%d in %d…%d: %v\n%s", v, low, high, got, text)
			}
		}
	})
}

// FuzzForSchema: whatever schema becomes a grammar, the grammar can be read and its sentences are JSON
// without white space outside strings.
func FuzzForSchema(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"type":"string","pattern":"^x+$"},"b":{"type":["integer","null"]}},"required":["b"]}`, uint64(1))
	f.Add(`{"type":"array","items":{"$ref":"#"}}`, uint64(2))
	f.Add(`{"enum":["a",1.5,{"k":[]}]}`, uint64(3))
	f.Add(`{"type":"string","pattern":"[^a-z\"]{2}|é*"}`, uint64(4))
	f.Add(`{"type":"integer","exclusiveMinimum":-1.5,"maximum":1e30}`, uint64(5))
	f.Fuzz(func(t *testing.T, schema string, seed uint64) {
		if len(schema) > 2000 {
			return
		}
		text, err := ForSchema(json.RawMessage(schema))
		if err != nil || len(text) > 20000 {
			return
		}
		g := mustRead(t, text)
		r := rand.New(rand.NewPCG(seed, 7))
		for range 5 {
			s, ok := g.bounded(r)
			if !ok {
				continue
			}
			if !json.Valid([]byte(s)) {
				t.Fatalf("not JSON: %q\n%s", s, text)
			}
		}
	})
}

// bounded makes a sentence, unless the grammar has none of sensible size.
func (g *gbnf) bounded(r *rand.Rand) (s string, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, errTooBig) {
				panic(p)
			}
			ok = false
		}
	}()
	g.budget = 20000
	return g.sentence(r), true
}
