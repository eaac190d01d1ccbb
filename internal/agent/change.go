package agent

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"strconv"
	"strings"

	"flywheel/internal/platform/op"
)

// Change is one edit of a package.
type Change struct {
	File string `json:"file"`
	// Path leads to a value of a YAML file or of front matter by keys and indexes (the length of a list
	// appends); ["body"] is the text of a Markdown file; empty is the whole file.
	Path []string `json:"path,omitempty"`
	// Value is what is set there, in the form that the file has; nil removes it.
	Value any `json:"value,omitempty"`
	// Content is the new text of a body or of a whole file; an empty Path with neither Content nor Value
	// removes the file.
	Content []byte `json:"content,omitempty"`
}

// removes says whether the change takes something away.
func (c Change) removes() bool { return c.Value == nil && c.Content == nil }

func (c Change) problem(format string, args ...any) Problem {
	return Problem{File: c.File, Code: "package.change", Message: fmt.Sprintf(format, args...)}
}

// check refuses what is not the agent's: paths outside, and the suites that judge it.
func (c Change) check() *Problem {
	var p Problem
	switch suite := strings.HasPrefix(c.File, "suites/"); {
	case !safePath(c.File):
		p = c.problem("the path leaves the package")
		p.Code = "package.path"
	case suite, c.File == LockFile, strings.HasPrefix(c.File, ".flywheel/"):
		p = c.problem("a change of the agent cannot touch %s", c.File)
	case len(c.Path) > maxDepth:
		p = c.problem("the path is too long")
	default:
		return nil
	}
	return &p
}

// Apply makes changes on the canonical tree and gives the package that Check would give for the sources
// after Patch, except for suites, which it keeps as they are. The first package stays as it is.
func Apply(r *Resolved, changes []Change) (*Resolved, []Problem) {
	t := tree{}
	for file, value := range r.tree {
		t[file] = clone(value)
	}
	data := maps.Clone(r.Data)
	if data == nil {
		data = map[string][]byte{}
	}
	for _, c := range changes {
		if p := c.check(); p != nil {
			return nil, []Problem{*p}
		}
		kind, known := kindOf(c.File, nil)
		if !known && t[c.File] != nil {
			_, isData := asData(t[c.File])
			known = !isData
			kind = fileKind{format: formatYAML}
		}
		if !known {
			if len(c.Path) > 0 || c.Value != nil {
				return nil, []Problem{c.problem("a data file is changed as a whole, by its content")}
			}
			if c.removes() {
				delete(data, c.File)
			} else {
				data[c.File] = c.Content
			}
			continue
		}
		value, problems := applyTo(t[c.File], kind, c)
		if len(Errors(problems)) > 0 {
			return nil, problems
		}
		if value == nil {
			delete(t, c.File)
			continue
		}
		t[c.File] = value
	}
	next, problems := fromTree(t, data)
	if next != nil {
		next.Suites = r.Suites
	}
	return next, problems
}

// applyTo is the value of a file after a change; nil when the file is gone.
func applyTo(value any, kind fileKind, c Change) (any, []Problem) {
	if len(c.Path) == 0 {
		switch {
		case c.removes():
			return nil, nil
		case c.Content != nil:
			s, problems := parseSource(c.File, kind, c.Content)
			if s == nil {
				return nil, problems
			}
			return s.value, problems
		}
	}
	at := c.Path
	set, err := treeValue(c.Value)
	if err != nil {
		return nil, []Problem{c.problem("the value is not JSON: %v", err)}
	}
	if kind.format == formatMarkdown {
		if value == nil {
			value = map[string]any{"front": map[string]any{}, "body": ""}
		}
		if len(at) == 1 && at[0] == "body" {
			if c.Content != nil {
				set = normalText(c.Content)
			}
			text, ok := set.(string)
			if !ok && set != nil {
				return nil, []Problem{c.problem("a body is a text")}
			}
			value.(map[string]any)["body"] = normalBody(text)
			return value, nil
		}
		at = append([]string{"front"}, at...)
		if set == nil && len(c.Path) == 0 {
			return nil, nil
		}
	} else if c.Content != nil {
		return nil, []Problem{c.problem("content is for bodies and whole files; give a value")}
	}
	if value == nil && len(at) > 0 {
		value = map[string]any{}
	}
	value, err = setAt(value, at, set)
	if err != nil {
		return nil, []Problem{c.problem("setting %s: %v", strings.Join(c.Path, "."), err)}
	}
	if kind.dir == "flows" && beginless(value) {
		p := c.problem("the flow would not say where it begins")
		p.Hint = "values have no order: name a node as first"
		return nil, []Problem{p}
	}
	return value, nil
}

