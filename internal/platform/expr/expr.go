package expr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
)

const (
	maxSource = 8 << 10 // bytes of one expression
	costLimit = 1_000_000
)

// ErrMissing is in the chain of an evaluation error when a field or key that was read is not there.
var ErrMissing = errors.New("no such field")

// Error is a compile error at a place in the expression.
type Error struct {
	Line, Column int // from 1, within the expression
	Message      string
	// Unknown is the name that nothing declares, when that is the error.
	Unknown string
}

// Error is the message with its place.
func (e *Error) Error() string {
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
}

// Program is a compiled expression; it is safe for concurrent use.
type Program struct {
	source  string
	program cel.Program
	roots   []string
}

var base = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.CustomTypeAdapter(adapter{}),
		cel.ParserExpressionSizeLimit(maxSource),
		cel.ParserRecursionLimit(100),
		ext.Strings(), ext.Lists(), ext.Math(), ext.Regex(), ext.Encoders(), ext.Sets(), ext.Bindings(),
	)
})

// Compile compiles a CEL expression over the given root variables; a name that is none of them is an
// *Error whose Unknown is set. Without vars every root is allowed.
func Compile(src string, vars ...string) (*Program, error) {
	env, err := base()
	if err != nil {
		return nil, fmt.Errorf("making the expression environment: %w", err)
	}
	if len(src) > maxSource {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("the expression is longer than %d bytes", maxSource)}
	}
	parsed, issues := env.Parse(src)
	if err := firstIssue(issues); err != nil {
		return nil, err
	}
	roots := rootsOf(parsed.NativeRep())
	var declared []cel.EnvOption
	for _, root := range roots {
		if len(vars) > 0 && !slices.Contains(vars, root.name) {
			return nil, &Error{
				Line: root.line, Column: root.column, Unknown: root.name,
				Message: fmt.Sprintf("%q is not known here", root.name),
			}
		}
		declared = append(declared, cel.Variable(root.name, cel.DynType))
	}
	if len(declared) > 0 {
		if env, err = env.Extend(declared...); err != nil {
			return nil, fmt.Errorf("declaring %v: %w", vars, err)
		}
	}
	checked, issues := env.Check(parsed)
	if err := firstIssue(issues); err != nil {
		return nil, err
	}
	program, err := env.Program(checked, cel.CostLimit(costLimit), cel.CustomDecoratorV2(sortLiterals))
	if err != nil {
		return nil, &Error{Line: 1, Column: 1, Message: err.Error()}
	}
	p := &Program{source: src, program: program}
	for _, root := range roots {
		p.roots = append(p.roots, root.name)
	}
	return p, nil
}

// Vars are the root variables that the expression reads, sorted.
func (p *Program) Vars() []string { return slices.Clone(p.roots) }

// String is the source.
func (p *Program) String() string { return p.source }

// Eval computes the expression. Variables that are not given are empty maps.
func (p *Program) Eval(vars map[string]any) (any, error) {
	input := make(map[string]any, len(p.roots))
	for _, root := range p.roots {
		v, ok := vars[root]
		if !ok {
			v = map[string]any{}
		}
		input[root] = v
	}
	out, _, err := p.program.Eval(input)
	if err != nil {
		return nil, evalError(p.source, err)
	}
	v, err := native(out)
	if err != nil {
		return nil, fmt.Errorf("evaluating %s: %w", p.source, err)
	}
	return v, nil
}

// Bool computes a condition; anything but true or false is an error.
func (p *Program) Bool(vars map[string]any) (bool, error) {
	v, err := p.Eval(vars)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("evaluating %s: the condition is %T, not true or false", p.source, v)
	}
	return b, nil
}

func evalError(src string, err error) error {
	text := err.Error()
	if strings.HasPrefix(text, "no such key") || strings.HasPrefix(text, "no such attribute") ||
		strings.HasPrefix(text, "no such field") || strings.HasPrefix(text, "index out of bounds") {
		return fmt.Errorf("evaluating %s: %w: %s", src, ErrMissing, text)
	}
	return fmt.Errorf("evaluating %s: %w", src, err)
}

func firstIssue(issues *cel.Issues) error {
	if issues == nil || issues.Err() == nil {
		return nil
	}
	list := issues.Errors()
	if len(list) == 0 {
		return issues.Err()
	}
	first := list[0]
	message, _, _ := strings.Cut(first.Message, "\n")
	return &Error{Line: max(first.Location.Line(), 1), Column: max(first.Location.Column(), 0) + 1, Message: message}
}

type root struct {
	name         string
	line, column int
}

// rootsOf finds the free variables; those that a macro such as map or exists binds are not free.
func rootsOf(tree *ast.AST) []root {
	info := tree.SourceInfo()
	var found []root
	var walk func(e ast.Expr, bound map[string]bool)
	with := func(bound map[string]bool, names ...string) map[string]bool {
		next := make(map[string]bool, len(bound)+len(names))
		for k := range bound {
			next[k] = true
		}
		for _, n := range names {
			next[n] = true
		}
		return next
	}
	walk = func(e ast.Expr, bound map[string]bool) {
		switch e.Kind() {
		case ast.IdentKind:
			name := strings.TrimPrefix(e.AsIdent(), ".")
			if !bound[name] && !isType(name) && !slices.ContainsFunc(found, func(r root) bool { return r.name == name }) {
				at := info.GetStartLocation(e.ID())
				found = append(found, root{name, max(at.Line(), 1), max(at.Column(), 0) + 1})
			}
		case ast.SelectKind:
			walk(e.AsSelect().Operand(), bound)
		case ast.CallKind:
			call := e.AsCall()
			if call.IsMemberFunction() && !isNamespace(call.Target()) {
				walk(call.Target(), bound)
			}
			for _, arg := range call.Args() {
				walk(arg, bound)
			}
		case ast.ListKind:
			for _, el := range e.AsList().Elements() {
				walk(el, bound)
			}
		case ast.MapKind:
			for _, entry := range e.AsMap().Entries() {
				walk(entry.AsMapEntry().Key(), bound)
				walk(entry.AsMapEntry().Value(), bound)
			}
		case ast.StructKind:
			for _, field := range e.AsStruct().Fields() {
				walk(field.AsStructField().Value(), bound)
			}
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			walk(c.IterRange(), bound)
			walk(c.AccuInit(), bound)
			inner := with(bound, c.IterVar(), c.IterVar2(), c.AccuVar())
			walk(c.LoopCondition(), inner)
			walk(c.LoopStep(), inner)
			walk(c.Result(), with(bound, c.AccuVar()))
		}
	}
	walk(tree.Expr(), map[string]bool{})
	slices.SortFunc(found, func(a, b root) int { return strings.Compare(a.name, b.name) })
	return found
}

// namespaces prefix functions of the extensions, as in math.greatest; the parser shows them as targets.
var namespaces = []string{"math", "regex", "base64", "lists", "strings", "optional", "cel", "sets", "json"}

func isNamespace(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && slices.Contains(namespaces, e.AsIdent())
}

var typeNames = []string{
	types.BoolType.TypeName(), types.BytesType.TypeName(), types.DoubleType.TypeName(),
	types.IntType.TypeName(), types.ListType.TypeName(), types.MapType.TypeName(), types.NullType.TypeName(),
	types.StringType.TypeName(), types.TypeType.TypeName(), types.UintType.TypeName(), "optional_type",
}

func isType(name string) bool { return slices.Contains(typeNames, name) }
