package op

import (
	"encoding/json"
	"errors"
	"path"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
)

const schemaPrefix = "#/components/schemas/"

// humaSettings sets the package variables of huma once, before its first use: arrays of an answer are
// never null in the generated clients, and names are compared exactly.
var humaSettings = sync.OnceFunc(func() {
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
})

// checker validates the inputs of one operation. It is made at the first request, not at start-up.
type checker struct {
	registry huma.Registry
	schema   *huma.Schema
	fields   map[string]*huma.Schema
}

func (o *operation) check() *checker {
	o.schemaOnce.Do(func() {
		r := newRegistry(o.in)
		o.checker = &checker{registry: r, schema: o.bodySchema(r), fields: map[string]*huma.Schema{}}
		for _, f := range o.fields {
			if f.Place == InQuery {
				o.checker.fields[f.Name] = fieldSchema(r, f)
			}
		}
	})
	return o.checker
}

// body validates a decoded JSON body and says whether it may be read into the struct.
func (c *checker) body(v any, p *problems, known []string) bool {
	result := &huma.ValidateResult{}
	huma.Validate(c.registry, c.schema, huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, v, result)
	for _, err := range result.Errors {
		var d *huma.ErrorDetail
		if !errors.As(err, &d) {
			p.add("body", "request.invalid", err.Error())
			continue
		}
		where := d.Location
		switch {
		case d.Message == validation.MsgUnexpectedProperty && !strings.ContainsAny(where, ".["):
			p.unknown(where, known)
		case strings.HasPrefix(d.Message, "expected required property"):
			name := strings.Fields(strings.TrimPrefix(d.Message, "expected required property"))[0]
			p.add(strings.TrimPrefix(where+"."+name, "."), "request.required", "is required")
		default:
			if where == "" {
				where = "body"
			}
			p.add(where, "request.invalid", d.Message)
		}
	}
	return len(result.Errors) == 0
}

// value validates one query field after it was read.
func (c *checker) value(f Field, v reflect.Value, p *problems) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	raw, err := json.Marshal(v.Interface())
	var loose any
	if err != nil || json.Unmarshal(raw, &loose) != nil {
		return
	}
	result := &huma.ValidateResult{}
	huma.Validate(c.registry, c.fields[f.Name], huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, loose, result)
	for _, err := range result.Errors {
		message := err.Error()
		var d *huma.ErrorDetail
		if errors.As(err, &d) {
			message = d.Message
		}
		p.add(f.Name, "request.invalid", message)
	}
}

// bodySchema is the schema of the body fields alone.
func (o *operation) bodySchema(r huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for _, f := range o.fields {
		if f.Place != InBody {
			continue
		}
		s.Properties[f.Name] = fieldSchema(r, f)
		if f.Required {
			s.Required = append(s.Required, f.Name)
		}
	}
	s.PrecomputeMessages()
	return s
}

func fieldSchema(r huma.Registry, f Field) *huma.Schema {
	s := huma.SchemaFromField(r, f.field, f.field.Name)
	if s == nil {
		s = &huma.Schema{}
	}
	return s
}

// newRegistry makes a registry whose names carry their package, since two domains may both have a
// Report, and that takes types which write their own JSON as any JSON.
func newRegistry(types ...reflect.Type) huma.Registry {
	humaSettings()
	r := huma.NewMapRegistry(schemaPrefix, namer())
	r.RegisterTypeAlias(reflect.TypeFor[[]byte](), reflect.TypeFor[base64Text]())
	seen := map[reflect.Type]bool{}
	for _, t := range types {
		aliasOpaque(r, t, seen)
	}
	return r
}

// base64Text describes bytes. Whether the text is base64 the JSON decoder finds out; huma would look at
// megabytes with a regular expression first, and refuse the empty text.
type base64Text struct{}

// Schema is a text in base64.
func (base64Text) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "byte", Description: "base64"}
}

func aliasOpaque(r huma.Registry, t reflect.Type, seen map[reflect.Type]bool) {
	if t == nil || seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		aliasOpaque(r, t.Elem(), seen)
	}
	if t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[json.RawMessage]() {
		return
	}
	if t.Kind() != reflect.Pointer && opaque(t) {
		r.RegisterTypeAlias(t, reflect.TypeFor[any]())
		return
	}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				aliasOpaque(r, f.Type, seen)
			}
		}
	}
}

// opaque types write their JSON themselves, so that reflection would describe them wrongly.
func opaque(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	if p.Implements(reflect.TypeFor[huma.SchemaProvider]()) {
		return false
	}
	return p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[json.Unmarshaler]())
}

// namer gives every type a name of its own.
func namer() func(reflect.Type, string) string {
	names := map[reflect.Type]string{}
	used := map[string]bool{}
	return func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if name, ok := names[t]; ok {
			return name
		}
		base := schemaName(t, hint)
		name := base
		for i := 2; used[name]; i++ {
			name = base + strconv.Itoa(i)
		}
		names[t] = name
		used[name] = t.Kind() == reflect.Struct
		return name
	}
}

func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	if t.Name() == "" || t.PkgPath() == "" {
		return name
	}
	pkg := []rune(path.Base(t.PkgPath()))
	pkg[0] = unicode.ToUpper(pkg[0])
	if strings.HasPrefix(name, string(pkg)) {
		return name
	}
	return string(pkg) + name
}
