package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/canon"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// visit is an agent at work: a conversation with its model.
type visit struct {
	agent *agentProgram
	vars  map[string]any // of prompt and bound arguments: input is the agent's own
	chat  *conversation

	told  bool // of a mistake: the next one ends the run
	text  string
	data  any
	calls []any
	last  *tool.Result
	named string // tool called last

	batch []slot // calls of the model's last answer
	open  int    // of batch

	// what the run had consumed before
	effects int
	cost    int64
	elapsed time.Duration
}

// slot holds the place of a call's answer in the conversation.
type slot struct {
	id      string
	step    int
	content string
	args    any
}

func (m *Machine) enterAgent(n *node) {
	input := m.input
	if n.in != nil {
		var err error
		if input, err = evalValues(n.in, m.vars); err != nil {
			m.fail(ClassExpression, err.Error())
			return
		}
	}
	v := &visit{
		agent: n.agent, vars: map[string]any{"input": input, "env": m.env},
		effects: m.effects, cost: m.usage.Cost, elapsed: m.elapsed,
	}
	m.visit = v
	system, err := n.agent.prompt.render(v.vars, input)
	if err != nil {
		m.fail(ClassExpression, "the prompt could not be filled in: "+err.Error())
		return
	}
	v.chat = &conversation{agent: n.agent, last: -1, messages: m.opening(n.agent, system, input)}
	m.issueModel(n, v)
}

// opening is the conversation before the model's first answer: what never changes comes first, so that
// model servers find it in their cache.
func (m *Machine) opening(a *agentProgram, system string, input map[string]any) []Message {
	question := questionOf(input)
	list := make([]Message, 0, 3+2*len(a.examples)+len(m.history)+8*len(a.memories))
	if system != "" {
		list = append(list, Message{Role: model.RoleSystem, Content: system})
	}
	for _, e := range a.examples {
		list = append(list, e...)
	}
	list = append(list, m.history...)
	for _, memory := range a.memories {
		for _, hit := range memory.index.Nearest(question, memory.k) {
			list = append(list, memory.examples[hit.Doc]...)
		}
	}
	return append(list, Message{Role: model.RoleUser, Content: question})
}

// questionOf is the user's message: the field message, or the whole input as JSON.
func questionOf(input map[string]any) string {
	if v, ok := input["message"]; ok {
		return textOf(v)
	}
	return textOf(input)
}

func (m *Machine) issueModel(n *node, v *visit) {
	a := v.agent
	ref := a.spec.Model
	if resolved, ok := m.in.Models[ref]; ok {
		ref = resolved
	} else if choice, ok := m.program.Package.Models[ref]; ok {
		ref = choice.First
	}
	size := len(v.chat.messages)
	req := &model.Request{
		Model: ref, Messages: v.chat.messages[:size:size], Tools: a.defs, Output: a.spec.Output,
		Temperature: a.spec.Temperature, MaxTokens: a.spec.MaxTokens,
	}
	if req.Temperature > 0 {
		req.Seed = int64(m.in.Seed >> 1)
	}
	c := Command{Kind: KindModel, Node: n.name, Model: req, chat: v.chat, after: v.chat.last, from: v.chat.sent}
	if m.issue(c) {
		v.chat.last, v.chat.sent = m.step-1, size
	}
}

// applyModel takes a model's answer.
func (m *Machine) applyModel(a Answer) {
	v := m.visit
	if f := a.Failure; f != nil {
		if f.Class == ClassMalformed || f.Class == ClassUnknownTool {
			m.correct(f.Class, f.Message, nil)
			return
		}
		if strings.HasPrefix(f.Class, "limit.") {
			m.fail(f.Class, f.Message)
			return
		}
		m.failNode(f.Class, f.Message)
		return
	}
	m.usage = m.usage.Add(a.Model.Usage)
	answer := a.Model.Message
	if len(answer.ToolCalls) > 0 {
		m.callTools(v, answer)
		return
	}
	v.text = answer.Content
	if v.agent.output != nil {
		data, err := readOutput(v.agent, answer.Content)
		if err != nil {
			m.correct(ClassMalformed, "the answer is not what was asked for: "+err.Error(), &answer)
			return
		}
		v.data = data
	}
	m.leave(m.node, v.output())
}

func readOutput(a *agentProgram, content string) (any, error) {
	var data any
	if err := json.Unmarshal([]byte(content), &data); err != nil {
		return nil, err
	}
	return data, a.output.check(data)
}

// correct tells the model about its mistake, once in a visit; the second mistake ends the node.
func (m *Machine) correct(class, message string, answer *Message) {
	m.tally.malformed++
	v := m.visit
	if v.told {
		m.failNode(class, message)
		return
	}
	v.told = true
	if answer != nil {
		v.chat.messages = append(v.chat.messages, *answer)
	}
	v.chat.messages = append(v.chat.messages, Message{Role: model.RoleUser, Content: errorText(class, message)})
	m.issueModel(m.node, v)
}

