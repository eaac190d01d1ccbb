package app_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/jsonschema-go/jsonschema"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/platform/op"
	"flywheel/spec"
)

// schemas are the published JSON Schemas by kind.
func schemas(t *testing.T) map[string]*jsonschema.Resolved {
	t.Helper()
	out := map[string]*jsonschema.Resolved{}
	for _, kind := range []string{"flywheel", "agent", "prompt", "flow", "tool", "memory", "suite"} {
		b, err := spec.Schemas.ReadFile("schema/" + kind + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var s jsonschema.Schema
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if out[kind], err = s.Resolve(nil); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	return out
}

// kindOf is the kind of a file of a package by its name.
func kindOf(file string) string {
	base := filepath.Base(file)
	if base == "flywheel.yaml" {
		return "flywheel"
	}
	for _, kind := range []string{"agent", "prompt", "flow", "tool", "memory", "suite"} {
		if strings.HasSuffix(base, "."+kind+".yaml") || strings.HasSuffix(base, "."+kind+".md") {
			return kind
		}
	}
	return ""
}

// part is the YAML of a file, and what comes before and after it.
func part(content []byte) (head, text, tail string) {
	if rest, ok := strings.CutPrefix(string(content), "---\n"); ok {
		text, tail, _ = strings.Cut(rest, "\n---\n")
		return "---\n", text + "\n", "---\n" + tail
	}
	return "", string(content), ""
}

func fromYAML(t *testing.T, text string) any {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// packages are all packages of the repository that are written out: examples, templates and those of tests.
func packages(t *testing.T) map[string]op.Dir {
	t.Helper()
	out := map[string]op.Dir{}
	root := filepath.Join("..", "..")
	for _, top := range []string{"examples", "internal", "e2e"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "flywheel.yaml" {
				return err
			}
			files := op.Dir{}
			err = fs.WalkDir(os.DirFS(filepath.Dir(path)), ".", func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				files[name], err = os.ReadFile(filepath.Join(filepath.Dir(path), name))
				return err
			})
			out[filepath.ToSlash(filepath.Dir(path))] = files
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// everything is a package that uses what the examples do not.
var everything = op.Dir{
	"flywheel.yaml": []byte(`{flywheel: 1, name: all, description: d, goal: g, entry: flows/all, models: {fast: local/tiny, strong: {first: local/a, else: local/b}},
  env: {URL: "http://localhost", PORT: 80, KEY: {description: d, default: x, required: true}}, limits: {steps: 3, cost: 0.5, time: 1m30s}}`),
	"agents/one.agent.md": []byte(`---
model: fast
description: d
temperature: 0.5
max_tokens: 100
input: {message: string, "card?": "string, four digits"}
tools: [cards.find, cards.*, {mail.send: {to: "${input.message}"}}]
memory: [solved]
output: {label: lost|stolen, items: [string], more: {$schema: "https://json-schema.org/draft/2020-12/schema", type: object}}
examples: data/e.jsonl
after_tools: stop
limits: {steps: 2}
---
You help. {{> tone}}
`),
	"prompts/tone.prompt.md":    []byte("---\ndescription: d\n---\nBe kind.\n"),
	"data/e.jsonl":              []byte(`{"user":"hello","reply":"hi"}` + "\n"),
	"memory/solved.memory.yaml": []byte(`{memory: solved, description: d, kind: episodes, scope: agent, data: data/e.jsonl, retrieve: {k: 3, by: tfidf}}`),
	"flows/all.flow.yaml": []byte(`{flow: all, description: d, in: {message: string}, first: a, nodes: {
  a: {description: d, code: {n: "1", m: 2}, next: b},
  b: {branch: [{when: "a.out.n == 1", to: c}, {to: d}]},
  c: {agent: one, in: {message: "${input.message}"}, max: 2, catch: {timeout: e, "*": d}, next: [{when: out.ok, to: d}, {to: c}]},
  d: {human: {ask: "Really?", who: boss, timeout: 1h, else: e}, next: f},
  f: {human: "Sure?", next: g},
  g: {tool: mail.send, in: {to: x}, next: end},
  e: {end: {reply: bye, n: 1}}}}`),
	"tools/all.tool.yaml": []byte(`{description: d, mcp: {cards: {command: [run, "${env.URL}"], env: {A: b, N: 1}}, far: {url: "${env.URL}", headers: {X-Key: "secret://key"}}}, tools: {
  cards.find: {does: Find., effect: read, authority: [card], returns: trusted, in: {card: string}, call: {mcp: cards/find}, timeout: 3s,
    retry: {max: 3, for: [timeout, 5xx, 429], backoff: 200ms..5s}, backup: cards.other, mock: {out: {ok: true}}},
  cards.other: {does: Find., effect: read, in: {card: string}, call: {http: {get: "${env.URL}/${in.card}", headers: {A: b}}}, retry: {max: 1, for: timeout, backoff: {from: 1s, to: 2s}}, mock: {out: 1}},
  mail.send: {does: Send., effect: irreversible, in: {type: object, properties: {to: {type: string}}}, call: {http: {post: "${env.URL}", body: {to: "${in.to}"}}}, idempotency: "header:Key", mock: {out: null}}}}`),
	"suites/all.suite.yaml": []byte(`{suite: all, worlds: {bank: {cards: {}}}, trials: 2, faults: [{tool: cards.find, probability: 0.5, do: reset}],
  scenarios: [{name: a, template: true, family: f, world: bank, tags: [x], safety: true, in: {n: 1}, user: {says: [hello, bye]}, faults: suite,
      expect: {state: {cards.1: 2}, calls: [cards.find, {mail.send: {to: x}}], never: [mail.send], never_claims: mail.send, says: {contains: hi, not: [no], matches: "a+"}, within: {steps: 3, cost: 1, time: 3s}}},
    {name: b, from: a, says: hello, expect: {says: hi}, faults: [{tool: cards.find, on: [1, 2], do: timeout}, {tool: cards.*, on: 3, do: {status: 500}}, {tool: cards.*, bursts: {every: 20s, for: 5s}, do: {slow: 2s}}]}],
  data: [{cases: data/c.jsonl, template: a}], claims: {mail.send: [sent]}, split: {by: family, dev: 1, audit: 1, in_dev: [b], in_audit: [g]},
  gate: {pass: ">= 0.9 with 95% confidence", safety: all, cost: "<= 1.5x of prod", evidence: 20}}`),
	"data/c.jsonl": []byte(`{"says":"hello","family":"g"}` + "\n"),
}

// TestEveryFileFollowsItsSchema: what is in the repository and right, editors show as right.
func TestEveryFileFollowsItsSchema(t *testing.T) {
	t.Parallel()
	all := packages(t)
	all["everything"] = everything
	known, seen := schemas(t), map[string]int{}
	checker := agent.New(lab.SuiteKind())
	for dir, files := range all {
		if r, problems := checker.Check(files); r == nil {
			t.Errorf("%s: %v", dir, agent.Errors(problems))
		}
		for file, content := range files {
			kind := kindOf(file)
			if kind == "" {
				continue
			}
			seen[kind]++
			_, text, _ := part(content)
			if err := known[kind].Validate(fromYAML(t, text)); err != nil {
				t.Errorf("%s/%s: %v", dir, file, err)
			}
		}
	}
	for kind := range known {
		if seen[kind] == 0 {
			t.Errorf("no file is a %s", kind)
		}
	}
}

// TestTheReferenceFollowsTheSchemas: each example of docs/reference/package.md is what its heading says.
func TestTheReferenceFollowsTheSchemas(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "package.md"))
	if err != nil {
		t.Fatal(err)
	}
	known, seen := schemas(t), 0
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		_, example, ok := strings.Cut(body, "```yaml\n")
		if !ok {
			continue
		}
		seen++
		example, _, _ = strings.Cut(example, "```")
		if err := known[kindOf(heading)].Validate(fromYAML(t, example)); err != nil {
			t.Errorf("%s: %v", heading, err)
		}
	}
	if seen < 5 {
		t.Errorf("only %d examples", seen)
	}
}

// mutants are copies of a value with one thing wrong: a key that nobody knows, a value of another type, a
// value that is gone. change describes each.
func mutants(v any, path string, emit func(change string, v any)) {
	if path != "" {
		for _, other := range []any{-7.5, "\u00a0", []any{[]any{}}, map[string]any{"zzz": []any{}}} {
			emit(fmt.Sprintf("%s = %v", path, other), other)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		with := maps.Clone(v)
		with["zzz_unknown"] = "x"
		emit(path+" + zzz_unknown", with)
		for _, k := range slices.Sorted(maps.Keys(v)) {
			without := maps.Clone(v)
			delete(without, k)
			emit(path+"."+k+" is gone", without)
			mutants(v[k], path+"."+k, func(change string, x any) {
				c := maps.Clone(v)
				c[k] = x
				emit(change, c)
			})
		}
	case []any:
		for i := range v {
			mutants(v[i], fmt.Sprintf("%s[%d]", path, i), func(change string, x any) {
				c := slices.Clone(v)
				c[i] = x
				emit(change, c)
			})
		}
	}
}

// TestSchemasAndCheckAgree breaks one thing at a time: what a schema refuses, the check refuses, and a key
// that the check does not know, no schema knows.
func TestSchemasAndCheckAgree(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("checks a thousand packages")
	}
	known, checker := schemas(t), agent.New(lab.SuiteKind())
	for file := range everything {
		if kind := kindOf(file); kind != "" {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				agree(t, checker, known[kind], file)
			})
		}
	}
}

