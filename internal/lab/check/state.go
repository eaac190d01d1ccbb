package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"flywheel/internal/platform/canon"
)

// state compares the world at the end: named paths must have their value, everything else must be as it
// was. A path that names an object covers all below it; an expected null also means absent.
func state(want map[string]any, e Evidence) []string {
	if e.World == nil || e.Base == nil {
		return []string{"expected a state, but the scenario has no world"}
	}
	var out []string
	for _, path := range slices.Sorted(maps.Keys(want)) {
		got, ok := e.World.Get(path)
		w := normal(want[path])
		switch {
		case !ok && w == nil:
		case !ok:
			out = append(out, fmt.Sprintf("expected %s = %s; it does not exist", path, show(w)))
		case !reflect.DeepEqual(normal(got), w):
			out = append(out, fmt.Sprintf("expected %s = %s; got %s", path, show(w), show(got)))
		}
	}
	diff := e.World.Diff(e.Base)
	paths := make([]string, 0, len(diff))
	for path := range diff {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	for _, path := range paths {
		before, after := map[string]any{}, map[string]any{}
		flatten(path, normal(diff[path][0]), before)
		flatten(path, normal(diff[path][1]), after)
		out = append(out, strayChanges(want, before, after)...)
	}
	return out
}

func strayChanges(want map[string]any, before, after map[string]any) []string {
	leaves := map[string]any{}
	for p := range before {
		leaves[p] = nil
	}
	for p := range after {
		leaves[p] = nil
	}
	var out []string
	for _, p := range slices.Sorted(maps.Keys(leaves)) {
		b, hadBefore := before[p]
		a, hasAfter := after[p]
		if hadBefore == hasAfter && reflect.DeepEqual(a, b) || covered(want, p) {
			continue
		}
		if hadBefore != hasAfter && covers(p, want) { // an empty container that holds expected parts now, or did
			continue
		}
		out = append(out, fmt.Sprintf("expected %s unchanged (%s); got %s", p, showOr(b, hadBefore), showOr(a, hasAfter)))
	}
	return out
}

// covered says whether an expected path names p or what contains it.
func covered(want map[string]any, p string) bool {
	for w := range want {
		if w == p || strings.HasPrefix(p, w+".") {
			return true
		}
	}
	return false
}

// covers says whether p contains an expected path.
func covers(p string, want map[string]any) bool {
	for w := range want {
		if strings.HasPrefix(w, p+".") {
			return true
		}
	}
	return false
}

// flatten lists the leaves of v by dotted path; empty containers are leaves.
func flatten(path string, v any, into map[string]any) {
	switch v := v.(type) {
	case nil:
		return // absent and null are the same to a scenario
	case map[string]any:
		if len(v) > 0 {
			for k, x := range v {
				flatten(path+"."+escape.Replace(k), x, into)
			}
			return
		}
	case []any:
		if len(v) > 0 {
			for i, x := range v {
				flatten(path+"."+strconv.Itoa(i), x, into)
			}
			return
		}
	}
	into[path] = v
}

// escape writes a key as a step of a path, as package world does.
var escape = strings.NewReplacer(`\`, `\\`, `.`, `\.`)

// normal brings any JSON-like value to one shape: numbers are float64.
func normal(v any) any {
	switch v := v.(type) {
	case nil, bool, string, float64:
		return v
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = normal(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = normal(x)
		}
		return out
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	var out any
	if json.Unmarshal(b, &out) != nil {
		return string(b)
	}
	return out
}

// subset says whether got has everything that want has; lists are compared whole.
func subset(want, got any) bool {
	w, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(want, got)
	}
	g, ok := got.(map[string]any)
	if !ok {
		return false
	}
	for k, x := range w {
		y, ok := g[k]
		if !ok && x == nil {
			continue
		}
		if !ok || !subset(x, y) {
			return false
		}
	}
	return true
}

func showOr(v any, there bool) string {
	if !there {
		return "absent"
	}
	return show(v)
}

func show(v any) string {
	b, err := canon.JSON(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return clip(string(b))
}
