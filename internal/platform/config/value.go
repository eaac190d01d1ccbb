package config

import (
	"encoding"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
)

// isLeaf says whether a setting is one value: a scalar or a list of scalars.
func isLeaf(t reflect.Type) bool {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64, reflect.Int, reflect.Int64:
		return true
	}
	return false
}

func kindName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 30s"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	}
	return "a text"
}

// setText sets a leaf from text; lists are separated by commas.
func setText(v reflect.Value, text string) error {
	wrong := fmt.Errorf("%q is not %s", text, kindName(v.Type()))
	if v.Type() == reflect.TypeFor[Secret]() {
		wrong = fmt.Errorf("the value is not %s", kindName(v.Type()))
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		if err != nil {
			return wrong
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return wrong
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return wrong
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return wrong
		}
		v.SetFloat(n)
	case reflect.Slice:
		words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
		v.Set(reflect.MakeSlice(v.Type(), len(words), len(words)))
		for i, w := range words {
			if err := setText(v.Index(i), w); err != nil {
				return err
			}
		}
	}
	return nil
}

func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if n := yamlName(v.Type().Field(i)); n == name && n != "" && n != "-" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if n := yamlName(t.Field(i)); n != "" && n != "-" {
			names = append(names, n)
		}
	}
	return names
}

// setByPath sets the leaf at a path from text; found says whether there is one.
func setByPath(v reflect.Value, path []string, text string) (found bool, err error) {
	if len(path) == 0 {
		if !isLeaf(v.Type()) {
			return false, nil
		}
		return true, setText(v, text)
	}
	switch {
	case isLeaf(v.Type()):
		return false, nil
	case v.Kind() == reflect.Struct:
		f, ok := fieldNamed(v, path[0])
		if !ok {
			return false, nil
		}
		return setByPath(f, path[1:], text)
	case v.Kind() == reflect.Map:
		item := reflect.New(v.Type().Elem()).Elem()
		key := reflect.ValueOf(path[0]).Convert(v.Type().Key())
		if old := v.MapIndex(key); old.IsValid() {
			item.Set(old)
		}
		if found, err = setByPath(item, path[1:], text); found {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(key, item)
		}
		return found, err
	}
	return false, nil
}

// pathOfEnv finds the setting that an environment variable means; name comes without the prefix.
func pathOfEnv(t reflect.Type, path, name string) (string, bool) {
	env := strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
	join := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	switch {
	case isLeaf(t):
		return path, env == name
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			n := yamlName(t.Field(i))
			if n == "" || n == "-" {
				continue
			}
			if p, ok := pathOfEnv(t.Field(i).Type, join(n), name); ok {
				return p, true
			}
		}
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct:
		rest, ok := strings.CutPrefix(name, env+"_")
		for i := 0; ok && i < t.Elem().NumField(); i++ {
			n := yamlName(t.Elem().Field(i))
			key, fits := strings.CutSuffix(rest, "_"+strings.ToUpper(n))
			if n != "" && fits && key != "" && isLeaf(t.Elem().Field(i).Type) {
				return join(strings.ToLower(key) + "." + n), true
			}
		}
	}
	return "", false
}

func explain(v reflect.Value, path string, tell func(path, value string)) {
	join := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	switch {
	case isLeaf(v.Type()):
		tell(path, text(v))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if n := yamlName(v.Type().Field(i)); n != "" && n != "-" {
				explain(v.Field(i), join(n), tell)
			}
		}
	case v.Kind() == reflect.Map:
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
		for _, k := range keys {
			explain(v.MapIndex(k), join(k.String()), tell)
		}
	}
}

func text(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		words := make([]string, v.Len())
		for i := range words {
			words[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return strings.Join(words, ", ")
	}
	return fmt.Sprint(v.Interface())
}
