package agent

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/op"
)

const toolSource = `# The bank's tools.
tools:
  cards.find:
    does: Find a card.   # by number
    effect: read

    # ask the bank before raising this
    timeout: 3s
    in: {card_id: string,   reason?: lost|stolen}
    mock: {out: {}}

  # Freezing can be undone.
  cards.freeze:
    does: Freeze a card.
    effect: write
    retry:
      max: 1 # low on purpose
      # other classes are not safe
      for: [timeout]
    idempotency: natural
    mock: {out: {}}
`

func TestPatchChangesOnlyTheLinesConcerned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path  []string
		value any
		want  *strings.Replacer
	}{
		"a value keeps its comment": {
			[]string{"tools", "cards.find", "does"},
			"Look a card up.",
			strings.NewReplacer("does: Find a card.   # by number", "does: Look a card up.  # by number"),
		},
		"a new key goes to the end of its mapping": {
			[]string{"tools", "cards.find", "retry"},
			map[string]any{"max": 3, "for": []string{"timeout", "5xx", "429"}, "backoff": "200ms..5s"},
			strings.NewReplacer("    mock: {out: {}}\n\n  # Freezing", "    mock: {out: {}}\n    retry: {max: 3, for: [timeout, 5xx, \"429\"], backoff: 200ms..5s}\n\n  # Freezing"),
		},
		"a mapping is changed key by key": {
			[]string{"tools", "cards.freeze", "retry"},
			map[string]any{"max": 4, "for": []string{"timeout"}, "backoff": "1s..2s"},
			strings.NewReplacer("max: 1 # low", "max: 4  # low", "      for: [timeout]\n", "      for: [timeout]\n      backoff: 1s..2s\n"),
		},
		"a flow mapping keeps its order": {
			[]string{"tools", "cards.find", "in", "reason?"},
			"lost|stolen|other",
			strings.NewReplacer("in: {card_id: string,   reason?: lost|stolen}", "in: {card_id: string, reason?: lost|stolen|other}"),
		},
		"a removed key leaves its comments": {
			[]string{"tools", "cards.find", "timeout"},
			nil,
			strings.NewReplacer("    timeout: 3s\n", ""),
		},
		"a long value becomes a block": {
			[]string{"tools", "cards.freeze", "does"},
			"one\ntwo\n",
			strings.NewReplacer("does: Freeze a card.", "does: |\n      one\n      two"),
		},
		"the same value changes nothing": {
			[]string{"tools", "cards.find", "in"},
			map[string]any{"card_id": "string", "reason?": "lost|stolen"},
			strings.NewReplacer(),
		},
	} {
		files := op.Dir{"tools/cards.tool.yaml": []byte(toolSource), "other.txt": []byte("x")}
		got, problems := Patch(files, []Change{{File: "tools/cards.tool.yaml", Path: c.path, Value: c.value}})
		if len(problems) > 0 {
			t.Errorf("%s: %s", name, report(problems))
			continue
		}
		if diff := cmp.Diff(c.want.Replace(toolSource), string(got["tools/cards.tool.yaml"])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if string(files["tools/cards.tool.yaml"]) != toolSource {
			t.Fatalf("%s: the given files were changed", name)
		}
	}
}

