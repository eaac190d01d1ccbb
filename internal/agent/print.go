package agent

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

const lineWidth = 110 // characters; a collection on one line leaves room for its key

// printer lays a document out: two spaces, one blank line at most, values plain where they can be,
// collections in the style that their author chose as long as they fit. Every comment comes again.
type printer struct {
	out      strings.Builder
	comments []*comment // in order
	lines    []string   // of the source, to find blank lines
	fresh    bool       // nothing written yet at this level, so no blank line before it
}

// printDocument is the canonical layout of a parsed text.
func printDocument(src string, doc *document) string {
	p := &printer{lines: strings.Split(src, "\n"), fresh: true}
	for _, c := range doc.comments {
		c.used = false
	}
	p.comments = doc.comments
	if doc.root != nil {
		switch {
		case doc.root.kind == scalarNode || p.inline(doc.root):
			p.head(doc.root.line, 0)
			p.out.WriteString(p.flow(doc.root, true))
			p.tail(doc.root)
			p.out.WriteString("\n")
		case doc.root.kind == mappingNode:
			p.mapping(doc.root, 0, len(p.lines)+1)
		default:
			p.sequence(doc.root, 0, len(p.lines)+1)
		}
	}
	p.head(len(p.lines)+1, 0)
	return p.out.String()
}

// head writes the comments, and at most one blank line, that stand before a line of the source.
func (p *printer) head(line, indent int) {
	last := 0
	for _, c := range p.comments {
		if c.used || c.line >= line {
			continue
		}
		c.used = true
		p.blank(c.line)
		p.out.WriteString(strings.Repeat(" ", indent) + commentText(c.text) + "\n")
		p.fresh = false
		last = c.line
	}
	if line <= len(p.lines) && (last == 0 || last < line-1) {
		p.blank(line)
	}
}

func commentText(text string) string { return strings.TrimRight(text, " \t") }

// blank keeps a blank line before a line of the source, except at the beginning of a level.
func (p *printer) blank(line int) {
	if p.fresh || line < 2 || line-2 >= len(p.lines) || strings.TrimSpace(p.lines[line-2]) != "" {
		return
	}
	p.out.WriteString("\n")
}

// foot writes the comments after the last entry of a block that are indented like it.
func (p *printer) foot(limit, column, indent int) {
	for _, c := range p.comments {
		if c.used || c.line >= limit {
			continue
		}
		if c.column < column {
			return
		}
		c.used = true
		p.blank(c.line)
		p.out.WriteString(strings.Repeat(" ", indent) + commentText(c.text) + "\n")
	}
}

// tail writes the comment that stands on the last line of a value, or of a key.
func (p *printer) tail(n *node) { p.tailOf(n.lastLine()) }

func (p *printer) tailOf(line int) {
	for _, c := range p.comments {
		if !c.used && c.line == line {
			c.used = true
			p.out.WriteString("  " + commentText(c.text))
			return
		}
	}
}

func (n *node) lastLine() int {
	if n.kind != scalarNode && n.style == '{' && n.endLine > 0 {
		return n.endLine
	}
	return n.line
}

func (p *printer) mapping(n *node, indent, limit int) {
	for i, pr := range n.pairs {
		next := limit
		if i+1 < len(n.pairs) {
			next = n.pairs[i+1].line
		}
		if i > 0 || n.style == 0 {
			p.head(pr.line, indent)
		}
		p.fresh = false
		p.out.WriteString(strings.Repeat(" ", indent))
		p.pair(pr, indent, next)
	}
	if len(n.pairs) > 0 && n.style == 0 {
		p.foot(limit, n.pairs[0].column, indent)
	}
}

// pair writes key and value; the indentation of the first line is already there.
func (p *printer) pair(pr pair, indent, limit int) {
	p.out.WriteString(printKey(pr.key) + ":")
	p.value(pr.value, pr.line, indent, limit)
}