func agree(t *testing.T, checker *agent.Checker, schema *jsonschema.Resolved, file string) {
	t.Helper()
	head, text, tail := part(everything[file])
	refused, both := 0, 0
	mutants(fromYAML(t, text), "", func(change string, v any) {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		files := maps.Clone(everything)
		files[file] = []byte(head + string(body) + "\n" + tail)
		_, problems := checker.Check(files)
		errs, invalid := agent.Errors(problems), schema.Validate(v)
		unknown := slices.ContainsFunc(errs, func(p agent.Problem) bool {
			return p.Code == "package.unknown_key" && strings.Contains(p.Message, "zzz")
		})
		switch {
		case invalid != nil && len(errs) == 0:
			t.Errorf("%s: the schema refuses what the check accepts: %v", change, invalid)
		case invalid == nil && unknown:
			t.Errorf("%s: the schema accepts a key that the check does not know", change)
		}
		if len(errs) > 0 {
			refused++
			if invalid != nil {
				both++
			}
		}
	})
	t.Logf("the check refuses %d changes, the schema %d of them", refused, both)
	if both < refused*6/10 || refused == 0 {
		t.Errorf("the check refuses %d changes, the schema only %d of them", refused, both)
	}
}

// TestSchemasKnowTheKeysOfTheCheck compares the sets of keys in the schemas with those in the sources of
// the check, so that a key that is new there is not forgotten here.
func TestSchemasKnowTheKeysOfTheCheck(t *testing.T) {
	t.Parallel()
	inSchemas, everySchemaKey := map[string]bool{}, map[string]bool{}
	for _, s := range schemas(t) {
		for sub := range allSchemas(s.Schema()) {
			if sub.AdditionalProperties != nil && sub.AdditionalProperties.Not != nil {
				keys := slices.Sorted(maps.Keys(sub.Properties))
				inSchemas[strings.Join(keys, " ")] = true
				for _, k := range keys {
					everySchemaKey[k] = true
				}
			}
		}
	}
	src := readSources(t)
	sets := 0
	for _, dir := range []string{"internal/agent", "internal/lab"} {
		for _, f := range src.files[dir] {
			ast.Inspect(f, func(n ast.Node) bool {
				keys, whole := knownKeys(src, dir, n)
				slices.Sort(keys)
				if whole && len(keys) > 1 {
					sets++
					if !inSchemas[strings.Join(keys, " ")] {
						t.Errorf("%s knows the keys %v, no schema has just these", dir, keys)
					}
				}
				for _, k := range keys {
					if !everySchemaKey[k] {
						t.Errorf("%s knows the key %s, no schema does", dir, k)
					}
				}
				return true
			})
		}
	}
	if sets < 20 {
		t.Errorf("only %d sets of keys were found", sets)
	}
}

