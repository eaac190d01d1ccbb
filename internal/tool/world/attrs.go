package world

import (
	"fmt"
	"maps"
	"slices"

	"go.starlark.net/starlark"
)

type method = func(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

// dictMethods and listMethods are those of Starlark's dict and list.
var dictMethods = map[string]method{
	"clear": dictClear, "get": dictGet, "items": dictItems, "keys": dictKeys, "pop": dictPop,
	"setdefault": dictSetDefault, "update": dictUpdate, "values": dictValues,
}

var listMethods = map[string]method{
	"append": listAppend, "clear": listClear, "extend": listExtend, "index": listIndex,
	"insert": listInsert, "pop": listPop, "remove": listRemove,
}

// Attr is a method of the dict.
func (d *Dict) Attr(name string) (starlark.Value, error) { return attr(d, name, dictMethods) }

// AttrNames are the methods of the dict.
func (d *Dict) AttrNames() []string { return names(dictMethods) }

// Attr is a method of the list.
func (l *List) Attr(name string) (starlark.Value, error) { return attr(l, name, listMethods) }

// AttrNames are the methods of the list.
func (l *List) AttrNames() []string { return names(listMethods) }

func attr(receiver starlark.Value, name string, methods map[string]method) (starlark.Value, error) {
	m, ok := methods[name]
	if !ok {
		return nil, nil
	}
	fn := func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return m(b, args, kwargs)
	}
	return starlark.NewBuiltin(name, fn).BindReceiver(receiver), nil
}

func names(methods map[string]method) []string {
	all := make(map[string]any, len(methods))
	for n := range methods {
		all[n] = nil
	}
	return slices.Sorted(maps.Keys(all))
}

func dictClear(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 0); err != nil {
		return nil, err
	}
	d := b.Receiver().(*Dict)
	if err := d.changeable(); err != nil {
		return nil, err
	}
	d.clear()
	return starlark.None, nil
}

func dictGet(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key, other starlark.Value = nil, starlark.None
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &key, &other); err != nil {
		return nil, err
	}
	if v, ok, _ := b.Receiver().(*Dict).Get(key); ok {
		return v, nil
	}
	return other, nil
}

func dictItems(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 0); err != nil {
		return nil, err
	}
	var items []starlark.Value
	for _, it := range b.Receiver().(*Dict).Items() {
		items = append(items, it)
	}
	return starlark.NewList(items), nil
}

func dictKeys(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 0); err != nil {
		return nil, err
	}
	var keys []starlark.Value
	for _, k := range b.Receiver().(*Dict).keys() {
		keys = append(keys, starlark.String(k))
	}
	return starlark.NewList(keys), nil
}

func dictValues(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 0); err != nil {
		return nil, err
	}
	var values []starlark.Value
	for _, it := range b.Receiver().(*Dict).Items() {
		values = append(values, it[1])
	}
	return starlark.NewList(values), nil
}

func dictPop(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key, other starlark.Value
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &key, &other); err != nil {
		return nil, err
	}
	d := b.Receiver().(*Dict)
	if err := d.changeable(); err != nil {
		return nil, err
	}
	v, ok, _ := d.Get(key)
	switch {
	case ok:
		d.remove(string(key.(starlark.String)))
		return v, nil
	case other != nil:
		return other, nil
	}
	return nil, fmt.Errorf("pop: there is no key %s", key)
}

func dictSetDefault(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key, other starlark.Value = nil, starlark.None
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &key, &other); err != nil {
		return nil, err
	}
	d := b.Receiver().(*Dict)
	if v, ok, _ := d.Get(key); ok {
		return v, nil
	}
	return other, d.SetKey(key, other)
}

func dictUpdate(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var from starlark.Value
	if err := starlark.UnpackPositionalArgs(b.Name(), args, nil, 0, &from); err != nil {
		return nil, err
	}
	d := b.Receiver().(*Dict)
	var items []starlark.Tuple
	if from != nil {
		m, ok := from.(starlark.IterableMapping)
		if !ok {
			return nil, fmt.Errorf("update: a dict is expected, not %s", from.Type())
		}
		items = m.Items()
	}
	for _, it := range append(items, kwargs...) {
		if err := d.SetKey(it[0], it[1]); err != nil {
			return nil, err
		}
	}
	return starlark.None, nil
}

func listAppend(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &v); err != nil {
		return nil, err
	}
	return starlark.None, b.Receiver().(*List).push(v)
}

func listClear(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 0); err != nil {
		return nil, err
	}
	l := b.Receiver().(*List)
	if err := l.changeable(); err != nil {
		return nil, err
	}
	l.clear()
	return starlark.None, nil
}

func listExtend(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var from starlark.Iterable
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &from); err != nil {
		return nil, err
	}
	var items []starlark.Value
	it := from.Iterate()
	var v starlark.Value
	for it.Next(&v) {
		items = append(items, v)
	}
	it.Done()
	l := b.Receiver().(*List)
	for _, v := range items {
		if err := l.push(v); err != nil {
			return nil, err
		}
	}
	return starlark.None, nil
}

func listIndex(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	l := b.Receiver().(*List)
	from, to := 0, l.Len()
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &v, &from, &to); err != nil {
		return nil, err
	}
	i, err := l.find(v, clamp(from, l.Len()), clamp(to, l.Len()))
	if err == nil && i < 0 {
		err = fmt.Errorf("index: the value is not in the list")
	}
	return starlark.MakeInt(i), err
}

func listInsert(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var i int
	var v starlark.Value
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 2, &i, &v); err != nil {
		return nil, err
	}
	l := b.Receiver().(*List)
	return starlark.None, l.insert(clamp(i, l.Len()), v)
}

func listPop(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	l := b.Receiver().(*List)
	i := l.Len() - 1
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 0, &i); err != nil {
		return nil, err
	}
	at := i
	if at < 0 {
		at += l.Len()
	}
	if at < 0 || at >= l.Len() {
		return nil, fmt.Errorf("pop: index %d is out of range, the list has %d items", i, l.Len())
	}
	return l.removeAt(at)
}

func listRemove(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &v); err != nil {
		return nil, err
	}
	l := b.Receiver().(*List)
	i, err := l.find(v, 0, l.Len())
	if err != nil {
		return nil, err
	}
	if i < 0 {
		return nil, fmt.Errorf("remove: the value is not in the list")
	}
	_, err = l.removeAt(i)
	return starlark.None, err
}

// clamp makes an index that may be negative a position from 0 to n.
func clamp(i, n int) int {
	if i < 0 {
		i += n
	}
	return min(max(i, 0), n)
}