// value writes what follows a colon, and the line end.
func (p *printer) value(n *node, keyLine, indent, limit int) {
	switch {
	case n.kind == scalarNode && n.value == nil:
		p.tailOf(keyLine)
		p.out.WriteString("\n")
	case n.kind == scalarNode && p.block(n, keyLine, indent+2):
	case n.kind == scalarNode || p.inline(n):
		if n.line != keyLine {
			p.floating(n.line, indent)
		}
		p.out.WriteString(" " + p.flow(n, true))
		p.tail(n)
		p.out.WriteString("\n")
	default:
		p.tailOf(keyLine)
		p.out.WriteString("\n")
		p.fresh = true
		if n.kind == mappingNode {
			p.mapping(n, indent+2, limit)
		} else {
			p.sequence(n, indent+2, limit)
		}
		p.fresh = false
	}
}

// floating puts comments between a key and its value on the next line behind the key's line, which is
// the only place where they still belong to it.
func (p *printer) floating(line, indent int) {
	var moved []string
	for _, c := range p.comments {
		if !c.used && c.line < line {
			c.used = true
			moved = append(moved, commentText(c.text))
		}
	}
	if len(moved) == 0 {
		return
	}
	whole := p.out.String()
	start := strings.LastIndexByte(whole, '\n') + 1
	keyLine := whole[start:]
	p.out.Reset()
	p.out.WriteString(whole[:start])
	for _, m := range moved {
		p.out.WriteString(strings.Repeat(" ", indent) + m + "\n")
	}
	p.out.WriteString(keyLine)
}

func (p *printer) sequence(n *node, indent, limit int) {
	for i, it := range n.items {
		next := limit
		if i+1 < len(n.items) {
			next = n.items[i+1].line
		}
		p.head(it.line, indent)
		p.fresh = false
		p.out.WriteString(strings.Repeat(" ", indent) + "-")
		v := it.value
		switch {
		case v.kind == mappingNode && !p.inline(v):
			p.out.WriteString(" ")
			for j, pr := range v.pairs {
				after := next
				if j+1 < len(v.pairs) {
					after = v.pairs[j+1].line
				}
				if j > 0 {
					p.head(pr.line, indent+2)
					p.out.WriteString(strings.Repeat(" ", indent+2))
				} else if pr.line != it.line {
					p.floating(pr.line, indent)
				}
				p.pair(pr, indent+2, after)
			}
			if v.style == 0 {
				p.foot(next, v.pairs[0].column, indent+2)
			}
		case v.kind == scalarNode && v.value == nil:
			p.out.WriteString(" null")
			p.tailOf(it.line)
			p.out.WriteString("\n")
		default:
			p.value(v, it.line, indent, next)
		}
	}
	if len(n.items) > 0 && n.style == 0 {
		p.foot(limit, n.items[0].column, indent)
	}
}

// inline says whether a collection stays on one line: written so, short enough, no comment inside.
func (p *printer) inline(n *node) bool {
	if n.kind == scalarNode {
		return true
	}
	if len(n.pairs) == 0 && len(n.items) == 0 {
		return true
	}
	if n.style != '{' {
		return false
	}
	for _, c := range p.comments {
		if !c.used && c.line >= n.line && c.line < n.endLine {
			return false
		}
	}
	return utf8.RuneCountInString(p.flow(n, true)) <= lineWidth-10
}

