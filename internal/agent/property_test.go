package agent

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flywheel/internal/platform/op"
)

// author writes a value the way that some person might: any order of keys, block or flow, quotes where
// none are needed, comments and blank lines anywhere.
type author struct {
	t        *rapid.T
	comments int
	first    string // key that stays in front at the level of nodes
}

func (a *author) chance(percent int) bool {
	return rapid.IntRange(0, 99).Draw(a.t, "chance") < percent
}

func (a *author) comment() string {
	a.comments++
	return fmt.Sprintf("# note %d: {a: [b", a.comments)
}

func (a *author) keys(m map[string]any) []string {
	keys := rapid.Permutation(slices.Sorted(maps.Keys(m))).Draw(a.t, "order")
	if i := slices.Index(keys, a.first); i > 0 {
		keys = append([]string{a.first}, slices.Delete(slices.Clone(keys), i, i+1)...)
	}
	return keys
}

func (a *author) scalar(v any, inFlow bool) string {
	s, ok := v.(string)
	if !ok {
		if f, whole := v.(int64); whole && a.chance(10) && f < 1<<40 {
			return strconv.FormatInt(f, 10) + ".0"
		}
		return printScalar(v, !inFlow)
	}
	switch {
	case a.chance(20):
		return quoteText(s)
	case a.chance(20) && printable(s) && !strings.ContainsAny(s, "\n\t"):
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return printText(s, inFlow)
}

func (a *author) flow(v any) string {
	space := strings.Repeat(" ", rapid.IntRange(0, 2).Draw(a.t, "space"))
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for _, k := range a.keys(v) {
			parts = append(parts, space+printKey(k)+": "+a.flow(v[k]))
		}
		return "{" + strings.Join(parts, ",") + space + "}"
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, space+a.flow(e))
		}
		return "[" + strings.Join(parts, ", ") + space + "]"
	}
	return a.scalar(v, true)
}

func (a *author) tail() string {
	if a.chance(15) {
		return " " + a.comment()
	}
	return ""
}

func (a *author) gap(out *strings.Builder, indent int) {
	if a.chance(10) {
		out.WriteString("\n")
	}
	if a.chance(15) {
		out.WriteString(strings.Repeat(" ", indent) + a.comment() + "\n")
	}
	if a.chance(5) {
		out.WriteString("\n\n")
	}
}

// block writes a collection in block style at an indentation.
func (a *author) block(out *strings.Builder, v any, indent int) {
	pad := strings.Repeat(" ", indent)
	switch v := v.(type) {
	case map[string]any:
		for _, k := range a.keys(v) {
			a.gap(out, indent)
			out.WriteString(pad + printKey(k) + ":")
			a.below(out, v[k], indent)
		}
	case []any:
		for _, e := range v {
			a.gap(out, indent)
			out.WriteString(pad + "-")
			a.below(out, e, indent)
		}
	}
	if a.chance(10) {
		out.WriteString(pad + a.comment() + "\n")
	}
}

func (a *author) below(out *strings.Builder, v any, indent int) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 && a.chance(70) {
			out.WriteString(a.tail() + "\n")
			a.block(out, v, indent+rapid.IntRange(1, 4).Draw(a.t, "indent"))
			return
		}
	case []any:
		if len(v) > 0 && a.chance(60) {
			out.WriteString(a.tail() + "\n")
			a.block(out, v, indent+rapid.IntRange(1, 3).Draw(a.t, "indent"))
			return
		}
	case string:
		if strings.Contains(v, "\n") && a.chance(60) {
			if style, lines := blockLines(v, '|', indent+2); style != "" {
				out.WriteString(" " + style + "\n")
				for _, l := range lines {
					if l != "" {
						l = strings.Repeat(" ", indent+2) + l
					}
					out.WriteString(l + "\n")
				}
				return
			}
		}
		out.WriteString(" " + a.scalar(v, false) + a.tail() + "\n")
		return
	}
	out.WriteString(" " + a.flow(v) + a.tail() + "\n")
}

func (a *author) file(v any) string {
	var out strings.Builder
	a.block(&out, v, 0)
	return out.String()
}

