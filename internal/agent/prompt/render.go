package prompt

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"flywheel/internal/platform/canon"
)

// Render fills the template. Parts that it names must be in parts, in parsed form.
func (t *Template) Render(vars map[string]any, parts map[string]*Template) (string, error) {
	r := &renderer{vars: vars, parts: parts}
	if err := r.all(t.body, nil, nil); err != nil {
		return "", err
	}
	return r.out.String(), nil
}

type renderer struct {
	out   strings.Builder
	vars  map[string]any
	parts map[string]*Template
}

// scope is one element of an each, with those around it.
type scope struct {
	this   any
	index  int
	around *scope
}

func (r *renderer) all(body []element, s *scope, stack []string) error {
	for _, el := range body {
		if r.out.Len() > maxBytes {
			return fmt.Errorf("the prompt is longer than %d bytes", maxBytes)
		}
		if err := r.one(el, s, stack); err != nil {
			return err
		}
	}
	return nil
}

func (r *renderer) one(el element, s *scope, stack []string) error {
	switch el.kind {
	case literal:
		r.out.WriteString(el.text)
	case value:
		text, err := Text(r.lookup(el.path, s))
		if err != nil {
			return fmt.Errorf("inserting {{%s}}: %w", strings.Join(el.path, "."), err)
		}
		r.out.WriteString(text)
	case part:
		return r.part(el, s, stack)
	case condition:
		if holds(r.lookup(el.path, s)) {
			return r.all(el.body, s, stack)
		}
		return r.all(el.other, s, stack)
	case each:
		list := elements(r.lookup(el.path, s))
		if len(list) == 0 {
			return r.all(el.other, s, stack)
		}
		for i, v := range list {
			if err := r.all(el.body, &scope{v, i, s}, stack); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *renderer) part(el element, s *scope, stack []string) error {
	t, ok := r.parts[el.name]
	if !ok {
		return fmt.Errorf("there is no prompt part %q", el.name)
	}
	if slices.Contains(stack, el.name) || len(stack) >= maxDepth {
		return fmt.Errorf("the prompt part %q contains itself", el.name)
	}
	inner := &renderer{vars: r.vars, parts: r.parts}
	if err := inner.all(t.body, s, append(slices.Clip(stack), el.name)); err != nil {
		return err
	}
	text := inner.out.String()
	if el.after != "" || el.indent != "" {
		text = el.indent + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+el.indent) + el.after
	}
	r.out.WriteString(text)
	return nil
}

// lookup looks in the element of the innermost each first, then outwards, then in the variables.
func (r *renderer) lookup(path []string, s *scope) any {
	switch path[0] {
	case "this":
		if s == nil {
			return nil
		}
		return walk(s.this, path[1:])
	case "@index":
		if s == nil {
			return nil
		}
		return s.index
	}
	for ; s != nil; s = s.around {
		if m, ok := s.this.(map[string]any); ok {
			if _, has := m[path[0]]; has {
				return walk(m, path)
			}
		}
	}
	return walk(r.vars, path)
}

func walk(v any, path []string) any {
	for _, step := range path {
		switch m := v.(type) {
		case map[string]any:
			v = m[step]
		case map[string]string:
			s, ok := m[step]
			if !ok {
				return nil
			}
			v = s
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(m) {
				return nil
			}
			v = m[i]
		default:
			return nil
		}
	}
	return v
}

func elements(v any) []any {
	switch list := v.(type) {
	case nil:
		return nil
	case []any:
		return list
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice {
		return nil
	}
	out := make([]any, rv.Len())
	for i := range out {
		out[i] = rv.Index(i).Interface()
	}
	return out
}

func holds(v any) bool {
	if v == nil {
		return false
	}
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Slice, reflect.Map:
		return rv.Len() > 0
	}
	return !rv.IsZero()
}

// Text is how a value appears in a prompt: texts as they are, nil as nothing, the rest as JSON.
func Text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	b, err := canon.JSON(v)
	if err != nil {
		var unsupported *json.UnsupportedTypeError
		if errors.As(err, &unsupported) {
			return "", fmt.Errorf("a %s has no text", unsupported.Type)
		}
		return "", err
	}
	return string(b), nil
}
