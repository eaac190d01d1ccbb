package agent

import (
	"slices"
	"strings"

	"flywheel/spec"
)

var (
	nodeKinds = []string{"agent", "tool", "code", "branch", "human", "end"}
	// laterNodes are kinds of the format that this version does not run.
	laterNodes = []string{"prompt", "map", "loop", "flow", "memory", "wait"}
	reserved   = []string{"input", "env", "out", "all", "in", "end"}
)

func (b *builder) flow(c cursor) {
	name := b.named(c, "flows")
	if c.v == nil {
		c.errorf("package.empty", "the file is empty")
		return
	}
	if !c.mapping("flow", "description", "in", "first", "nodes") {
		return
	}
	c.get("flow").sameName(name)
	c.get("description").text()
	f := &spec.Flow{Name: name, In: c.get("in").objectSchema(), First: c.get("first").text(), Nodes: map[string]*spec.Node{}}
	b.pkg.Flows[name] = f
	nodes := c.get("nodes").entries()
	if len(nodes) == 0 {
		c.errorf("package.missing_key", `the flow needs "nodes"`)
		return
	}
	for _, n := range nodes {
		switch {
		case slices.Contains(reserved, n.key()):
			n.keyErrorf("package.name", "a node cannot be called %s", quote(n.key())).Hint = "that name stands for something else in expressions"
		case !nodeForm.MatchString(n.key()):
			n.keyErrorf("package.name", "the node name %s is not allowed", quote(n.key())).Hint = "use lower-case letters, digits and _"
		}
		if node := n.node(); node != nil {
			f.Nodes[n.key()] = node
		}
	}
}

func (c cursor) node() *spec.Node {
	m, ok := c.v.(map[string]any)
	if !ok {
		c.errorf("package.type", "a node is a mapping, not %s", describe(c.v)).Hint = "as in {agent: desk, next: end}"
		return nil
	}
	var kinds []string
	for _, k := range nodeKinds {
		if _, ok := m[k]; ok {
			kinds = append(kinds, k)
		}
	}
	for _, k := range laterNodes {
		if _, ok := m[k]; ok && len(kinds) == 0 {
			c.get(k).keyErrorf("package.unsupported", "nodes of kind %s are not in this version", k).Hint =
				"known: " + strings.Join(nodeKinds, ", ")
			return nil
		}
	}
	if len(kinds) != 1 {
		p := c.keyErrorf("package.node", "the node says what it does %d times", len(kinds))
		if len(kinds) == 0 {
			p.Message = "the node does not say what it does"
		}
		p.Hint = "exactly one of " + strings.Join(nodeKinds, ", ")
		if len(kinds) == 0 {
			c.mapping(append([]string{"in", "next", "max", "catch", "description"}, nodeKinds...)...)
			return nil
		}
	}
	n := &spec.Node{Kind: spec.NodeKind(kinds[0]), Max: c.get("max").integer(10_000)}
	known := append([]string{"description", "max"}, kinds...)
	switch n.Kind {
	case spec.NodeAgent:
		n.Agent = c.get("agent").need()
		known = append(known, "in", "next", "catch")
	case spec.NodeTool:
		n.Tool = c.get("tool").need()
		known = append(known, "in", "next", "catch")
	case spec.NodeCode:
		n.Code = c.get("code").codeMap()
		known = append(known, "next")
	case spec.NodeBranch:
		n.Next = c.get("branch").edges()
	case spec.NodeHuman:
		n.Human = c.get("human").human()
		known = append(known, "next")
	case spec.NodeEnd:
		n.End = c.get("end").endMap()
	}
	c.mapping(known...)
	c.get("description").text()
	n.In, _ = c.get("in").v.(map[string]any)
	c.get("in").mapping()
	if n.Kind != spec.NodeBranch {
		n.Next = c.get("next").edges()
	}
	for _, e := range c.get("catch").entries() {
		if n.Catch == nil {
			n.Catch = map[string]string{}
		}
		n.Catch[e.key()] = e.need()
	}
	if len(n.Next) == 0 && n.Kind != spec.NodeEnd && len(kinds) == 1 {
		c.keyErrorf("package.missing_key", "the node does not say what comes next").Hint = "add next: end, or next: NODE"
	}
	return n
}

// codeMap is output field → expression, without ${}.
func (c cursor) codeMap() map[string]string {
	out := map[string]string{}
	if c.v == nil {
		c.errorf("package.missing_key", "a code node computes at least one field")
	}
	for _, e := range c.entries() {
		switch v := e.v.(type) {
		case string:
			out[e.key()] = v
			if strings.HasPrefix(v, "${") && strings.HasSuffix(v, "}") {
				e.errorf("package.expression", "an expression of a code node has no ${ }").Hint = "write " + quote(v[2:len(v)-1])
				delete(out, e.key())
			}
		default:
			out[e.key()] = string(compact(v))
		}
		if !fieldForm.MatchString(e.key()) {
			e.keyErrorf("package.name", "the field name %s is not allowed", quote(e.key())).Hint = "use letters, digits and _"
		}
	}
	return out
}

// endMap is output field → text with ${…}.
func (c cursor) endMap() map[string]string {
	out := map[string]string{}
	if s, ok := c.v.(string); ok { // end: "text" is short for end: {reply: "text"}
		out["reply"] = s
		return out
	}
	for _, e := range c.entries() {
		out[e.key()] = e.expression()
	}
	return out
}

// edges reads a node name, or a list of {when, to}.
func (c cursor) edges() []spec.Edge {
	if _, ok := c.v.(string); ok {
		return []spec.Edge{{To: c.need()}}
	}
	list := c.list()
	var out []spec.Edge
	for i, e := range list {
		if s, ok := e.v.(string); ok {
			e.errorf("package.type", "an edge is {when: …, to: %s}", s)
			continue
		}
		if !e.mapping("when", "to") {
			continue
		}
		edge := spec.Edge{When: e.get("when").text(), To: e.get("to").need()}
		out = append(out, edge)
		if edge.When == "" && i < len(list)-1 {
			e.errorf("package.unreachable", "the edges after this one are never taken, because it has no when").Hint = "put it last"
		}
		if edge.When != "" && i == len(list)-1 {
			p := e.errorf("package.no_else", "when no condition holds, the flow fails here")
			p.Hint, p.Warning = "add a last edge without when", true
		}
	}
	return out
}

func (c cursor) human() *spec.Human {
	if s, ok := c.v.(string); ok {
		return &spec.Human{Ask: s}
	}
	if !c.mapping("ask", "who", "timeout", "else") {
		return &spec.Human{}
	}
	h := &spec.Human{
		Ask: c.get("ask").need(), Who: c.get("who").text(), Timeout: c.get("timeout").duration(),
		Else: c.get("else").text(),
	}
	if h.Timeout != 0 && h.Else == "" {
		c.errorf("package.missing_key", `a question with "timeout" needs "else", the node to go to then`)
	}
	return h
}