var sampleTexts = rapid.SampledFrom([]string{
	"a", "b c", "yes", "null", "4711", "3s", "5xx", "1_000", "12:30", "0o17", "1.", ".5", "+1", "1e3x", "- x", "x: y", "# no", "é", "", " lead", "trail ",
	"200ms..5s", "${input.a}", "{{x}}", "it's", `say "x"`, "a\nb", "a\n\n b\n", "*", "&x", "!t", "[x", "{y", "x, y", "on", "~", "1e3", "0x1f",
	"2024-01-01", "tab\there", "|", ">", "%", "@a", "`", "\u00a0", "a #b", "a#b", "?", "x?", ":", "a:", "\\", "日本", "=", "<<", "---", "a --- b",
})

func valueGen(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kind := rapid.IntRange(0, 9).Draw(t, "kind")
		if depth == 0 && kind > 6 {
			kind -= 4
		}
		switch kind {
		case 0:
			return rapid.Int64Range(-1000, 1000).Draw(t, "int")
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return 0.5 + float64(rapid.IntRange(-5, 5).Draw(t, "float"))
		case 7:
			return anySlice(rapid.SliceOfN(valueGen(depth-1), 0, 4).Draw(t, "list"))
		case 8, 9:
			return mapGen(depth-1).Draw(t, "map")
		}
		return sampleTexts.Draw(t, "text")
	})
}

func anySlice(list []any) []any {
	if list == nil {
		return []any{}
	}
	return list
}

func mapGen(depth int) *rapid.Generator[map[string]any] {
	key := rapid.SampledFrom([]string{"name", "does", "in", "next", "cards.find", "reason?", "on", "4711", "a b", "é", "x-y", "when", "true"})
	return rapid.MapOfN(key, valueGen(max(depth, 0)), 0, 4)
}

func parsed(t *rapid.T, text string) *source {
	s, problems := parseSource("x.policy.yaml", fileKind{format: formatYAML}, []byte(text))
	if s == nil || len(problems) > 0 {
		t.Fatalf("%v in\n%s", problems, text)
	}
	return s
}

func TestFormatKeepsValuesAndCommentsAndIsIdempotent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := mapGen(3).Draw(t, "value")
		if len(value) == 0 {
			return
		}
		text := (&author{t: t}).file(value)
		s := parsed(t, text)
		if !reflect.DeepEqual(s.value, any(value)) {
			t.Fatalf("reads as %#v, written was %#v in\n%s", s.value, value, text)
		}
		out, ok := s.formatted()
		if !ok {
			t.Fatalf("cannot be laid out:\n%s\n--- as\n%s", text, s.layout())
		}
		if again := parsed(t, out).layout(); again != out {
			t.Fatalf("not idempotent:\n%s\n--- then\n%s", out, again)
		}
	})
}

func TestRewriteGivesExactlyTheWantedValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := mapGen(3).Draw(t, "value")
		want := clone(value).(map[string]any)
		for range rapid.IntRange(0, 3).Draw(t, "edits") {
			mutate(t, want)
		}
		text := ""
		if len(value) > 0 {
			text = (&author{t: t}).file(value)
		} else if len(want) == 0 {
			return
		}
		s := parsed(t, text)
		out, ok := s.rewrite(want)
		if !ok {
			t.Fatalf("cannot write %#v into\n%s", want, text)
		}
		again := parsed(t, out)
		if got := again.value; !reflect.DeepEqual(got, any(want)) && len(want) > 0 {
			t.Fatalf("reads as %#v, want %#v\n%s\n--- became\n%s", got, want, text, out)
		}
		if losesComments(s.doc.comments, again.doc.comments) {
			t.Fatalf("a comment is lost:\n%s\n--- became\n%s", text, out)
		}
		if reflect.DeepEqual(value, want) && strings.TrimRight(out, "\n") != strings.TrimRight(text, "\n") {
			t.Fatalf("nothing changed and the text did:\n%s\n--- became\n%s", text, out)
		}
	})
}