// flow is a value on one line.
func (p *printer) flow(n *node, top bool) string {
	switch n.kind {
	case mappingNode:
		parts := make([]string, len(n.pairs))
		for i, pr := range n.pairs {
			parts[i] = printKey(pr.key) + ": " + p.flow(pr.value, false)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case sequenceNode:
		parts := make([]string, len(n.items))
		for i, it := range n.items {
			parts[i] = p.flow(it.value, false)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return printScalar(n.value, top)
}

// block writes a text of several lines as | or >; false when it is not one.
func (p *printer) block(n *node, keyLine, indent int) bool {
	s, ok := n.value.(string)
	if !ok {
		return false
	}
	style, lines := blockLines(s, n.style, indent)
	if style == "" {
		return false
	}
	p.out.WriteString(" " + style)
	p.tailOf(keyLine)
	p.out.WriteString("\n")
	for _, l := range lines {
		if l != "" {
			l = strings.Repeat(" ", indent) + l
		}
		p.out.WriteString(l + "\n")
	}
	return true
}

// blockLines chooses the indicator and the lines of a block text; "" when quotes are needed.
func blockLines(s string, style byte, indent int) (indicator string, lines []string) {
	body := strings.TrimRight(s, "\n")
	ends := len(s) - len(body)
	if body == "" || body[0] == ' ' || body[0] == '\t' || !printable(s) {
		return "", nil
	}
	if style == '>' && ends <= 1 {
		if lines = fold(body, lineWidth-indent); lines != nil {
			return ">" + [...]string{"-", ""}[ends], lines
		}
	}
	if !strings.Contains(body, "\n") && (ends == 0 || style != '|') {
		return "", nil
	}
	lines = strings.Split(body, "\n")
	for _, l := range lines {
		if strings.TrimRight(l, " \t") != l && strings.TrimSpace(l) == "" {
			return "", nil // a line of blanks does not survive editors
		}
	}
	switch ends {
	case 0:
		return "|-", lines
	case 1:
		return "|", lines
	}
	return "|+", append(lines, make([]string, ends-1)...)
}

// fold wraps paragraphs at width; nil when folding would change the text.
func fold(body string, width int) []string {
	var out []string
	for i, line := range strings.Split(body, "\n") {
		if line == "" || strings.HasPrefix(line, " ") || strings.HasSuffix(line, " ") || strings.Contains(line, "  ") || strings.Contains(line, "\t") {
			return nil
		}
		if i > 0 {
			out = append(out, "")
		}
		words := strings.Split(line, " ")
		current := words[0]
		for _, w := range words[1:] {
			if utf8.RuneCountInString(current)+1+utf8.RuneCountInString(w) > width {
				out = append(out, current)
				current = w
				continue
			}
			current += " " + w
		}
		out = append(out, current)
	}
	return out
}

// nodeOf makes nodes for a value that has no source; small collections are written on one line.
func nodeOf(v any) *node {
	switch v := v.(type) {
	case map[string]any:
		n := &node{kind: mappingNode}
		for _, k := range orderedKeys(v) {
			n.pairs = append(n.pairs, pair{key: k, value: nodeOf(v[k])})
		}
		n.style = flowStyle(n)
		return n
	case []any:
		n := &node{kind: sequenceNode}
		for _, e := range v {
			n.items = append(n.items, item{value: nodeOf(e)})
		}
		n.style = flowStyle(n)
		return n
	}
	n := &node{value: v}
	if s, ok := v.(string); ok && strings.Contains(s, "\n") {
		n.style = '|'
	}
	return n
}

func flowStyle(n *node) byte {
	if utf8.RuneCountInString((&printer{}).flow(n, true)) <= 72 && !deep(n, 0) {
		return '{'
	}
	return 0
}

func deep(n *node, level int) bool {
	if level > 2 || n.style == '|' {
		return true
	}
	for _, p := range n.pairs {
		if deep(p.value, level+1) {
			return true
		}
	}
	for _, i := range n.items {
		if deep(i.value, level+1) {
			return true
		}
	}
	return false
}

// keyOrder is how people write the keys of the format; others follow by name.
var keyOrder = []string{
	"flywheel", "flow", "memory", "name", "does", "effect", "authority", "returns", "max", "for",
	"backoff", "agent", "tool", "when", "to", "in", "next",
}

func orderedKeys(m map[string]any) []string {
	keys := slices.Sorted(maps.Keys(m))
	slices.SortStableFunc(keys, func(a, b string) int { return keyRank(a) - keyRank(b) })
	return keys
}

func keyRank(k string) int {
	if i := slices.Index(keyOrder, k); i >= 0 {
		return i
	}
	return len(keyOrder)
}

func sameValue(n *node, v any) bool { return reflect.DeepEqual(n.plain(), v) }
