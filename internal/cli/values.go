package cli

import (
	"encoding"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// flagValue collects what a person gave for one field. It is a pflag.Value.
type flagValue struct {
	field  op.Field
	values []string
}

var _ pflag.Value = (*flagValue)(nil)

// String is the default that help shows.
func (v *flagValue) String() string {
	if v == nil {
		return ""
	}
	return v.field.Default
}

// Set adds a value.
func (v *flagValue) Set(text string) error {
	if isList(v.field.Type) || v.field.Type.Kind() == reflect.Map {
		v.values = append(v.values, text)
		return nil
	}
	v.values = []string{text}
	return nil
}

// Type is the word that help shows for a value.
func (v *flagValue) Type() string {
	t := deref(v.field.Type)
	switch {
	case v.field.CLI == op.File:
		return "file"
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t.Kind() == reflect.Map:
		return "key=value"
	case isList(t) && t.Elem().Kind() == reflect.String:
		return "list"
	case v.field.Raw(), t.Kind() == reflect.Struct, isList(t):
		return "json"
	case t.Kind() == reflect.Bool:
		return "bool"
	case t.Kind() == reflect.String:
		return "text"
	}
	return "number"
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 && !isText(t)
}

// value turns the words for a field into what travels in the body.
func (s *shell) value(f op.Field, words []string) (any, error) {
	t := deref(f.Type)
	switch {
	case f.CLI == op.File:
		return s.fileValue(f, words[len(words)-1])
	case isList(t) && (isText(t.Elem()) || t.Elem().Kind() == reflect.String || isNumber(t.Elem())):
		return listValue(f, t.Elem(), words)
	case t.Kind() == reflect.Map && !isText(t):
		return s.mapValue(f, words)
	}
	v, err := s.scalarValue(t, words[len(words)-1])
	if err != nil {
		return nil, wrongValue(f, err)
	}
	return v, nil
}

func listValue(f op.Field, element reflect.Type, words []string) (any, error) {
	list := []any{}
	for _, w := range words {
		parts := []string{w}
		if f.CLI != op.Rest {
			parts = strings.Split(w, ",")
		}
		for _, p := range parts {
			v, err := parseScalar(element, strings.TrimSpace(p))
			if err != nil {
				return nil, wrongValue(f, err)
			}
			list = append(list, v)
		}
	}
	return list, nil
}

// mapValue reads key=value words; one word that starts with a brace is the whole object as JSON.
func (s *shell) mapValue(f op.Field, words []string) (any, error) {
	m := map[string]any{}
	element := deref(f.Type).Elem()
	for _, w := range words {
		if strings.HasPrefix(strings.TrimSpace(w), "{") || strings.HasPrefix(w, "@") {
			v, err := s.jsonValue(w)
			if err != nil {
				return nil, wrongValue(f, err)
			}
			return v, nil
		}
		key, text, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, wrongValue(f, fmt.Errorf("%q is not key=value", w))
		}
		if element.Kind() == reflect.Interface {
			var v any
			if json.Unmarshal([]byte(text), &v) != nil {
				v = text
			}
			m[key] = v
			continue
		}
		v, err := s.scalarValue(element, text)
		if err != nil {
			return nil, wrongValue(f, err)
		}
		m[key] = v
	}
	return m, nil
}

func (s *shell) scalarValue(t reflect.Type, text string) (any, error) {
	switch {
	case t == reflect.TypeFor[json.RawMessage](), t.Kind() == reflect.Interface:
		if v, err := s.jsonValue(text); err == nil {
			return v, nil
		}
		return text, nil
	case isText(t):
		return text, nil
	case t.Kind() == reflect.Struct, isList(t):
		return s.jsonValue(text)
	}
	return parseScalar(t, text)
}

func parseScalar(t reflect.Type, text string) (any, error) {
	t = deref(t)
	if isText(t) {
		return text, nil
	}
	if t == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a duration such as 30s", text)
		}
		return int64(d), nil
	}
	switch t.Kind() {
	case reflect.Bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not true or false", text)
		}
		return v, nil
	case reflect.Float32, reflect.Float64:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", text)
		}
		return v, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return v, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number from 0", text)
		}
		return v, nil
	case reflect.Slice:
		return []byte(text), nil // travels as base64
	}
	return text, nil
}

func isNumber(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Float32, reflect.Float64, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

// jsonValue reads JSON, or the file named by @path.
func (s *shell) jsonValue(text string) (any, error) {
	body := []byte(text)
	if name, ok := strings.CutPrefix(text, "@"); ok {
		var err error
		if body, err = os.ReadFile(s.abs(name)); err != nil {
			return nil, err
		}
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return v, nil
}

func (s *shell) fileValue(f op.Field, name string) (any, error) {
	body, err := os.ReadFile(s.abs(name))
	if err != nil {
		return nil, wrongValue(f, err)
	}
	if deref(f.Type).Kind() == reflect.String {
		return string(body), nil
	}
	if f.Raw() {
		if !json.Valid(body) {
			return nil, wrongValue(f, fmt.Errorf("%s is not JSON", name))
		}
		return json.RawMessage(body), nil
	}
	return body, nil
}

func wrongValue(f op.Field, err error) error {
	name := "--" + f.Flag
	if f.CLI == op.Arg || f.CLI == op.Rest {
		name = "<" + f.Flag + ">"
	}
	return fault.New(fault.Invalid, "cli.value", "%s: %v", name, err)
}