func TestPatchOfPrompts(t *testing.T) {
	t.Parallel()
	const source = "---\n# which model\nmodel: fast\n---\n\nYou help.  \nAlways.\n"
	for name, c := range map[string]struct {
		source string
		change Change
		want   string
	}{
		"front matter": {source, Change{Path: []string{"memory"}, Value: []string{"past"}}, "---\n# which model\nmodel: fast\nmemory: [past]\n---\n\nYou help.  \nAlways.\n"},
		"body":         {source, Change{Path: []string{"body"}, Content: []byte("You decide.\n")}, "---\n# which model\nmodel: fast\n---\n\nYou decide.\n"},
		"CRLF stays":   {strings.ReplaceAll(source, "\n", "\r\n"), Change{Path: []string{"model"}, Value: "strong"}, "---\r\n# which model\r\nmodel: strong\r\n---\r\n\r\nYou help.  \r\nAlways.\r\n"},
		"no front":     {"You help.\n", Change{Path: []string{"model"}, Value: "fast"}, "---\nmodel: fast\n---\nYou help.\n"},
	} {
		c.change.File = "agents/desk.agent.md"
		got, problems := Patch(op.Dir{c.change.File: []byte(c.source)}, []Change{c.change})
		if len(problems) > 0 {
			t.Errorf("%s: %s", name, report(problems))
			continue
		}
		if diff := cmp.Diff(c.want, string(got[c.change.File])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPatchMakesAndRemovesFiles(t *testing.T) {
	t.Parallel()
	files, problems := Patch(sound(), []Change{
		{File: "data/past.jsonl", Content: []byte(`{"user":"hi"}` + "\n")},
		{File: "memory/past.memory.yaml", Value: map[string]any{"memory": "past", "kind": "episodes", "data": "data/past.jsonl", "retrieve": map[string]any{"k": 4}}},
		{File: "agents/desk.agent.md", Path: []string{"memory"}, Value: []string{"past"}},
	})
	if len(problems) > 0 {
		t.Fatal(report(problems))
	}
	if got, want := string(files["memory/past.memory.yaml"]), "memory: past\ndata: data/past.jsonl\nkind: episodes\nretrieve: {k: 4}\n"; got != want {
		t.Errorf("new file:\n%s\nwant:\n%s", got, want)
	}
	r, problems := New().Check(files)
	if r == nil {
		t.Fatal(report(problems))
	}
	if m := r.Package.Memories["past"]; m.K != 4 || m.By != "tfidf" || r.Package.Data["data/past.jsonl"].Size != 14 {
		t.Errorf("memory = %+v, data = %+v", m, r.Package.Data)
	}
	files, problems = Patch(files, []Change{{File: "memory/past.memory.yaml"}, {File: "agents/desk.agent.md", Path: []string{"memory"}}})
	if len(problems) > 0 || files["memory/past.memory.yaml"] != nil {
		t.Fatalf("%v %v", slices.Sorted(maps.Keys(files)), problems)
	}
	if r, problems = New().Check(files); r == nil || len(r.Data) > 0 {
		t.Errorf("a data file that nothing refers to is in the package: %v %s", r, report(problems))
	}
}

func TestChangesCannotReachTheSuitesOrOutside(t *testing.T) {
	t.Parallel()
	r, _ := New().Check(sound())
	for _, c := range []Change{
		{File: "suites/smoke.suite.yaml", Path: []string{"gate"}, Value: "x"},
		{File: "suites/cases.jsonl", Content: []byte("{}")},
		{File: "../other/flywheel.yaml", Value: map[string]any{}},
		{File: "flywheel.lock", Content: []byte("x")},
		{File: ".flywheel/x", Content: []byte("x")},
	} {
		if _, problems := Patch(sound(), []Change{c}); len(Errors(problems)) != 1 {
			t.Errorf("Patch of %s: %v", c.File, problems)
		}
		if next, problems := Apply(r, []Change{c}); next != nil || len(problems) != 1 {
			t.Errorf("Apply of %s: %v", c.File, problems)
		}
	}
}

func TestApplyChecksWhatItMakes(t *testing.T) {
	t.Parallel()
	r, _ := New().Check(sound())
	before := string(r.Canonical)
	next, problems := Apply(r, []Change{{File: "tools/cards.tool.yaml", Path: []string{"tools", "cards.find", "backup"}, Value: "cards.none"}})
	if next != nil || codes(problems) != "package.unknown_tool" || problems[0].Place() != "tools/cards.tool.yaml" {
		t.Errorf("Apply = %v, %s", next, report(problems))
	}
	next, problems = Apply(r, []Change{{File: "tools/cards.tool.yaml", Path: []string{"tools", "cards.find", "timeout"}, Value: "5s"}})
	if next == nil || next.Identity == r.Identity {
		t.Errorf("Apply = %v, %s", next, report(problems))
	}
	if string(r.Canonical) != before || mapOf(Lookup(map[string]any(r.tree), []string{"tools/cards.tool.yaml", "tools", "cards.find"}))["timeout"] != nil {
		t.Error("the first package was changed")
	}
}

// The canonical tree has no order: without its name the first node would be lost.
func TestAFlowKeepsItsFirstNode(t *testing.T) {
	t.Parallel()
	files, err := Template("help-desk")
	if err != nil {
		t.Fatal(err)
	}
	r, problems := New().Check(files)
	if r == nil {
		t.Fatal(report(problems))
	}
	for _, c := range []Change{
		{File: "flows/desk.flow.yaml", Path: []string{"first"}},
		{File: "flows/desk.flow.yaml", Value: map[string]any{"flow": "desk", "nodes": map[string]any{"a": map[string]any{"agent": "desk"}}}},
	} {
		applied, p1 := Apply(r, []Change{c})
		patched, p2 := Patch(files, []Change{c})
		for _, p := range [][]Problem{p1, p2} {
			if len(p) != 1 || p[0].Code != "package.change" || p[0].Hint == "" {
				t.Errorf("%v: %s", c.Path, report(p))
			}
		}
		if applied != nil || patched != nil {
			t.Errorf("%v: the change was made", c.Path)
		}
	}
}
