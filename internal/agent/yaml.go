package agent

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const maxDepth = 64 // of nested collections

type nodeKind int

const (
	scalarNode nodeKind = iota
	mappingNode
	sequenceNode
)

// node is a YAML value with its place. Anchors, aliases, tags and merge keys never get this far.
type node struct {
	kind         nodeKind
	line, column int  // of its first character, from 1
	style        byte // scalars: 0 plain, ' " | >; collections: 0 block, { flow
	value        any  // scalars: string, int64, float64, bool, nil
	pairs        []pair
	items        []item
	endLine      int // flow collections: line of the closing bracket
}

type pair struct {
	key          string
	quoted       bool
	line, column int
	value        *node
}

// item is an element of a sequence; line and column are those of its dash in block style.
type item struct {
	line, column int
	value        *node
}

type comment struct {
	line, column int
	text         string // with its #
	used         bool
}

// document is a parsed YAML text.
type document struct {
	root     *node // nil when the text holds nothing
	comments []*comment
}

// yamlError is what is wrong with a text before it means anything.
type yamlError struct {
	line, column        int
	code, message, hint string
}

// parseYAML reads one YAML document. It reports every error that it can find; the document is nil only
// when the text has no readable structure.
func parseYAML(src string) (doc *document, errs []yamlError) {
	defer func() {
		if r := recover(); r != nil { // the parser met what it was not written for
			doc, errs = nil, []yamlError{{1, 1, "package.yaml", "the text is not readable as YAML", ""}}
		}
	}()
	if line, deep := tooDeep(src); deep {
		return nil, []yamlError{{line, 1, "package.yaml", fmt.Sprintf("more than %d levels of nesting", maxDepth), ""}}
	}
	file, err := parser.ParseBytes([]byte(src), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []yamlError{syntaxError(err)}
	}
	c := &converter{}
	doc = &document{comments: commentsOf(src)}
	for i, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if i > 0 && doc.root != nil {
			line, column := place(d.Body)
			c.fail(line, column, "package.yaml", "a file holds one document", "remove the --- line")
			break
		}
		doc.root = c.convert(d.Body, 0)
	}
	return doc, c.errs
}

// tooDeep looks for brackets nested beyond reason before the recursive parser sees them.
func tooDeep(src string) (line int, deep bool) {
	depth, line := 0, 1
	for i := range len(src) {
		switch src[i] {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '\n':
			line++
		}
		if depth > 4*maxDepth {
			return line, true
		}
	}
	// Block sequences can nest on one line: - - - -
	for n, text := range strings.Split(src, "\n") {
		if strings.Count(text, "- ") > 4*maxDepth || strings.Count(text, "? ") > 4*maxDepth {
			return n + 1, true
		}
		if len(text)-len(strings.TrimLeft(text, " ")) > 16*maxDepth {
			return n + 1, true
		}
	}
	return 0, false
}

func syntaxError(err error) yamlError {
	e := yamlError{1, 1, "package.yaml", err.Error(), ""}
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		e.message = syntax.GetMessage()
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			e.line, e.column = max(t.Position.Line, 1), max(t.Position.Column, 1)
		}
	} else if first, _, found := strings.Cut(e.message, "\n"); found {
		e.message = first
	}
	switch {
	case strings.Contains(e.message, `'\t'`) || strings.Contains(e.message, "'\t'"):
		e.message, e.hint = "a tab cannot indent YAML", "use spaces"
	case strings.Contains(e.message, "mapping value is not allowed"):
		e.hint = "put a text that holds `: ` in quotes, and align the keys of one mapping"
	}
	return e
}

func commentsOf(src string) []*comment {
	var out []*comment
	for _, t := range lexer.Tokenize(src) {
		if t.Type == token.CommentType && t.Position != nil {
			out = append(out, &comment{line: t.Position.Line, column: t.Position.Column, text: "#" + strings.TrimRight(t.Value, " \t\r\n")})
		}
	}
	return out
}

func place(n ast.Node) (line, column int) {
	switch v := n.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return place(v.Values[0].Key)
		}
		if v.Start != nil {
			return v.Start.Position.Line, v.Start.Position.Column
		}
	case *ast.MappingValueNode:
		return place(v.Key)
	case *ast.LiteralNode:
		return v.Start.Position.Line, v.Start.Position.Column
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 1, 1
}

type converter struct{ errs []yamlError }

func (c *converter) fail(line, column int, code, message, hint string) {
	c.errs = append(c.errs, yamlError{line, column, code, message, hint})
}

