package agent

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sound is a package in which a test breaks one thing.
func sound() op.Dir {
	return op.Dir{
		"flywheel.yaml":        []byte("flywheel: 1\nname: desk\nentry: agents/desk\nmodels: {fast: local/tiny}\nenv: {URL: http://localhost}\n"),
		"agents/desk.agent.md": []byte("---\nmodel: fast\ntools: [cards.*]\n---\nYou help.\n"),
		"tools/cards.tool.yaml": []byte("tools:\n  cards.find:\n    does: Find a card.\n    effect: read\n" +
			"    in: {card_id: string, reason?: lost|stolen}\n    mock: {out: {ok: true}}\n"),
	}
}

func with(files op.Dir, file, content string) op.Dir {
	files[file] = []byte(content)
	return files
}

func report(problems []Problem) string {
	var out strings.Builder
	for _, p := range problems {
		if p.Warning {
			out.WriteString("warning ")
		}
		out.WriteString(p.String() + "\n")
		if p.Hint != "" {
			out.WriteString("    " + p.Hint + "\n")
		}
	}
	return out.String()
}

// TestBrokenPackages checks each testdata/check/*.txtar: files of a package, and in `want` every problem
// that Check reports.
func TestBrokenPackages(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d golden files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files, want, at := op.Dir{}, "", -1
			if !bytes.Contains(archive.Comment, []byte("from nothing")) {
				files = sound()
			}
			for i, f := range archive.Files {
				if f.Name == "want" {
					want, at = string(f.Data), i
					continue
				}
				files[f.Name] = f.Data
			}
			resolved, problems := New().Check(files)
			got := report(problems)
			if *update {
				if at < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					at = len(archive.Files) - 1
				}
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if failed := len(Errors(problems)) > 0; failed != (resolved == nil) {
				t.Errorf("resolved = %v with %d errors", resolved != nil, len(Errors(problems)))
			}
		})
	}
}

func TestASoundPackageHasNoProblems(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]op.Dir{"sound": sound(), "template": template(t)} {
		r, problems := New().Check(files)
		if r == nil || len(problems) > 0 {
			t.Fatalf("%s:\n%s", name, report(problems))
		}
		if !r.Identity.Valid() {
			t.Errorf("%s: identity %q", name, r.Identity)
		}
	}
}

func template(t *testing.T) op.Dir {
	t.Helper()
	files, err := Template("help-desk")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func codes(problems []Problem) string {
	var out []string
	for _, p := range Errors(problems) {
		out = append(out, p.Code)
	}
	return strings.Join(out, " ")
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 100_000)
	for name, c := range map[string]struct {
		files op.Dir
		want  string
	}{
		"empty directory":        {op.Dir{}, "package.not_found"},
		"empty root":             {op.Dir{"flywheel.yaml": nil}, "package.empty"},
		"only a comment":         {op.Dir{"flywheel.yaml": []byte("# later\n")}, "package.empty"},
		"root is a list":         {op.Dir{"flywheel.yaml": []byte("- a\n")}, "package.type"},
		"path upwards":           {with(sound(), "../evil.yaml", "x"), "package.path"},
		"path inside upwards":    {with(sound(), "agents/../../evil.agent.md", "x"), "package.path"},
		"absolute path":          {with(sound(), "/etc/passwd", "x"), "package.path"},
		"path with backslash":    {with(sound(), `agents\x.agent.md`, "x"), "package.path"},
		"path with drive":        {with(sound(), "C:/x.yaml", "x"), "package.path"},
		"not UTF-8":              {with(sound(), "agents/b.agent.md", "---\nmodel: fast\n---\n\xff\xfe"), "package.encoding"},
		"a NUL":                  {with(sound(), "tools/b.tool.yaml", "tools: {}\x00"), "package.encoding"},
		"huge file":              {with(sound(), "agents/b.agent.md", "---\nmodel: fast\n---\n"+strings.Repeat("x", maxText)), "package.too_large"},
		"deep brackets":          {with(sound(), "tools/b.tool.yaml", "tools: "+deep), "package.yaml"},
		"deep dashes":            {with(sound(), "tools/b.tool.yaml", strings.Repeat("- ", 10_000)), "package.yaml"},
		"deep mappings":          {with(sound(), "agents/b.agent.md", "---\nmodel: a/b\ninput: "+strings.Repeat("{a: ", 200)+strings.Repeat("}", 200)+"\n---\nx"), "package.yaml"},
		"aliases that multiply":  {with(sound(), "tools/b.tool.yaml", "a: &a [x, x]\nb: &b [*a, *a]\ntools: [*b, *b]\n"), "package.unknown_key package.yaml_anchor package.unknown_key package.yaml_anchor package.yaml_anchor package.yaml_anchor package.type package.yaml_anchor package.yaml_anchor"},
		"two documents":          {with(sound(), "tools/b.tool.yaml", "tools: {}\n---\ntools: {}\n"), "package.yaml"},
		"number that has a zero": {with(sound(), "tools/b.tool.yaml", "tools: {}\nmcp: {a: {command: [x, 0471]}}\n"), "package.ambiguous"},
		"data file that is huge": {with(with(sound(), "memory/m.memory.yaml", "memory: m\nkind: episodes\ndata: d.jsonl\n"), "d.jsonl", strings.Repeat(" ", maxData+1)), "package.too_large"},
	} {
		_, problems := New().Check(c.files)
		if got := codes(problems); got != c.want {
			t.Errorf("%s: %s\nwant %s\n%s", name, got, c.want, report(problems))
		}
	}
}

