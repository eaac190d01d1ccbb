package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/op"
	"flywheel/spec"
)

// builder turns parsed files into a package and collects everything that is wrong with them.
type builder struct {
	pkg      *spec.Package
	sources  map[string]*source
	files    op.Dir            // where data files are looked up
	data     map[string][]byte // those that the package refers to
	problems []*Problem
	origin   map[string]cursor // "agents/desk", "tools/cards.freeze" … → where it was declared
	later    []func()          // checks that need everything to be read
	once     map[string]bool   // what need not be said or checked again
	unread   []string          // files that could not be read
}

func (b *builder) add(p Problem) *Problem {
	b.problems = append(b.problems, &p)
	return &p
}

func (b *builder) list() []Problem {
	out := make([]Problem, len(b.problems))
	for i, p := range b.problems {
		out[i] = *p
	}
	return sortProblems(out)
}

// cursor walks a value and knows where in which file it is.
type cursor struct {
	b    *builder
	src  *source
	path []string
	v    any
}

func (c cursor) step(key string, v any) cursor {
	return cursor{c.b, c.src, append(slices.Clone(c.path), key), v}
}

// errorf reports an error at the value.
func (c cursor) errorf(code, format string, args ...any) *Problem {
	line, column := c.src.at(c.path, false)
	return c.b.add(Problem{File: c.src.file, Line: line, Column: column, Code: code, Message: fmt.Sprintf(format, args...)})
}

// keyErrorf reports an error at the last key of the path.
func (c cursor) keyErrorf(code, format string, args ...any) *Problem {
	line, column := c.src.at(c.path, true)
	return c.b.add(Problem{File: c.src.file, Line: line, Column: column, Code: code, Message: fmt.Sprintf(format, args...)})
}

// has says whether the key is there at all.
func (c cursor) has(key string) bool {
	m, ok := c.v.(map[string]any)
	if !ok {
		return false
	}
	_, ok = m[key]
	return ok
}

// get is the value under a key; its v is nil when it is not there.
func (c cursor) get(key string) cursor {
	m, _ := c.v.(map[string]any)
	return c.step(key, m[key])
}

// mapping checks that the value is a mapping with known keys only; without known any key is allowed.
func (c cursor) mapping(known ...string) bool {
	m, ok := c.v.(map[string]any)
	if !ok {
		if c.v != nil {
			c.errorf("package.type", "%s is needed here, not %s", "a mapping", describe(c.v))
		}
		return false
	}
	if len(known) == 0 {
		return true
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if slices.Contains(known, k) {
			continue
		}
		p := c.get(k).keyErrorf("package.unknown_key", "%s", unknownKey(k))
		p.Hint = didYouMean(k, known)
		if later, ok := laterKeys[k]; ok {
			p.Hint = later
		}
	}
	return true
}

// laterKeys are in the format but not in this version.
var laterKeys = map[string]string{
	"handoffs": "handoffs are not in this version; use a flow with a branch",
	"runtime":  "programs of other frameworks are not in this version",
	"targets":  "targets are not in this version",
}

// entries are the values of a mapping in the order of their keys.
func (c cursor) entries() []cursor {
	m, ok := c.v.(map[string]any)
	if !ok {
		c.mapping()
		return nil
	}
	var out []cursor
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, c.step(k, m[k]))
	}
	return out
}

// key is the last step of the path.
func (c cursor) key() string { return c.path[len(c.path)-1] }

// list are the elements of a list; a single value counts as a list of one.
func (c cursor) list() []cursor {
	switch v := c.v.(type) {
	case nil:
		return nil
	case []any:
		out := make([]cursor, len(v))
		for i, e := range v {
			out[i] = c.step(strconv.Itoa(i), e)
		}
		return out
	}
	return []cursor{c}
}

// text is a string; other scalars are an error, because YAML guesses types.
func (c cursor) text() string {
	switch v := c.v.(type) {
	case nil:
		return ""
	case string:
		return v
	case int64, float64, bool:
		c.errorf("package.type", "a text is needed here, not %s", describe(v)).Hint = "put it in quotes"
	default:
		c.errorf("package.type", "a text is needed here, not %s", describe(v))
	}
	return ""
}

// need is a text that must be there and not be empty.
func (c cursor) need() string {
	if s, ok := c.v.(string); ok && strings.TrimSpace(s) == "" || c.v == nil {
		if _, err := strconv.Atoi(c.key()); err == nil {
			c.errorf("package.type", "an entry of the list is empty")
			return ""
		}
		c.errorf("package.missing_key", "%q must be set", c.key())
		return ""
	}
	return c.text()
}

// oneOf is a text out of a few.
func (c cursor) oneOf(allowed ...string) string {
	s := c.text()
	if s != "" && !slices.Contains(allowed, s) {
		c.errorf("package.value", "%q is not one of %s", s, strings.Join(allowed, ", ")).Hint = didYouMean(s, allowed)
		return ""
	}
	return s
}

func (c cursor) integer(most int64) int {
	switch v := c.v.(type) {
	case nil:
		return 0
	case int64:
		if v < 1 || v > most {
			c.errorf("package.value", "%d is not between 1 and %d", v, most)
			return 0
		}
		return int(v)
	}
	c.errorf("package.type", "a whole number is needed here, not %s", describe(c.v))
	return 0
}

func (c cursor) number(least, most float64) float64 {
	var f float64
	switch v := c.v.(type) {
	case nil:
		return 0
	case int64:
		f = float64(v)
	case float64:
		f = v
	default:
		c.errorf("package.type", "a number is needed here, not %s", describe(c.v))
		return 0
	}
	if f < least || f > most {
		c.errorf("package.value", "%v is not between %v and %v", f, least, most)
		return 0
	}
	return f
}

func (c cursor) boolean() bool {
	switch v := c.v.(type) {
	case nil:
		return false
	case bool:
		return v
	}
	c.errorf("package.type", "true or false is needed here, not %s", describe(c.v))
	return false
}

func (c cursor) duration() spec.Duration {
	if c.v == nil {
		return 0
	}
	s, ok := c.v.(string)
	if !ok {
		c.errorf("package.type", "a duration such as 500ms, 3s or 1m30s is needed here, not %s", describe(c.v))
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		c.errorf("package.value", "%q is not a duration", s).Hint = "write 500ms, 3s or 1m30s"
		return 0
	}
	return spec.Duration(d)
}

func (c cursor) texts() []string {
	var out []string
	for _, e := range c.list() {
		if s := e.need(); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("the text %q", cut(v, 40))
	case bool:
		return fmt.Sprintf("%t", v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a mapping"
	}
	return fmt.Sprintf("%T", v)
}

// cut shortens a text for a message.
func cut(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most]) + "…"
}

// compact is JSON on one line; values of a tree are JSON by construction.
func compact(v any) json.RawMessage {
	b, err := canon.JSON(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}
