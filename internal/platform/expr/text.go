package expr

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flywheel/internal/platform/canon"
)

// Text is a compiled text with ${…} in it; it is safe for concurrent use.
type Text struct {
	source string
	parts  []part
}

// part is a literal, or an expression.
type part struct {
	literal  string
	program  *Program
	optional bool // ${?…}
}

// CompileText compiles a text in which ${expression} is replaced by its value; $${ stands for ${. A text
// that is one ${expression} and nothing else keeps the type of its value; otherwise strings are
// inserted as they are, null as nothing, and the rest as JSON. A field that is not there is an error,
// but null in ${?expression}. The roots may be restricted by vars as in Compile.
func CompileText(src string, vars ...string) (*Text, error) {
	t := &Text{source: src}
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t.parts = append(t.parts, part{literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(src); {
		switch {
		case strings.HasPrefix(src[i:], "$${"):
			literal.WriteString("${")
			i += 3
		case strings.HasPrefix(src[i:], "${"):
			flush()
			end := closing(src, i+2)
			if end < 0 {
				return nil, shift(&Error{Line: 1, Column: 1, Message: "${ has no closing }"}, src, i)
			}
			inner := src[i+2 : end]
			p := part{}
			start := i + 2
			if rest, ok := strings.CutPrefix(inner, "?"); ok {
				p.optional, inner = true, rest
				start++
			}
			program, err := Compile(inner, vars...)
			if err != nil {
				var e *Error
				if errors.As(err, &e) {
					return nil, shift(e, src, start)
				}
				return nil, err
			}
			p.program = program
			t.parts = append(t.parts, p)
			i = end + 1
		default:
			literal.WriteByte(src[i])
			i++
		}
	}
	flush()
	return t, nil
}

// closing finds the } that ends an expression which begins at i; braces in strings and map literals
// do not count. It is -1 when there is none.
func closing(src string, i int) int {
	depth := 0
	for i < len(src) {
		switch c := src[i]; c {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return i
			}
			depth--
		case '\'', '"':
			j := i + 1
			for j < len(src) && src[j] != c {
				if src[j] == '\\' {
					j++
				}
				j++
			}
			i = j
		}
		i++
	}
	return -1
}

// shift moves the place of an error from the expression to the text around it.
func shift(e *Error, src string, offset int) *Error {
	before := src[:offset]
	moved := *e
	if newline := strings.LastIndexByte(before, '\n'); e.Line == 1 {
		moved.Column += len([]rune(before[newline+1:]))
	}
	moved.Line += strings.Count(before, "\n")
	return &moved
}

// Vars are the root variables that the text reads, sorted.
func (t *Text) Vars() []string {
	var out []string
	for _, p := range t.parts {
		if p.program != nil {
			out = append(out, p.program.roots...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Fixed is the text itself when nothing in it is computed.
func (t *Text) Fixed() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].program == nil:
		return t.parts[0].literal, true
	}
	return "", false
}

// String is the source.
func (t *Text) String() string { return t.source }

// Eval computes the text.
func (t *Text) Eval(vars map[string]any) (any, error) {
	if len(t.parts) == 1 {
		if t.parts[0].program == nil {
			return t.parts[0].literal, nil
		}
		return t.parts[0].eval(vars)
	}
	var out strings.Builder
	for _, p := range t.parts {
		if p.program == nil {
			out.WriteString(p.literal)
			continue
		}
		v, err := p.eval(vars)
		if err != nil {
			return nil, err
		}
		s, err := Insert(v)
		if err != nil {
			return nil, fmt.Errorf("evaluating %s: %w", p.program, err)
		}
		out.WriteString(s)
	}
	return out.String(), nil
}

func (p part) eval(vars map[string]any) (any, error) {
	v, err := p.program.Eval(vars)
	if err != nil && p.optional && errors.Is(err, ErrMissing) {
		return nil, nil
	}
	return v, err
}

// Insert is how a value appears inside a text: strings as they are, null as nothing, the rest as JSON
// with sorted keys.
func Insert(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	b, err := canon.JSON(v)
	if err != nil {
		return "", err
	}
	return string(b), nil
}
