package agent

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"flywheel/internal/platform/op"
)

// Limits of what is read; more is an error that says so.
const (
	maxText  = 1 << 20  // bytes of a file that is parsed
	maxData  = 10 << 20 // bytes of a data file
	maxFiles = 5000
)

// format names how a file is read.
type format int

const (
	formatYAML format = iota
	formatMarkdown
	formatData
)

// fileKind is a kind of file that format 1 knows.
type fileKind struct {
	glob, dir, suffix string
	format            format
}

var formatKinds = []fileKind{
	{"flywheel.yaml", "", "", formatYAML},
	{"agents/*.agent.md", "agents", ".agent.md", formatMarkdown},
	{"prompts/*.prompt.md", "prompts", ".prompt.md", formatMarkdown},
	{"flows/*.flow.yaml", "flows", ".flow.yaml", formatYAML},
	{"tools/*.tool.yaml", "tools", ".tool.yaml", formatYAML},
	{"memory/*.memory.yaml", "memory", ".memory.yaml", formatYAML},
}

const suiteGlob = "suites/*.suite.yaml"

// kindOf finds the kind of a path; only YAML and Markdown kinds have one.
func kindOf(file string, kinds []Kind) (fileKind, bool) {
	for _, k := range formatKinds {
		if ok, _ := path.Match(k.glob, file); ok {
			return k, true
		}
	}
	for _, k := range kinds {
		if ok, _ := path.Match(k.Glob, file); ok {
			f := formatYAML
			if strings.HasSuffix(file, ".md") {
				f = formatMarkdown
			}
			return fileKind{glob: k.Glob, format: f}, true
		}
	}
	return fileKind{}, false
}

// stem is NAME of agents/NAME.agent.md.
func stem(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return name
}

// source is a parsed file with the places of its values. A file of a canonical tree has no places.
type source struct {
	file     string
	kind     fileKind
	text     string // LF line ends, no byte order mark
	doc      *document
	docLine  int // line before the first of doc: 0, or 1 in front matter
	bodyLine int // first line of a Markdown body, from 1
	front    string
	body     string
	value    any // normalised content
}

// normalText removes what editors put into files without anybody seeing it.
func normalText(b []byte) string {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// parseSource reads a file of a known kind.
func parseSource(file string, kind fileKind, content []byte) (*source, []Problem) {
	s := &source{file: file, kind: kind}
	if len(content) > maxText {
		return nil, []Problem{{
			File: file, Code: "package.too_large",
			Message: fmt.Sprintf("%d bytes; a file that is read as text has at most %d", len(content), maxText),
			Hint:    "move the data into a .jsonl file",
		}}
	}
	if line, column, ok := validText(content); !ok {
		return nil, []Problem{{
			File: file, Line: line, Column: column, Code: "package.encoding",
			Message: "the file is not UTF-8 text", Hint: "save it as UTF-8",
		}}
	}
	s.text = normalText(content)
	yamlText := s.text
	if kind.format == formatMarkdown {
		if p := s.split(); p != nil {
			return nil, []Problem{*p}
		}
		yamlText = s.front
	}
	doc, errs := parseYAML(yamlText)
	var problems []Problem
	for _, e := range errs {
		problems = append(problems, Problem{
			File: file, Line: e.line + s.docLine, Column: e.column, Code: e.code,
			Message: e.message, Hint: e.hint,
		})
	}
	if doc == nil {
		return nil, problems
	}
	s.doc = doc
	s.value = s.normalise()
	return s, problems
}

// validText finds the first byte that is not UTF-8 or is a NUL.
func validText(b []byte) (line, column int, ok bool) {
	line, column = 1, 1
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == 0 || (r == utf8.RuneError && size == 1) {
			return line, column, false
		}
		if r == '\n' {
			line, column = line+1, 0
		}
		column++
		i += size
	}
	return 0, 0, true
}

