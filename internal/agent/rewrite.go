package agent

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// splice replaces the lines [from, to), counted from 1.
type splice struct {
	from, to int
	lines    []string
}

// editor finds the fewest lines that must change so that a text has another value.
type editor struct {
	lines    []string
	comments []*comment
	splices  []splice
}

// rewriteYAML gives the text with another value. Lines that need not change stay as they are, byte for
// byte; where that is not possible the whole text is laid out anew, with its comments.
func rewriteYAML(src string, doc *document, want any) (string, bool) {
	reads := func(text string) bool {
		again, errs := parseYAML(text)
		return again != nil && len(errs) == 0 && reflect.DeepEqual(again.root.plain(), want) &&
			!losesComments(doc.comments, again.comments)
	}
	if doc.root == nil || doc.root.kind == scalarNode && doc.root.value == nil {
		if m, ok := want.(map[string]any); want == nil || ok && len(m) == 0 {
			return src, true
		}
		out := printDocument("", &document{root: asBlock(nodeOf(want))})
		if src != "" && !strings.HasSuffix(src, "\n") {
			src += "\n"
		}
		return src + out, reads(src + out)
	}
	e := &editor{lines: strings.Split(strings.TrimSuffix(src, "\n"), "\n"), comments: doc.comments}
	if e.change(doc.root, want, len(e.lines)+1) {
		if out := e.apply(); reads(out) {
			return out, true
		}
	}
	merged := &document{root: asBlock(merge(doc.root, want)), comments: doc.comments}
	out := printDocument(src, merged)
	return out, reads(out)
}

// asBlock makes the outermost collection a block, as files are written.
func asBlock(n *node) *node {
	if n.kind != scalarNode && len(n.pairs)+len(n.items) > 0 {
		n.style = 0
	}
	return n
}

// losesComments says whether a comment of before is missing in after.
func losesComments(before, after []*comment) bool {
	count := map[string]int{}
	for _, c := range after {
		count[commentText(c.text)]++
	}
	for _, c := range before {
		if count[commentText(c.text)]--; count[commentText(c.text)] < 0 {
			return true
		}
	}
	return false
}

// change makes n have the value want by splices inside it; false when n must be replaced as a whole.
func (e *editor) change(n *node, want any, limit int) bool {
	if sameValue(n, want) {
		return true
	}
	if n.style != 0 {
		return false
	}
	switch w := want.(type) {
	case map[string]any:
		return n.kind == mappingNode && len(w) > 0 && e.changeMapping(n, w, limit)
	case []any:
		return n.kind == sequenceNode && len(w) > 0 && e.changeSequence(n, w, limit)
	}
	return false
}

func (e *editor) changeMapping(n *node, want map[string]any, limit int) bool {
	before := len(e.splices)
	end := 0
	for i, pr := range n.pairs {
		next := limit
		if i+1 < len(n.pairs) {
			next = n.pairs[i+1].line
		}
		end = e.end(pr.line, next)
		v, keep := want[pr.key]
		switch {
		case keep && sameValue(pr.value, v):
		case !keep:
			if e.prefix(pr.line, pr.column) != "" || end <= pr.line {
				e.splices = e.splices[:before]
				return false
			}
			e.splices = append(e.splices, splice{pr.line, end, e.own(pr.line, end, pr.column-1)})
		case !e.change(pr.value, v, next):
			if !e.replace(pr.line, pr.column, end, printPair(pair{key: pr.key, value: merge(pr.value, v)}, pr.column-1)) {
				e.splices = e.splices[:before]
				return false
			}
		}
	}
	indent := n.pairs[0].column - 1
	for _, k := range orderedKeys(want) {
		if n.find(k) == nil {
			text := printPair(pair{key: k, value: nodeOf(want[k])}, indent)
			text[0] = strings.Repeat(" ", indent) + text[0]
			e.splices = append(e.splices, splice{end, end, text})
		}
	}
	return true
}

func (e *editor) changeSequence(n *node, want []any, limit int) bool {
	before := len(e.splices)
	end := 0
	for i, it := range n.items {
		next := limit
		if i+1 < len(n.items) {
			next = n.items[i+1].line
		}
		end = e.end(it.line, next)
		if i >= len(want) {
			if e.prefix(it.line, it.column) != "" {
				e.splices = e.splices[:before]
				return false
			}
			e.splices = append(e.splices, splice{it.line, end, e.own(it.line, end, it.column-1)})
			continue
		}
		if !e.change(it.value, want[i], next) &&
			!e.replace(it.line, it.column, end, printItem(merge(it.value, want[i]), it.column-1)) {
			e.splices = e.splices[:before]
			return false
		}
	}
	indent := n.items[0].column - 1
	for i := len(n.items); i < len(want); i++ {
		text := printItem(nodeOf(want[i]), indent)
		text[0] = strings.Repeat(" ", indent) + text[0]
		e.splices = append(e.splices, splice{end, end, text})
	}
	return true
}

