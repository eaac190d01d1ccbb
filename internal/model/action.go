package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"flywheel/internal/model/grammar"
	"flywheel/internal/model/openai"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
)

// actionForm carries tool calls for models that have none of their own: every answer is one JSON object,
// {"action":"cards_freeze","card_id":"4711"} or {"action":"reply","text":"…"}. The prompt is sent as it
// is; tool calls in the history are shown in the same words, so that examples teach the form, and what
// does not change between calls stays a common beginning that the server keeps in its cache.
type actionForm struct {
	x     *translation
	calls int // tool calls in the history, so that ids stay unique
	raw   strings.Builder
	reply replyReader
	said  bool // the action has been reported
}

// asAction builds the request in the action form.
func (x *translation) asAction(t target) error {
	x.action = &actionForm{x: x}
	order := map[string][]string{}
	var actions []grammar.Action
	for _, d := range x.req.Tools {
		schema, err := actionSchema(schemaOr(d.Schema))
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "model.bad_schema", "the schema of tool %s cannot be used", d.Name)
		}
		name := x.names.wire(d.Name)
		actions = append(actions, grammar.Action{Name: name, Args: schema})
		if s, err := grammar.Parse(schema); err == nil {
			for _, p := range s.Props {
				order[name] = append(order[name], p.Name)
			}
		}
	}
	actions = append(actions, grammar.Action{Name: replyAction, Args: x.replySchema()})
	for _, m := range x.req.Messages {
		x.action.calls += len(m.ToolCalls)
		x.wire.Messages = append(x.wire.Messages, actionMessages(m, x.names, order)...)
	}
	if t.ability.Grammar {
		g, err := grammar.ForActions(actions)
		if err == nil {
			x.wire.Grammar = g
			return nil
		}
	}
	schema, err := unionSchema(actions)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "model.encode", "encode the actions")
	}
	x.wire.ResponseFormat = responseFormat("action", schema)
	return nil
}

// replySchema is what follows {"action":"reply": a text, or data when the agent has an output schema.
func (x *translation) replySchema() json.RawMessage {
	if len(x.req.Output) > 0 {
		return json.RawMessage(`{"type":"object","properties":{"data":` + string(x.req.Output) + `},"required":["data"]}`)
	}
	return json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`)
}

// unionSchema says the same as the grammar, for servers that know JSON Schema only.
func unionSchema(actions []grammar.Action) (json.RawMessage, error) {
	var options []json.RawMessage
	for _, a := range actions {
		var s struct {
			Properties orderedObject              `json:"properties"`
			Required   []string                   `json:"required,omitempty"`
			Defs       map[string]json.RawMessage `json:"$defs,omitempty"`
		}
		if err := json.Unmarshal(a.Args, &s); err != nil {
			return nil, err
		}
		name, err := json.Marshal(a.Name)
		if err != nil {
			return nil, err
		}
		props := append(orderedObject{{"action", json.RawMessage(`{"type":"string","enum":[` + string(name) + `]}`)}}, s.Properties...)
		b, err := json.Marshal(map[string]any{
			"type": "object", "properties": props, "required": append([]string{"action"}, s.Required...), "additionalProperties": false,
		})
		if err != nil {
			return nil, err
		}
		options = append(options, b)
	}
	return json.Marshal(map[string]any{"anyOf": options})
}

// actionMessages is a message of the history in the action form. order is nil when no tools are offered:
// then what an assistant said stays prose.
func actionMessages(m Message, names *wireNames, order map[string][]string) []openai.Message {
	say := func(role, content string) openai.Message { return openai.Message{Role: role, Content: &content} }
	switch {
	case m.Role == RoleTool:
		return []openai.Message{say(RoleUser, "result: "+m.Content)}
	case m.Role == RoleAssistant && len(m.ToolCalls) > 0:
		var out []openai.Message
		for _, c := range m.ToolCalls {
			name := names.wire(c.Name)
			out = append(out, say(RoleAssistant, actionText(name, c.Args, order[name])))
		}
		return out
	case m.Role == RoleAssistant && order != nil:
		return []openai.Message{say(RoleAssistant, replyText(m.Content))}
	}
	return []openai.Message{say(m.Role, m.Content)}
}

func replyText(content string) string {
	return `{"action":"reply","text":` + plainJSON(content) + `}`
}

// plainJSON is a JSON string as the grammar lets a model write it: without HTML escapes.
func plainJSON(s string) string {
	b, _ := canon.JSON(s) // a string always encodes
	return string(b)
}

// actionText is a tool call as the model would write it: arguments in the order of the schema.
func actionText(name string, args json.RawMessage, order []string) string {
	var have orderedObject
	_ = json.Unmarshal(args, &have) // history that is no object shows no arguments
	var b strings.Builder
	b.WriteString(`{"action":` + plainJSON(name))
	write := func(p pair) {
		var compact bytes.Buffer
		if json.Compact(&compact, p.value) == nil {
			b.WriteString("," + plainJSON(p.key) + ":" + compact.String())
		}
	}
	done := map[string]bool{}
	for _, key := range order {
		for _, p := range have {
			if escapeKey(p.key) == key && !done[key] {
				done[key] = true
				write(pair{key, p.value})
			}
		}
	}
	for _, p := range have {
		if key := escapeKey(p.key); !done[key] {
			done[key] = true
			write(pair{key, p.value})
		}
	}
	b.WriteString("}")
	return b.String()
}

// escapeKey keeps an argument that is itself called action apart from the action.
func escapeKey(key string) string {
	if strings.TrimRight(key, "_") == "action" {
		return key + "_"
	}
	return key
}

func unescapeKey(key string) string {
	if strings.TrimRight(key, "_") == "action" {
		return strings.TrimSuffix(key, "_")
	}
	return key
}

// actionSchema renames an argument called action in a tool's schema; nearly always it changes nothing.
func actionSchema(schema json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(schema, []byte(`"action`)) {
		return schema, nil
	}
	var s orderedObject
	if err := json.Unmarshal(schema, &s); err != nil {
		return nil, err
	}
	for i, p := range s {
		switch p.key {
		case "properties":
			var props orderedObject
			if err := json.Unmarshal(p.value, &props); err != nil {
				return nil, err
			}
			for j := range props {
				props[j].key = escapeKey(props[j].key)
			}
			b, err := json.Marshal(props)
			if err != nil {
				return nil, err
			}
			s[i].value = b
		case "required":
			var names []string
			if err := json.Unmarshal(p.value, &names); err != nil {
				return nil, err
			}
			for j := range names {
				names[j] = escapeKey(names[j])
			}
			b, err := json.Marshal(names)
			if err != nil {
				return nil, err
			}
			s[i].value = b
		}
	}
	return json.Marshal(s)
}

