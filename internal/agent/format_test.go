package agent

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"flywheel/internal/platform/op"
)

func TestCanonicalLayout(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile("testdata/format/all.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := op.Dir{}
	for _, f := range archive.Files {
		files[f.Name] = f.Data
	}
	changed, problems := Format(files)
	if len(problems) > 0 {
		t.Fatal(report(problems))
	}
	out := &txtar.Archive{}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		out.Files = append(out.Files, txtar.File{Name: name, Data: changed[name]})
	}
	const golden = "testdata/format/all.golden"
	got := txtar.Format(out)
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("layout (-want +got):\n%s", diff)
	}
	again := maps.Clone(files)
	maps.Copy(again, changed)
	if twice, _ := Format(again); len(twice) > 0 {
		t.Errorf("a second fmt changes %v", slices.Sorted(maps.Keys(twice)))
	}
}

func TestFormatLeavesBrokenFilesAlone(t *testing.T) {
	t.Parallel()
	changed, problems := Format(op.Dir{"flywheel.yaml": []byte("a: [\n"), "tools/x.tool.yaml": []byte("tools:   {}\n"), "x.txt": []byte("  x")})
	if diff := cmp.Diff(op.Dir{"tools/x.tool.yaml": []byte("tools: {}\n")}, changed); diff != "" {
		t.Error(diff)
	}
	if codes(problems) != "package.yaml" {
		t.Errorf("problems: %s", report(problems))
	}
}

func TestTemplatesAreFormattedAndGetTheirName(t *testing.T) {
	t.Parallel()
	for _, name := range Templates() {
		files, err := NewFrom(name, "my-desk")
		if err != nil {
			t.Fatal(err)
		}
		if changed, problems := Format(files); len(changed)+len(problems) > 0 {
			t.Errorf("%s: fmt changes %v %s", name, slices.Sorted(maps.Keys(changed)), report(problems))
		}
		r := checked(t, files)
		if r.Package.Name != "my-desk" || len(r.Suites) == 0 || files["README.md"] == nil {
			t.Errorf("%s: name %q, %d suites", name, r.Package.Name, len(r.Suites))
		}
		for tool, s := range r.Package.Tools {
			if s.Mock == nil {
				t.Errorf("%s: %s has no mock", name, tool)
			}
		}
	}
	if _, err := Template("../templates"); err == nil {
		t.Error("a template outside of the templates")
	}
	if _, err := NewFrom("help-desk", "My Desk"); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("error = %v", err)
	}
}
