package agent

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/spec"
)

type pinner struct{}

func (pinner) Resolve(_ context.Context, c spec.ModelChoice) (string, error) {
	if c.First == "local/gone" {
		return "", fault.New(fault.Unavailable, "model.unreachable", "no model")
	}
	return c.First, nil
}

func (pinner) Pin(_ context.Context, ref string) (ModelPin, error) {
	return ModelPin{Ref: ref, Digest: string(blob.Of([]byte(ref))), Form: "action", Reproducible: true, Params: map[string]string{"quant": "Q4 1"}}, nil
}

type schemer struct{}

func (schemer) Schemas(context.Context, map[string]string, *spec.Package) (map[string]string, error) {
	return map[string]string{"orders.find": string(blob.Of([]byte("schema")))}, nil
}

func checked(t *testing.T, files op.Dir) *Resolved {
	t.Helper()
	r, problems := New().Check(files)
	if r == nil {
		t.Fatal(report(problems))
	}
	return r
}

func TestLockSurvivesItsText(t *testing.T) {
	t.Parallel()
	r := checked(t, template(t))
	lock, err := MakeLock(t.Context(), r, Pins{Models: pinner{}, Tools: schemer{}})
	if err != nil {
		t.Fatal(err)
	}
	text := lock.Text()
	again, problems := ParseLock(text)
	if len(problems) > 0 {
		t.Fatal(report(problems))
	}
	if diff := cmp.Diff(lock, again); diff != "" {
		t.Error(diff)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")[2:]
	for i := 1; i < len(lines); i++ {
		if lines[i-1] >= lines[i] {
			t.Errorf("not sorted:\n%s\n%s", lines[i-1], lines[i])
		}
	}
	model, _ := lock.Find(KindModel, "fast")
	want := "model   fast local/smollm2-135m-instruct " + model.Digest + " form=action quant=Q4_1 reproducible=true"
	if !model.digestIs("local/smollm2-135m-instruct") || model.String() != want {
		t.Errorf("model line = %s", model)
	}
	if find, _ := lock.Find(KindTool, "orders.find"); !strings.Contains(find.String(), " schema=sha256:") {
		t.Errorf("tool line = %s", find)
	}
	if stale := again.Stale(r); len(stale) > 0 {
		t.Errorf("a fresh lock is stale: %s", report(stale))
	}
}

func (l LockLine) digestIs(ref string) bool { return l.Digest == string(blob.Of([]byte(ref))) }

func TestAChangedPackageHasAStaleLock(t *testing.T) {
	t.Parallel()
	files := template(t)
	lock, err := MakeLock(t.Context(), checked(t, files), Pins{})
	if err != nil {
		t.Fatal(err)
	}
	files[LockFile] = lock.Text()
	if r := checked(t, files); len(r.Problems) > 0 {
		t.Fatalf("a fresh lock: %s", report(r.Problems))
	}
	files["prompts/tone.prompt.md"] = append(files["prompts/tone.prompt.md"], "Be brief.\n"...)
	r := checked(t, files)
	want := "warning flywheel.lock: package.lock_stale prompt prompts/tone has changed since it was locked\n    flywheel lock\n"
	if diff := cmp.Diff(want, report(r.Problems)); diff != "" {
		t.Error(diff)
	}
	if err := LockFault(lock, r); !fault.HasCode(err, "package.lock_stale") {
		t.Errorf("LockFault = %v", err)
	}
	if _, problems := ParseLock([]byte("package nonsense\nwat\n")); len(problems) != 2 {
		t.Errorf("problems = %v", problems)
	}
}

func TestAModelThatIsNotThereCannotBeLocked(t *testing.T) {
	t.Parallel()
	files := with(sound(), "flywheel.yaml", "flywheel: 1\nname: desk\nentry: agents/desk\nmodels: {fast: local/gone}\n")
	if _, err := MakeLock(t.Context(), checked(t, files), Pins{Models: pinner{}}); !fault.HasCode(err, "model.unreachable") {
		t.Errorf("error = %v", err)
	}
}

func TestPackagesSurviveTheBlobStore(t *testing.T) {
	t.Parallel()
	store, err := blob.OpenFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := checked(t, template(t))
	if err := Store(t.Context(), store, r); err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), store, r.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Package, got.Package); diff != "" {
		t.Errorf("package (-stored +loaded):\n%s", diff)
	}
	if diff := cmp.Diff(r.Data, got.Data); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Components(r), Components(got)); diff != "" {
		t.Error(diff)
	}
	if blob.Of(got.Canonical) != r.Identity {
		t.Error("the canonical bytes are not those of the identity")
	}
	d, _ := blob.PutBytes(t.Context(), store, []byte("{}"))
	if _, err := Load(t.Context(), store, d); !fault.HasCode(err, "package.identity") {
		t.Errorf("Load of another blob: %v", err)
	}
	if _, err := Load(t.Context(), store, blob.Of([]byte("none"))); !fault.HasCode(err, "blob.missing") {
		t.Errorf("Load of nothing: %v", err)
	}
}

func TestDiffNamesComponentsAndWords(t *testing.T) {
	t.Parallel()
	files := template(t)
	before := checked(t, files)
	if d := Diff(before, checked(t, template(t))); len(d) != 0 {
		t.Errorf("equal packages differ: %v", d)
	}
	changed, problems := Patch(files, []Change{
		{File: "tools/shop.tool.yaml", Path: []string{"tools", "orders.find", "timeout"}, Value: "5s"},
		{File: "tools/shop.tool.yaml", Path: []string{"tools", "orders.find", "retry"}, Value: map[string]any{"max": 2}},
		{File: "prompts/tone.prompt.md", Path: []string{"body"}, Content: []byte("Answer a greeting in two short, friendly sentences. Never promise what no tool has done.")},
		{File: "flywheel.yaml", Path: []string{"models", "strong"}, Value: "openai/gpt-5-mini"},
		{File: "data/examples.jsonl", Content: []byte(`{"user": "hi"}` + "\n")},
	})
	if len(problems) > 0 {
		t.Fatal(report(problems))
	}
	diffs := Diff(before, checked(t, changed))
	var out strings.Builder
	WriteDiff(&out, diffs)
	want := `changed data   data/examples.jsonl
    bytes: 543 → 15
    lines: 7 → 1
added   model  strong
    first: (none) → "openai/gpt-5-mini"
changed prompt prompts/tone
    Answer a greeting in [-one-]{+two+} short, friendly [-sentence.-]{+sentences.+} Never promise what no tool has done.
changed tool   orders.find
    retry: (none) → {"max":2}
    timeout: "3s" → "5s"
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWordsGiveBothTexts(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{"", ""}, {"a", ""}, {"", "b c"}, {"a b c", "a x c"}, {"  a\nb", "a\n\nb "}, {"one two three", "three two one"}, {"é è", "è é"}} {
		var a, b strings.Builder
		for _, w := range Words(c[0], c[1]) {
			if w.Op != "+" {
				a.WriteString(w.Text)
			}
			if w.Op != "-" {
				b.WriteString(w.Text)
			}
		}
		if a.String() != c[0] || b.String() != c[1] {
			t.Errorf("%q → %q: got %q → %q", c[0], c[1], a.String(), b.String())
		}
	}
}
