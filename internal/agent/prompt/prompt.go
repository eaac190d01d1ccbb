// Package prompt renders the templates of agent prompts, a small part of Handlebars:
//
//	{{path.to}}                      a value: texts as they are, nothing for what is not there, the rest as JSON
//	{{> part}}                       a prompt part, with the same variables
//	{{#each xs}}…{{this}}…{{/each}}  once per element; {{@index}} counts from 0; fields of an element by name
//	{{#if x}}…{{else}}…{{/if}}       false, 0, "", null and empty lists and mappings do not hold
//	{{! a note}}                     nothing
//	\{{                              two braces
//
// Nothing is escaped: a prompt is not HTML. A block tag alone on its line leaves no line behind. The
// same template and variables always give the same bytes.
package prompt

import (
	"fmt"
	"slices"
	"strings"
)

const (
	maxDepth = 32      // nested blocks and parts
	maxBytes = 4 << 20 // of a rendered prompt
)

// Error is a mistake in a template.
type Error struct {
	Line, Column int // from 1; the column counts characters
	Message      string
}

// Error is the message with its place.
func (e *Error) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

// Ref is a variable or a part that a template names.
type Ref struct {
	Name         string // a whole path, as in input.message
	Line, Column int
}

// Template is a parsed template; it is safe for concurrent use.
type Template struct {
	source string
	body   []element
	vars   []Ref
	parts  []Ref
}

type kind int

const (
	literal kind = iota
	value
	part
	each
	condition
)

type element struct {
	kind   kind
	text   string // literal
	path   []string
	name   string // part
	indent string // put before each line of a part that is alone on its line
	after  string // the line end of such a part
	body   []element
	other  []element // of else
}

// Parse reads a template; the error is an *Error with the first mistake.
func Parse(src string) (*Template, error) {
	p := &parser{t: &Template{source: src}, src: src, line: 1}
	body, _, err := p.block("", 0)
	if err != nil {
		return nil, err
	}
	p.t.body = body
	return p.t, nil
}

// Vars are the variables that come from outside: not this, nor fields of an element of each.
func (t *Template) Vars() []Ref { return slices.Clone(t.vars) }

// Parts are the prompt parts that the template inserts.
func (t *Template) Parts() []Ref { return slices.Clone(t.parts) }

// String is the source.
func (t *Template) String() string { return t.source }

type parser struct {
	t      *Template
	src    string
	at     int
	line   int
	inEach int
	depth  int
}

func (p *parser) fail(at int, format string, args ...any) error {
	line, column := p.place(at)
	return &Error{line, column, fmt.Sprintf(format, args...)}
}

func (p *parser) place(at int) (line, column int) {
	before := p.src[:at]
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, len([]rune(before[start:])) + 1
}

// block reads until {{/name}} or {{else}}, whichever ends it; opened is where its tag begins.
func (p *parser) block(name string, opened int) (body []element, end string, err error) {
	if p.depth++; p.depth > maxDepth {
		return nil, "", p.fail(p.at, "more than %d blocks inside each other", maxDepth)
	}
	defer func() { p.depth-- }()
	for {
		text, found := p.literal()
		if text != "" {
			body = append(body, element{kind: literal, text: text})
		}
		if !found {
			if name != "" {
				return nil, "", p.fail(opened, "{{#%s}} has no {{/%s}}", name, name)
			}
			return body, "", nil
		}
		tag, start, err := p.tag()
		if err != nil {
			return nil, "", err
		}
		switch {
		case strings.HasPrefix(tag, "!"):
			p.standalone(&body, start)
		case tag == "else" || strings.HasPrefix(tag, "/"):
			closes := strings.TrimSpace(strings.TrimPrefix(tag, "/"))
			if name == "" || tag != "else" && closes != name {
				return nil, "", p.fail(start, "{{%s}} closes nothing", tag)
			}
			p.standalone(&body, start)
			return body, tag, nil
		case strings.HasPrefix(tag, "#"):
			el, err := p.open(tag, start, &body)
			if err != nil {
				return nil, "", err
			}
			body = append(body, el)
		case strings.HasPrefix(tag, ">"):
			el, err := p.part(tag, start, &body)
			if err != nil {
				return nil, "", err
			}
			body = append(body, el)
		default:
			path, err := p.path(tag, start)
			if err != nil {
				return nil, "", err
			}
			body = append(body, element{kind: value, path: path})
		}
	}
}