// end is the line after the last that belongs to an entry: blank lines and comments before the next
// entry belong to that.
func (e *editor) end(line, next int) int {
	end := min(next, len(e.lines)+1)
	for end > line+1 && (strings.TrimSpace(e.lines[end-2]) == "" || e.commentLine(end-1)) {
		end--
	}
	return end
}

func (e *editor) commentLine(line int) bool {
	return slices.ContainsFunc(e.comments, func(c *comment) bool {
		return c.line == line && strings.HasPrefix(strings.TrimSpace(e.lines[line-1]), "#")
	})
}

// prefix is what stands before a column when it is more than blanks.
func (e *editor) prefix(line, column int) string {
	return strings.TrimSpace(e.before(line, column))
}

func (e *editor) before(line, column int) string {
	runes := []rune(e.lines[line-1])
	return string(runes[:min(max(column-1, 0), len(runes))])
}

// own gives the comments of lines that go away, as lines of their own.
func (e *editor) own(from, to, indent int) []string {
	var out []string
	for _, c := range e.comments {
		if c.line >= from && c.line < to {
			out = append(out, strings.Repeat(" ", indent)+commentText(c.text))
		}
	}
	return out
}

// replace puts an entry in the place of another. A comment on its first line stays there; others move
// above it.
func (e *editor) replace(line, column, end int, text []string) bool {
	before := e.before(line, column)
	var above []string
	for _, c := range e.comments {
		switch {
		case c.line == line:
			text[0] += "  " + commentText(c.text)
		case c.line > line && c.line < end:
			if strings.TrimSpace(before) != "" {
				return false
			}
			above = append(above, strings.Repeat(" ", column-1)+commentText(c.text))
		}
	}
	text[0] = before + text[0]
	e.splices = append(e.splices, splice{line, end, append(above, text...)})
	return true
}

func (e *editor) apply() string {
	slices.SortStableFunc(e.splices, func(a, b splice) int { return cmp.Compare(a.from, b.from) })
	var out []string
	at := 1
	for _, s := range e.splices {
		if s.from > at {
			out = append(out, e.lines[at-1:s.from-1]...)
		}
		out = append(out, s.lines...)
		at = max(at, s.to)
	}
	if at <= len(e.lines) {
		out = append(out, e.lines[at-1:]...)
	}
	return strings.Join(out, "\n") + "\n"
}

// printPair is an entry at an indentation that its first line does not have yet.
func printPair(p pair, indent int) []string {
	w := &printer{fresh: true}
	w.pair(p, indent, 0)
	return strings.Split(strings.TrimSuffix(w.out.String(), "\n"), "\n")
}

func printItem(n *node, indent int) []string {
	w := &printer{fresh: true}
	w.sequence(&node{kind: sequenceNode, items: []item{{value: n}}}, indent, 0)
	lines := strings.Split(strings.TrimSuffix(w.out.String(), "\n"), "\n")
	lines[0] = strings.TrimLeft(lines[0], " ")
	return lines
}

// merge gives a node with another value that keeps order, style and places of what stays.
func merge(n *node, want any) *node {
	if n == nil {
		return nodeOf(want)
	}
	if sameValue(n, want) {
		return n
	}
	out := *n
	switch w := want.(type) {
	case map[string]any:
		if n.kind != mappingNode || len(n.pairs) == 0 {
			return placed(nodeOf(want), n)
		}
		out.pairs = nil
		for _, pr := range n.pairs {
			if v, ok := w[pr.key]; ok {
				pr.value = merge(pr.value, v)
				out.pairs = append(out.pairs, pr)
			}
		}
		for _, k := range orderedKeys(w) {
			if n.find(k) == nil {
				out.pairs = append(out.pairs, pair{key: k, value: nodeOf(w[k])})
			}
		}
	case []any:
		if n.kind != sequenceNode || len(n.items) == 0 {
			return placed(nodeOf(want), n)
		}
		out.items = nil
		for i, v := range w {
			if i < len(n.items) {
				it := n.items[i]
				it.value = merge(it.value, v)
				out.items = append(out.items, it)
				continue
			}
			out.items = append(out.items, item{value: nodeOf(v)})
		}
	default:
		return placed(nodeOf(want), n)
	}
	return &out
}

func placed(n, at *node) *node {
	n.line, n.column, n.endLine = at.line, at.column, at.endLine
	return n
}