// mutate changes one thing somewhere in a mapping.
func mutate(t *rapid.T, m map[string]any) {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 || rapid.IntRange(0, 3).Draw(t, "add") == 0 {
		m["added"] = valueGen(1).Draw(t, "new")
		return
	}
	k := rapid.SampledFrom(keys).Draw(t, "key")
	switch v := m[k].(type) {
	case map[string]any:
		if len(v) > 0 {
			mutate(t, v)
			return
		}
	case []any:
		if len(v) > 0 && rapid.Bool().Draw(t, "shorter") {
			m[k] = v[:len(v)-1]
			return
		}
		m[k] = append(v, valueGen(1).Draw(t, "element"))
		return
	}
	if rapid.Bool().Draw(t, "remove") && len(keys) > 1 {
		delete(m, k)
		return
	}
	m[k] = valueGen(1).Draw(t, "other")
}

func TestIdentityIgnoresCommentsOrderAndLayout(t *testing.T) {
	t.Parallel()
	files := template(t)
	want, problems := New().Check(files)
	if want == nil {
		t.Fatal(report(problems))
	}
	rapid.Check(t, func(t *rapid.T) {
		other := op.Dir{}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			other[name] = rewritten(t, name, files[name])
		}
		other["notes/any.txt"] = []byte("not read")
		other[".flywheel/layout/desk.json"] = []byte("{}")
		other["README.md"] = []byte("another")
		got, problems := New().Check(other)
		if got == nil {
			t.Fatal(report(problems))
		}
		if got.Identity != want.Identity {
			t.Fatalf("identity changed:\n%s\n%s", want.Canonical, got.Canonical)
		}
	})
}

// rewritten is a file as another author would write it.
func rewritten(t *rapid.T, name string, content []byte) []byte {
	kind, known := kindOf(name, nil)
	if !known {
		return content
	}
	s, problems := parseSource(name, kind, content)
	if s == nil {
		t.Fatal(problems)
	}
	a := &author{t: t}
	text := ""
	if kind.format == formatMarkdown {
		if m := mapOf(mapOf(s.value)["front"]); len(m) > 0 {
			text = a.file(m)
		}
		text = "---\n" + text + "---\n\n" + s.body + "\n\n"
	} else {
		value := clone(s.value).(map[string]any)
		if kind.dir == "flows" && rapid.Bool().Draw(t, "first is said by order") {
			a.first, _ = value["first"].(string)
			delete(value, "first")
		}
		text = a.file(value)
	}
	if rapid.Bool().Draw(t, "crlf") {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	if rapid.Bool().Draw(t, "bom") {
		text = "\xef\xbb\xbf" + text
	}
	return []byte(text)
}

// leaves lists the paths of all single values.
func leaves(v any, at []string, out [][]string) [][]string {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = leaves(v[k], append(slices.Clone(at), k), out)
		}
		return out
	case []any:
		for i, e := range v {
			out = leaves(e, append(slices.Clone(at), strconv.Itoa(i)), out)
		}
		return out
	}
	return append(out, at)
}

func TestAnyChangedValueChangesTheIdentity(t *testing.T) {
	t.Parallel()
	r, _ := New().Check(template(t))
	changed := 0
	for file, value := range r.tree {
		if r.Data[file] != nil {
			next, problems := Apply(r, []Change{{File: file, Content: append(slices.Clone(r.Data[file]), "\n"...)}})
			if next == nil || next.Identity == r.Identity {
				t.Errorf("%s: another content, the same identity\n%s", file, report(problems))
			}
			continue
		}
		for _, at := range leaves(value, nil, nil) {
			var other any = "another"
			switch v := Lookup(value, at).(type) {
			case int64:
				other = v + 1
			case string:
				other = v + "x"
			}
			path := at
			if strings.HasSuffix(file, ".md") && at[0] == "front" {
				path = at[1:]
			}
			next, _ := Apply(r, []Change{{File: file, Path: path, Value: other}})
			if next == nil {
				continue // not a package any more
			}
			changed++
			if next.Identity == r.Identity {
				t.Errorf("%s %v: another value, the same identity", file, path)
			}
		}
	}
	if changed < 15 {
		t.Errorf("only %d values could be changed", changed)
	}
}

