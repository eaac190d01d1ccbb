package op

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Dir is the files of a directory: slash path → content. In JSON the contents are base64.
type Dir map[string][]byte

// Meta says what an operation is called, where it is served, and who may do it.
type Meta struct {
	// ID is "noun.verb", as in "release.create".
	ID string
	// Method is GET for reads and POST for everything else; empty means POST.
	Method string
	// Path lives under /api/v1/ and holds the path fields of the input as {name}.
	Path string
	// Summary is one sentence without a full stop.
	Summary string
	// Permission is what the caller needs. There is no operation without one.
	Permission string
	// Audit is the verb of the audit trail, empty for reads.
	Audit string
	// Stage is 1 to 8 for Prompt … Retrain; 0 is the system group of the help.
	Stage int
	// CLI is the words of the command, as in "release diff"; empty: no generated command.
	CLI string
	// Example is a command line for the help, as in "flywheel runs --failed".
	Example string
	// MCP offers the operation as an MCP tool.
	MCP bool
	// Local says that the operation needs no home: its function works on its input alone. The CLI then
	// runs it in process, without the lock of the home.
	Local bool
	// StopWithCaller ends the work when the caller goes away. Otherwise a POST runs to its end unless
	// it is cancelled by its request id. A GET always ends with its caller.
	StopWithCaller bool
	// Progress says that the events only tell how far the work is: the CLI shows them on the error
	// output, and only to a person.
	Progress bool
}

// Op is one operation. Make it with New or Stream.
type Op interface {
	// Meta describes the operation.
	Meta() Meta
	// Fields lists the input fields in the order of the struct.
	Fields() []Field
	// Streaming says whether the operation emits events before its result.
	Streaming() bool
	// RenderResult writes the JSON of a result for people; false when the operation has no text form.
	RenderResult(w io.Writer, result []byte) (bool, error)
	// RenderEvent writes the JSON of an event for people; false when the operation has no text form.
	RenderEvent(w io.Writer, event []byte) (bool, error)
	// Written is the files that a result wants written into the package directory.
	Written(result []byte) (Dir, error)
	// Failure is the error in a result that is an answer and a failure at once, such as a report of a
	// failed test: what WithFailure says, or else the method Failure() error of the result. The CLI
	// exits with its kind.
	Failure(result []byte) error
	// implementation is what the router runs; only this package makes operations.
	implementation() *operation
}

type operation struct {
	meta      Meta
	in, out   reflect.Type
	event     reflect.Type // nil without events
	fields    []Field
	call      func(ctx context.Context, in any, emit func(any)) (any, error)
	text      func(w io.Writer, out any)
	eventText func(w io.Writer, event any)
	failure   func(out any) error // nil: the method of the result, when it has one

	schemaOnce sync.Once
	checker    *checker
}

// New makes an operation that answers once. It panics when the definition is not sound, which is a
// mistake in the program.
func New[I, O any](m Meta, fn func(ctx context.Context, in *I) (*O, error)) Op {
	return build(m, &operation{
		in: reflect.TypeFor[I](), out: reflect.TypeFor[O](),
		call: func(ctx context.Context, in any, _ func(any)) (any, error) {
			out, err := fn(ctx, in.(*I))
			return result(out), err
		},
	})
}

// Stream makes an operation that emits events while it works and then answers: over HTTP as
// server-sent events `event`, then `result` or `error`; a caller that does not accept
// text/event-stream gets the result alone. emit is safe for concurrent use.
func Stream[I, E, O any](m Meta, fn func(ctx context.Context, in *I, emit func(E)) (*O, error)) Op {
	return build(m, &operation{
		in: reflect.TypeFor[I](), out: reflect.TypeFor[O](), event: reflect.TypeFor[E](),
		call: func(ctx context.Context, in any, emit func(any)) (any, error) {
			out, err := fn(ctx, in.(*I), func(e E) { emit(e) })
			return result(out), err
		},
	})
}

func result[O any](out *O) any {
	if out == nil {
		return new(O)
	}
	return out
}

// WithText returns the operation with a text form of its result for the terminal.
func WithText[O any](o Op, fn func(w io.Writer, out *O)) Op {
	c := o.implementation().copy()
	if got := reflect.TypeFor[O](); got != c.out {
		panic(fmt.Sprintf("op %s: text for %s, the result is %s", c.meta.ID, got, c.out))
	}
	c.text = func(w io.Writer, out any) { fn(w, out.(*O)) }
	return c
}

// WithEventText returns the operation with a text form of its events for the terminal.
func WithEventText[E any](o Op, fn func(w io.Writer, event *E)) Op {
	c := o.implementation().copy()
	if got := reflect.TypeFor[E](); got != c.event {
		panic(fmt.Sprintf("op %s: text for events of %s, they are %v", c.meta.ID, got, c.event))
	}
	c.eventText = func(w io.Writer, event any) { fn(w, event.(*E)) }
	return c
}

