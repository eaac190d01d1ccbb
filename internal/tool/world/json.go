package world

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"

	"go.starlark.net/starlark"

	"flywheel/internal/platform/canon"
)

// maxDepth bounds the nesting of values that are stored or written.
const maxDepth = 500

// Decode reads JSON into plain Starlark values, keys sorted.
func Decode(src []byte) (starlark.Value, error) {
	v, err := unmarshal(src)
	if err != nil {
		return nil, err
	}
	return toPlain(v)
}

// Encode writes any value that is JSON, of the world or plain, as canonical JSON.
func Encode(v starlark.Value) ([]byte, error) { return appendValue(nil, v, 0) }

func unmarshal(src []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is more after the JSON value")
	}
	return v, nil
}

func parse(src []byte) (any, error) {
	v, err := unmarshal(src)
	if err != nil {
		return nil, err
	}
	return toBase(v)
}

func toBase(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		o := &object{keys: make([]string, 0, len(v)), vals: make([]any, 0, len(v))}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			c, err := toBase(v[k])
			if err != nil {
				return nil, err
			}
			o.keys, o.vals = append(o.keys, k), append(o.vals, c)
		}
		return o, nil
	case []any:
		a := &array{vals: make([]any, len(v))}
		for i := range v {
			c, err := toBase(v[i])
			if err != nil {
				return nil, err
			}
			a.vals[i] = c
		}
		return a, nil
	}
	return scalar(v)
}

func toPlain(v any) (starlark.Value, error) {
	switch v := v.(type) {
	case map[string]any:
		d := starlark.NewDict(len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			c, err := toPlain(v[k])
			if err != nil {
				return nil, err
			}
			if err := d.SetKey(starlark.String(k), c); err != nil {
				return nil, err
			}
		}
		return d, nil
	case []any:
		items := make([]starlark.Value, len(v))
		for i := range v {
			c, err := toPlain(v[i])
			if err != nil {
				return nil, err
			}
			items[i] = c
		}
		return starlark.NewList(items), nil
	}
	return scalar(v)
}

func scalar(v any) (starlark.Value, error) {
	switch v := v.(type) {
	case nil:
		return starlark.None, nil
	case bool:
		return starlark.Bool(v), nil
	case string:
		return starlark.String(v), nil
	case json.Number:
		return number(string(v))
	}
	return nil, fmt.Errorf("a %T is not JSON", v)
}

func number(s string) (starlark.Value, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return starlark.MakeInt64(i), nil
	}
	if i, ok := new(big.Int).SetString(s, 10); ok {
		return starlark.MakeBigInt(i), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("the number %s is too large", s)
	}
	return starlark.Float(f), nil
}

// fromGo reads what encoding/json can write as plain values.
func fromGo(v any) (starlark.Value, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return Decode(b)
}

// toGo is a sealed value as Go values.
func toGo(v starlark.Value) any {
	switch v := v.(type) {
	case starlark.Bool:
		return bool(v)
	case starlark.String:
		return string(v)
	case starlark.Float:
		return float64(v)
	case starlark.Int:
		if i, ok := v.Int64(); ok {
			return i
		}
		return json.Number(v.String())
	case container:
		return v.goValue()
	}
	return nil
}

// baseToGo is toGo for values of a base.
func baseToGo(v any) any {
	switch v := v.(type) {
	case *object:
		m := make(map[string]any, len(v.keys))
		for i, k := range v.keys {
			m[k] = baseToGo(v.vals[i])
		}
		return m
	case *array:
		s := make([]any, len(v.vals))
		for i := range v.vals {
			s[i] = baseToGo(v.vals[i])
		}
		return s
	}
	return toGo(v.(starlark.Value))
}

func appendValue(b []byte, v starlark.Value, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("a value is nested too deep, or contains itself")
	}
	switch v := v.(type) {
	case starlark.NoneType:
		return append(b, "null"...), nil
	case starlark.Bool:
		return strconv.AppendBool(b, bool(v)), nil
	case starlark.Int:
		return append(b, v.String()...), nil
	case starlark.Float:
		return appendFloat(b, float64(v))
	case starlark.String:
		return appendString(b, string(v)), nil
	case container:
		return v.append(b)
	case *starlark.Dict:
		return appendPlainDict(b, v, depth)
	case *starlark.List:
		return appendItems(b, v, depth)
	case starlark.Tuple:
		return appendItems(b, v, depth)
	}
	return nil, fmt.Errorf("a %s is not JSON", v.Type())
}

func appendPlainDict(b []byte, d *starlark.Dict, depth int) ([]byte, error) {
	items := d.Items()
	for _, it := range items {
		if _, ok := it[0].(starlark.String); !ok {
			return nil, fmt.Errorf("the key %s is not a string", it[0])
		}
	}
	sort.Slice(items, func(i, j int) bool { return items[i][0].(starlark.String) < items[j][0].(starlark.String) })
	b = append(b, '{')
	for i, it := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, string(it[0].(starlark.String))), ':')
		var err error
		if b, err = appendValue(b, it[1], depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendItems(b []byte, items starlark.Indexable, depth int) ([]byte, error) {
	b = append(b, '[')
	for i := range items.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, items.Index(i), depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendBase writes a value of a base.
func appendBase(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case *object:
		b = append(b, '{')
		for i, k := range v.keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			if b, err = appendBase(b, v.vals[i]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case *array:
		b = append(b, '[')
		for i := range v.vals {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendBase(b, v.vals[i]); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	}
	return appendValue(b, v.(starlark.Value), 0)
}

func appendFloat(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("the number %v is not JSON", f)
	}
	start := len(b)
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(b, f, 'e', -1, 64), nil
	}
	b = strconv.AppendFloat(b, f, 'f', -1, 64)
	if !bytes.ContainsRune(b[start:], '.') {
		b = append(b, ".0"...) // a float stays one when it is read again
	}
	return b, nil
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	text, err := canon.JSON(s)
	if err != nil {
		return append(b, `""`...) // a string always encodes
	}
	return append(b, text...)
}
