package grammar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Schema is the part of JSON Schema that becomes a grammar. Properties keep the order of the document,
// because that is the order in which a model writes them.
type Schema struct {
	Types    []string
	Enum     []json.RawMessage
	Const    json.RawMessage
	Props    []Property
	Items    *Schema
	Prefix   []*Schema
	AnyOf    []*Schema
	Ref      string
	Pattern  string
	Format   string
	MinItems int
	MaxItems int // -1: no limit
	MinLen   int
	MaxLen   int // -1: no limit
	Min      *int64
	Max      *int64
	Never    bool // the schema false
}

// Property is one property of an object.
type Property struct {
	Name     string
	Required bool
	Schema   *Schema
}

// Parse reads a JSON Schema.
func Parse(raw json.RawMessage) (*Schema, error) {
	return parseSchema(raw, 0)
}

type rawSchema struct {
	Type       json.RawMessage   `json:"type"`
	Enum       []json.RawMessage `json:"enum"`
	Const      json.RawMessage   `json:"const"`
	Properties json.RawMessage   `json:"properties"`
	Required   []string          `json:"required"`
	Items      json.RawMessage   `json:"items"`
	Prefix     []json.RawMessage `json:"prefixItems"`
	AnyOf      []json.RawMessage `json:"anyOf"`
	OneOf      []json.RawMessage `json:"oneOf"`
	Ref        string            `json:"$ref"`
	Pattern    string            `json:"pattern"`
	Format     string            `json:"format"`
	MinItems   *int              `json:"minItems"`
	MaxItems   *int              `json:"maxItems"`
	MinLen     *int              `json:"minLength"`
	MaxLen     *int              `json:"maxLength"`
	Min        *json.Number      `json:"minimum"`
	Max        *json.Number      `json:"maximum"`
	ExMin      json.RawMessage   `json:"exclusiveMinimum"`
	ExMax      json.RawMessage   `json:"exclusiveMaximum"`
	AllOf      []json.RawMessage `json:"allOf"`
	Not        json.RawMessage   `json:"not"`
}

// maxDepth bounds nesting, of schemas and of what recursive schemas allow.
const maxDepth = 32

func parseSchema(raw json.RawMessage, depth int) (*Schema, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("schema is nested deeper than %d", maxDepth)
	}
	s := &Schema{MaxItems: -1, MaxLen: -1}
	switch text := strings.TrimSpace(string(raw)); text {
	case "", "true", "null":
		return s, nil
	case "false":
		s.Never = true
		return s, nil
	}
	var r rawSchema
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	if len(r.AllOf) > 0 || len(r.Not) > 0 {
		return nil, fmt.Errorf("allOf and not cannot become a grammar")
	}
	s.Enum, s.Const, s.Ref, s.Pattern, s.Format = r.Enum, r.Const, r.Ref, r.Pattern, r.Format
	if err := parseTypes(s, r.Type); err != nil {
		return nil, err
	}
	if err := parseBounds(s, &r); err != nil {
		return nil, err
	}
	return s, parseParts(s, &r, depth)
}

func parseTypes(s *Schema, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &s.Types); err != nil {
			return fmt.Errorf("read type: %w", err)
		}
	} else {
		var one string
		if err := json.Unmarshal(raw, &one); err != nil {
			return fmt.Errorf("read type: %w", err)
		}
		s.Types = []string{one}
	}
	for _, t := range s.Types {
		switch t {
		case "string", "number", "integer", "boolean", "null", "array", "object":
		default:
			return fmt.Errorf("unknown type %q", t)
		}
	}
	return nil
}

