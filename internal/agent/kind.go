package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/spec"
)

// KindFile is one file of a registered kind while it is checked.
type KindFile struct {
	File    string        // path in the package
	Name    string        // NAME of suites/NAME.suite.yaml
	Value   any           // the parsed file: map[string]any, []any, string, int64, float64, bool, nil
	Package *spec.Package // what could be decoded of the package; never nil, complete only without errors

	files    op.Dir
	source   *source
	read     map[string][]byte
	problems []*Problem
}

// Errorf reports an error at a value of the file; path steps are keys and indexes of lists, as in
// "scenarios", "0", "says". A hint may be set on the result.
func (c *KindFile) Errorf(path []string, code, format string, args ...any) *Problem {
	return c.report(path, false, code, fmt.Sprintf(format, args...))
}

// KeyErrorf reports an error at the last key of path instead of its value.
func (c *KindFile) KeyErrorf(path []string, code, format string, args ...any) *Problem {
	return c.report(path, true, code, fmt.Sprintf(format, args...))
}

// Warnf reports something that does not make the package invalid.
func (c *KindFile) Warnf(path []string, code, format string, args ...any) *Problem {
	p := c.report(path, false, code, fmt.Sprintf(format, args...))
	p.Warning = true
	return p
}

func (c *KindFile) report(path []string, key bool, code, message string) *Problem {
	line, column := c.Position(path, key)
	return c.reportIn(Problem{File: c.File, Line: line, Column: column, Code: code, Message: message})
}

func (c *KindFile) reportIn(p Problem) *Problem {
	c.problems = append(c.problems, &p)
	return &p
}

// FileErrorf reports an error in a file that this one refers to, such as a line of a JSONL table.
func (c *KindFile) FileErrorf(file string, line, column int, code, format string, args ...any) *Problem {
	return c.reportIn(Problem{File: file, Line: line, Column: column, Code: code, Message: fmt.Sprintf(format, args...)})
}

// Position is the place of a value, or of its key; of the nearest enclosing value when it does not exist.
func (c *KindFile) Position(path []string, key bool) (line, column int) {
	return c.source.at(path, key)
}

// Keys reports the keys of the mapping at path that are not known, with did-you-mean.
func (c *KindFile) Keys(path []string, known ...string) {
	m, ok := Lookup(c.Value, path).(map[string]any)
	if !ok {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(known, k) {
			p := c.KeyErrorf(append(slices.Clone(path), k), "package.unknown_key", "%s", unknownKey(k))
			p.Hint = didYouMean(k, known)
		}
	}
}

// Read gives the content of a file of the package that the file at path refers to, and remembers it as
// part of the suite. A missing file, or a path that leaves the package, is reported; ok is false then.
func (c *KindFile) Read(path []string, file string) (content []byte, ok bool) {
	if !safePath(file) {
		c.Errorf(path, "package.path", "%q leaves the package", file).Hint = "use a relative path with / and without .."
		return nil, false
	}
	content, ok = c.files[file]
	if !ok {
		p := c.Errorf(path, "package.missing_file", "there is no file %s", file)
		p.Hint = nearFile(file, c.files)
		return nil, false
	}
	c.read[file] = content
	return content, true
}

// Decode fills a struct from the value of the file, as encoding/json does.
func (c *KindFile) Decode(into any) error {
	b, err := json.Marshal(c.Value)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// Lookup finds a value by keys and indexes; nil when it is not there.
func Lookup(value any, path []string) any {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			index, ok := indexOf(step, len(v))
			if !ok {
				return nil
			}
			value = v[index]
		default:
			return nil
		}
	}
	return value
}

func unknownKey(key string) string { return fmt.Sprintf("the key %q is not known", key) }

// didYouMean is a hint with the nearest known name, else with all of them when they are few.
func didYouMean(got string, known []string) string {
	if s := fault.Suggest(got, known); s != "" && s != got {
		return fmt.Sprintf("did you mean %q?", s)
	}
	if len(known) == 0 || len(known) > 16 {
		return ""
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(known)))
	return "known: " + strings.Join(sorted, ", ")
}
