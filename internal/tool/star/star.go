// Package star runs the mocks of tools, written in Starlark: small deterministic programs that act on a
// world instead of the real thing.
//
//	def freeze(world, args, now):
//	    card = world["cards"].get(args["card"])
//	    if not card:
//	        fail("rejected", "There is no card %s." % args["card"])
//	    card["status"] = "frozen"
//	    return {"card": args["card"], "status": "frozen"}
//
// A mock is called with the world (dicts and lists that may be changed), the arguments, and the time as
// RFC 3339 text in UTC. It returns the tool's answer, or ends with fail(class, message, status=503), where
// class is one of the classes of a failed call; fail(message) is a rejection. There is no other input and
// no output: no files, no network, no clock, no load(); print is dropped. json and math are there. Steps
// and the size of the answer are limited. What a mock has written before it fails stays written, as in
// real systems.
package star

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	starjson "go.starlark.net/lib/json"
	starmath "go.starlark.net/lib/math"
	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"flywheel/internal/platform/fault"
	"flywheel/internal/tool/world"
)

// Limits of one call.
const (
	MaxSteps  = 2_000_000
	MaxAnswer = 1 << 20 // bytes of JSON
)

// Program is a compiled file of mocks; goroutines share it.
type Program struct {
	name    string
	globals starlark.StringDict
}

// MockError is how a mock failed.
type MockError struct {
	Class   string // as in fail(class, …); "rejected" for a mistake in the mock
	Message string
	Status  int
	// Bug says that the mock itself is wrong; Message then begins with file:line:column.
	Bug bool
}

// Error is the message.
func (e *MockError) Error() string { return e.Message }

// Error is a mistake in a file of mocks.
type Error struct {
	File         string
	Line, Column int
	Message      string
}

// Error is file:line:column: message.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

var predeclared = starlark.StringDict{
	"fail": starlark.NewBuiltin("fail", fail),
	"json": starjson.Module,
	"math": starmath.Module,
}

var dialect = &syntax.FileOptions{Set: true, TopLevelControl: true}

// Load compiles a file of mocks; errors are *Error.
func Load(src []byte) (*Program, error) { return LoadFile("mock.star", src) }

// LoadFile is Load with the file's name for messages.
func LoadFile(name string, src []byte) (*Program, error) {
	_, compiled, err := starlark.SourceProgramOptions(dialect, name, src, predeclared.Has)
	if err != nil {
		return nil, loadError(name, err)
	}
	globals, err := compiled.Init(newThread(name), predeclared)
	if err != nil {
		return nil, loadError(name, err)
	}
	globals.Freeze()
	return &Program{name: name, globals: globals}, nil
}

// Check says whether fn can be called as a mock; the error is an *Error.
func (p *Program) Check(fn string) error {
	f, ok := p.globals[fn].(*starlark.Function)
	if !ok {
		var known []string
		for n, v := range p.globals {
			if _, ok := v.(*starlark.Function); ok {
				known = append(known, n)
			}
		}
		slices.Sort(known)
		return &Error{File: p.name, Line: 1, Column: 1, Message: fmt.Sprintf("there is no function %s%s", fn, suggest(fn, known))}
	}
	if f.NumParams() != 3 || f.HasVarargs() || f.HasKwargs() || f.NumKwonlyParams() > 0 {
		return p.at(f.Position(), fmt.Sprintf("a mock is written as def %s(world, args, now)", fn))
	}
	return nil
}

// Call runs a function on a world. The answer is canonical JSON.
func (p *Program) Call(fn string, w *world.State, args json.RawMessage, now time.Time) (json.RawMessage, *MockError) {
	if err := p.Check(fn); err != nil {
		return nil, bug(err.Error())
	}
	if len(args) == 0 {
		args = json.RawMessage("{}")
	}
	in, err := world.Decode(args)
	if err != nil {
		return nil, &MockError{Class: "rejected", Message: "the arguments are not JSON: " + err.Error()}
	}
	var out json.RawMessage
	err = w.Use(func(root *world.Dict) (err error) {
		out, err = p.call(fn, starlark.Tuple{root, in, starlark.String(now.UTC().Format(time.RFC3339))})
		return err
	})
	if err != nil {
		return nil, p.mockError(fn, err)
	}
	return out, nil
}

func (p *Program) call(fn string, args starlark.Tuple) (out json.RawMessage, err error) {
	// The interpreter cannot compare its own lists with those of a world and panics.
	defer func() {
		if r := recover(); r != nil {
			err = panicError(r)
		}
	}()
	v, err := starlark.Call(newThread(p.name), p.globals[fn], args, nil)
	if err != nil {
		return nil, err
	}
	out, err = world.Encode(v)
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	if len(out) > MaxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", MaxAnswer)
	}
	return out, nil
}

func panicError(r any) error {
	var assertion *runtime.TypeAssertionError
	if err, ok := r.(error); ok && errors.As(err, &assertion) {
		return errors.New("a plain list or dict cannot be compared with one of the world: put the world's on the left of ==")
	}
	return fmt.Errorf("the interpreter failed: %v", r)
}

func newThread(name string) *starlark.Thread {
	t := &starlark.Thread{Name: name, Print: func(*starlark.Thread, string) {}}
	t.SetMaxExecutionSteps(MaxSteps)
	return t
}

// failure is what fail() raises.
type failure struct{ e *MockError }

func (f *failure) Error() string { return f.e.Message }

func fail(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var class, message string
	var status int
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "class", &class, "message?", &message, "status?", &status); err != nil {
		return nil, err
	}
	if len(args) == 1 && message == "" {
		class, message = "rejected", class
	}
	return nil, &failure{&MockError{Class: class, Message: message, Status: status}}
}

func (p *Program) mockError(fn string, err error) *MockError {
	var f *failure
	if errors.As(err, &f) {
		return f.e
	}
	var eval *starlark.EvalError
	if !errors.As(err, &eval) {
		return bug(fmt.Sprintf("%s: in %s: %v", p.name, fn, err))
	}
	message := eval.Msg
	if strings.Contains(message, "too many steps") {
		message = fmt.Sprintf("stopped after %d steps: is there an endless loop?", MaxSteps)
	}
	return bug(p.at(innermost(eval.CallStack), "in "+fn+": "+message).Error())
}

// innermost is the deepest position in a file of mocks.
func innermost(stack starlark.CallStack) syntax.Position {
	for i := range stack {
		if pos := stack.At(i).Pos; pos.Line > 0 {
			return pos
		}
	}
	return syntax.Position{}
}

func bug(message string) *MockError {
	return &MockError{Class: "rejected", Message: message, Bug: true}
}

func (p *Program) at(pos syntax.Position, message string) *Error {
	return &Error{File: p.name, Line: int(pos.Line), Column: int(pos.Col), Message: message}
}

func loadError(name string, err error) error {
	at := func(pos syntax.Position, message string) error {
		return &Error{File: name, Line: int(pos.Line), Column: int(pos.Col), Message: message}
	}
	var syntactic syntax.Error
	var unresolved resolve.ErrorList
	var eval *starlark.EvalError
	switch {
	case errors.As(err, &syntactic):
		return at(syntactic.Pos, syntactic.Msg)
	case errors.As(err, &unresolved):
		return at(unresolved[0].Pos, unresolved[0].Msg)
	case errors.As(err, &eval):
		return at(innermost(eval.CallStack), eval.Msg)
	}
	return at(syntax.Position{}, err.Error())
}

func suggest(name string, known []string) string {
	if s := fault.Suggest(name, known); s != "" {
		return fmt.Sprintf("; did you mean %s?", s)
	}
	return ""
}
