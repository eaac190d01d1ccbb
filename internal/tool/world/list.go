package world

import (
	"fmt"
	"maps"
	"slices"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// List is a JSON array of a state, as Starlark sees it: a list. Appending, replacing and taking from the
// end keep the base; other changes of the order copy this one level.
type List struct {
	st     *State
	parent container
	base   *array
	n      int                    // how many items of base are still in front
	over   map[int]starlark.Value // items of base that differ, or are containers that have been looked at
	tail   []starlark.Value       // items after those of base
	walk
	busy bool
}

var (
	_ starlark.HasSetIndex = (*List)(nil)
	_ starlark.Sliceable   = (*List)(nil)
	_ starlark.Sequence    = (*List)(nil)
	_ starlark.Container   = (*List)(nil)
	_ starlark.HasAttrs    = (*List)(nil)
	_ starlark.Comparable  = (*List)(nil)
	_ starlark.HasBinary   = (*List)(nil)
)

// String is the list as JSON.
func (l *List) String() string { return text(l) }

// Type is what type() says in Starlark.
func (l *List) Type() string { return "list" }

// Freeze does nothing: a state belongs to one trial and a program cannot keep parts of it.
func (l *List) Freeze() {}

// Truth is whether the list has items.
func (l *List) Truth() starlark.Bool { return l.Len() > 0 }

// Hash fails: a list is not a key.
func (l *List) Hash() (uint32, error) { return 0, fmt.Errorf("unhashable type: list") }

// Len is the number of items.
func (l *List) Len() int { return l.n + len(l.tail) }

// MarshalJSON is the list as canonical JSON.
func (l *List) MarshalJSON() ([]byte, error) { return l.append(nil) }

// Index is the item at i, which must be in range.
func (l *List) Index(i int) starlark.Value {
	if i >= l.n {
		return l.tail[i-l.n]
	}
	if v, ok := l.over[i]; ok {
		return v
	}
	v := l.st.wrap(l.base.vals[i], l)
	if _, ok := v.(container); ok {
		l.put(i, v)
	}
	return v
}

// SetIndex replaces the item at i.
func (l *List) SetIndex(i int, v starlark.Value) error {
	if err := l.changeable(); err != nil {
		return err
	}
	if err := storable(v); err != nil {
		return err
	}
	if i >= l.n {
		l.tail[i-l.n] = v
	} else {
		l.put(i, v)
	}
	l.stored(v)
	return nil
}

// Slice is a plain list of some items.
func (l *List) Slice(start, end, step int) starlark.Value {
	var items []starlark.Value
	for i := start; (step > 0 && i < end) || (step < 0 && i > end); i += step {
		items = append(items, l.Index(i))
	}
	return starlark.NewList(items)
}

// Has says whether an item equals v.
func (l *List) Has(v starlark.Value) (bool, error) {
	i, err := l.find(v, 0, l.Len())
	return i >= 0, err
}

func (l *List) find(v starlark.Value, from, to int) (int, error) {
	for i := from; i < to; i++ {
		eq, err := starlark.Equal(l.Index(i), v)
		if err != nil {
			return -1, err
		}
		if eq {
			return i, nil
		}
	}
	return -1, nil
}

func (l *List) push(v starlark.Value) error {
	if err := l.changeable(); err != nil {
		return err
	}
	if err := storable(v); err != nil {
		return err
	}
	l.tail = append(l.tail, v)
	l.stored(v)
	return nil
}

func (l *List) insert(i int, v starlark.Value) error {
	if i >= l.Len() {
		return l.push(v)
	}
	if err := l.changeable(); err != nil {
		return err
	}
	if err := storable(v); err != nil {
		return err
	}
	l.flatten()
	l.tail = slices.Insert(l.tail, max(i, 0), v)
	l.stored(v)
	return nil
}

func (l *List) removeAt(i int) (starlark.Value, error) {
	if err := l.changeable(); err != nil {
		return nil, err
	}
	v := l.Index(i)
	switch {
	case i >= l.n:
		l.tail = slices.Delete(l.tail, i-l.n, i-l.n+1)
	case i == l.n-1 && len(l.tail) == 0:
		delete(l.over, i)
		l.n--
	default:
		l.flatten()
		l.tail = slices.Delete(l.tail, i, i+1)
	}
	return v, nil
}

// flatten copies the items out of the base.
func (l *List) flatten() {
	if l.n == 0 {
		return
	}
	items := make([]starlark.Value, 0, l.Len()+1)
	for i := range l.Len() {
		items = append(items, l.Index(i))
	}
	l.base, l.n, l.over, l.tail = nil, 0, nil, items
}

func (l *List) clear() { l.base, l.n, l.over, l.tail = nil, 0, nil, nil }

func (l *List) put(i int, v starlark.Value) {
	if l.over == nil {
		l.over = map[int]starlark.Value{}
	}
	l.over[i] = v
}

func (l *List) stored(v starlark.Value) {
	if !isScalar(v) {
		l.st.touch(l)
	}
}

func (l *List) changeable() error {
	if l.locked(l.st) {
		return fmt.Errorf("the list is being iterated over: iterate over a copy, as in for x in l[:]")
	}
	return nil
}

// Iterate walks over the items.
func (l *List) Iterate() starlark.Iterator {
	l.begin(l.st)
	return &itemIterator{l: l}
}

type itemIterator struct {
	l *List
	i int
}

func (it *itemIterator) Next(p *starlark.Value) bool {
	if it.i >= it.l.Len() {
		return false
	}
	*p = it.l.Index(it.i)
	it.i++
	return true
}

func (it *itemIterator) Done() { it.l.open-- }

// CompareSameType compares with another list, of the world or plain.
func (l *List) CompareSameType(op syntax.Token, y starlark.Value, depth int) (bool, error) {
	return compareLists(op, l, y, depth)
}

// Binary is the sum l + y, a plain list.
func (l *List) Binary(op syntax.Token, y starlark.Value, side starlark.Side) (starlark.Value, error) {
	other, ok := y.(starlark.Indexable)
	if op != syntax.PLUS || !ok || y.Type() != "list" {
		return nil, nil
	}
	left, right := starlark.Indexable(l), other
	if side == starlark.Right {
		left, right = right, left
	}
	items := make([]starlark.Value, 0, left.Len()+right.Len())
	for _, part := range []starlark.Indexable{left, right} {
		for i := range part.Len() {
			items = append(items, part.Index(i))
		}
	}
	return starlark.NewList(items), nil
}

func (l *List) parentOf() container { return l.parent }

func (l *List) seal() error {
	seen := map[container]bool{}
	var first error
	seal := func(i int, v starlark.Value) starlark.Value {
		if isScalar(v) {
			return v
		}
		s, err := l.st.sealed(v, l, seen)
		if err != nil {
			if first == nil {
				first = fmt.Errorf("%d: %w", i, err)
			}
			return starlark.None
		}
		return s
	}
	for _, i := range slices.Sorted(maps.Keys(l.over)) {
		l.over[i] = seal(i, l.over[i])
	}
	for i, v := range l.tail {
		l.tail[i] = seal(l.n+i, v)
	}
	return first
}

func (l *List) fork(s *State, parent container) *List {
	c := &List{st: s, parent: parent, base: l.base, n: l.n}
	for i, v := range l.over {
		c.put(i, forkValue(v, s, c))
	}
	for _, v := range l.tail {
		c.tail = append(c.tail, forkValue(v, s, c))
	}
	return c
}

func (l *List) copyFor(s *State, parent container) (container, error) {
	if l.busy {
		return nil, errCycle
	}
	l.busy = true
	defer func() { l.busy = false }()
	c := &List{st: s, parent: parent, base: l.base, n: l.n}
	for i, v := range l.over {
		n, err := s.adopt(v, c, nil)
		if err != nil {
			return nil, err
		}
		c.put(i, n)
	}
	for _, v := range l.tail {
		n, err := s.adopt(v, c, nil)
		if err != nil {
			return nil, err
		}
		c.tail = append(c.tail, n)
	}
	return c, nil
}

func (l *List) append(b []byte) ([]byte, error) {
	if l.busy {
		return nil, errCycle
	}
	l.busy = true
	defer func() { l.busy = false }()
	b = append(b, '[')
	for i := range l.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if v, ok := l.over[i]; ok {
			b, err = appendValue(b, v, 0)
		} else if i < l.n {
			b, err = appendBase(b, l.base.vals[i])
		} else {
			b, err = appendValue(b, l.tail[i-l.n], 0)
		}
		if err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func (l *List) goValue() any {
	out := make([]any, l.Len())
	for i := range out {
		if _, ok := l.over[i]; !ok && i < l.n {
			out[i] = baseToGo(l.base.vals[i])
			continue
		}
		out[i] = toGo(l.Index(i))
	}
	return out
}