func parseBounds(s *Schema, r *rawSchema) error {
	set := func(to *int, from *int, name string) error {
		if from == nil {
			return nil
		}
		if *from < 0 || *from > 1<<20 {
			return fmt.Errorf("%s %d is out of range", name, *from)
		}
		*to = *from
		return nil
	}
	for _, b := range []struct {
		to, from *int
		name     string
	}{{&s.MinItems, r.MinItems, "minItems"}, {&s.MaxItems, r.MaxItems, "maxItems"}, {&s.MinLen, r.MinLen, "minLength"}, {&s.MaxLen, r.MaxLen, "maxLength"}} {
		if err := set(b.to, b.from, b.name); err != nil {
			return err
		}
	}
	s.Min, s.Max = wholeBound(r.Min, 1), wholeBound(r.Max, -1)
	if n := numberOf(r.ExMin); n != nil {
		s.Min = exclusive(wholeBound(n, 1), n, 1)
	}
	if n := numberOf(r.ExMax); n != nil {
		s.Max = exclusive(wholeBound(n, -1), n, -1)
	}
	return nil
}

func numberOf(raw json.RawMessage) *json.Number {
	var n json.Number
	if len(raw) == 0 || json.Unmarshal(raw, &n) != nil {
		return nil
	}
	return &n
}

// limit is the largest whole number that a grammar lets a model write: exact in a float64.
const limit = int64(999_999_999_999_999)

// wholeBound rounds a bound to the next whole number inside it: up for a minimum, down for a maximum.
func wholeBound(n *json.Number, direction float64) *int64 {
	if n == nil {
		return nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil
	}
	f = min(max(f, -float64(limit)), float64(limit))
	whole := int64(f)
	if direction > 0 && float64(whole) < f {
		whole++
	}
	if direction < 0 && float64(whole) > f {
		whole--
	}
	return &whole
}

func exclusive(whole *int64, n *json.Number, step int64) *int64 {
	if whole == nil {
		return nil
	}
	if f, _ := n.Float64(); float64(*whole) == f {
		v := *whole + step
		return &v
	}
	return whole
}

func parseParts(s *Schema, r *rawSchema, depth int) error {
	var err error
	if len(r.Properties) > 0 {
		if s.Props, err = parseProps(r.Properties, r.Required, depth); err != nil {
			return err
		}
	} else if len(r.Required) > 0 {
		for _, name := range r.Required {
			s.Props = append(s.Props, Property{Name: name, Required: true, Schema: &Schema{MaxItems: -1, MaxLen: -1}})
		}
	}
	if len(r.Items) > 0 {
		if s.Items, err = parseSchema(r.Items, depth+1); err != nil {
			return fmt.Errorf("items: %w", err)
		}
	}
	for i, raw := range r.Prefix {
		p, err := parseSchema(raw, depth+1)
		if err != nil {
			return fmt.Errorf("prefixItems %d: %w", i, err)
		}
		s.Prefix = append(s.Prefix, p)
	}
	for i, raw := range append(r.AnyOf, r.OneOf...) {
		p, err := parseSchema(raw, depth+1)
		if err != nil {
			return fmt.Errorf("alternative %d: %w", i, err)
		}
		s.AnyOf = append(s.AnyOf, p)
	}
	return nil
}

// parseProps reads properties in the order of the document.
func parseProps(raw json.RawMessage, required []string, depth int) ([]Property, error) {
	need := map[string]bool{}
	for _, name := range required {
		need[name] = true
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("properties is not an object")
	}
	var props []Property
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("read properties: %w", err)
		}
		name := t.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("property %s: %w", name, err)
		}
		if seen[name] {
			return nil, fmt.Errorf("property %s is there twice", name)
		}
		seen[name] = true
		p, err := parseSchema(value, depth+1)
		if err != nil {
			return nil, fmt.Errorf("property %s: %w", name, err)
		}
		props = append(props, Property{Name: name, Required: need[name], Schema: p})
	}
	for _, name := range required {
		if !seen[name] {
			seen[name] = true
			props = append(props, Property{Name: name, Required: true, Schema: &Schema{MaxItems: -1, MaxLen: -1}})
		}
	}
	return props, nil
}
