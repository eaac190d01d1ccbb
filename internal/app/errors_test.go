package app_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flywheel/internal/platform/fault"
	"flywheel/internal/run"
)

// codeForm is what a code looks like: domain.what_happened.
var codeForm = regexp.MustCompile(`^[a-z]+\.[a-z][a-z0-9_…]*$`)

// dynamicCodes are the functions that pass on a code that somebody else gave, and why.
var dynamicCodes = map[string]string{
	"internal/run.failed":          "the class of a failed run, listed on its own",
	"internal/deploy.WriteProblem": "an error of the API in the form of OpenAI",
	"internal/cli.asFault":         "an error of the API",
	"internal/platform/fault.Wrap": "makes faults",
	"client.errorOf":               "an error of the API",
}

// said is one place in the code that reports an error.
type said struct{ code, kind, message, pkg string }

// sources reads the Go files of the program, tests left out, and the text constants of each package.
type sources struct {
	files  map[string][]*ast.File       // by directory
	consts map[string]map[string]string // directory → constant → value
	byName map[string]string            // name of a package → directory
}

func readSources(t *testing.T) *sources {
	t.Helper()
	s := &sources{files: map[string][]*ast.File{}, consts: map[string]map[string]string{}, byName: map[string]string{}}
	fset := token.NewFileSet()
	for _, top := range []string{"internal", "client"} {
		err := filepath.WalkDir(filepath.Join("..", "..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../../")
			s.files[dir] = append(s.files[dir], f)
			s.byName[f.Name.Name] = dir
			s.constants(dir, f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *sources) constants(dir string, f *ast.File) {
	if s.consts[dir] == nil {
		s.consts[dir] = map[string]string{}
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for i, name := range v.Names {
				if i < len(v.Values) {
					if text, ok := s.text(dir, v.Values[i]); ok {
						s.consts[dir][name.Name] = text
					}
				}
			}
		}
	}
}

// text is the value of a constant text: a literal, a sum, a constant of this or another package.
func (s *sources) text(dir string, e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		v, err := strconv.Unquote(e.Value)
		return v, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		a, ok := s.text(dir, e.X)
		b, ok2 := s.text(dir, e.Y)
		if !ok2 {
			b = "…"
		}
		if !ok {
			a = "…"
		}
		return a + b, e.Op == token.ADD && (ok || ok2)
	case *ast.Ident:
		v, ok := s.consts[dir][e.Name]
		return v, ok
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			v, ok := s.consts[s.byName[x.Name]][e.Sel.Name]
			return v, ok
		}
	}
	return "", false
}