// literal reads text up to the next tag.
func (p *parser) literal() (text string, found bool) {
	var out strings.Builder
	for {
		i := strings.Index(p.src[p.at:], "{{")
		if i < 0 {
			out.WriteString(p.src[p.at:])
			p.at = len(p.src)
			return out.String(), false
		}
		if i > 0 && p.src[p.at+i-1] == '\\' {
			out.WriteString(p.src[p.at : p.at+i-1])
			out.WriteString("{{")
			p.at += i + 2
			continue
		}
		out.WriteString(p.src[p.at : p.at+i])
		p.at += i
		return out.String(), true
	}
}

// tag reads {{…}} and gives what is inside, trimmed.
func (p *parser) tag() (tag string, start int, err error) {
	start = p.at
	if strings.HasPrefix(p.src[start:], "{{{") {
		return "", 0, p.fail(start, "{{{ is not needed: nothing is escaped")
	}
	end := strings.Index(p.src[start:], "}}")
	if end < 0 {
		return "", 0, p.fail(start, "{{ has no }}")
	}
	inner := p.src[start+2 : start+end]
	if strings.Contains(inner, "{{") {
		return "", 0, p.fail(start, "{{ has no }}")
	}
	p.at = start + end + 2
	tag = strings.TrimSpace(inner)
	if tag == "" {
		return "", 0, p.fail(start, "{{}} is empty")
	}
	return tag, start, nil
}

func (p *parser) open(tag string, start int, before *[]element) (element, error) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(tag, "#"), " ")
	if name != "each" && name != "if" {
		return element{}, p.fail(start, "{{#%s}} is not known; there are each and if", name)
	}
	path, err := p.path(strings.TrimSpace(rest), start)
	if err != nil {
		return element{}, err
	}
	p.standalone(before, start)
	el := element{kind: condition, path: path}
	if name == "each" {
		el.kind = each
		p.inEach++
	}
	body, end, err := p.block(name, start)
	if name == "each" {
		p.inEach--
	}
	if err != nil {
		return element{}, err
	}
	el.body = body
	if end != "else" {
		return el, nil
	}
	closed := p.at
	if el.other, end, err = p.block(name, start); err != nil {
		return element{}, err
	}
	if end == "else" {
		return element{}, p.fail(closed, "{{#%s}} has two {{else}}", name)
	}
	return el, nil
}

func (p *parser) part(tag string, start int, before *[]element) (element, error) {
	name := strings.TrimSpace(strings.TrimPrefix(tag, ">"))
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isName(r) && r != '/' }) {
		return element{}, p.fail(start, "{{> %s}} does not name a part", name)
	}
	line, column := p.place(start)
	p.t.parts = append(p.t.parts, Ref{name, line, column})
	indent, after := p.standalone(before, start)
	return element{kind: part, name: name, indent: indent, after: after}, nil
}

func (p *parser) path(text string, start int) ([]string, error) {
	steps := strings.Split(text, ".")
	for _, s := range steps {
		name := strings.TrimPrefix(s, "@")
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isName(r) }) {
			return nil, p.fail(start, "%q is not a variable: a path such as input.message is needed", text)
		}
	}
	if steps[0] == "this" || strings.HasPrefix(steps[0], "@") {
		if p.inEach == 0 {
			return nil, p.fail(start, "{{%s}} is known inside {{#each}} only", steps[0])
		}
		if steps[0] != "this" && (steps[0] != "@index" || len(steps) > 1) {
			return nil, p.fail(start, "{{%s}} is not known; there is @index", text)
		}
		return steps, nil
	}
	if p.inEach == 0 {
		line, column := p.place(start)
		p.t.vars = append(p.t.vars, Ref{text, line, column})
	}
	return steps, nil
}

func isName(r rune) bool {
	return r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// standalone removes the line of a tag that is alone on it, and gives its indentation and line end.
func (p *parser) standalone(before *[]element, start int) (indent, after string) {
	lineStart := strings.LastIndexByte(p.src[:start], '\n') + 1
	indent = p.src[lineStart:start]
	rest := p.src[p.at:]
	lineEnd := strings.IndexByte(rest, '\n')
	blank := rest
	if lineEnd >= 0 {
		blank = rest[:lineEnd]
	}
	if strings.Trim(indent, " \t") != "" || strings.Trim(blank, " \t") != "" {
		return "", ""
	}
	if n := len(*before); n > 0 && (*before)[n-1].kind == literal {
		(*before)[n-1].text = strings.TrimSuffix((*before)[n-1].text, indent)
	}
	p.at += len(blank)
	if lineEnd >= 0 {
		p.at++
		after = "\n"
	}
	return indent, after
}
