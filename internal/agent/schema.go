package agent

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

var schemaTypes = []string{"string", "number", "integer", "boolean", "object", "any", "null"}

// objectSchema compiles the short schema of an object, as under `in`; nil when there is none.
func (c cursor) objectSchema() json.RawMessage {
	if c.v == nil {
		return nil
	}
	if _, ok := c.v.(map[string]any); !ok {
		c.errorf("package.schema", "a schema of named values is needed here, not %s", describe(c.v)).Hint = "write {name: string, count?: integer}"
		return nil
	}
	schema := c.schema()
	if schema == nil {
		return nil
	}
	return compact(schema)
}

// schema compiles the short notation to JSON Schema:
//
//	string | number | integer | boolean | object | any     a type
//	lost|stolen|other                                      one of these texts
//	string|null                                            one of these types
//	[string]                                               a list
//	{name: string, count?: integer}                        an object; ? marks what may be absent
//	"string, what it is for"                               with a description
//
// A mapping with the key $schema, or with type and properties, is JSON Schema already.
func (c cursor) schema() map[string]any {
	switch v := c.v.(type) {
	case string:
		return c.scalarSchema(v)
	case []any:
		if len(v) != 1 {
			c.errorf("package.schema", "a list type has one element, as in [string]")
			return nil
		}
		items := c.step("0", v[0]).schema()
		if items == nil {
			return nil
		}
		return map[string]any{"type": "array", "items": items}
	case map[string]any:
		if isJSONSchema(v) {
			return c.fullSchema(v)
		}
		return c.mappingSchema(v)
	}
	c.errorf("package.schema", "a type is needed here, not %s", describe(c.v)).Hint = `write string, number, integer, boolean, a|b|c, [string] or {…}; put a type with a description in quotes`
	return nil
}

func isJSONSchema(m map[string]any) bool {
	if _, ok := m["$schema"]; ok {
		return true
	}
	_, properties := m["properties"].(map[string]any)
	_, typed := m["type"].(string)
	return properties && typed
}

func (c cursor) fullSchema(m map[string]any) map[string]any {
	var s jsonschema.Schema
	err := json.Unmarshal(compact(m), &s)
	if err == nil {
		_, err = s.Resolve(nil)
	}
	if err != nil {
		c.errorf("package.schema", "the JSON Schema is not valid: %s", firstLine(err.Error()))
		return nil
	}
	return m
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (c cursor) mappingSchema(m map[string]any) map[string]any {
	properties := map[string]any{}
	required := []any{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		name, optional := strings.CutSuffix(key, "?")
		at := c.step(key, m[key])
		if name == "" {
			at.keyErrorf("package.schema", "a name is needed before ?")
			continue
		}
		if _, twice := properties[name]; twice {
			at.keyErrorf("package.duplicate_key", "%q is declared twice", name)
			continue
		}
		s := at.schema()
		if s == nil {
			s = map[string]any{}
		}
		properties[name] = s
		if !optional {
			required = append(required, name)
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		slices.SortFunc(required, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		out["required"] = required
	}
	return out
}

func (c cursor) scalarSchema(text string) map[string]any {
	kind, description, _ := strings.Cut(text, ",")
	kind, description = strings.TrimSpace(kind), strings.TrimSpace(description)
	out := map[string]any{}
	if description != "" {
		out["description"] = description
	}
	options := strings.Split(kind, "|")
	types := 0
	for i, o := range options {
		options[i] = strings.TrimSpace(o)
		if slices.Contains(schemaTypes, options[i]) {
			types++
		}
	}
	switch {
	case kind == "":
		c.errorf("package.schema", "a type is needed here").Hint = "known: " + strings.Join(schemaTypes, ", ")
		return nil
	case len(options) == 1 && types == 1:
		if kind != "any" {
			out["type"] = kind
		}
	case len(options) == 1:
		c.errorf("package.schema", "%q is not a type", cut(kind, 40)).Hint = didYouMean(kind, schemaTypes)
		return nil
	case types == len(options):
		out["type"] = anys(options)
	case types > 0:
		c.errorf("package.schema", "%q mixes types and values", cut(kind, 40)).Hint = "use either types or values"
		return nil
	default:
		if slices.Contains(options, "") {
			c.errorf("package.schema", "%q has an empty choice", cut(kind, 40))
			return nil
		}
		out["type"] = "string"
		out["enum"] = anys(options)
	}
	return out
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// properties are the names that a JSON Schema of an object declares; ok is false when it has none to go by.
func properties(schema json.RawMessage) (names []string, ok bool) {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if len(schema) == 0 || json.Unmarshal(schema, &s) != nil || s.Properties == nil {
		return nil, false
	}
	return slices.Sorted(maps.Keys(s.Properties)), true
}

// required are the names that must be given.
func required(schema json.RawMessage) []string {
	var s struct {
		Required []string `json:"required"`
	}
	if len(schema) == 0 || json.Unmarshal(schema, &s) != nil {
		return nil
	}
	return s.Required
}
