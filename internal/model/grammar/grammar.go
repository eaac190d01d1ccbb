package grammar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"flywheel/internal/platform/canon"
)

// Action is one alternative of an action grammar: a name and the arguments that come with it.
type Action struct {
	Name string
	Args json.RawMessage // JSON Schema of an object; its properties follow the action in the same object
}

// ForSchema is the grammar whose root is a JSON value of the schema.
func ForSchema(schema json.RawMessage) (string, error) {
	s, err := Parse(schema)
	if err != nil {
		return "", err
	}
	b := newBuilder(schema)
	root, err := b.value(s, 0)
	if err != nil {
		return "", err
	}
	return b.text(root), nil
}

// ForActions is the grammar of one object {"action":"NAME",…arguments}: key "action" first, then exactly
// the arguments of that action in the order of its schema.
func ForActions(actions []Action) (string, error) {
	if len(actions) == 0 {
		return "", fmt.Errorf("no actions")
	}
	b := newBuilder(nil)
	var names []string
	for i, a := range actions {
		s, err := Parse(a.Args)
		if err != nil {
			return "", fmt.Errorf("action %s: %w", a.Name, err)
		}
		b.use(a.Args)
		var tail strings.Builder
		tail.WriteString(literal(quote(a.Name)))
		for _, p := range s.Props {
			v, err := b.value(p.Schema, 1)
			if err != nil {
				return "", fmt.Errorf("action %s: %s: %w", a.Name, p.Name, err)
			}
			pair := literal(","+quote(p.Name)+":") + " " + v
			if !p.Required {
				pair = "(" + pair + ")?"
			}
			tail.WriteString(" " + pair)
		}
		names = append(names, b.add("action"+strconv.Itoa(i), tail.String()))
	}
	return b.text(literal(`{"action":`) + " (" + strings.Join(names, " | ") + ") " + literal("}")), nil
}

// builder collects rules; equal rules are stored once.
type builder struct {
	rules  []string // name ::= body, in order of creation
	byBody map[string]string
	names  map[string]int
	doc    json.RawMessage   // what $ref points into
	refs   map[string]string // reference within the document → rule
}

func newBuilder(doc json.RawMessage) *builder {
	return &builder{byBody: map[string]string{}, names: map[string]int{}, doc: doc, refs: map[string]string{}}
}

// use changes the document that references point into.
func (b *builder) use(doc json.RawMessage) {
	b.doc, b.refs = doc, map[string]string{}
}

func (b *builder) add(name, body string) string {
	if known, ok := b.byBody[body]; ok {
		return known
	}
	name = b.reserve(name)
	b.define(name, body)
	b.byBody[body] = name
	return name
}

func (b *builder) reserve(name string) string {
	n := b.names[name]
	b.names[name]++
	if n > 0 {
		name += "-" + strconv.Itoa(n)
	}
	return name
}

func (b *builder) define(name, body string) { b.rules = append(b.rules, name+" ::= "+body) }

func (b *builder) text(root string) string {
	return "root ::= " + root + "\n" + strings.Join(b.rules, "\n") + "\n"
}

// value is an expression for a JSON value of the schema.
func (b *builder) value(s *Schema, depth int) (string, error) {
	switch {
	case depth > maxDepth:
		return "", fmt.Errorf("schema is nested deeper than %d", maxDepth)
	case s.Never:
		return "", fmt.Errorf("the schema false allows no answer")
	case s.Ref != "":
		return b.ref(s.Ref, depth)
	case len(s.Const) > 0:
		return b.constants([]json.RawMessage{s.Const})
	case s.Enum != nil:
		return b.constants(s.Enum)
	case len(s.AnyOf) > 0:
		return b.anyOf(s.AnyOf, depth)
	}
	kinds := s.Types
	if len(kinds) == 0 {
		kinds = implied(s)
	}
	if len(kinds) == 0 {
		return b.any(), nil
	}
	var out []string
	for _, t := range kinds {
		e, err := b.typed(t, s, depth)
		if err != nil {
			return "", err
		}
		out = append(out, e)
	}
	return group(out), nil
}

// implied is the type that the keywords of a schema without type speak of.
func implied(s *Schema) []string {
	switch {
	case len(s.Props) > 0:
		return []string{"object"}
	case s.Items != nil || len(s.Prefix) > 0:
		return []string{"array"}
	case s.Pattern != "" || s.Format != "" || s.MinLen > 0 || s.MaxLen >= 0:
		return []string{"string"}
	}
	return nil
}

func (b *builder) typed(t string, s *Schema, depth int) (string, error) {
	switch t {
	case "null":
		return literal("null"), nil
	case "boolean":
		return b.add("boolean", `"true" | "false"`), nil
	case "integer":
		return b.integer(s.Min, s.Max)
	case "number":
		return b.number(s), nil
	case "string":
		return b.stringValue(s)
	case "array":
		return b.array(s, depth)
	}
	if len(s.Props) == 0 {
		b.any()
		return "object", nil
	}
	return b.object(s, depth)
}