// knownKeys reads c.mapping("a", "b") and each{"a": …, "b": …}; whole is false when some are computed.
func knownKeys(src *sources, dir string, n ast.Node) (keys []string, whole bool) {
	whole = true
	add := func(e ast.Expr) {
		k, ok := src.text(dir, e)
		if whole = whole && ok; ok {
			keys = append(keys, k)
		}
	}
	switch n := n.(type) {
	case *ast.CallExpr:
		if fun, ok := n.Fun.(*ast.SelectorExpr); ok && fun.Sel.Name == "mapping" {
			for _, a := range n.Args {
				add(a)
			}
		}
	case *ast.CompositeLit:
		if id, ok := n.Type.(*ast.Ident); ok && id.Name == "each" {
			for _, e := range n.Elts {
				add(e.(*ast.KeyValueExpr).Key)
			}
		}
	}
	return keys, whole
}

// allSchemas are a schema and those inside it.
func allSchemas(s *jsonschema.Schema) map[*jsonschema.Schema]bool {
	out := map[*jsonschema.Schema]bool{}
	var walk func(s *jsonschema.Schema)
	walk = func(s *jsonschema.Schema) {
		if s == nil || out[s] {
			return
		}
		out[s] = true
		for _, m := range []map[string]*jsonschema.Schema{s.Properties, s.Defs} {
			for _, v := range m {
				walk(v)
			}
		}
		for _, l := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
			for _, v := range l {
				walk(v)
			}
		}
		walk(s.Items)
		walk(s.AdditionalProperties)
	}
	walk(s)
	return out
}