// TestErrorReference writes docs/reference/errors.md: every code that the program can report, with kind
// and words, found in its sources.
func TestErrorReference(t *testing.T) {
	t.Parallel()
	src := readSources(t)
	var faults, problems []said
	for dir, files := range src.files {
		for _, f := range files {
			for _, d := range f.Decls {
				fn := ""
				if d, ok := d.(*ast.FuncDecl); ok {
					fn = d.Name.Name
				}
				ast.Inspect(d, func(n ast.Node) bool {
					one, isFault, ok := src.report(dir, n)
					switch {
					case !ok && isFault && dynamicCodes[dir+"."+fn] == "":
						t.Errorf("%s.%s reports an error whose code is not constant; say why in dynamicCodes", dir, fn)
					case !ok:
					case isFault:
						faults = append(faults, one)
					default:
						problems = append(problems, one)
					}
					return true
				})
			}
		}
	}
	var b strings.Builder
	b.WriteString("# Errors\n" + generated + `Every error has a kind, a code, a message and a hint. The kind decides what a machine does; the code names the
situation and stays the same while words change. In messages … stands for what is different each time.

| kind | HTTP status | exit code | try again |
|---|---|---|---|
`)
	for _, k := range []fault.Kind{
		fault.Invalid, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Conflict, fault.Exhausted,
		fault.Unavailable, fault.Timeout, fault.Canceled, fault.Internal,
	} {
		again := "no"
		if k.Retryable() {
			again = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %s |\n", k, k.HTTPStatus(), k.ExitCode(), again)
	}
	b.WriteString("\n## Faults\n")
	writeSaid(&b, faults, true)
	b.WriteString("\n## Failed runs\nThe class of a failure is its code. A tool that fails and is not caught gives `tool.CLASS`.\n\n| class | kind |\n|---|---|\n")
	var classes []string
	for name, class := range src.consts["internal/run"] {
		if strings.HasPrefix(name, "Class") {
			classes = append(classes, class)
		}
	}
	slices.Sort(classes)
	for _, class := range classes {
		fmt.Fprintf(&b, "| `%s` | %s |\n", class, run.KindOf(class))
	}
	b.WriteString("\n## Problems in files and fields\nThey come as the fields of an `invalid` fault, each with its place.\n")
	writeSaid(&b, problems, false)
	if len(faults) < 100 || len(problems) < 80 {
		t.Errorf("only %d faults and %d problems were found", len(faults), len(problems))
	}
	golden(t, "errors.md", b.String())
}

// report reads a call or a literal that reports an error. isFault: it makes a fault; ok: its code is
// constant. A kind that depends on something else is ….
func (s *sources) report(dir string, n ast.Node) (one said, isFault, ok bool) {
	switch n := n.(type) {
	case *ast.CompositeLit:
		return s.literal(dir, n)
	case *ast.AssignStmt: // at.Code, at.Message = "package.example", "…"
		if to, ok := n.Lhs[0].(*ast.SelectorExpr); ok && to.Sel.Name == "Code" && len(n.Rhs) > 1 {
			code, ok := s.text(dir, n.Rhs[0])
			return said{code, "", s.words(dir, n.Rhs[1]), dir}, false, ok && codeForm.MatchString(code)
		}
	case *ast.CallExpr:
		name, of := "", strings.TrimPrefix(dir, "internal/platform/")
		switch fun := n.Fun.(type) {
		case *ast.Ident:
			name = fun.Name
		case *ast.SelectorExpr:
			name, of = fun.Sel.Name, ""
			if x, ok := fun.X.(*ast.Ident); ok {
				of = x.Name
			}
		}
		switch of + "." + name {
		case "fault.New":
			return s.fault(dir, n.Args)
		case "fault.Wrap":
			return s.fault(dir, n.Args[1:])
		}
		for i := range len(n.Args) - 1 {
			code, ok := s.text(dir, n.Args[i])
			message := s.words(dir, n.Args[i+1])
			if ok && codeForm.MatchString(code) && (strings.Contains(message, " ") || strings.HasSuffix(strings.ToLower(name), "errorf")) {
				return said{code, "", message, dir}, false, true
			}
		}
	}
	return one, false, false
}

// fault reads the arguments kind, code, format of fault.New.
func (s *sources) fault(dir string, args []ast.Expr) (one said, isFault, ok bool) {
	kind, constant := s.text(dir, args[0])
	if !constant {
		kind = "…"
	}
	code, ok := s.text(dir, args[1])
	return said{code, kind, s.words(dir, args[2]), dir}, true, ok
}

// literal reads a struct with the fields Code and Message, and Kind when it is an error of its own.
func (s *sources) literal(dir string, n *ast.CompositeLit) (one said, isFault, ok bool) {
	fields := map[string]ast.Expr{}
	for _, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok {
				fields[key.Name] = kv.Value
			}
		}
	}
	if fields["Code"] == nil || fields["Message"] == nil {
		return one, false, false
	}
	if fields["Kind"] != nil && dir != "internal/platform/fault" {
		return s.fault(dir, []ast.Expr{fields["Kind"], fields["Code"], fields["Message"]})
	}
	code, ok := s.text(dir, fields["Code"])
	return said{code, "", s.words(dir, fields["Message"]), dir}, false, ok && codeForm.MatchString(code)
}

var verb = regexp.MustCompile(`%[-+# 0]*[0-9]*(\.[0-9]+)?[a-zA-Z]`)

// words is a message with … for what is put in.
func (s *sources) words(dir string, e ast.Expr) string {
	if call, ok := e.(*ast.CallExpr); ok && len(call.Args) > 0 { // fmt.Sprintf
		e = call.Args[0]
	}
	text, ok := s.text(dir, e)
	if !ok {
		return "…"
	}
	parts := strings.Split(text, "%%")
	for i, p := range parts {
		parts[i] = verb.ReplaceAllString(p, "…")
	}
	return strings.Join(parts, "%")
}

func writeSaid(b *strings.Builder, list []said, kinds bool) {
	slices.SortFunc(list, func(x, y said) int {
		return cmp.Or(cmp.Compare(x.code, y.code), cmp.Compare(x.kind, y.kind), cmp.Compare(x.message, y.message), cmp.Compare(x.pkg, y.pkg))
	})
	head := "\n| code | message | package |\n|---|---|---|\n"
	if kinds {
		head = "\n| code | kind | message | package |\n|---|---|---|---|\n"
	}
	b.WriteString(head)
	for _, one := range slices.Compact(list) {
		kind := ""
		if kinds {
			kind = " " + one.kind + " |"
		}
		fmt.Fprintf(b, "| `%s` |%s %s | %s |\n", one.code, kind, cell(one.message), strings.TrimPrefix(one.pkg, "internal/"))
	}
}