func TestSecretsAreNeverRepeated(t *testing.T) {
	t.Parallel()
	const key = "sk-proj-abcdefghijklmnopqrstuvwxyz012345"
	_, problems := New().Check(with(sound(), "notes.md", "my key is "+key+"\n"))
	if got := codes(problems); got != "package.secret" {
		t.Fatalf("codes = %s", got)
	}
	if text := report(problems); strings.Contains(text, key[8:]) {
		t.Errorf("the report repeats the key: %s", text)
	}
}

func TestBrokenFilesDoNotCauseFollowUpErrors(t *testing.T) {
	t.Parallel()
	_, problems := New().Check(with(sound(), "tools/cards.tool.yaml", "tools: {a: {\n"))
	if got := codes(problems); got != "package.yaml" {
		t.Errorf("codes = %s\n%s", got, report(problems))
	}
	_, problems = New().Check(with(sound(), "flywheel.yaml", "flywheel: [1\n"))
	if got := codes(problems); got != "package.yaml" {
		t.Errorf("codes = %s\n%s", got, report(problems))
	}
}

func TestFaultListsEveryError(t *testing.T) {
	t.Parallel()
	_, problems := New().Check(with(sound(), "agents/desk.agent.md", "---\nmodl: fast\ntools: [nope]\n---\nx\n"))
	err := Fault(problems)
	var f *fault.Error
	if !fault.HasCode(err, "package.invalid") || fault.KindOf(err) != fault.Invalid {
		t.Fatalf("Fault = %v", err)
	}
	f = fault.From(err)
	if len(f.Fields) != 3 || f.Fields[1].Path != "agents/desk.agent.md:2:1" || f.Fields[1].Hint != `did you mean "model"?` {
		t.Errorf("fields = %+v", f.Fields)
	}
}

func TestRegisteredKindsReportAtTheirPlaces(t *testing.T) {
	t.Parallel()
	kind := Kind{Glob: "suites/*.suite.yaml", Keys: []string{"suite", "worlds", "cases"}, Check: func(c *KindFile) []Problem {
		if c.Package.Tools["cards.find"] == nil {
			t.Error("the kind does not see the package")
		}
		c.Read([]string{"worlds", "bank"}, Lookup(c.Value, []string{"worlds", "bank"}).(string))
		if _, ok := c.Read([]string{"cases"}, "suites/case.jsonl"); !ok {
			c.Errorf([]string{"cases", "1"}, "suite.cases", "second").Hint = "look"
		}
		c.FileErrorf("suites/cases.jsonl", 3, 1, "suite.case", "third line")
		return nil
	}}
	files := with(with(sound(), "suites/a.suite.yaml", "suite: a\nwrlds: 1\nworlds: {bank: worlds/b.json}\ncases:\n  - x\n  - y\n"),
		"suites/cases.jsonl", "{}")
	_, problems := New(kind).Check(with(files, "worlds/b.json", "{}"))
	want := `suites/a.suite.yaml:2:1: package.unknown_key the key "wrlds" is not known
    did you mean "worlds"?
suites/a.suite.yaml:4:1: package.missing_file there is no file suites/case.jsonl
    did you mean "suites/cases.jsonl"?
suites/a.suite.yaml:6:5: suite.cases second
    look
suites/cases.jsonl:3:1: suite.case third line
`
	if diff := cmp.Diff(want, report(problems)); diff != "" {
		t.Error(diff)
	}
}

func TestSuitesAreKeptBesideTheAgent(t *testing.T) {
	t.Parallel()
	kind := Kind{Glob: "suites/*.suite.yaml", Check: func(c *KindFile) []Problem {
		c.Read([]string{"world"}, "worlds/b.json")
		return nil
	}}
	files := with(with(sound(), "suites/a.suite.yaml", "world: worlds/b.json # the bank\nsuite: a\n"), "worlds/b.json", "{ }")
	r, problems := New(kind).Check(files)
	if r == nil {
		t.Fatal(report(problems))
	}
	plain, _ := New().Check(sound())
	if r.Identity != plain.Identity {
		t.Error("a suite changes the identity")
	}
	want := map[string]*SuiteSource{"a": {
		Name: "a", File: "suites/a.suite.yaml", Source: []byte(`{"suite":"a","world":"worlds/b.json"}`),
		Files: map[string][]byte{"worlds/b.json": []byte("{ }")},
	}}
	if diff := cmp.Diff(want, r.Suites); diff != "" {
		t.Error(diff)
	}
}
