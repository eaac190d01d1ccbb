package lab

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// cursor is a value of a suite file together with its path, for errors at the right place.
type cursor struct {
	o     origin
	path  []string
	value any
}

func (c cursor) sub(step string, value any) cursor {
	return cursor{c.o, append(slices.Clone(c.path), step), value}
}

func (c cursor) fail(format string, args ...any) {
	c.o.Errorf(c.path, "suite.value", format, args...)
}

func (c cursor) failHint(hint, code, format string, args ...any) {
	c.o.Errorf(c.path, code, format, args...).Hint = hint
}

// each is what fields does with the values of a mapping, by key.
type each map[string]func(cursor)

// fields walks a mapping: every key must be known.
func (c cursor) fields(known each) bool {
	m, ok := c.value.(map[string]any)
	if !ok {
		c.fail("expected a mapping, got %s", kindOf(c.value))
		return false
	}
	names := make([]string, 0, len(known))
	for k := range known {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f, ok := known[k]
		if !ok {
			c.o.KeyErrorf(append(slices.Clone(c.path), k), "package.unknown_key", "the key %q is not known", k).Hint = meant(k, names)
			continue
		}
		f(c.sub(k, m[k]))
	}
	return true
}

func (c cursor) items(f func(cursor)) {
	list, ok := c.value.([]any)
	if !ok {
		c.fail("expected a list, got %s", kindOf(c.value))
		return
	}
	for i, v := range list {
		f(c.sub(strconv.Itoa(i), v))
	}
}

// entries walks a mapping with free keys, in order of keys.
func (c cursor) entries(f func(key string, v cursor)) {
	m, ok := c.value.(map[string]any)
	if !ok {
		c.fail("expected a mapping, got %s", kindOf(c.value))
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f(k, c.sub(k, m[k]))
	}
}

func (c cursor) text(into *string) {
	s, ok := c.value.(string)
	if !ok || strings.TrimSpace(s) == "" {
		c.fail("expected a text, got %s", kindOf(c.value))
		return
	}
	*into = s
}

// texts takes a text or a list of texts.
func (c cursor) texts(into *[]string) {
	if s, ok := c.value.(string); ok {
		*into = []string{s}
		return
	}
	*into = []string{}
	c.items(func(v cursor) {
		var s string
		v.text(&s)
		*into = append(*into, s)
	})
}

func (c cursor) flag(into *bool) {
	b, ok := c.value.(bool)
	if !ok {
		c.fail("expected true or false, got %s", kindOf(c.value))
		return
	}
	*into = b
}

func (c cursor) number(into *float64, low, high float64) {
	var f float64
	switch v := c.value.(type) {
	case int64:
		f = float64(v)
	case float64:
		f = v
	default:
		c.fail("expected a number, got %s", kindOf(c.value))
		return
	}
	if f < low || f > high {
		c.fail("expected a number from %s to %s, got %v", bound(low), bound(high), f)
		return
	}
	*into = f
}

func bound(f float64) string {
	if f >= math.MaxInt32 {
		return "any"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func (c cursor) count(into *int, low, high int) {
	f := float64(low)
	c.number(&f, float64(low), float64(high))
	if f != math.Trunc(f) {
		c.fail("expected a whole number, got %v", f)
		return
	}
	*into = int(f)
}

func (c cursor) duration(into *spec.Duration) {
	s, ok := c.value.(string)
	d, err := time.ParseDuration(s)
	if !ok || err != nil || d <= 0 {
		c.failHint(`write it as "500ms", "3s" or "2m"`, "suite.value", "expected a duration, got %s", show(c.value))
		return
	}
	*into = spec.Duration(d)
}

// object takes a mapping as it is.
func (c cursor) object(into *map[string]any) {
	m, ok := c.value.(map[string]any)
	if !ok {
		c.fail("expected a mapping, got %s", kindOf(c.value))
		return
	}
	*into = m
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		if v == "" {
			return "an empty text"
		}
		return "the text " + strconv.Quote(v)
	case bool:
		return strconv.FormatBool(v)
	}
	return fmt.Sprint(v)
}

func show(v any) string {
	if v == nil {
		return "nothing"
	}
	return kindOf(v)
}

// meant is a hint with the nearest known name, else with all when they are few.
func meant(got string, known []string) string {
	if s := fault.Suggest(got, known); s != "" && s != got {
		return fmt.Sprintf("did you mean %q?", s)
	}
	if len(known) == 0 || len(known) > 16 {
		return ""
	}
	return "known: " + strings.Join(known, ", ")
}