// chunk reads the stream so far: which action it is, and the text of a reply as it grows.
func (a *actionForm) chunk(piece string) {
	a.raw.WriteString(piece)
	text := a.reply.feed(piece)
	if action := a.reply.action; action != "" && !a.said {
		a.said = true
		if action != replyAction {
			if name, err := a.x.names.tool(action); err == nil {
				a.x.emit(Delta{Tool: name})
			}
		}
	}
	if text != "" && a.reply.action == replyAction {
		a.x.emit(Delta{Text: text})
	}
}

// answer reads the whole object.
func (a *actionForm) answer(c openai.Completion) (Message, string, error) {
	var object orderedObject
	if err := json.Unmarshal([]byte(c.Text), &object); err != nil {
		if c.Finish == FinishLength {
			if a.reply.action == replyAction && len(a.x.req.Output) == 0 {
				return Message{Role: RoleAssistant, Content: a.reply.whole.String()}, FinishLength, nil
			}
			return Message{}, "", fault.New(fault.Invalid, CodeMalformed, "the answer was cut off in the middle of an action: %s", clip(c.Text)).WithHint("raise max_tokens of the agent")
		}
		return Message{}, "", fault.Wrap(err, fault.Invalid, CodeMalformed, "the answer is no action in JSON: %s", clip(c.Text))
	}
	var action string
	var args orderedObject
	for _, p := range object {
		if p.key == "action" {
			if err := json.Unmarshal(p.value, &action); err != nil {
				return Message{}, "", fault.Wrap(err, fault.Invalid, CodeMalformed, "the action is no text: %s", clip(c.Text))
			}
			continue
		}
		args = append(args, pair{unescapeKey(p.key), p.value})
	}
	if action == "" {
		return Message{}, "", fault.New(fault.Invalid, CodeMalformed, "the answer names no action: %s", clip(c.Text))
	}
	if action == replyAction {
		return a.replied(args, c)
	}
	name, err := a.x.names.tool(action)
	if err != nil {
		return Message{}, "", err
	}
	b, err := json.Marshal(args)
	if err != nil {
		return Message{}, "", fault.Wrap(err, fault.Invalid, CodeMalformed, "the arguments of %s cannot be read", name)
	}
	call := ToolCall{ID: callID(a.calls + 1), Name: name, Args: b}
	return Message{Role: RoleAssistant, ToolCalls: []ToolCall{call}}, FinishToolCalls, nil
}

func (a *actionForm) replied(args orderedObject, c openai.Completion) (Message, string, error) {
	m := Message{Role: RoleAssistant}
	for _, p := range args {
		switch {
		case p.key == "data" && len(a.x.req.Output) > 0:
			m.Content = string(p.value)
			return m, FinishStop, a.x.check(m.Content, FinishStop)
		case p.key == "text" && len(a.x.req.Output) == 0:
			if err := json.Unmarshal(p.value, &m.Content); err != nil {
				return Message{}, "", fault.Wrap(err, fault.Invalid, CodeMalformed, "the reply is no text: %s", clip(c.Text))
			}
			return m, FinishStop, nil
		}
	}
	return Message{}, "", fault.New(fault.Invalid, CodeMalformed, "the reply is empty: %s", clip(c.Text))
}

// orderedObject is a JSON object that keeps the order of its keys.
type orderedObject []pair

type pair struct {
	key   string
	value json.RawMessage
}

// UnmarshalJSON reads an object.
func (o *orderedObject) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	t, err := dec.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("%s is no object", clip(string(b)))
	}
	*o = orderedObject{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		*o = append(*o, pair{key.(string), value})
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("text after the object")
	}
	return nil
}

// MarshalJSON writes the object in its order.
func (o orderedObject) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(plainJSON(p.key) + ":")
		if err := json.Compact(&b, p.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