// beginless says whether a flow has nodes and none that is the first.
func beginless(flow any) bool {
	m, _ := flow.(map[string]any)
	nodes, _ := m["nodes"].(map[string]any)
	return len(nodes) > 0 && m["first"] == nil
}

// setAt sets or removes (nil) a value below v and gives the new v.
func setAt(v any, at []string, set any) (any, error) {
	if len(at) == 0 {
		return set, nil
	}
	switch m := v.(type) {
	case nil:
		if set == nil {
			return nil, nil
		}
		return setAt(map[string]any{}, at, set)
	case map[string]any:
		if len(at) == 1 && set == nil {
			delete(m, at[0])
			return m, nil
		}
		below, err := setAt(m[at[0]], at[1:], set)
		if err != nil {
			return nil, err
		}
		if _, had := m[at[0]]; had || below != nil {
			m[at[0]] = below
		}
		return m, nil
	case []any:
		i, err := strconv.Atoi(at[0])
		if err != nil || i < 0 || i > len(m) {
			return nil, fmt.Errorf("%q is not an index of a list of %d", at[0], len(m))
		}
		if len(at) == 1 && set == nil {
			if i == len(m) {
				return m, nil
			}
			return append(m[:i:i], m[i+1:]...), nil
		}
		if i == len(m) {
			m = append(m, nil)
		}
		if m[i], err = setAt(m[i], at[1:], set); err != nil {
			return nil, err
		}
		return m, nil
	}
	return nil, errors.New("there is a single value on the way")
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	}
	return v
}

// Patch makes the same changes as Apply on the sources: only the lines concerned are rewritten, and
// comments survive. It gives the whole directory.
func Patch(files op.Dir, changes []Change) (op.Dir, []Problem) {
	out := maps.Clone(files)
	if out == nil {
		out = op.Dir{}
	}
	for _, c := range changes {
		if p := c.check(); p != nil {
			return nil, []Problem{*p}
		}
		content, problems := patchFile(out[c.File], out[c.File] != nil, c)
		if len(Errors(problems)) > 0 {
			return nil, problems
		}
		if content == nil {
			delete(out, c.File)
			continue
		}
		out[c.File] = content
	}
	return out, nil
}

func patchFile(content []byte, exists bool, c Change) ([]byte, []Problem) {
	kind, known := kindOf(c.File, nil)
	if ok, _ := path.Match("policies/*.policy.yaml", c.File); ok {
		kind, known = fileKind{format: formatYAML}, true
	}
	if len(c.Path) == 0 && c.Value == nil {
		return c.Content, nil
	}
	if !known {
		return nil, []Problem{c.problem("a data file is changed as a whole, by its content")}
	}
	if !exists {
		content = []byte{}
	}
	s, problems := parseSource(c.File, kind, content)
	if s == nil || len(Errors(problems)) > 0 {
		return nil, problems
	}
	want, problems := applyTo(clone(s.value), kind, c)
	if len(problems) > 0 {
		return nil, problems
	}
	text, ok := s.rewrite(want)
	if !ok {
		return nil, []Problem{c.problem("the change cannot be written into this file")}
	}
	if strings.Contains(string(content), "\r\n") {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return []byte(text), nil
}

// rewrite gives the text of the file with another value: with as few lines changed as possible, else
// laid out anew with all its comments. What it gives reads as exactly that value.
func (s *source) rewrite(want any) (string, bool) {
	reads := func(text string) bool {
		again, problems := parseSource(s.file, s.kind, []byte(text))
		return again != nil && len(problems) == 0 && reflect.DeepEqual(again.value, want)
	}
	if s.kind.format == formatMarkdown {
		m := want.(map[string]any)
		front, ok := rewriteYAML(s.front, s.doc, m["front"])
		if !ok {
			return "", false
		}
		body, _ := m["body"].(string)
		text := s.body
		if normalBody(s.body) != body {
			lead := s.body[:len(s.body)-len(strings.TrimLeft(s.body, "\n"))]
			text = lead + body + "\n"
		}
		out := "---\n" + front + "---\n" + text
		if front == "" && s.bodyLine == 1 {
			out = text
		}
		return out, reads(out)
	}
	value := want
	if flow, ok := want.(map[string]any); ok && s.kind.dir == "flows" {
		value = s.withoutFirst(flow)
	}
	out, ok := rewriteYAML(s.text, s.doc, value)
	if ok && !reads(out) && s.kind.dir == "flows" {
		out, ok = rewriteYAML(s.text, s.doc, want) // the first node must be named
	}
	return out, ok && reads(out)
}

// withoutFirst drops the name of the first node where the order of the nodes says it.
func (s *source) withoutFirst(flow map[string]any) map[string]any {
	if s.doc.root.find("first") != nil {
		return flow
	}
	out := maps.Clone(flow)
	delete(out, "first")
	return out
}