// split takes the front matter from a Markdown file: between --- on the first line and the next ---.
func (s *source) split() *Problem {
	rest, ok := strings.CutPrefix(s.text, "---\n")
	if !ok {
		s.body, s.bodyLine = s.text, 1
		return nil
	}
	line := 2
	for offset := 0; offset < len(rest); line++ {
		end := strings.IndexByte(rest[offset:], '\n')
		next := offset + end + 1
		if end < 0 {
			next = len(rest)
		}
		if strings.TrimRight(rest[offset:next], " \t\n") == "---" {
			s.front, s.body = rest[:offset], rest[next:]
			s.docLine, s.bodyLine = 1, line+1
			return nil
		}
		offset = next
	}
	return &Problem{
		File: s.file, Line: 1, Column: 1, Code: "package.front_matter",
		Message: "the front matter is not closed", Hint: "end it with a line that is ---",
	}
}

// normalise is the content without layout. What the layout says and behaviour depends on, the first
// node of a flow, is made explicit.
func (s *source) normalise() any {
	value := s.doc.root.plain()
	if s.kind.format == formatMarkdown {
		if value == nil {
			value = map[string]any{}
		}
		return map[string]any{"front": value, "body": normalBody(s.body)}
	}
	if m, ok := value.(map[string]any); ok && s.kind.dir == "flows" && m["first"] == nil {
		if nodes := s.doc.root.find("nodes"); nodes != nil && len(nodes.pairs) > 0 {
			m["first"] = nodes.pairs[0].key
		}
	}
	return value
}

// normalBody drops blank lines around a prompt.
func normalBody(body string) string {
	return strings.TrimRight(strings.TrimLeft(body, "\n"), " \t\n")
}

func (n *node) find(key string) *node {
	if n == nil {
		return nil
	}
	for _, p := range n.pairs {
		if p.key == key {
			return p.value
		}
	}
	return nil
}

// at is the place of a value, or of its key; the nearest enclosing one that exists when it does not.
func (s *source) at(at []string, key bool) (line, column int) {
	if s == nil || s.doc == nil {
		return 0, 0
	}
	if s.kind.format == formatMarkdown {
		if len(at) > 0 && at[0] == "body" {
			return s.bodyLine, 1
		}
		if len(at) > 0 && at[0] == "front" {
			at = at[1:]
		}
	}
	n := s.doc.root
	if n == nil {
		return 1, 1
	}
	line, column = n.line, n.column
	for i, step := range at {
		last := i == len(at)-1
		found := false
		for _, p := range n.pairs {
			if p.key == step {
				found = true
				line, column = p.value.line, p.value.column
				if p.value.kind != scalarNode && p.value.style == 0 || last && key {
					line, column = p.line, p.column
				}
				n = p.value
				break
			}
		}
		if !found && n.kind == sequenceNode {
			if index, ok := indexOf(step, len(n.items)); ok {
				found = true
				n = n.items[index].value
				line, column = n.line, n.column
			}
		}
		if !found {
			break
		}
	}
	return line + s.docLine, column
}

func indexOf(step string, length int) (int, bool) {
	index := 0
	for _, r := range step {
		if r < '0' || r > '9' || index > length {
			return 0, false
		}
		index = index*10 + int(r-'0')
	}
	return index, step != "" && index < length
}

// checkPaths reports names that could leave the package, and files beyond the limits.
func checkPaths(files op.Dir) []Problem {
	var out []Problem
	if len(files) > maxFiles {
		out = append(out, Problem{
			File: "flywheel.yaml", Code: "package.too_large",
			Message: fmt.Sprintf("%d files; a package has at most %d", len(files), maxFiles),
		})
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if !safePath(file) {
			out = append(out, Problem{
				File: file, Code: "package.path", Message: "the path leaves the package",
				Hint: "use a relative path with / and without ..",
			})
		}
	}
	return out
}

// safePath says whether a slash path stays below the package and means the same on every system.
func safePath(p string) bool {
	return fs.ValidPath(p) && p != "." && !strings.ContainsAny(p, "\\:\x00\n\r") && path.Clean(p) == p
}
