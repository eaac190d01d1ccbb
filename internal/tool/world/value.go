package world

import (
	"errors"
	"fmt"
	"sort"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

var errCycle = errors.New("a value contains itself")

// text is a container for messages.
func text(c container) string {
	b, err := c.append(nil)
	if err != nil {
		return "<" + err.Error() + ">"
	}
	return string(b)
}

func isScalar(v starlark.Value) bool {
	switch v.(type) {
	case nil, starlark.NoneType, starlark.Bool, starlark.Int, starlark.Float, starlark.String:
		return true
	}
	return false
}

// storable says early what can never be JSON; the inside of containers is looked at when they are sealed.
func storable(v starlark.Value) error {
	switch v := v.(type) {
	case *starlark.Dict, *starlark.List, starlark.Tuple, container:
		return nil
	case starlark.Float:
		_, err := appendFloat(nil, float64(v))
		return err
	}
	if !isScalar(v) {
		return fmt.Errorf("a %s cannot be stored in the world: it is not JSON", v.Type())
	}
	return nil
}

func forkValue(v starlark.Value, s *State, parent container) starlark.Value {
	switch v := v.(type) {
	case *Dict:
		return v.fork(s, parent)
	case *List:
		return v.fork(s, parent)
	}
	return v
}

// adopt copies a value into the tree of s; above are the plain containers that it is inside of.
func (s *State) adopt(v starlark.Value, parent container, above []starlark.Value) (starlark.Value, error) {
	if isScalar(v) {
		if v == nil {
			return nil, nil // a removed entry
		}
		return v, storable(v)
	}
	for _, a := range above {
		if same(a, v) {
			return nil, errCycle
		}
	}
	if len(above) > maxDepth {
		return nil, fmt.Errorf("a value is nested too deep")
	}
	switch v := v.(type) {
	case container:
		return v.copyFor(s, parent)
	case *starlark.Dict:
		return s.adoptDict(v, parent, append(above, v))
	case *starlark.List:
		return s.adoptItems(v, parent, append(above, v))
	case starlark.Tuple:
		return s.adoptItems(v, parent, above)
	}
	return nil, fmt.Errorf("a %s is not JSON", v.Type())
}

// same says whether both are one list or dict; tuples cannot contain themselves.
func same(a, b starlark.Value) bool {
	switch b.(type) {
	case *starlark.Dict, *starlark.List:
		return a == b
	}
	return false
}

func (s *State) adoptDict(v *starlark.Dict, parent container, above []starlark.Value) (starlark.Value, error) {
	d := &Dict{st: s, parent: parent}
	for _, it := range v.Items() {
		k, ok := it[0].(starlark.String)
		if !ok {
			return nil, fmt.Errorf("the key %s is not a string", it[0])
		}
		c, err := s.adopt(it[1], d, above)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", string(k), err)
		}
		d.put(string(k), c)
		d.added = append(d.added, string(k))
	}
	sort.Strings(d.added)
	d.size = len(d.added)
	return d, nil
}

func (s *State) adoptItems(v starlark.Indexable, parent container, above []starlark.Value) (starlark.Value, error) {
	l := &List{st: s, parent: parent}
	for i := range v.Len() {
		c, err := s.adopt(v.Index(i), l, above)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i, err)
		}
		l.tail = append(l.tail, c)
	}
	return l, nil
}

func compareDicts(op syntax.Token, x starlark.IterableMapping, yv starlark.Value, depth int) (bool, error) {
	if op != syntax.EQL && op != syntax.NEQ {
		return false, fmt.Errorf("dict %s dict is not possible", op)
	}
	eq, err := equalDicts(x, yv, depth)
	return eq == (op == syntax.EQL), err
}

func equalDicts(x starlark.IterableMapping, yv starlark.Value, depth int) (bool, error) {
	y, ok := yv.(starlark.IterableMapping)
	if !ok || starlark.Len(x) != starlark.Len(y) {
		return false, nil
	}
	for _, it := range x.Items() {
		v, found, err := y.Get(it[0])
		if err != nil || !found {
			return false, err
		}
		if eq, err := equal(it[1], v, depth); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

func compareLists(op syntax.Token, x starlark.Indexable, yv starlark.Value, depth int) (bool, error) {
	if op != syntax.EQL && op != syntax.NEQ {
		return false, fmt.Errorf("list %s list is not possible for lists of the world", op)
	}
	eq, err := equalLists(x, yv, depth)
	return eq == (op == syntax.EQL), err
}

func equalLists(x starlark.Indexable, yv starlark.Value, depth int) (bool, error) {
	y, ok := yv.(starlark.Indexable)
	if !ok || x.Len() != y.Len() {
		return false, nil
	}
	for i := range x.Len() {
		if eq, err := equal(x.Index(i), y.Index(i), depth); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

// equal compares with containers of the world on either side, which the interpreter's own comparison
// can only do with them on the left.
func equal(x, y starlark.Value, depth int) (bool, error) {
	if _, ok := y.(container); ok {
		x, y = y, x
	}
	return starlark.EqualDepth(x, y, depth-1)
}
