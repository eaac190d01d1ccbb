package op

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
)

// Place is where a field of an input travels.
type Place string

// The places.
const (
	InPath  Place = "path"
	InQuery Place = "query"
	InBody  Place = "body"
)

// CLI forms of a field, from its cli tag.
const (
	Flag   = ""     // --name VALUE
	Arg    = "arg"  // a positional argument
	Rest   = "rest" // all remaining words
	PkgDir = "dir"  // the package directory
	File   = "file" // a flag with a path; the content is sent
	NoCLI  = "-"    // not offered
)

// Field is one input field of an operation.
type Field struct {
	// Name is the name on the wire.
	Name string
	// Flag is the name on the command line: Name with dashes.
	Flag  string
	Place Place
	Type  reflect.Type
	Doc   string
	// CLI is one of Flag, Arg, Rest, PkgDir, File, NoCLI.
	CLI      string
	Short    string
	Required bool
	Default  string
	Enum     []string

	field reflect.StructField
}

func fieldsOf(t reflect.Type, m Meta) ([]Field, error) {
	var fields []Field
	seen := map[string]bool{}
	rest := false
	for _, sf := range reflect.VisibleFields(t) {
		if !sf.IsExported() || (sf.Anonymous && sf.Type.Kind() == reflect.Struct && sf.Tag.Get("json") == "") {
			continue
		}
		f, ok, err := fieldOf(sf, m)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if seen[f.Name] {
			return nil, fmt.Errorf("two fields are called %q", f.Name)
		}
		seen[f.Name] = true
		if rest && (f.CLI == Arg || f.CLI == Rest) {
			return nil, fmt.Errorf("field %q comes after the one that takes the remaining words", f.Name)
		}
		rest = rest || f.CLI == Rest
		fields = append(fields, f)
	}
	return fields, nil
}

func fieldOf(sf reflect.StructField, m Meta) (Field, bool, error) {
	f := Field{
		Type: sf.Type, Doc: sf.Tag.Get("doc"), CLI: sf.Tag.Get("cli"), Short: sf.Tag.Get("short"),
		Default: sf.Tag.Get("default"), field: sf,
	}
	place, tag := placeOf(sf)
	if tag == "" {
		return f, false, fmt.Errorf("field %s needs a path, query or json tag", sf.Name)
	}
	name, options, _ := strings.Cut(tag, ",")
	if name == "-" {
		return f, false, nil
	}
	f.Place, f.Name = place, cmp.Or(name, sf.Name)
	if f.Place == InBody && m.Method == http.MethodGet {
		return f, false, fmt.Errorf("field %s: a GET has no body; tag it path or query", sf.Name)
	}
	switch f.CLI {
	case Flag, Arg, Rest, File, NoCLI:
	case PkgDir:
		if sf.Type != reflect.TypeFor[Dir]() {
			return f, false, fmt.Errorf("field %s: cli:\"dir\" needs the type op.Dir", sf.Name)
		}
	default:
		return f, false, fmt.Errorf("field %s: unknown cli tag %q", sf.Name, f.CLI)
	}
	if f.Place != InBody && !scalar(sf.Type) {
		return f, false, fmt.Errorf("field %s: %s cannot travel in a URL", sf.Name, sf.Type)
	}
	optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
	switch required, tagged := sf.Tag.Lookup("required"); {
	case f.Place == InPath:
		f.Required = true
	case tagged:
		f.Required = required == "true"
	case f.CLI == Arg || f.CLI == Rest || f.CLI == PkgDir:
		f.Required = !optional && f.Default == ""
	}
	if enum := sf.Tag.Get("enum"); enum != "" {
		f.Enum = strings.Split(enum, ",")
	}
	f.Flag = strings.ReplaceAll(f.Name, "_", "-")
	return f, true, nil
}

// placeOf says where a field travels, and its tag for there.
func placeOf(sf reflect.StructField) (place Place, tag string) {
	if tag = sf.Tag.Get("path"); tag != "" {
		return InPath, tag
	}
	if tag = sf.Tag.Get("query"); tag != "" {
		return InQuery, tag
	}
	return InBody, sf.Tag.Get("json")
}

// Raw says whether the field holds any JSON.
func (f Field) Raw() bool {
	return f.Type == reflect.TypeFor[json.RawMessage]() || f.Type.Kind() == reflect.Interface
}
