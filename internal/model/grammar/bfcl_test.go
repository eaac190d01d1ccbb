package grammar

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/corpus"
)

// accepted is the first accepted answer as arguments: BFCL nests lists of accepted values inside objects.
func accepted(values []any) (v any, given bool) {
	i := slices.IndexFunc(values, func(v any) bool { return v != "" })
	if i < 0 {
		return nil, false
	}
	return unfold(values[i]), true
}

func unfold(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = unfold(e)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, values := range v {
			list, ok := values.([]any)
			if !ok {
				out[k] = values
				continue
			}
			if choice, given := accepted(list); given {
				out[k] = choice
			}
		}
		return out
	}
	return v
}

// write is canonical JSON but for the properties that the schema declares: they come in its order, as a
// model writes them.
func write(t *testing.T, s *Schema, v any) string {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		if len(s.Props) == 0 {
			break
		}
		var parts []string
		for _, p := range s.Props {
			if e, given := v[p.Name]; given {
				parts = append(parts, quote(p.Name)+":"+write(t, p.Schema, e))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	case []any:
		if s.Items == nil {
			break
		}
		var parts []string
		for _, e := range v {
			parts = append(parts, write(t, s.Items, e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	b, err := canon.JSON(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryBFCLFunctionBecomesAGrammar takes the 1,197 function schemas of BFCL: each becomes a grammar
// that can be read, that writes the answer accepted by BFCL, and that agrees with an independent validator
// on whether the answer follows the schema, also when its first required argument is left out.
func TestEveryBFCLFunctionBecomesAGrammar(t *testing.T) {
	t.Parallel()
	functions, answers, loose := 0, 0, 0
	for _, q := range corpus.Questions(t) {
		var actions []Action
		for _, f := range q.Functions {
			functions++
			actions = append(actions, Action{f.Name, f.Parameters})
			text, err := ForSchema(f.Parameters)
			if err != nil {
				t.Fatalf("%s %s: %v", q.ID, f.Name, err)
			}
			g, err := readGBNF(text)
			if err != nil {
				t.Fatalf("%s %s: %v", q.ID, f.Name, err)
			}
			want, answered := q.Accepted[f.Name]
			if !answered {
				continue
			}
			answers++
			args := map[string]any{}
			for name, values := range want {
				if v, given := accepted(values); given {
					args[name] = v
				}
			}
			if !compare(t, q.ID, g, f.Parameters, args) {
				loose++ // BFCL accepts values that its own schema does not
			}
			s, err := Parse(f.Parameters)
			if err != nil {
				t.Fatal(err)
			}
			if i := slices.IndexFunc(s.Props, func(p Property) bool { return p.Required }); i >= 0 {
				delete(args, s.Props[i].Name)
				if compare(t, q.ID, g, f.Parameters, args) {
					t.Errorf("%s: %s may be left out", q.ID, s.Props[i].Name)
				}
			}
		}
		text, err := ForActions(actions)
		if err != nil {
			t.Fatalf("%s: %v", q.ID, err)
		}
		if _, err := readGBNF(text); err != nil {
			t.Fatalf("%s: %v", q.ID, err)
		}
	}
	t.Logf("%d functions, %d answers of which %d break their own schema", functions, answers, loose)
	if functions < 1000 || answers < 500 || loose > answers/20 {
		t.Errorf("%d functions, %d answers, %d break their schema", functions, answers, loose)
	}
}

// compare says whether the arguments follow the schema, and fails when grammar and validator differ.
func compare(t *testing.T, id string, g *gbnf, schema json.RawMessage, args map[string]any) bool {
	t.Helper()
	s, err := Parse(schema)
	if err != nil {
		t.Fatal(err)
	}
	text := write(t, s, args)
	var js jsonschema.Schema
	if err := json.Unmarshal(schema, &js); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	resolved, err := js.Resolve(nil)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %s: %v", id, text, err)
	}
	invalid := resolved.Validate(v)
	if g.matches(text) != (invalid == nil) {
		t.Errorf("%s: the grammar says %v of %s\n%s\n%v", id, g.matches(text), text, schema, invalid)
	}
	return invalid == nil
}
