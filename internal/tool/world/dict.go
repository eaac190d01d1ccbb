package world

import (
	"fmt"
	"slices"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// Dict is a JSON object of a state, as Starlark sees it: a dict whose keys are strings. What is read
// comes from the base, what is written stays here.
type Dict struct {
	st     *State
	parent container
	base   *object // may be nil
	// over holds what differs from base, and containers of base that have been looked at; nil = removed.
	over  map[string]starlark.Value
	added []string // keys that base has not, sorted
	size  int
	walk
	busy bool // being copied or written: meeting it again is a cycle
}

// walk counts the open iterations, during which a container must not change.
type walk struct{ open, call int }

func (w *walk) begin(st *State) {
	if w.call != st.calls {
		w.open, w.call = 0, st.calls
	}
	w.open++
}

func (w *walk) locked(st *State) bool { return w.open > 0 && w.call == st.calls }

var (
	_ starlark.IterableMapping = (*Dict)(nil)
	_ starlark.HasSetKey       = (*Dict)(nil)
	_ starlark.Sequence        = (*Dict)(nil)
	_ starlark.HasAttrs        = (*Dict)(nil)
	_ starlark.Comparable      = (*Dict)(nil)
	_ starlark.HasBinary       = (*Dict)(nil)
)

// String is the dict as JSON.
func (d *Dict) String() string { return text(d) }

// Type is what type() says in Starlark.
func (d *Dict) Type() string { return "dict" }

// Freeze does nothing: a state belongs to one trial and a program cannot keep parts of it.
func (d *Dict) Freeze() {}

// Truth is whether the dict has entries.
func (d *Dict) Truth() starlark.Bool { return d.size > 0 }

// Hash fails: a dict is not a key.
func (d *Dict) Hash() (uint32, error) { return 0, fmt.Errorf("unhashable type: dict") }

// Len is the number of entries.
func (d *Dict) Len() int { return d.size }

// MarshalJSON is the dict as canonical JSON.
func (d *Dict) MarshalJSON() ([]byte, error) { return d.append(nil) }

// Get finds the value of a key.
func (d *Dict) Get(k starlark.Value) (starlark.Value, bool, error) {
	s, ok := k.(starlark.String)
	if !ok {
		return nil, false, nil
	}
	v, ok := d.get(string(s))
	return v, ok, nil
}

func (d *Dict) get(k string) (starlark.Value, bool) {
	if v, ok := d.over[k]; ok {
		return v, v != nil
	}
	raw, ok := d.base.find(k)
	if !ok {
		return nil, false
	}
	v := d.st.wrap(raw, d)
	if _, ok := v.(container); ok {
		d.put(k, v) // the same object each time it is asked for
	}
	return v, true
}

// SetKey stores a value.
func (d *Dict) SetKey(k, v starlark.Value) error {
	s, ok := k.(starlark.String)
	if !ok {
		return fmt.Errorf("a key of the world is a string, not %s", k.Type())
	}
	if err := d.changeable(); err != nil {
		return err
	}
	if err := storable(v); err != nil {
		return err
	}
	d.set(string(s), v)
	return nil
}

func (d *Dict) set(k string, v starlark.Value) {
	if _, isBase := d.base.find(k); isBase {
		if old, ok := d.over[k]; ok && old == nil {
			d.size++
		}
	} else if i, ok := slices.BinarySearch(d.added, k); !ok {
		d.added = slices.Insert(d.added, i, k)
		d.size++
	}
	d.put(k, v)
	if !isScalar(v) {
		d.st.touch(d)
	}
}

func (d *Dict) remove(k string) {
	if _, isBase := d.base.find(k); isBase {
		d.put(k, nil)
	} else if i, ok := slices.BinarySearch(d.added, k); ok {
		d.added = slices.Delete(d.added, i, i+1)
		delete(d.over, k)
	}
	d.size--
}

func (d *Dict) put(k string, v starlark.Value) {
	if d.over == nil {
		d.over = map[string]starlark.Value{}
	}
	d.over[k] = v
}

func (d *Dict) clear() {
	d.base, d.over, d.added, d.size = nil, nil, nil, 0
}

// keys are the keys in order; the slice must not be changed.
func (d *Dict) keys() []string {
	if d.base == nil {
		return slices.Clone(d.added)
	}
	if d.size == len(d.base.keys) && len(d.added) == 0 {
		return d.base.keys
	}
	keys := make([]string, 0, d.size)
	next := 0
	for _, k := range d.base.keys {
		for ; next < len(d.added) && d.added[next] < k; next++ {
			keys = append(keys, d.added[next])
		}
		if v, ok := d.over[k]; !ok || v != nil {
			keys = append(keys, k)
		}
	}
	return append(keys, d.added[next:]...)
}

// Items are the entries in the order of keys.
func (d *Dict) Items() []starlark.Tuple {
	keys := d.keys()
	items := make([]starlark.Tuple, len(keys))
	for i, k := range keys {
		v, _ := d.get(k)
		items[i] = starlark.Tuple{starlark.String(k), v}
	}
	return items
}

// Iterate walks over the keys.
func (d *Dict) Iterate() starlark.Iterator {
	d.begin(d.st)
	return &keyIterator{d: d, keys: d.keys()}
}

type keyIterator struct {
	d    *Dict
	keys []string
}

func (it *keyIterator) Next(p *starlark.Value) bool {
	if len(it.keys) == 0 {
		return false
	}
	*p = starlark.String(it.keys[0])
	it.keys = it.keys[1:]
	return true
}

func (it *keyIterator) Done() { it.d.open-- }

func (d *Dict) changeable() error {
	if d.locked(d.st) {
		return fmt.Errorf("the dict is being iterated over: take a copy of its keys first, as in for k in d.keys()")
	}
	return nil
}

// CompareSameType compares with another dict, of the world or plain.
func (d *Dict) CompareSameType(op syntax.Token, y starlark.Value, depth int) (bool, error) {
	return compareDicts(op, d, y, depth)
}

// Binary is the union d | y, a plain dict.
func (d *Dict) Binary(op syntax.Token, y starlark.Value, side starlark.Side) (starlark.Value, error) {
	other, ok := y.(starlark.IterableMapping)
	if op != syntax.PIPE || !ok {
		return nil, nil
	}
	left, right := starlark.IterableMapping(d), other
	if side == starlark.Right {
		left, right = right, left
	}
	u := starlark.NewDict(0)
	for _, it := range append(left.Items(), right.Items()...) {
		if err := u.SetKey(it[0], it[1]); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func (d *Dict) parentOf() container { return d.parent }

func (d *Dict) seal() error {
	seen := map[container]bool{}
	var first error
	for _, k := range d.keys() {
		v, ok := d.over[k]
		if !ok || isScalar(v) {
			continue
		}
		s, err := d.st.sealed(v, d, seen)
		if err != nil {
			if first == nil {
				first = fmt.Errorf("%s: %w", k, err)
			}
			s = starlark.None
		}
		d.over[k] = s
	}
	return first
}

// fork is the same content for another state. It shares the base and copies what is beside it.
func (d *Dict) fork(s *State, parent container) *Dict {
	c := &Dict{st: s, parent: parent, base: d.base, added: slices.Clone(d.added), size: d.size}
	for k, v := range d.over {
		c.put(k, forkValue(v, s, c))
	}
	return c
}

// copyFor is a deep copy of a container that may hold unsealed values.
func (d *Dict) copyFor(s *State, parent container) (container, error) {
	if d.busy {
		return nil, errCycle
	}
	d.busy = true
	defer func() { d.busy = false }()
	c := &Dict{st: s, parent: parent, base: d.base, added: slices.Clone(d.added), size: d.size}
	for k, v := range d.over {
		n, err := s.adopt(v, c, nil)
		if err != nil {
			return nil, err
		}
		c.put(k, n)
	}
	return c, nil
}

func (d *Dict) append(b []byte) ([]byte, error) {
	if d.busy {
		return nil, errCycle
	}
	d.busy = true
	defer func() { d.busy = false }()
	if len(d.over) == 0 && d.base != nil {
		return appendBase(b, d.base)
	}
	b = append(b, '{')
	for i, k := range d.keys() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		var err error
		if v, ok := d.over[k]; ok {
			b, err = appendValue(b, v, 0)
		} else {
			raw, _ := d.base.find(k)
			b, err = appendBase(b, raw)
		}
		if err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func (d *Dict) goValue() any {
	m := make(map[string]any, d.size)
	for _, k := range d.keys() {
		if v, ok := d.over[k]; ok {
			m[k] = toGo(v)
			continue
		}
		raw, _ := d.base.find(k)
		m[k] = baseToGo(raw)
	}
	return m
}

func (o *object) find(k string) (any, bool) {
	if o == nil {
		return nil, false
	}
	i, ok := slices.BinarySearch(o.keys, k)
	if !ok {
		return nil, false
	}
	return o.vals[i], true
}
