package op

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"flywheel/internal/platform/fault"
)

// decode reads a request into a new input struct and lists all errors at once.
func (o *operation) decode(r *http.Request) (any, error) {
	v := reflect.New(o.in)
	problems := &problems{}
	for _, f := range o.fields {
		if f.Default != "" {
			problems.check(f.Name, "request.default", setText(field(v, f), f.Default))
		}
	}
	if err := o.decodeBody(r, v, problems); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "request.query", "the query of the URL is not well formed")
	}
	for _, f := range o.fields {
		switch f.Place {
		case InPath:
			problems.check(f.Name, "request.invalid", setText(field(v, f), r.PathValue(f.Name)))
		case InQuery:
			o.decodeQuery(v, f, query[f.Name], problems)
			delete(query, f.Name)
		}
	}
	for name := range query {
		problems.unknown(name, o.names(InQuery))
	}
	if err := problems.err(o.meta); err != nil {
		return nil, err
	}
	return v.Interface(), nil
}

func (o *operation) decodeQuery(v reflect.Value, f Field, values []string, p *problems) {
	if len(values) == 0 {
		if f.Required {
			p.add(f.Name, "request.required", "is required")
		}
		return
	}
	target := field(v, f)
	if target.Kind() == reflect.Slice {
		var words []string
		for _, value := range values {
			words = append(words, strings.Split(value, ",")...)
		}
		list := reflect.MakeSlice(target.Type(), len(words), len(words))
		for i, word := range words {
			p.check(f.Name, "request.invalid", setText(list.Index(i), word))
		}
		target.Set(list)
	} else if err := setText(target, values[len(values)-1]); err != nil {
		p.add(f.Name, "request.invalid", err.Error())
		return
	}
	o.check().value(f, target, p)
}

func (o *operation) decodeBody(r *http.Request, v reflect.Value, p *problems) error {
	if o.meta.Method == http.MethodGet {
		return nil
	}
	body := []byte("{}")
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		if len(strings.TrimSpace(string(b))) > 0 {
			body = b
			kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
			if kind != "application/json" {
				return fault.New(fault.Invalid, "request.content_type", "the body must be sent as application/json, not %q", kind)
			}
		}
	}
	var loose any
	if err := json.Unmarshal(body, &loose); err != nil {
		return notJSON(body, err)
	}
	if !o.check().body(loose, p, o.names(InBody)) {
		return nil
	}
	if err := json.Unmarshal(body, v.Interface()); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			p.add(wrong.Field, "request.invalid", fmt.Sprintf("cannot be a JSON %s", wrong.Value))
			return nil
		}
		p.add("body", "request.invalid", err.Error())
	}
	return nil
}

func notJSON(body []byte, err error) error {
	e := fault.Wrap(err, fault.Invalid, "request.json", "the body is not JSON")
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line := 1 + strings.Count(string(body[:min(int(syntax.Offset), len(body))]), "\n")
		e = fault.New(fault.Invalid, "request.json", "the body is not JSON: line %d: %v", line, err)
	}
	return e
}

func (o *operation) names(place Place) []string {
	var names []string
	for _, f := range o.fields {
		if f.Place == place {
			names = append(names, f.Name)
		}
	}
	return names
}

// field finds the place of a field, making the embedded structs on the way.
func field(v reflect.Value, f Field) reflect.Value {
	e := v.Elem()
	for _, i := range f.field.Index {
		if e.Kind() == reflect.Pointer {
			if e.IsNil() {
				e.Set(reflect.New(e.Type().Elem()))
			}
			e = e.Elem()
		}
		e = e.Field(i)
	}
	return e
}

func scalar(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

// setText sets a scalar from text.
func setText(v reflect.Value, text string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		return nil
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 30s", text)
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil && text != "" {
			return fmt.Errorf("%q is not true or false", text)
		}
		v.SetBool(b || text == "")
	case reflect.Float32, reflect.Float64:
		n, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(n)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number from 0", text)
		}
		v.SetUint(n)
	default:
		return json.Unmarshal([]byte(text), v.Addr().Interface())
	}
	return nil
}

// problems collects what is wrong with an input.
type problems struct{ fields []fault.Field }

func (p *problems) add(path, code, message string) {
	p.fields = append(p.fields, fault.Field{Path: path, Code: code, Message: message})
}

func (p *problems) check(path, code string, err error) {
	if err != nil {
		p.add(path, code, err.Error())
	}
}

func (p *problems) unknown(name string, known []string) {
	f := fault.Field{Path: name, Code: "request.unknown_field", Message: "is not known here"}
	if s := fault.Suggest(name, known); s != "" {
		f.Hint = fmt.Sprintf("did you mean %q?", s)
	}
	p.fields = append(p.fields, f)
}

func (p *problems) err(m Meta) error {
	if len(p.fields) == 0 {
		return nil
	}
	sort.SliceStable(p.fields, func(i, j int) bool { return p.fields[i].Path < p.fields[j].Path })
	e := fault.New(fault.Invalid, "request.invalid", "%s was asked with wrong input", m.ID).WithFields(p.fields...)
	if len(p.fields) == 1 {
		e.Message = fmt.Sprintf("%s %s", p.fields[0].Path, p.fields[0].Message)
		e.Hint = p.fields[0].Hint
	}
	if e.Hint == "" && m.CLI != "" {
		e.Hint = "flywheel " + m.CLI + " --help"
	}
	return e
}
