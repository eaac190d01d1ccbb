package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"flywheel/internal/model/openai"
	"flywheel/internal/platform/fault"
)

// translation is one request on its way to a server, and the way back of the answer.
type translation struct {
	req   Request
	names *wireNames
	wire  openai.Request
	emit  func(Delta)
	// action is set when tool calls travel as constrained JSON.
	action *actionForm
	// answerTool is the tool whose arguments are the answer, for servers without response_format.
	answerTool string
}

// outputName names the schema of an answer where a server wants a name.
const outputName = "answer"

// translate builds the wire request for a target.
func translate(req Request, t target, onDelta func(Delta)) (*translation, error) {
	x := &translation{req: req, names: newWireNames(req), emit: onDelta}
	if x.emit == nil {
		x.emit = func(Delta) {}
	}
	x.wire = openai.Request{Model: t.name}
	t.provider.dialect.settings(&x.wire, req, t.name)
	if t.ability.Form == FormAction && len(req.Tools) > 0 {
		if err := x.asAction(t); err != nil {
			return nil, err
		}
	} else {
		x.asNative(t)
	}
	if t.ability.Alternate {
		x.wire.Messages = alternate(x.wire.Messages)
	}
	if t.ability.Grammar {
		yes := true
		x.wire.CachePrompt = &yes
		if x.wire.MaxTokens == 0 { // a small model may never end by itself
			x.wire.MaxTokens = defaultLocalTokens
		}
	}
	return x, nil
}

const defaultLocalTokens = 1024

func (x *translation) asNative(t target) {
	if t.ability.Form == FormAction {
		for _, m := range x.req.Messages {
			x.wire.Messages = append(x.wire.Messages, actionMessages(m, x.names, nil)...)
		}
	} else {
		for _, m := range answered(x.req.Messages) {
			x.wire.Messages = append(x.wire.Messages, x.message(m))
		}
	}
	for _, d := range x.req.Tools {
		x.wire.Tools = append(x.wire.Tools, openai.Tool{Type: "function", Function: openai.Function{
			Name: x.names.wire(d.Name), Description: d.Description, Parameters: schemaOr(d.Schema),
		}})
	}
	if len(x.req.Output) == 0 {
		return
	}
	switch {
	case t.ability.Grammar && len(x.req.Tools) == 0:
		constrain(&x.wire, x.req.Output)
	case t.provider.dialect.outputByTool || t.ability.Grammar: // llama servers refuse tools beside a schema
		x.answerTool = x.freeName(outputName)
		x.wire.Tools = append(x.wire.Tools, openai.Tool{Type: "function", Function: openai.Function{
			Name: x.answerTool, Description: "Give the final answer.", Parameters: x.req.Output,
		}})
		x.wire.ToolChoice = "required"
		if len(x.req.Tools) == 0 {
			x.wire.ToolChoice = map[string]any{"type": "function", "function": map[string]string{"name": x.answerTool}}
		}
	default:
		x.wire.ResponseFormat = responseFormat(outputName, x.req.Output)
	}
}

// answered gives every tool call an id and an answer: servers with native tool calls refuse a
// conversation where one has none, as in examples, which show the choice alone.
func answered(in []Message) []Message {
	out := make([]Message, 0, len(in))
	made := 0
	for i, m := range in {
		if len(m.ToolCalls) == 0 {
			out = append(out, m)
			continue
		}
		has := map[string]bool{}
		for _, next := range in[i+1:] {
			if next.Role != RoleTool {
				break
			}
			has[next.ToolCallID] = true
		}
		m.ToolCalls = slices.Clone(m.ToolCalls)
		var missing []Message
		for j := range m.ToolCalls {
			c := &m.ToolCalls[j]
			if c.ID != "" && has[c.ID] {
				continue
			}
			made++
			c.ID = fmt.Sprintf("example_%d", made)
			missing = append(missing, Message{Role: RoleTool, ToolCallID: c.ID, Content: "done"})
		}
		out = append(append(out, m), missing...)
	}
	return out
}

