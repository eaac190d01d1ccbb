package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"flywheel/internal/platform/corpus"
	"flywheel/internal/platform/op"
)

// bfclTools are the function schemas of BFCL as tools, 100 to a file. Names become lower case, as the
// format wants them, and are numbered, because several questions share one.
func bfclTools(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, n := map[string]map[string]any{}, 0
	for i, q := range corpus.Questions(t) {
		if testing.Short() && i%10 > 0 {
			continue
		}
		for _, f := range q.Functions {
			var in map[string]any
			if err := json.Unmarshal(f.Parameters, &in); err != nil {
				t.Fatal(err)
			}
			file := fmt.Sprintf("tools/part%d.tool.yaml", n/100)
			if files[file] == nil {
				files[file] = map[string]any{}
			}
			files[file][fmt.Sprintf("%s.n%d", strings.ToLower(f.Name), n)] = map[string]any{
				"does": f.Description, "effect": "read", "in": in, "mock": map[string]any{"out": nil},
			}
			n++
		}
	}
	return files
}

// shuffled is JSON, which is YAML, with the keys of every object in random order.
func shuffled(r *rand.Rand, v any) string {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		var parts []string
		for _, k := range keys {
			parts = append(parts, string(compact(k))+": "+shuffled(r, v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, shuffled(r, e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return string(compact(v))
}

func bfclPackage(r *rand.Rand, files map[string]map[string]any) op.Dir {
	out := op.Dir{
		"flywheel.yaml":       []byte("flywheel: 1\nname: bfcl\nentry: agents/all\nmodels: {fast: local/tiny}\n"),
		"agents/all.agent.md": []byte("---\nmodel: fast\n---\nYou help.\n"),
	}
	for file, tools := range files {
		out[file] = []byte(shuffled(r, map[string]any{"tools": tools}))
	}
	return out
}

// TestBFCLFunctionsAreTools writes 1,197 function schemas that nobody here wrote as tool files: they pass
// the check, their identity does not depend on the order of keys or on fmt, and does on every word.
func TestBFCLFunctionsAreTools(t *testing.T) {
	t.Parallel()
	files := bfclTools(t)
	r := rand.New(rand.NewPCG(77, 1))
	first := bfclPackage(r, files)
	want, problems := New().Check(first)
	if want == nil {
		t.Fatalf("%d problems, the first:\n%s", len(problems), report(problems[:1]))
	}
	if n := len(want.Package.Tools); n < 1000 && !testing.Short() {
		t.Fatalf("%d tools", n)
	}
	if got, _ := New().Check(bfclPackage(r, files)); got == nil || got.Identity != want.Identity {
		t.Errorf("other order of keys, other identity")
	}
	laid, problems := Format(first)
	if len(problems) > 0 || len(laid) < len(files) {
		t.Fatalf("fmt changed %d files of %d\n%s", len(laid), len(files), report(problems))
	}
	formatted := maps.Clone(first)
	maps.Copy(formatted, laid)
	got, problems := New().Check(formatted)
	if got == nil {
		t.Fatalf("after fmt:\n%s", report(problems[:1]))
	}
	if got.Identity != want.Identity || !bytes.Equal(got.Canonical, want.Canonical) {
		t.Errorf("fmt changed the identity")
	}
	one := slices.Sorted(maps.Keys(files))[0]
	name := slices.Sorted(maps.Keys(files[one]))[0]
	files[one][name].(map[string]any)["does"] = "Something else."
	if got, _ := New().Check(bfclPackage(r, files)); got == nil || got.Identity == want.Identity {
		t.Errorf("%s: another description, the same identity", name)
	}
}