func (c *converter) convert(n ast.Node, depth int) *node {
	line, column := place(n)
	out := &node{line: line, column: column}
	if depth > maxDepth {
		c.fail(line, column, "package.yaml", fmt.Sprintf("more than %d levels of nesting", maxDepth), "")
		return out
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		out.kind = mappingNode
		if v.IsFlowStyle {
			out.style = '{'
			if v.End != nil {
				out.endLine = v.End.Position.Line
			}
		}
		for _, m := range v.Values {
			c.pair(out, m, depth)
		}
	case *ast.MappingValueNode:
		out.kind = mappingNode
		c.pair(out, v, depth)
	case *ast.SequenceNode:
		out.kind = sequenceNode
		if v.IsFlowStyle {
			out.style = '{'
			if v.End != nil {
				out.endLine = v.End.Position.Line
			}
		}
		for i, e := range v.Values {
			it := item{value: c.convert(e, depth+1)}
			it.line, it.column = it.value.line, it.value.column
			if !v.IsFlowStyle && i < len(v.Entries) && v.Entries[i].Start != nil {
				it.line, it.column = v.Entries[i].Start.Position.Line, v.Entries[i].Start.Position.Column
			}
			out.items = append(out.items, it)
		}
	default:
		c.scalar(out, n, depth)
	}
	return out
}

func (c *converter) pair(out *node, m *ast.MappingValueNode, depth int) {
	line, column := place(m.Key)
	p := pair{line: line, column: column}
	switch k := m.Key.(type) {
	case *ast.StringNode:
		p.key, p.quoted = k.Value, k.Token.Type == token.DoubleQuoteType || k.Token.Type == token.SingleQuoteType
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		p.key = m.Key.GetToken().Value
	case *ast.MergeKeyNode:
		c.fail(line, column, "package.yaml_anchor", "merge keys (<<) are not allowed", "write the keys out")
		return
	case *ast.MappingKeyNode:
		c.fail(line, column, "package.yaml", "keys with ? are not allowed", "write `key: value`")
		return
	default:
		c.fail(line, column, "package.yaml", "a key is a text", "")
		return
	}
	for _, other := range out.pairs {
		if other.key == p.key {
			c.fail(line, column, "package.duplicate_key",
				fmt.Sprintf("%q is already set on line %d", p.key, other.line), "keep one of them")
			c.convert(m.Value, depth+1) // for its errors
			return
		}
	}
	p.value = c.convert(m.Value, depth+1)
	if p.value.kind == scalarNode && p.value.value == nil && p.value.line == 0 {
		p.value.line, p.value.column = line, column
	}
	out.pairs = append(out.pairs, p)
}

func (c *converter) scalar(out *node, n ast.Node, depth int) {
	switch v := n.(type) {
	case *ast.StringNode:
		out.value = v.Value
		switch v.Token.Type {
		case token.DoubleQuoteType:
			out.style = '"'
		case token.SingleQuoteType:
			out.style = '\''
		}
	case *ast.LiteralNode:
		out.value = v.Value.Value
		out.style = '|'
		if strings.HasPrefix(v.Start.Value, ">") {
			out.style = '>'
		}
	case *ast.IntegerNode:
		out.value = c.integer(v, out.line, out.column)
	case *ast.FloatNode:
		out.value = c.float(v.Value)
	case *ast.BoolNode:
		out.value = v.Value
	case *ast.NullNode:
		out.value = nil
	case *ast.InfinityNode, *ast.NanNode:
		c.fail(out.line, out.column, "package.yaml", "infinity and NaN are not numbers here", "")
	case *ast.AnchorNode:
		c.fail(out.line, out.column, "package.yaml_anchor", "anchors (&) are not allowed", "write the value out")
		*out = *c.convert(v.Value, depth+1)
	case *ast.AliasNode:
		c.fail(out.line, out.column, "package.yaml_anchor", "aliases (*) are not allowed",
			"write the value out, or put a text that begins with * in quotes")
	case *ast.TagNode:
		c.fail(out.line, out.column, "package.yaml_tag", "tags (!) are not allowed", "put a text that begins with ! in quotes")
	default:
		c.fail(out.line, out.column, "package.yaml", fmt.Sprintf("%s is not allowed", strings.ToLower(n.Type().String())), "")
	}
}

func (c *converter) integer(v *ast.IntegerNode, line, column int) any {
	digits := strings.TrimLeft(v.Token.Value, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		c.fail(line, column, "package.ambiguous", fmt.Sprintf("%s may be a number or a text", v.Token.Value),
			"put it in quotes, or drop the leading zero")
		return nil
	}
	switch i := v.Value.(type) {
	case int64:
		return i
	case uint64:
		if i <= math.MaxInt64 {
			return int64(i)
		}
	}
	c.fail(line, column, "package.yaml", "the number is too large", "put it in quotes if it is an id")
	return nil
}

// float makes whole numbers integers, so that 3 and 3.0 are one value.
func (c *converter) float(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return f
}

// plain is the value of a node as JSON-like Go values.
func (n *node) plain() any {
	if n == nil {
		return nil
	}
	switch n.kind {
	case mappingNode:
		m := make(map[string]any, len(n.pairs))
		for _, p := range n.pairs {
			m[p.key] = p.value.plain()
		}
		return m
	case sequenceNode:
		list := make([]any, len(n.items))
		for i, it := range n.items {
			list[i] = it.value.plain()
		}
		return list
	}
	return n.value
}
