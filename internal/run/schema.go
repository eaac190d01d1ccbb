package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"flywheel/internal/platform/canon"
)

// schema is a compiled JSON Schema whose complaints are the same in every process: they become part of
// a conversation, so a replay must find the same words.
type schema struct {
	resolved *jsonschema.Resolved
	raw      *jsonschema.Schema
	fields   map[string]*schema // of the properties
}

func compileSchema(text json.RawMessage) (*schema, error) {
	raw := &jsonschema.Schema{}
	if err := json.Unmarshal(text, raw); err != nil {
		return nil, err
	}
	resolved, err := raw.Resolve(nil)
	if err != nil {
		return nil, err
	}
	s := &schema{resolved: resolved, raw: raw, fields: map[string]*schema{}}
	for _, name := range sorted(raw.Properties) {
		text, err := canon.JSON(raw.Properties[name])
		if err != nil {
			return nil, err
		}
		// A property that refers to another part of the schema cannot stand alone.
		if f, err := compileSchema(text); err == nil {
			s.fields[name] = f
		}
	}
	return s, nil
}

// check says what is wrong with a value.
func (s *schema) check(v any) error {
	if s.resolved.Validate(v) == nil {
		return nil
	}
	if words := s.complaints(v); len(words) > 0 {
		return errors.New(strings.Join(words, "; "))
	}
	return errors.New("it does not follow the schema")
}

func (s *schema) complaints(v any) []string {
	object, ok := v.(map[string]any)
	if !ok {
		return []string{s.want()}
	}
	var out []string
	for _, name := range slices.Sorted(slices.Values(s.raw.Required)) {
		if _, has := object[name]; !has {
			out = append(out, name+" is missing")
		}
	}
	for _, name := range sorted(object) {
		field, known := s.fields[name]
		_, declared := s.raw.Properties[name]
		switch {
		case !declared && s.closed():
			out = append(out, name+" is not known")
		case known && field.resolved.Validate(object[name]) != nil:
			out = append(out, name+": "+field.want())
		}
	}
	return out
}

// closed says whether other properties than the declared ones are refused.
func (s *schema) closed() bool {
	a := s.raw.AdditionalProperties
	return a != nil && a.Not != nil
}

// want says what a value must be.
func (s *schema) want() string {
	switch {
	case len(s.raw.Enum) > 0:
		words := make([]string, len(s.raw.Enum))
		for i, v := range s.raw.Enum {
			words[i] = textOf(v)
		}
		return "it must be one of " + strings.Join(words, ", ")
	case s.raw.Type != "":
		return fmt.Sprintf("it must be a proper %s", s.raw.Type)
	case len(s.raw.Types) > 0:
		return "it must be one of the types " + strings.Join(s.raw.Types, ", ")
	}
	return "it does not follow the schema"
}
