package agent

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/expr"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/spec"
)

// useData takes a file into the package as data, because a value refers to it.
func (c cursor) useData(file string) ([]byte, bool) {
	b := c.b
	if !safePath(file) {
		c.errorf("package.path", "%s leaves the package", quote(file)).Hint = "use a relative path with / and without .."
		return nil, false
	}
	content, ok := b.files[file]
	if !ok {
		c.errorf("package.missing_file", "there is no file %s", file).Hint = nearFile(file, b.files)
		return nil, false
	}
	if _, known := kindOf(file, nil); known || strings.HasPrefix(file, "suites/") || strings.HasPrefix(file, ".flywheel/") {
		c.errorf("package.path", "%s is not a data file", file).Hint = "refer to a file of its own"
		return nil, false
	}
	if len(content) > maxData {
		c.errorf("package.too_large", "%s has %d bytes; a data file has at most %d", file, len(content), maxData)
		return nil, false
	}
	b.data[file] = content
	b.pkg.Data[file] = spec.DataFile{Digest: string(blob.Of(content)), Size: int64(len(content))}
	return content, true
}

// nearFile is a hint with the file that was probably meant.
func nearFile(file string, files op.Dir) string {
	var others []string
	for _, f := range slices.Sorted(maps.Keys(files)) {
		if _, known := kindOf(f, nil); !known {
			others = append(others, f)
		}
	}
	if s := fault.Suggest(file, others); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return "the path begins at the directory of flywheel.yaml"
}

// checkText compiles a text with ${…} and checks what it reads.
func (c cursor) checkText(roots ...string) {
	s, ok := c.v.(string)
	if !ok || !strings.Contains(s, "${") {
		return
	}
	t, err := expr.CompileText(s, roots...)
	if err != nil {
		c.exprError(err, roots)
		return
	}
	if slices.Contains(t.Vars(), "env") {
		c.checkEnv(s)
	}
}

// checkExpr compiles an expression without ${}.
func (c cursor) checkExpr(src string, roots ...string) {
	p, err := expr.Compile(src, roots...)
	if err != nil {
		c.exprError(err, roots)
		return
	}
	if slices.Contains(p.Vars(), "env") {
		c.checkEnv(src)
	}
}

// checkTexts checks all texts below a value.
func (c cursor) checkTexts(roots ...string) {
	switch c.v.(type) {
	case map[string]any:
		for _, e := range c.entries() {
			e.checkTexts(roots...)
		}
	case []any:
		for _, e := range c.list() {
			e.checkTexts(roots...)
		}
	default:
		c.checkText(roots...)
	}
}

// syntaxWords says in plain words what the parser of expressions says.
var syntaxWords = strings.NewReplacer("Syntax error: ", "", "'<EOF>'", "end of the expression",
	"mismatched input", "unexpected", "extraneous input", "unexpected")

func (c cursor) exprError(err error, roots []string) {
	code, hint := "package.expression", ""
	message := err.Error()
	var e *expr.Error
	if errors.As(err, &e) {
		message, _, _ = strings.Cut(e.Message, " expecting {")
		message = syntaxWords.Replace(message)
		if e.Unknown != "" {
			code, hint = "package.unknown_name", didYouMean(e.Unknown, roots)
		}
		if e.Line > 1 || e.Column > 1 {
			message = fmt.Sprintf("%s (at %d:%d of the expression)", message, e.Line, e.Column)
		}
	}
	c.errorf(code, "%s", message).Hint = hint
}

var (
	holeUse  = regexp.MustCompile(`\$\{[^}]*\}?`)
	holeForm = regexp.MustCompile(`^\$\{\s*(env|in)\.([A-Za-z0-9_-]+)(\.[A-Za-z0-9_-]+)*\s*\}$`)
)

// checkHoles checks the ${env.NAME} and ${in.argument} of what a tool calls: plain paths, no expressions,
// because they are escaped for their place. Without args there is no ${in.…}.
func (c cursor) checkHoles(args []string) {
	s, ok := c.v.(string)
	if !ok {
		switch c.v.(type) {
		case map[string]any:
			for _, e := range c.entries() {
				e.checkHoles(args)
			}
		case []any:
			for _, e := range c.list() {
				e.checkHoles(args)
			}
		}
		return
	}
	for _, hole := range holeUse.FindAllString(s, -1) {
		m := holeForm.FindStringSubmatch(hole)
		switch {
		case m == nil || m[1] == "in" && args == nil:
			p := c.errorf("package.expression", "%s cannot be used here", quote(hole))
			p.Hint = "write ${env.NAME} or ${in.ARGUMENT}"
			if args == nil {
				p.Hint = "write ${env.NAME}"
			}
		case m[1] == "env":
			c.b.needEnv(c, m[2])
		case !slices.Contains(args, m[2]):
			c.errorf("package.unknown_argument", "%s is not an argument of the tool", quote(m[2])).Hint = didYouMean(m[2], args)
		}
	}
}

var envUse = regexp.MustCompile(`\benv\??\.([A-Za-z_][A-Za-z0-9_]*)`)

// checkEnv reports environment names that flywheel.yaml does not declare.
func (c cursor) checkEnv(src string) {
	for _, m := range envUse.FindAllStringSubmatch(src, -1) {
		c.b.needEnv(c, m[1])
	}
}

// needEnv is deferred to the end, when flywheel.yaml has been read.
func (b *builder) needEnv(c cursor, name string) {
	b.later = append(b.later, func() {
		if _, ok := b.pkg.Env[name]; !ok {
			c.errorf("package.unknown_env", "the environment value %s is not declared", name).Hint = cmpHint(didYouMean(name, slices.Sorted(maps.Keys(b.pkg.Env))), "declare it in flywheel.yaml: env: {"+name+": default}")
		}
	})
}

func cmpHint(first, second string) string {
	if first == "" || strings.HasPrefix(first, "known:") {
		return second
	}
	return first
}
