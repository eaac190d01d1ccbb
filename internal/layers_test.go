// Package internal_test holds the house rules as tests: which package may import which, how long a
// file or a function may grow, and that every package says what it is.
package internal_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// domains in their order: left may never import right.
var domains = []string{
	"identity", "hub", "model", "tool", "agent", "policy", "run", "lab", "release", "deploy", "gateway", "evolve",
}

const (
	maxFileLines     = 500
	maxTestFileLines = 600
	maxFunctionLines = 80
	maxDepth         = 12
	maxEdges         = 4.0
)

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "flywheel/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// place says where a package lives: its storey and, for a domain, its position.
func place(path string) (storey int, domain string, position int) {
	rest, ok := strings.CutPrefix(path, "flywheel/internal/")
	switch {
	case !ok && (path == "flywheel/spec" || strings.HasPrefix(path, "flywheel/spec/")):
		return 0, "spec", 0
	case !ok && path == "flywheel/client":
		return 1, "client", 0
	case !ok:
		return 9, path, 0
	}
	top := strings.SplitN(rest, "/", 2)[0]
	switch top {
	case "platform":
		return 1, "platform", 0
	case "server", "cli":
		return 3, top, 0
	case "app":
		return 4, top, 0
	}
	if top == "observe" {
		return 2, top, 1 // beside the others: identity and platform only
	}
	for i, d := range domains {
		if d == top {
			return 2, top, i + 1
		}
	}
	return -1, top, 0
}

func TestArrowsPointDown(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		fromStorey, from, fromPosition := place(p.ImportPath)
		if fromStorey < 0 {
			t.Errorf("%s is in no storey: add it to domains in this test and to ARCHITECTURE.md", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			if !strings.HasPrefix(i, "flywheel/") {
				continue
			}
			toStorey, to, toPosition := place(i)
			if why := forbidden(fromStorey, from, fromPosition, toStorey, to, toPosition); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, i, why)
			}
		}
	}
}

func forbidden(fromStorey int, from string, fromPosition, toStorey int, to string, toPosition int) string {
	switch {
	case from == to || fromStorey == 9:
		return ""
	case toStorey == 9:
		return "nothing imports a program"
	case from == "cli":
		if to == "client" || to == "platform" || to == "spec" {
			return ""
		}
		return "the CLI talks through the API client only"
	case from == "app" || toStorey == 0:
		return ""
	case from == "spec":
		return "spec imports the standard library only"
	case from == "client":
		return "client imports the standard library and spec only"
	case from == "platform" && toStorey > 1:
		return "platform knows nothing of the domains above it"
	case to == "observe" && from != "evolve":
		return "observe is read by evolve only; upwards goes by events"
	case from == "observe" && to != "identity" && to != "platform":
		return "observe imports identity and platform only"
	case fromStorey == 2 && toStorey == 2 && toPosition > fromPosition:
		return from + " stands left of " + to + " and may never import it"
	case toStorey > fromStorey:
		return "arrows point down only"
	}
	return ""
}

func TestPlatformDoesNotKnowAgents(t *testing.T) {
	t.Parallel()
	walkGo(t, "platform", func(path string, file *ast.File, _ *token.FileSet, _ int) {
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && strings.Contains(strings.ToLower(id.Name), "agent") && id.Name != "UserAgent" {
				t.Errorf("%s: identifier %s: the platform knows nothing of agents", path, id.Name)
			}
			return true
		})
	})
}

func TestGraphStaysSimple(t *testing.T) {
	t.Parallel()
	imports := map[string][]string{}
	edges, count := 0, 0
	for _, p := range listPackages(t) {
		if storey, _, _ := place(p.ImportPath); storey == 9 || strings.HasSuffix(p.ImportPath, "/app") {
			continue
		}
		count++
		for _, i := range p.Imports {
			if strings.HasPrefix(i, "flywheel/") && !strings.HasPrefix(i, "flywheel/internal/platform/fault") {
				imports[p.ImportPath] = append(imports[p.ImportPath], i)
				edges++
			}
		}
	}
	if perPackage := float64(edges) / float64(count); perPackage > maxEdges {
		t.Errorf("%.1f imports per package, at most %.1f", perPackage, maxEdges)
	}
	depths := map[string]int{}
	var depth func(p string) int
	depth = func(p string) int {
		if d, ok := depths[p]; ok {
			return d
		}
		d := 0
		for _, i := range imports[p] {
			d = max(d, depth(i)+1)
		}
		depths[p] = d
		return d
	}
	for p := range imports {
		if d := depth(p); d > maxDepth {
			t.Errorf("%s is %d imports deep, at most %d", p, d, maxDepth)
		}
	}
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", "../cmd", "../client", "../spec", "../examples"} {
		walkGo(t, dir, func(path string, file *ast.File, fset *token.FileSet, lines int) {
			limit := maxFileLines
			if strings.HasSuffix(path, "_test.go") {
				limit = maxTestFileLines
			}
			if lines > limit {
				t.Errorf("%s has %d lines, at most %d: split it by noun", path, lines, limit)
			}
			if strings.HasSuffix(path, "_test.go") {
				return
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok {
					if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > maxFunctionLines {
						t.Errorf("%s: function %s has %d lines, at most %d", path, f.Name.Name, n, maxFunctionLines)
					}
				}
			}
		})
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, dir := range []string{".", "../cmd", "../client", "../spec", "../examples"} {
		walkGo(t, dir, func(path string, file *ast.File, _ *token.FileSet, _ int) {
			if strings.HasSuffix(path, "_test.go") {
				return
			}
			d := filepath.Dir(path)
			documented[d] = documented[d] || file.Doc != nil
		})
	}
	var missing []string
	for dir, ok := range documented {
		if !ok {
			missing = append(missing, dir)
		}
	}
	sort.Strings(missing)
	for _, dir := range missing {
		t.Errorf("%s has no package comment", dir)
	}
}

func TestNoVagueNames(t *testing.T) {
	t.Parallel()
	vague := map[string]bool{"util": true, "utils": true, "common": true, "helpers": true, "types": true, "base": true, "core": true, "lib": true, "misc": true, "shared": true, "pkg": true}
	for _, p := range listPackages(t) {
		if name := filepath.Base(p.ImportPath); vague[name] {
			t.Errorf("%s: %q says nothing; name the package after what it holds", p.ImportPath, name)
		}
	}
}

func TestGoModHasNoReplace(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if strings.HasPrefix(line, "replace") {
			t.Errorf("go.mod: %s", line)
		}
		if fields := strings.Fields(line); len(fields) == 2 && strings.Contains(fields[0], ".") && strings.HasPrefix(fields[1], "v") {
			direct++
		}
	}
	if direct > 60 {
		t.Errorf("%d direct requirements, at most 60", direct)
	}
}

func walkGo(t *testing.T, dir string, visit func(path string, file *ast.File, fset *token.FileSet, lines int)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "testdata" {
			if d != nil && d.IsDir() && d.Name() == "testdata" {
				return fs.SkipDir
			}
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		visit(path, file, fset, bytes.Count(src, []byte("\n")))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
