package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// Problem is one error, or one warning, at a place in a file.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the file has no lines to point at
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Code    string `json:"code"`             // package.what
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Warning bool   `json:"warning,omitempty"` // does not make the package invalid
}

// Place is file:line:column, as editors understand it.
func (p Problem) Place() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// String is file:line:column: CODE message.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s %s", p.Place(), p.Code, p.Message)
}

// Errors are the problems that are not warnings.
func Errors(problems []Problem) []Problem {
	var out []Problem
	for _, p := range problems {
		if !p.Warning {
			out = append(out, p)
		}
	}
	return out
}

// Fault turns the errors among problems into a fault package.invalid with one field each; nil when there
// are none.
func Fault(problems []Problem) error {
	errs := Errors(problems)
	if len(errs) == 0 {
		return nil
	}
	fields := make([]fault.Field, len(errs))
	for i, p := range errs {
		fields[i] = fault.Field{Path: p.Place(), Code: p.Code, Message: p.Message, Hint: p.Hint}
	}
	noun := "errors"
	if len(errs) == 1 {
		noun = "error"
	}
	return fault.New(fault.Invalid, "package.invalid", "the package has %d %s", len(errs), noun).
		WithHint("flywheel check").WithFields(fields...)
}

// sortProblems orders by place and removes what was said twice.
func sortProblems(list []Problem) []Problem {
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(a.Code, b.Code), strings.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(list, func(a, b Problem) bool { return a == b })
}

// Resolved is a package without errors.
type Resolved struct {
	Package   *spec.Package
	Identity  blob.Digest
	Canonical []byte            // canonical JSON; Identity is its digest
	Data      map[string][]byte // path → content of the data files that the package refers to
	// Suites are the test suites beside the agent, by name; they are not in the identity, and a package
	// that was loaded from blobs has none.
	Suites map[string]*SuiteSource
	// Problems are the warnings.
	Problems []Problem

	tree tree
}

// Script finds the rules of the model scripted/NAME among the data files of a package:
// models/NAME.script.yaml.
func Script(data map[string][]byte, ref string) ([]byte, bool) {
	name, scripted := strings.CutPrefix(ref, "scripted/")
	rules, ours := data["models/"+name+".script.yaml"]
	return rules, scripted && ours
}

// SuiteSource is a suite as the package holds it, with the files it reads.
type SuiteSource struct {
	Name   string            // of suites/NAME.suite.yaml
	File   string            // path in the package
	Source []byte            // canonical JSON of the file
	Files  map[string][]byte // path → content: worlds, JSONL tables and all else that its kind has read
}

// Kind is a kind of file that another domain gives meaning to, such as a suite or a policy.
type Kind struct {
	// Glob matches the whole path, as in suites/*.suite.yaml.
	Glob string
	// Keys are the top-level keys, for errors with did-you-mean; empty means that Check does it.
	Keys []string
	// Check returns what is wrong; problems reported through the KindFile need not be returned.
	Check func(c *KindFile) []Problem
}

// Checker checks packages; it knows the registered kinds. It is safe for concurrent use.
type Checker struct{ kinds []Kind }

// New makes a checker that knows the kinds of format 1 and those that are given.
func New(kinds ...Kind) *Checker { return &Checker{kinds: kinds} }
