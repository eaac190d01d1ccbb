package run

import (
	"encoding/json"
	"fmt"
	"strings"

	"flywheel/internal/platform/canon"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// enter begins a visit of a node.
func (m *Machine) enter(n *node) {
	m.node = n
	m.visits[n.name]++
	if n.max > 0 && m.visits[n.name] > n.max {
		m.fail(ClassLimitVisits, fmt.Sprintf("the node %s may be visited %d times", n.name, n.max))
		return
	}
	m.tally.visit(n.name)
	switch n.kind {
	case spec.NodeAgent:
		m.enterAgent(n)
	case spec.NodeTool:
		m.enterTool(n)
	case spec.NodeCode:
		m.enterCode(n)
	case spec.NodeBranch:
		m.follow(n, m.vars["out"])
	case spec.NodeHuman:
		m.enterHuman(n)
	case spec.NodeEnd:
		m.enterEnd(n)
	}
}

func (m *Machine) enterTool(n *node) {
	args, err := evalValues(n.in, m.vars)
	if err != nil {
		m.fail(ClassExpression, err.Error())
		return
	}
	raw, err := canon.JSON(args)
	if err != nil {
		m.fail(ClassExpression, err.Error())
		return
	}
	m.issueTool(n, n.tool, raw)
}

func (m *Machine) issueTool(n *node, t *spec.Tool, args json.RawMessage) bool {
	call := &tool.Call{Tool: t, Name: t.Name, Args: args, Seed: mix(m.in.Seed, m.step)}
	return m.issue(Command{Kind: KindTool, Node: n.name, Tool: call})
}

func (m *Machine) enterCode(n *node) {
	out := make(map[string]any, len(n.code))
	for _, f := range n.code {
		v, err := f.program.Eval(m.vars)
		if err != nil {
			m.fail(ClassExpression, fmt.Sprintf("%s: %s", f.name, err))
			return
		}
		out[f.name] = v
	}
	m.leave(n, out)
}

func (m *Machine) enterHuman(n *node) {
	question, err := n.human.ask.Eval(m.vars)
	if err != nil {
		m.fail(ClassExpression, err.Error())
		return
	}
	m.issue(Command{Kind: KindAsk, Node: n.name, Ask: &Ask{
		Question: textOf(question), Who: n.human.spec.Who, Timeout: n.human.spec.Timeout,
	}})
}

func (m *Machine) enterEnd(n *node) {
	out := make(map[string]any, len(n.end))
	for _, f := range n.end {
		v, err := f.text.Eval(m.vars)
		if err != nil {
			m.fail(ClassExpression, fmt.Sprintf("%s: %s", f.name, err))
			return
		}
		out[f.name] = v
	}
	m.finish(outputOf(out))
}

// applyTool takes a tool's answer, for a tool node or for the agent that called it.
func (m *Machine) applyTool(c Command, a Answer) {
	r := a.Tool
	m.tally.call(c, r)
	if class, message := m.overLimit(); r.Class == tool.Canceled && class == ClassLimitTime {
		m.fail(class, message)
		return
	}
	if m.visit != nil {
		m.visit.applyTool(m, c, r)
		return
	}
	if r.Class != tool.OK {
		m.failNode(toolClassPrefix+string(r.Class), fmt.Sprintf("%s: %s", c.Tool.Name, failedWords(r)))
		return
	}
	m.leave(m.node, decode(r.Out))
}

func (m *Machine) applyHuman(h Human) {
	n := m.node
	out := map[string]any{"answer": h.Text, "approved": h.Approved, "by": h.By, "timed_out": h.TimedOut}
	if h.TimedOut && n.human.spec.Else != "" {
		m.output(n, out)
		m.move(n.human.spec.Else, out)
		return
	}
	m.leave(n, out)
}

// failNode ends a node that failed: at the node that catches the class, or with the run.
func (m *Machine) failNode(class, message string) {
	n := m.node
	to, caught := n.catch[class]
	if !caught {
		_, short, _ := strings.Cut(class, ".")
		to, caught = n.catch[short]
	}
	if !caught {
		to, caught = n.catch["*"]
	}
	if !caught {
		m.fail(class, message)
		return
	}
	m.visit = nil
	out := map[string]any{"ok": false, "error": map[string]any{"class": class, "message": message}}
	m.output(n, out)
	m.move(to, out)
}

// leave ends a node with its output and goes where its edges lead.
func (m *Machine) leave(n *node, out any) {
	m.visit = nil
	m.output(n, out)
	m.follow(n, out)
}

func (m *Machine) output(n *node, out any) {
	m.vars[n.name] = map[string]any{"out": out}
	m.vars["out"] = out
	m.all[n.name] = out
}

// follow takes the first edge whose condition holds; a node without edges ends the flow.
func (m *Machine) follow(n *node, out any) {
	if len(n.edges) == 0 {
		m.finish(outputOf(out))
		return
	}
	for _, e := range n.edges {
		if e.when != nil {
			ok, err := e.when.Bool(m.vars)
			if err != nil {
				m.fail(ClassExpression, err.Error())
				return
			}
			if !ok {
				continue
			}
		}
		m.move(e.to, out)
		return
	}
	m.fail(ClassNoEdge, fmt.Sprintf("no condition under next of the node %s held", n.name))
}

func (m *Machine) move(to string, out any) {
	if next := m.program.flow.nodes[to]; next != nil {
		m.node = next
		return
	}
	m.finish(outputOf(out))
}

// outputOf makes the output of a run from that of its last node: the field reply, or text of an agent,
// is the answer; the rest is data.
func outputOf(out any) Output {
	fields, ok := out.(map[string]any)
	if !ok {
		o := Output{Reply: textOf(out)}
		if _, isText := out.(string); !isText && out != nil {
			o.Data = map[string]any{"out": out}
		}
		return o
	}
	answer := "reply"
	if _, has := fields[answer]; !has {
		answer = "text"
	}
	o := Output{}
	for name, v := range fields {
		if name == answer {
			o.Reply = textOf(v)
			continue
		}
		if o.Data == nil {
			o.Data = make(map[string]any, len(fields))
		}
		o.Data[name] = v
	}
	if o.Reply == "" && answer == "text" {
		o.Reply = wordsOf(fields)
	}
	return o
}

// wordsOf answers for an agent that ended with a tool's result instead of words.
func wordsOf(fields map[string]any) string {
	if e, ok := fields["error"].(map[string]any); ok {
		return fmt.Sprintf("%v failed: %v", fields["tool"], e["message"])
	}
	if result, ok := fields["result"]; ok && result != nil {
		return textOf(result)
	}
	if data, ok := fields["data"]; ok && data != nil {
		return textOf(data)
	}
	return ""
}

// textOf is a value as a person reads it: strings as they are, null as nothing, the rest as JSON.
func textOf(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	b, err := canon.JSON(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// decode reads JSON as expressions see it; what is not JSON is text.
func decode(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return string(raw)
	}
	return v
}

func failedWords(r *tool.Result) string {
	if r.Message != "" {
		return r.Message
	}
	return string(r.Class)
}

// mix gives each step its own seed (splitmix64).
func mix(seed uint64, step int) uint64 {
	z := seed + uint64(step+1)*0x9e3779b97f4a7c15 //nolint:gosec // steps are small and positive
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
