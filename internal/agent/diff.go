package agent

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// What happened to a component between two packages.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// ComponentDiff is a component that two packages do not share.
type ComponentDiff struct {
	Kind   string      `json:"kind"`
	Name   string      `json:"name"`
	Change string      `json:"change"`           // added, removed, changed
	Fields []FieldDiff `json:"fields,omitempty"` // what differs in structured content
	Words  []Word      `json:"words,omitempty"`  // how a prompt differs, in order
}

// FieldDiff is a value that differs; nil stands for one that is not there.
type FieldDiff struct {
	Path   string `json:"path"` // dotted
	Before any    `json:"before,omitempty"`
	After  any    `json:"after,omitempty"`
}

// Word is a piece of a text that both have (=), that only the first has (-) or only the second (+).
type Word struct {
	Op   string `json:"op"`
	Text string `json:"text"`
}

// Diff compares two packages component by component, prompts word by word. Suites are not compared.
func Diff(a, b *Resolved) []ComponentDiff {
	before, after := Components(a), Components(b)
	index := map[string]Component{}
	for _, c := range before {
		index[c.Kind+" "+c.Name] = c
	}
	out := []ComponentDiff{}
	both := map[string]bool{}
	for _, c := range after {
		key := c.Kind + " " + c.Name
		old, had := index[key]
		both[key] = had
		if had && bytes.Equal(old.Content, c.Content) {
			continue
		}
		d := ComponentDiff{Kind: c.Kind, Name: c.Name, Change: Changed}
		if !had {
			d.Change = Added
		}
		d.compare(old.Content, c.Content)
		out = append(out, d)
	}
	for _, c := range before {
		if !both[c.Kind+" "+c.Name] {
			d := ComponentDiff{Kind: c.Kind, Name: c.Name, Change: Removed}
			d.compare(c.Content, nil)
			out = append(out, d)
		}
	}
	sortDiff(out)
	return out
}

func (d *ComponentDiff) compare(before, after []byte) {
	if d.Kind == KindData {
		d.Fields = []FieldDiff{
			{Path: "bytes", Before: size(before), After: size(after)},
			{Path: "lines", Before: lines(before), After: lines(after)},
		}
		if d.Change == Removed {
			for i := range d.Fields {
				d.Fields[i].After = nil
			}
		}
		return
	}
	old, _ := parseJSON(orNull(before))
	now, _ := parseJSON(orNull(after))
	if d.Kind == KindPrompt {
		oldBody, _ := mapOf(old)["body"].(string)
		nowBody, _ := mapOf(now)["body"].(string)
		if oldBody != nowBody {
			d.Words = Words(oldBody, nowBody)
		}
		old, now = mapOf(old)["front"], mapOf(now)["front"]
	}
	d.Fields = fieldDiffs("", old, now, nil)
}

func orNull(b []byte) []byte {
	if len(b) == 0 {
		return []byte("null")
	}
	return b
}

func size(b []byte) any {
	if b == nil {
		return nil
	}
	return len(b)
}

func lines(b []byte) any {
	if b == nil {
		return nil
	}
	return bytes.Count(b, []byte("\n"))
}

// fieldDiffs goes down mappings; lists and single values are compared as a whole.
func fieldDiffs(path string, a, b any, out []FieldDiff) []FieldDiff {
	if reflect.DeepEqual(a, b) {
		return out
	}
	ma, okA := a.(map[string]any)
	mb, okB := b.(map[string]any)
	if !okA && a != nil || !okB && b != nil || a == nil && path != "" || b == nil && path != "" {
		return append(out, FieldDiff{path, a, b})
	}
	keys := map[string]bool{}
	for k := range ma {
		keys[k] = true
	}
	for k := range mb {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		below := k
		if path != "" {
			below = path + "." + k
		}
		out = fieldDiffs(below, ma[k], mb[k], out)
	}
	return out
}

func sortDiff(list []ComponentDiff) {
	byKey := map[string]ComponentDiff{}
	for _, d := range list {
		byKey[d.Kind+" "+d.Name] = d
	}
	for i, k := range slices.Sorted(maps.Keys(byKey)) {
		list[i] = byKey[k]
	}
}

