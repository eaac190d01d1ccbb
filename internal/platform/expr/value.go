package expr

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// maxExact is the largest integer that a float64 holds without loss.
const maxExact = 1 << 53

// adapter turns Go values into CEL values: whole floats become integers, and maps are walked in the
// order of their keys, because a run must give the same commands each time it is replayed.
type adapter struct{}

// NativeToValue implements types.Adapter.
func (adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < maxExact {
			return types.Int(int64(v))
		}
		return types.Double(v)
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return types.Int(i)
		}
		f, err := v.Float64()
		if err != nil {
			return types.NewErr("%q is not a number", v.String())
		}
		return adapter{}.NativeToValue(f)
	case json.RawMessage:
		var decoded any
		if err := json.Unmarshal(v, &decoded); err != nil {
			return types.WrapErr(err)
		}
		return adapter{}.NativeToValue(decoded)
	case map[string]any:
		return sortedMap{Mapper: types.NewStringInterfaceMap(adapter{}, v)}
	case map[string]string:
		return sortedMap{Mapper: types.NewStringStringMap(adapter{}, v)}
	case map[ref.Val]ref.Val:
		return sortedMap{Mapper: types.NewRefValMap(adapter{}, v)}
	case []any:
		return types.NewDynamicList(adapter{}, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

// sortedMap is a map whose iteration order is that of its keys.
type sortedMap struct{ traits.Mapper }

// Iterator walks the keys in order.
func (m sortedMap) Iterator() traits.Iterator { return &keys{list: m.sorted()} }

// Fold walks the entries in order.
func (m sortedMap) Fold(f traits.Folder) {
	for _, k := range m.sorted() {
		if !f.FoldEntry(k, m.Get(k)) {
			return
		}
	}
}

func (m sortedMap) sorted() []ref.Val {
	var list []ref.Val
	for it := m.Mapper.Iterator(); it.HasNext() == types.True; {
		list = append(list, it.Next())
	}
	slices.SortFunc(list, compareKeys)
	return list
}

// compareKeys orders strings by bytes, and mixed keys by type first.
func compareKeys(a, b ref.Val) int {
	if a.Type() != b.Type() {
		return strings.Compare(a.Type().TypeName(), b.Type().TypeName())
	}
	if c, ok := a.(traits.Comparer); ok {
		if order, ok := c.Compare(b).(types.Int); ok {
			return int(order)
		}
	}
	return strings.Compare(fmt.Sprint(a.Value()), fmt.Sprint(b.Value()))
}

// sortLiterals makes map literals walk in the order of their keys too: they do not pass the adapter.
func sortLiterals(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	if c, ok := i.(interpreter.InterpretableConstructor); ok && c.Type() == types.MapType {
		return sortedLiteral{c}, nil
	}
	return i, nil
}

type sortedLiteral struct {
	interpreter.InterpretableConstructor
}

// Exec makes the map.
func (l sortedLiteral) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return sortedVal(l.InterpretableConstructor.Exec(frame))
}

// Eval makes the map.
func (l sortedLiteral) Eval(vars interpreter.Activation) ref.Val {
	return sortedVal(l.InterpretableConstructor.Eval(vars))
}

func sortedVal(v ref.Val) ref.Val {
	if m, ok := v.(traits.Mapper); ok {
		return sortedMap{Mapper: m}
	}
	return v
}

type keys struct {
	list []ref.Val
	next int
	ref.Val
}

// HasNext implements traits.Iterator.
func (k *keys) HasNext() ref.Val { return types.Bool(k.next < len(k.list)) }

// Next implements traits.Iterator.
func (k *keys) Next() ref.Val {
	if k.next >= len(k.list) {
		return nil
	}
	k.next++
	return k.list[k.next-1]
}

// native turns a CEL value into a JSON-like Go value.
func native(v ref.Val) (any, error) {
	switch v := v.(type) {
	case nil, types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if uint64(v) > math.MaxInt64 {
			return nil, fmt.Errorf("%d is too large for an integer", uint64(v))
		}
		return int64(v), nil
	case types.Double:
		f := float64(v)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("the result is not a finite number")
		}
		return f, nil
	case types.String:
		return string(v), nil
	case types.Bytes:
		return base64.StdEncoding.EncodeToString(v), nil
	case types.Duration:
		return v.String(), nil
	case types.Timestamp:
		return v.Time.UTC().Format(time.RFC3339Nano), nil
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return native(v.GetValue())
	case *types.Err:
		return nil, v
	case traits.Mapper:
		return nativeMap(v)
	case traits.Lister:
		return nativeList(v)
	}
	return nil, fmt.Errorf("a value of type %s cannot leave an expression", v.Type().TypeName())
}

func nativeMap(m traits.Mapper) (any, error) {
	out := map[string]any{}
	for it := m.Iterator(); it.HasNext() == types.True; {
		k := it.Next()
		value, err := native(m.Get(k))
		if err != nil {
			return nil, err
		}
		out[fmt.Sprint(k.Value())] = value
	}
	return out, nil
}

func nativeList(l traits.Lister) (any, error) {
	out := []any{}
	for it := l.Iterator(); it.HasNext() == types.True; {
		value, err := native(it.Next())
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, nil
}