func TestPatchThenCheckIsApply(t *testing.T) {
	t.Parallel()
	files := template(t)
	r, _ := New().Check(files)
	rapid.Check(t, func(t *rapid.T) {
		sources := op.Dir{}
		for _, name := range slices.Sorted(maps.Keys(files)) { // in one order, so that a failure can be repeated
			sources[name] = rewritten(t, name, files[name])
		}
		changes := rapid.SliceOfN(changeGen(r), 1, 4).Draw(t, "changes")
		applied, p1 := Apply(r, changes)
		patched, p2 := Patch(sources, changes)
		if len(Errors(p2)) > 0 {
			if applied != nil {
				t.Fatalf("Patch failed and Apply did not: %s", report(p2))
			}
			return
		}
		checked, p3 := New().Check(patched)
		if (applied == nil) != (checked == nil) {
			t.Fatalf("Apply: %s\nCheck: %s\n%v", report(p1), report(p3), changes)
		}
		if applied != nil && applied.Identity != checked.Identity {
			t.Fatalf("Apply and Patch differ for %v:\n%s\n%s", changes, applied.Canonical, checked.Canonical)
		}
	})
}

// changeGen makes changes of the template: some sound, some not.
func changeGen(r *Resolved) *rapid.Generator[Change] {
	return rapid.Custom(func(t *rapid.T) Change {
		switch rapid.IntRange(0, 8).Draw(t, "kind") {
		case 0:
			return Change{
				File: "tools/shop.tool.yaml", Path: []string{"tools", "orders.find", "retry"},
				Value: map[string]any{"max": rapid.IntRange(0, 5).Draw(t, "max"), "for": []string{"timeout", "5xx"}, "backoff": "200ms..5s"},
			}
		case 1:
			return Change{
				File: "tools/shop.tool.yaml", Path: []string{"tools", rapid.SampledFrom([]string{"orders.find", "orders.cancel", "no.tool"}).Draw(t, "tool"), "timeout"},
				Value: rapid.SampledFrom([]any{"5s", "1m", "soon", nil}).Draw(t, "timeout"),
			}
		case 2:
			return Change{File: "agents/desk.agent.md", Path: []string{"body"}, Content: []byte(rapid.SampledFrom([]string{
				"You are kind.\n", "\n\nTwo\n\nparagraphs {{> tone}}\n\n", "---\nnot front\n---\n", "{{> none}}", "",
			}).Draw(t, "body"))}
		case 3:
			return Change{
				File: "agents/desk.agent.md", Path: []string{rapid.SampledFrom([]string{"temperature", "max_tokens", "description", "examples"}).Draw(t, "key")},
				Value: rapid.SampledFrom([]any{1, 0.5, "data/examples.jsonl", nil}).Draw(t, "value"),
			}
		case 4:
			return Change{File: "data/new.jsonl", Content: []byte(`{"user": "hi"}` + "\n")}
		case 5:
			return Change{File: "memory/past.memory.yaml", Value: map[string]any{
				"memory": "past", "kind": "episodes", "scope": "agent",
				"data": "data/new.jsonl", "retrieve": map[string]any{"k": 4, "by": "tfidf"},
			}}
		case 6:
			return Change{File: "agents/desk.agent.md", Path: []string{"memory"}, Value: []string{"past"}}
		case 7:
			return Change{
				File: "flows/desk.flow.yaml", Path: []string{"nodes", rapid.SampledFrom([]string{"read", "talk", "extra"}).Draw(t, "node")},
				Value: rapid.SampledFrom([]any{map[string]any{"end": map[string]any{"reply": "hi"}}, nil, map[string]any{"code": map[string]any{"order": "'1'"}, "next": "decide"}}).Draw(t, "value"),
			}
		}
		file := rapid.SampledFrom(slices.Sorted(maps.Keys(r.tree))).Draw(t, "file")
		if r.Data[file] != nil {
			return Change{File: file, Content: r.Data[file]}
		}
		at := rapid.SampledFrom(leaves(r.tree[file], nil, nil)).Draw(t, "leaf")
		if strings.HasSuffix(file, ".md") && at[0] == "front" {
			at = at[1:]
		}
		return Change{File: file, Path: at, Value: rapid.SampledFrom([]any{"x", 3, nil, "two\nlines", true}).Draw(t, "value")}
	})
}