// callTools opens the calls of an answer, or none of them when one is wrong.
func (m *Machine) callTools(v *visit, answer Message) {
	v.text = answer.Content
	calls := make([]prepared, len(answer.ToolCalls))
	answer.ToolCalls = append([]model.ToolCall(nil), answer.ToolCalls...)
	var class, mistake string
	wrong := make([]string, len(answer.ToolCalls))
	for i := range answer.ToolCalls {
		call := &answer.ToolCalls[i]
		if call.ID == "" {
			call.ID = fmt.Sprintf("call_%d_%d", m.step, i)
		}
		p, c, err := v.prepare(call)
		if c == ClassExpression {
			m.fail(c, err.Error())
			return
		}
		if err != nil {
			wrong[i] = errorText(c, err.Error())
		}
		if err != nil && class == "" {
			class, mistake = c, err.Error()
		}
		calls[i] = p
	}
	if class != "" {
		m.refuseCalls(v, answer, wrong, class, mistake)
		return
	}
	v.chat.messages = append(v.chat.messages, answer)
	v.batch = make([]slot, len(calls))
	v.open = len(calls)
	for i, p := range calls {
		v.batch[i] = slot{id: answer.ToolCalls[i].ID, step: m.step, args: p.values}
		if !m.issueTool(m.node, p.tool, p.args) {
			return
		}
	}
}

// refuseCalls tells the model, as errors of its tools, that an answer had a wrong call in it.
func (m *Machine) refuseCalls(v *visit, answer Message, wrong []string, class, mistake string) {
	m.tally.malformed++
	if v.told {
		m.failNode(class, mistake)
		return
	}
	v.told = true
	v.chat.messages = append(v.chat.messages, answer)
	for i, text := range wrong {
		if text == "" {
			text = errorText("not_called", "another call in the same answer was wrong")
		}
		v.chat.messages = append(v.chat.messages, Message{Role: model.RoleTool, ToolCallID: answer.ToolCalls[i].ID, Content: text})
	}
	m.issueModel(m.node, v)
}

// prepared is a call with all its arguments.
type prepared struct {
	tool   *spec.Tool
	args   json.RawMessage // canonical
	values any
}

// prepare checks a call of the model and adds the arguments that the package binds.
func (v *visit) prepare(call *model.ToolCall) (prepared, string, error) {
	t := v.agent.byName[call.Name]
	if t == nil {
		name := call.Name
		call.Args = json.RawMessage("{}")
		return prepared{}, ClassUnknownTool, fmt.Errorf("there is no tool %q; %s", name, v.agent.toolNames())
	}
	args, exact, err := readArgs(call.Args)
	if err != nil {
		call.Args = json.RawMessage("{}")
		return prepared{}, ClassMalformed, fmt.Errorf("the arguments of %s are not a JSON object: %w", call.Name, err)
	}
	if call.Args, err = canon.JSON(exact); err != nil {
		return prepared{}, ClassMalformed, err
	}
	if t.schema != nil {
		if err := t.schema.check(args); err != nil {
			return prepared{}, ClassMalformed, fmt.Errorf("the arguments of %s are wrong: %w", call.Name, err)
		}
	}
	p := prepared{tool: t.tool, args: call.Args, values: args}
	if len(t.bound) == 0 {
		return p, "", nil
	}
	for _, name := range t.names {
		x, err := t.bound[name].Eval(v.vars)
		if err != nil {
			return prepared{}, ClassExpression, fmt.Errorf("the argument %s of %s: %w", name, call.Name, err)
		}
		args[name], exact[name] = x, x
	}
	if p.args, err = canon.JSON(exact); err != nil {
		return prepared{}, ClassExpression, err
	}
	return p, "", nil
}

// readArgs reads arguments twice: as expressions and schemas see them, and with numbers as written.
func readArgs(raw json.RawMessage) (args, exact map[string]any, err error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return map[string]any{}, map[string]any{}, nil
	}
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, nil, err
	}
	if args == nil {
		return nil, nil, fmt.Errorf("null")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return args, exact, d.Decode(&exact)
}

// applyTool takes the answer of one call; the last one lets the model, or the agent's end, follow.
func (v *visit) applyTool(m *Machine, c Command, r *tool.Result) {
	for i := range v.batch {
		if v.batch[i].step != c.Step {
			continue
		}
		v.batch[i].content = contentOf(r)
		v.calls = append(v.calls, map[string]any{"tool": c.Tool.Name, "args": v.batch[i].args, "ok": r.Class == tool.OK})
	}
	v.last, v.named = r, c.Tool.Name
	if v.open--; v.open > 0 {
		return
	}
	for _, s := range v.batch {
		v.chat.messages = append(v.chat.messages, Message{Role: model.RoleTool, ToolCallID: s.id, Content: s.content})
	}
	v.batch = nil
	if v.agent.spec.AfterTools == spec.AfterToolsStop {
		m.leave(m.node, v.output())
		return
	}
	m.issueModel(m.node, v)
}

// output is what a flow sees of the agent as NAME.out.
func (v *visit) output() map[string]any {
	out := map[string]any{"text": v.text, "tool": v.named, "ok": true, "result": nil, "error": nil, "calls": v.calls}
	if v.calls == nil {
		out["calls"] = []any{}
	}
	if r := v.last; r != nil {
		if r.Class == tool.OK {
			out["result"] = decode(r.Out)
		} else {
			out["ok"] = false
			out["error"] = map[string]any{"class": string(r.Class), "message": failedWords(r)}
		}
	}
	if v.agent.output != nil {
		out["data"] = v.data
	}
	return out
}

// contentOf is a tool's answer as the model reads it.
func contentOf(r *tool.Result) string {
	if r.Class != tool.OK {
		return errorText(string(r.Class), failedWords(r))
	}
	var text string
	if len(r.Out) > 0 && r.Out[0] == '"' && json.Unmarshal(r.Out, &text) == nil {
		return text
	}
	var b bytes.Buffer
	if err := json.Compact(&b, r.Out); err != nil {
		return string(r.Out)
	}
	return b.String()
}

func errorText(class, message string) string {
	b, err := canon.JSON(map[string]any{"error": map[string]string{"class": class, "message": message}})
	if err != nil {
		return message
	}
	return string(b)
}