const maxCells = 4_000_000 // of the table that finds common words

// Words compares two texts word by word; white space is a part of the text. Joining = and - gives the
// first text, joining = and + the second.
func Words(a, b string) []Word {
	x, y := split(a), split(b)
	start := 0
	for start < len(x) && start < len(y) && x[start] == y[start] {
		start++
	}
	end := 0
	for end < len(x)-start && end < len(y)-start && x[len(x)-1-end] == y[len(y)-1-end] {
		end++
	}
	w := &words{}
	w.add("=", x[:start]...)
	mx, my := x[start:len(x)-end], y[start:len(y)-end]
	if len(mx)*len(my) > maxCells {
		w.add("-", mx...)
		w.add("+", my...)
	} else {
		w.common(mx, my)
	}
	w.add("=", x[len(x)-end:]...)
	return w.list
}

type words struct{ list []Word }

func (w *words) add(op string, texts ...string) {
	for _, t := range texts {
		if n := len(w.list); n > 0 && w.list[n-1].Op == op {
			w.list[n-1].Text += t
			continue
		}
		w.list = append(w.list, Word{op, t})
	}
}

// common walks a longest common subsequence.
func (w *words) common(x, y []string) {
	width := len(y) + 1
	table := make([]int32, (len(x)+1)*width)
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				table[i*width+j] = table[(i+1)*width+j+1] + 1
			} else {
				table[i*width+j] = max(table[(i+1)*width+j], table[i*width+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(x) && j < len(y) {
		switch {
		case x[i] == y[j]:
			w.add("=", x[i])
			i, j = i+1, j+1
		case table[(i+1)*width+j] >= table[i*width+j+1]:
			w.add("-", x[i])
			i++
		default:
			w.add("+", y[j])
			j++
		}
	}
	w.add("-", x[i:]...)
	w.add("+", y[j:]...)
}

// split cuts a text into words and the white space between them.
func split(s string) []string {
	var out []string
	start, blank := 0, false
	for i, r := range s {
		if is := unicode.IsSpace(r); i == 0 || is != blank {
			if i > start {
				out = append(out, s[start:i])
			}
			start, blank = i, is
		}
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

// WriteDiff writes a comparison for people: [-gone-] and {+new+} in prompts.
func WriteDiff(w io.Writer, diffs []ComponentDiff) {
	if len(diffs) == 0 {
		_, _ = fmt.Fprintln(w, "no difference")
		return
	}
	for _, d := range diffs {
		_, _ = fmt.Fprintf(w, "%-7s %-6s %s\n", d.Change, d.Kind, d.Name)
		for _, f := range d.Fields {
			_, _ = fmt.Fprintf(w, "    %s: %s → %s\n", f.Path, show(f.Before), show(f.After))
		}
		if len(d.Words) > 0 {
			_, _ = fmt.Fprintf(w, "    %s\n", strings.ReplaceAll(marked(d.Words), "\n", "\n    "))
		}
	}
}

func show(v any) string {
	if v == nil {
		return "(none)"
	}
	if s, ok := v.(string); ok {
		return strconv.Quote(cut(s, 80))
	}
	return cut(string(compact(v)), 120)
}

// marked shows changes with a little of the unchanged text around them.
func marked(list []Word) string {
	var out strings.Builder
	for i, w := range list {
		switch w.Op {
		case "-":
			out.WriteString("[-" + w.Text + "-]")
		case "+":
			out.WriteString("{+" + w.Text + "+}")
		default:
			out.WriteString(around(w.Text, i > 0, i < len(list)-1))
		}
	}
	return out.String()
}

func around(text string, before, after bool) string {
	const near = 60
	runes := []rune(text)
	if len(runes) <= 2*near {
		return text
	}
	head, tail := "", ""
	if before {
		head = string(runes[:near])
	}
	if after {
		tail = string(runes[len(runes)-near:])
	}
	return head + " … " + tail
}