func (x *translation) freeName(name string) string {
	for x.names.used[name] {
		name += "_"
	}
	x.names.used[name] = true
	return name
}

func responseFormat(name string, schema json.RawMessage) *openai.ResponseFormat {
	return &openai.ResponseFormat{Type: "json_schema", JSONSchema: &openai.JSONSchema{Name: name, Schema: schema}}
}

func schemaOr(schema json.RawMessage) json.RawMessage {
	if len(schema) == 0 {
		return json.RawMessage(`{"type":"object","properties":{}}`)
	}
	return schema
}

func (x *translation) message(m Message) openai.Message {
	out := openai.Message{Role: m.Role, Content: &m.Content, ToolCallID: m.ToolCallID}
	for _, c := range m.ToolCalls {
		out.ToolCalls = append(out.ToolCalls, openai.Call{ID: c.ID, Type: "function", Function: openai.CallFunction{
			Name: x.names.wire(c.Name), Arguments: argsText(c.Args),
		}})
	}
	if len(out.ToolCalls) > 0 && m.Content == "" {
		out.Content = nil
	}
	return out
}

func argsText(args json.RawMessage) string {
	if len(args) == 0 {
		return "{}"
	}
	return string(args)
}

// alternate joins neighbours of the same role, for chat templates that insist on taking turns.
func alternate(in []openai.Message) []openai.Message {
	var out []openai.Message
	for _, m := range in {
		if n := len(out); n > 0 && out[n-1].Role == m.Role && m.Role != RoleTool && len(m.ToolCalls)+len(out[n-1].ToolCalls) == 0 {
			joined := text(out[n-1].Content) + "\n\n" + text(m.Content)
			out[n-1].Content = &joined
			continue
		}
		out = append(out, m)
	}
	return out
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// chunk passes a piece of the stream on.
func (x *translation) chunk(c openai.Chunk) {
	switch {
	case x.action != nil:
		x.action.chunk(c.Text)
	case c.Tool != "" && c.Tool == x.answerTool:
	case c.Tool != "":
		if name, err := x.names.tool(c.Tool); err == nil {
			x.emit(Delta{Tool: name})
		}
	default:
		x.emit(Delta{Text: c.Text})
	}
}

// answer turns a whole completion into the message that it means.
func (x *translation) answer(c openai.Completion) (Message, string, error) {
	if x.action != nil {
		return x.action.answer(c)
	}
	m := Message{Role: RoleAssistant, Content: c.Text}
	for _, call := range c.Calls {
		if x.answerTool != "" && call.Function.Name == x.answerTool {
			m.Content, m.ToolCalls = call.Function.Arguments, nil
			x.emit(Delta{Text: m.Content})
			return m, FinishStop, x.check(m.Content, c.Finish)
		}
		name, err := x.names.tool(call.Function.Name)
		if err != nil {
			return Message{}, "", err
		}
		args, err := objectArgs(call.Function.Arguments)
		if err != nil {
			return Message{}, "", fault.Wrap(err, fault.Invalid, CodeMalformed, "the model called %s with arguments that are no JSON object: %s", name, clip(call.Function.Arguments))
		}
		m.ToolCalls = append(m.ToolCalls, ToolCall{ID: call.ID, Name: name, Args: args})
	}
	if len(m.ToolCalls) > 0 {
		return m, FinishToolCalls, nil
	}
	return m, c.Finish, x.check(m.Content, c.Finish)
}

func (x *translation) check(content, finish string) error {
	return checkOutput(x.req.Output, content, finish)
}

// objectArgs reads arguments; some models write nothing for a tool without any.
func objectArgs(args string) (json.RawMessage, error) {
	args = strings.TrimSpace(args)
	if args == "" || args == "null" {
		return json.RawMessage("{}"), nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(args), &object); err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(args)); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// clip shortens what a model said for an error.
func clip(s string) string {
	if r := []rune(s); len(r) > 120 {
		return string(r[:120]) + "…"
	}
	return s
}