// WithFailure returns the operation with the error that its result may tell of, for results that
// cannot have a method Failure() error. The CLI prints the result, then the error, and exits with its kind.
func WithFailure[O any](o Op, fn func(out *O) error) Op {
	c := o.implementation().copy()
	if got := reflect.TypeFor[O](); got != c.out {
		panic(fmt.Sprintf("op %s: failure of %s, the result is %s", c.meta.ID, got, c.out))
	}
	c.failure = func(out any) error { return fn(out.(*O)) }
	return c
}

func (o *operation) copy() *operation {
	return &operation{
		meta: o.meta, in: o.in, out: o.out, event: o.event, fields: o.fields,
		call: o.call, text: o.text, eventText: o.eventText, failure: o.failure,
	}
}

// Meta describes the operation.
func (o *operation) Meta() Meta { return o.meta }

// Fields lists the input fields.
func (o *operation) Fields() []Field { return o.fields }

// Streaming says whether there are events.
func (o *operation) Streaming() bool { return o.event != nil }

func (o *operation) implementation() *operation { return o }

// RenderResult writes a result for people.
func (o *operation) RenderResult(w io.Writer, body []byte) (bool, error) {
	return render(o.text, o.out, w, body)
}

// RenderEvent writes an event for people.
func (o *operation) RenderEvent(w io.Writer, body []byte) (bool, error) {
	return render(o.eventText, o.event, w, body)
}

func render(text func(io.Writer, any), t reflect.Type, w io.Writer, body []byte) (bool, error) {
	if text == nil {
		return false, nil
	}
	v := reflect.New(t)
	if err := json.Unmarshal(body, v.Interface()); err != nil {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	text(w, v.Interface())
	return true, nil
}

// Written collects the fields of the result that are tagged write:"true".
func (o *operation) Written(body []byte) (Dir, error) {
	if o.out.Kind() != reflect.Struct {
		return nil, nil
	}
	all := Dir{}
	for _, f := range reflect.VisibleFields(o.out) {
		if f.Tag.Get("write") != "true" || f.Type != reflect.TypeFor[Dir]() {
			continue
		}
		v := reflect.New(o.out)
		if err := json.Unmarshal(body, v.Interface()); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		field, err := v.Elem().FieldByIndexErr(f.Index)
		if err != nil {
			continue
		}
		for name, content := range field.Interface().(Dir) {
			all[name] = content
		}
	}
	return all, nil
}

// Failure asks the result whether it tells of a failure.
func (o *operation) Failure(body []byte) error {
	v := reflect.New(o.out)
	failure := o.failure
	if failure == nil {
		f, ok := v.Interface().(interface{ Failure() error })
		if !ok {
			return nil
		}
		failure = func(any) error { return f.Failure() }
	}
	if err := json.Unmarshal(body, v.Interface()); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return failure(v.Interface())
}

func build(m Meta, o *operation) Op {
	if m.Method == "" {
		m.Method = http.MethodPost
	}
	must := func(ok bool, format string, args ...any) {
		if !ok {
			panic(fmt.Sprintf("op %q: ", m.ID) + fmt.Sprintf(format, args...))
		}
	}
	noun, verb, _ := strings.Cut(m.ID, ".")
	must(noun != "" && verb != "", "an id is noun.verb")
	must(m.Permission != "", "no permission; without one there is no route")
	must(m.Method == http.MethodGet || m.Method == http.MethodPost, "method %s: GET for reads, POST otherwise", m.Method)
	must(strings.HasPrefix(m.Path, "/api/v1/"), "path %q is not under /api/v1/", m.Path)
	must(m.Summary != "", "no summary")
	must(m.Stage >= 0 && m.Stage <= 8, "stage %d", m.Stage)
	must(o.in.Kind() == reflect.Struct, "the input must be a struct")
	o.meta = m
	fields, err := fieldsOf(o.in, m)
	must(err == nil, "%v", err)
	o.fields = fields
	var inPath []string
	for _, f := range fields {
		if f.Place == InPath {
			inPath = append(inPath, f.Name)
			must(strings.Contains(m.Path, "{"+f.Name+"}"), "path field %q is not in %s", f.Name, m.Path)
		}
	}
	must(strings.Count(m.Path, "{") == len(slices.Compact(inPath)), "every {name} of %s needs a field with path:\"name\"", m.Path)
	return o
}

type actorKey struct{}

// WithActor says who calls: the name of a token, or of the person at a browser.
func WithActor(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, actorKey{}, name)
}

// Actor is who calls; empty when nobody signed in, which only tests see.
func Actor(ctx context.Context) string {
	name, _ := ctx.Value(actorKey{}).(string)
	return name
}