func (b *builder) constants(values []json.RawMessage) (string, error) {
	var out []string
	for _, v := range values {
		var compact bytes.Buffer
		if err := json.Compact(&compact, v); err != nil {
			return "", fmt.Errorf("enum: %w", err)
		}
		out = append(out, literal(compact.String()))
	}
	if len(out) == 0 {
		return "", fmt.Errorf("an empty enum allows no answer")
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return b.add("enum", strings.Join(out, " | ")), nil
}

func (b *builder) anyOf(options []*Schema, depth int) (string, error) {
	var out []string
	for _, o := range options {
		e, err := b.value(o, depth+1)
		if err != nil {
			return "", err
		}
		out = append(out, e)
	}
	return group(out), nil
}

// ref makes a rule per reference, so that recursive schemas become recursive rules.
func (b *builder) ref(ref string, depth int) (string, error) {
	if rule, ok := b.refs[ref]; ok {
		return rule, nil
	}
	raw, err := lookup(b.doc, ref)
	if err != nil {
		return "", err
	}
	s, err := parseSchema(raw, depth)
	if err != nil {
		return "", err
	}
	if s.Ref == ref {
		return "", fmt.Errorf("$ref %s points to itself", ref)
	}
	rule := b.reserve("ref")
	b.refs[ref] = rule
	body, err := b.value(s, depth+1)
	if err != nil {
		return "", err
	}
	if body == rule {
		return "", fmt.Errorf("$ref %s points to itself", ref)
	}
	b.define(rule, body)
	return rule, nil
}

// lookup follows a JSON pointer such as #/$defs/card.
func lookup(doc json.RawMessage, ref string) (json.RawMessage, error) {
	if ref == "#" {
		return doc, nil
	}
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil, fmt.Errorf("$ref %s leads out of the schema", ref)
	}
	for part := range strings.SplitSeq(path, "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		var m map[string]json.RawMessage
		if err := json.Unmarshal(doc, &m); err != nil || m[part] == nil {
			return nil, fmt.Errorf("$ref %s points to nothing", ref)
		}
		doc = m[part]
	}
	return doc, nil
}

// object writes the properties in order. Which commas are needed depends on the first property present.
func (b *builder) object(s *Schema, depth int) (string, error) {
	pairs := make([]string, len(s.Props))
	first := -1 // first required
	for i, p := range s.Props {
		v, err := b.value(p.Schema, depth+1)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.Name, err)
		}
		pairs[i] = literal(quote(p.Name)+":") + " " + v
		if p.Required && first < 0 {
			first = i
		}
	}
	tail := func(from int) string {
		var t strings.Builder
		for i := from; i < len(pairs); i++ {
			if s.Props[i].Required {
				t.WriteString(` "," ` + pairs[i])
			} else {
				t.WriteString(` ("," ` + pairs[i] + `)?`)
			}
		}
		return t.String()
	}
	if first >= 0 {
		var head strings.Builder
		for _, p := range pairs[:first] {
			head.WriteString("(" + p + ` ",")? `)
		}
		return b.add("object-of", literal("{")+" "+head.String()+pairs[first]+tail(first+1)+" "+literal("}")), nil
	}
	var starts []string
	for i := range pairs {
		starts = append(starts, pairs[i]+tail(i+1))
	}
	return b.add("object-of", literal("{")+" ("+strings.Join(starts, " | ")+")? "+literal("}")), nil
}

func (b *builder) array(s *Schema, depth int) (string, error) {
	item := &Schema{MaxItems: -1, MaxLen: -1}
	if s.Items != nil {
		item = s.Items
	}
	if item.Never && len(s.Prefix) == 0 {
		return literal("[]"), nil
	}
	var head []string
	for _, p := range s.Prefix {
		e, err := b.value(p, depth+1)
		if err != nil {
			return "", err
		}
		head = append(head, e)
	}
	if len(head) > 0 {
		return literal("[") + " " + strings.Join(head, ` "," `) + " " + literal("]"), nil
	}
	if s.MaxItems >= 0 && s.MinItems > s.MaxItems {
		return "", fmt.Errorf("minItems %d is more than maxItems %d", s.MinItems, s.MaxItems)
	}
	if s.MaxItems == 0 {
		return literal("[]"), nil
	}
	e, err := b.value(item, depth+1)
	if err != nil {
		return "", err
	}
	one := b.add("item", e)
	more := `("," ` + one + `)` + repeat(max(s.MinItems-1, 0), s.MaxItems-1, s.MaxItems >= 0)
	body := one + " " + more
	if s.MinItems == 0 {
		body = "(" + body + ")?"
	}
	return b.add("array-of", literal("[")+" "+body+" "+literal("]")), nil
}

// any is the rule for every JSON value.
func (b *builder) any() string {
	if b.names["value"] == 0 {
		b.names["value"]++
		b.names["object"]++
		b.names["array"]++
		str, num := b.plainString(), b.number(&Schema{})
		b.define("value", `object | array | `+str+` | `+num+` | "true" | "false" | "null"`)
		b.define("object", `"{" (`+str+` ":" value ("," `+str+` ":" value)*)? "}"`)
		b.define("array", `"[" (value ("," value)*)? "]"`)
	}
	return "value"
}

func group(options []string) string {
	if len(options) == 1 {
		return options[0]
	}
	return "(" + strings.Join(options, " | ") + ")"
}

func repeat(from, to int, bounded bool) string {
	switch {
	case !bounded && from == 0:
		return "*"
	case !bounded && from == 1:
		return "+"
	case !bounded:
		return fmt.Sprintf("{%d,}", from)
	case from == to:
		return fmt.Sprintf("{%d}", from)
	}
	return fmt.Sprintf("{%d,%d}", from, to)
}

// quote is a JSON string as a model writes it: no HTML escapes.
func quote(s string) string {
	b, _ := canon.JSON(s) // a string always encodes
	return string(b)
}

// literal is a GBNF terminal for exactly this text.
func literal(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
