package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/agent"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// SuiteKind is the kind of file suites/NAME.suite.yaml, for agent.New.
func SuiteKind() agent.Kind {
	return agent.Kind{Glob: "suites/*.suite.yaml", Check: func(c *agent.KindFile) []agent.Problem {
		var tools []string
		if c.Package != nil {
			tools = slices.Sorted(maps.Keys(c.Package.Tools))
		}
		if s := parseSuite(c, c.Value, tools); s.Name != "" && s.Name != c.Name {
			c.Warnf([]string{"suite"}, "suite.name", "the suite is called %q, its file %q", s.Name, c.Name).Hint = "commands find a suite by its file: give both one name"
		}
		return nil
	}}
}

// Expand resolves a suite: what the file inherits, and the tables that it reads, become scenarios. Paths
// of worlds and tables count from the root of the package.
func Expand(src *agent.SuiteSource) (*spec.Suite, error) {
	var value any
	if err := decodeJSON(src.Source, &value); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "suite.invalid", "the suite %s cannot be read", src.Name)
	}
	o := &sourceOrigin{file: src.File, files: src.Files}
	s := parseSuite(o, value, nil)
	if err := agent.Fault(o.all()); err != nil {
		return nil, err
	}
	return s, nil
}

// Canonical is the canonical JSON of a resolved suite; its digest names the suite.
func Canonical(s *spec.Suite) ([]byte, error) { return canon.JSON(s) }

// origin is where a suite is read from, and takes what is wrong with it; *agent.KindFile is one.
type origin interface {
	Errorf(path []string, code, format string, args ...any) *agent.Problem
	KeyErrorf(path []string, code, format string, args ...any) *agent.Problem
	Warnf(path []string, code, format string, args ...any) *agent.Problem
	FileErrorf(file string, line, column int, code, format string, args ...any) *agent.Problem
	Read(path []string, file string) ([]byte, bool)
}

// sourceOrigin reads a suite that the package has checked before: its places are gone.
type sourceOrigin struct {
	file     string
	files    map[string][]byte
	problems []*agent.Problem
}

func (o *sourceOrigin) add(p agent.Problem) *agent.Problem {
	o.problems = append(o.problems, &p)
	return &p
}

func (o *sourceOrigin) all() []agent.Problem {
	out := make([]agent.Problem, len(o.problems))
	for i, p := range o.problems {
		out[i] = *p
	}
	return out
}

func (o *sourceOrigin) Errorf(path []string, code, format string, args ...any) *agent.Problem {
	return o.add(agent.Problem{File: o.file, Code: code, Message: strings.Join(path, ".") + ": " + fmt.Sprintf(format, args...)})
}

func (o *sourceOrigin) KeyErrorf(path []string, code, format string, args ...any) *agent.Problem {
	return o.Errorf(path, code, format, args...)
}

func (o *sourceOrigin) Warnf(path []string, code, format string, args ...any) *agent.Problem {
	p := o.Errorf(path, code, format, args...)
	p.Warning = true
	return p
}

func (o *sourceOrigin) FileErrorf(file string, line, column int, code, format string, args ...any) *agent.Problem {
	return o.add(agent.Problem{File: file, Line: line, Column: column, Code: code, Message: fmt.Sprintf(format, args...)})
}

func (o *sourceOrigin) Read(path []string, file string) ([]byte, bool) {
	b, ok := o.files[file]
	if !ok {
		o.Errorf(path, "package.missing_file", "there is no file %s", file)
	}
	return b, ok
}

// rowOrigin reports at a line of a JSONL table.
type rowOrigin struct {
	origin
	file string
	line int
}

func (r rowOrigin) Errorf(path []string, code, format string, args ...any) *agent.Problem {
	prefix := ""
	if len(path) > 0 {
		prefix = strings.Join(path, ".") + ": "
	}
	return r.FileErrorf(r.file, r.line, 1, code, "%s%s", prefix, fmt.Sprintf(format, args...))
}

func (r rowOrigin) KeyErrorf(path []string, code, format string, args ...any) *agent.Problem {
	return r.Errorf(path, code, format, args...)
}

func (r rowOrigin) Warnf(path []string, code, format string, args ...any) *agent.Problem {
	p := r.Errorf(path, code, format, args...)
	p.Warning = true
	return p
}

// decodeJSON reads one JSON value and refuses what follows it.
func decodeJSON(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("more text after the value")
	}
	return nil
}
