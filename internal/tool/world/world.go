// Package world is the JSON state that mocked tools act on. A [Base] is parsed once and shared by all
// trials; a [State] is one trial's view of it, where each level that is written keeps its changes beside
// the base, so that a fork costs nothing and a call costs what it touches, whatever the size of the world.
//
// Behaviour depends on the JSON value alone: keys are always walked in sorted order, however the file
// wrote them and whenever they were added. Integers stay integers: 1 and 1.0 are different texts.
//
// Paths are dotted, with list indexes as numbers, as in cards.4711.holds.0; a dot or backslash inside a
// key is written with a backslash before it.
package world

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.starlark.net/starlark"
)

// Base is parsed JSON that never changes; goroutines may share it.
type Base struct{ root *object }

// object and array are the containers of a base; their values are scalars as starlark.Value, or again
// *object and *array. Keys are sorted.
type object struct {
	keys []string
	vals []any
}

type array struct{ vals []any }

// State is a changeable view of a base. Its methods may be called by several goroutines; calls of mocks
// take their turns.
type State struct {
	mu   sync.Mutex
	base *Base
	root *Dict
	// touched holds the containers into which this call has stored values that are not sealed yet.
	touched []container
	// calls counts the uses, so that an iteration that a panic left open ends with its call.
	calls int
}

// container is a *Dict or a *List.
type container interface {
	starlark.Value
	seal() error
	parentOf() container
	append(b []byte) ([]byte, error)
	copyFor(s *State, parent container) (container, error)
	goValue() any
}

// Parse reads a JSON object.
func Parse(src []byte) (*Base, error) {
	v, err := parse(src)
	if err != nil {
		return nil, err
	}
	root, ok := v.(*object)
	if !ok {
		return nil, fmt.Errorf("a world is a JSON object")
	}
	return &Base{root: root}, nil
}

// Empty is a world without content.
func Empty() *Base { return &Base{root: &object{}} }

// Fork is a state that starts as the base.
func (b *Base) Fork() *State {
	s := &State{base: b}
	s.root = &Dict{st: s, base: b.root, size: len(b.root.keys)}
	return s
}

// Fork is an independent state that starts as this one is now. It costs what has been touched so far.
func (s *State) Fork() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &State{base: s.base}
	f.root = s.root.fork(f, nil)
	return f
}

// Base is what the state was forked from.
func (s *State) Base() *Base { return s.base }

// Use gives fn the root to read and change; nobody else uses the state meanwhile. Values that fn has
// stored become part of the world when it returns, also when it returns an error. The error is fn's, or
// says that a stored value is not JSON.
func (s *State) Use(fn func(root *Dict) error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	defer func() {
		if sealErr := s.sealAll(); err == nil {
			err = sealErr
		}
	}()
	return fn(s.root)
}

// sealAll turns what was stored in this call into parts of the tree.
func (s *State) sealAll() error {
	var first error
	for len(s.touched) > 0 {
		touched := s.touched
		s.touched = nil
		for _, c := range touched {
			if err := c.seal(); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}

func (s *State) touch(c container) {
	if !slices.Contains(s.touched, c) {
		s.touched = append(s.touched, c)
	}
}

// Get reads the value at a path as Go values: map[string]any, []any, string, int64, float64, bool, nil;
// integers beyond int64 are json.Number. The empty path is the whole world.
func (s *State) Get(path string) (any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.find(splitPath(path))
	if !ok {
		return nil, false
	}
	return toGo(v), true
}

// Set writes a value at a path; whatever encoding/json can write is a value. The levels above must
// exist; an index equal to the length of a list appends to it.
func (s *State) Set(path string, value any) error {
	v, err := fromGo(value)
	if err != nil {
		return fmt.Errorf("set %s: %w", path, err)
	}
	parts := splitPath(path)
	if len(parts) == 0 {
		return fmt.Errorf("set: the path is empty")
	}
	return s.Use(func(*Dict) error {
		above, ok := s.find(parts[:len(parts)-1])
		if !ok {
			return fmt.Errorf("set %s: %s does not exist", path, joinPath(parts[:len(parts)-1]))
		}
		last := parts[len(parts)-1]
		switch c := above.(type) {
		case *Dict:
			return c.SetKey(starlark.String(last), v)
		case *List:
			i, err := strconv.Atoi(last)
			switch {
			case err != nil || i < 0 || i > c.Len():
				return fmt.Errorf("set %s: %q is not an index of the list", path, last)
			case i == c.Len():
				return c.push(v)
			}
			return c.SetIndex(i, v)
		}
		return fmt.Errorf("set %s: %s holds a %s", path, joinPath(parts[:len(parts)-1]), above.Type())
	})
}

// MarshalJSON is the state as canonical JSON.
func (s *State) MarshalJSON() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root.append(nil)
}

func (s *State) find(parts []string) (starlark.Value, bool) {
	var at starlark.Value = s.root
	for _, p := range parts {
		switch c := at.(type) {
		case *Dict:
			v, ok := c.get(p)
			if !ok {
				return nil, false
			}
			at = v
		case *List:
			i, err := strconv.Atoi(p)
			if err != nil || i < 0 || i >= c.Len() {
				return nil, false
			}
			at = c.Index(i)
		default:
			return nil, false
		}
	}
	return at, true
}

// wrap makes a base value usable in the state; parent is where it lives.
func (s *State) wrap(v any, parent container) starlark.Value {
	switch v := v.(type) {
	case *object:
		return &Dict{st: s, parent: parent, base: v, size: len(v.keys)}
	case *array:
		return &List{st: s, parent: parent, base: v, n: len(v.vals)}
	}
	return v.(starlark.Value)
}

// sealed turns a value stored in parent into a part of the tree. A container that lives elsewhere, or
// was seen before, is copied, because JSON is a tree.
func (s *State) sealed(v starlark.Value, parent container, seen map[container]bool) (starlark.Value, error) {
	if c, ok := v.(container); ok {
		if c.parentOf() == parent && !seen[c] {
			seen[c] = true
			return c, nil
		}
		return c.copyFor(s, parent)
	}
	return s.adopt(v, parent, nil)
}

func splitPath(path string) []string {
	if path == "" {
		return nil
	}
	if !strings.Contains(path, `\`) {
		return strings.Split(path, ".")
	}
	var parts []string
	var part strings.Builder
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && i+1 < len(path):
			i++
			part.WriteByte(path[i])
		case path[i] == '.':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(path[i])
		}
	}
	return append(parts, part.String())
}

var pathEscaper = strings.NewReplacer(`\`, `\\`, `.`, `\.`)

func joinPath(parts []string) string {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = pathEscaper.Replace(p)
	}
	return strings.Join(escaped, ".")
}
