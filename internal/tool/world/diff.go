package world

import (
	"maps"
	"slices"
	"strconv"

	"go.starlark.net/starlark"
)

// Absent stands in a difference for a value that is not there; it is written as null.
var Absent = absent{}

type absent struct{}

// MarshalJSON is null.
func (absent) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// String is for messages.
func (absent) String() string { return "(absent)" }

// Diff lists what differs from base: path → [before, after]. A container that exists on both sides is
// entered; one that exists on one side only is one entry, with [Absent] on the other. Against the base
// that the state was forked from it costs what has been touched.
func (s *State) Diff(base *Base) map[string][2]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := differ{}
	d.values(nil, base.root, s.root)
	return d
}

type differ map[string][2]any

func (d differ) put(path []string, before, after any) { d[joinPath(path)] = [2]any{before, after} }

// values compares a value of the base with one of the state.
func (d differ) values(path []string, before any, after starlark.Value) {
	switch a := after.(type) {
	case *Dict:
		if b, ok := before.(*object); ok {
			d.dicts(path, b, a)
			return
		}
	case *List:
		if b, ok := before.(*array); ok {
			d.lists(path, b, a)
			return
		}
	default:
		if b, ok := before.(starlark.Value); ok && sameScalar(b, after) {
			return
		}
	}
	d.put(path, baseToGo(before), toGo(after))
}

func (d differ) dicts(path []string, before *object, after *Dict) {
	keys := after.added
	if after.base != before { // cleared, replaced or another base: everything may differ
		keys = append(slices.Clone(before.keys), after.keys()...)
	}
	for _, k := range slices.Sorted(maps.Keys(after.over)) {
		d.entry(append(path, k), before, after, k)
	}
	for _, k := range keys {
		if _, done := after.over[k]; !done {
			d.entry(append(path, k), before, after, k)
		}
	}
}

func (d differ) entry(path []string, before *object, after *Dict, k string) {
	b, had := before.find(k)
	a, has := after.get(k)
	switch {
	case had && has:
		d.values(path, b, a)
	case had:
		d.put(path, baseToGo(b), Absent)
	case has:
		d.put(path, Absent, toGo(a))
	}
}

func (d differ) lists(path []string, before *array, after *List) {
	at := func(i int) []string { return append(path, strconv.Itoa(i)) }
	for i := range max(len(before.vals), after.Len()) {
		if _, changed := after.over[i]; i < after.n && after.base == before && !changed {
			continue
		}
		switch {
		case i >= after.Len():
			d.put(at(i), baseToGo(before.vals[i]), Absent)
		case i >= len(before.vals):
			d.put(at(i), Absent, toGo(after.Index(i)))
		default:
			d.values(at(i), before.vals[i], after.Index(i))
		}
	}
}

// sameScalar is equality of JSON scalars; an integer and a float of the same value are the same.
func sameScalar(a, b starlark.Value) bool {
	if (a == starlark.None) != (b == starlark.None) {
		return false
	}
	eq, err := starlark.Equal(a, b)
	return err == nil && eq
}
