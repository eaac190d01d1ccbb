package agent

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"flywheel/spec"
)

const endNode = "end" // as a target: the flow ends with the output of the node

// flowRefs checks names, expressions and the shape of a flow.
func (b *builder) flowRefs(name string, f *spec.Flow) {
	c := b.origin["flows/"+name]
	nodes := c.get("nodes")
	declared, _ := nodes.v.(map[string]any)
	if len(declared) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(declared))
	if f.First != "" && !slices.Contains(names, f.First) {
		c.get("first").errorf("package.unknown_node", "there is no node %s", quote(f.First)).Hint = didYouMean(f.First, names)
	}
	roots := append([]string{"input", "env", "all"}, names...)
	for _, n := range slices.Sorted(maps.Keys(f.Nodes)) {
		b.nodeRefs(nodes.get(n), f.Nodes[n], names, roots)
	}
	b.unbounded(nodes, f)
	b.unreachable(nodes, f)
}

func (b *builder) nodeRefs(c cursor, n *spec.Node, names, roots []string) {
	switch n.Kind {
	case spec.NodeAgent:
		if n.Agent != "" && b.pkg.Agents[n.Agent] == nil {
			c.get("agent").errorf("package.unknown_agent", "there is no agent %s", quote(n.Agent)).Hint = cmpHint(didYouMean(n.Agent, slices.Sorted(maps.Keys(b.pkg.Agents))), "write agents/"+n.Agent+".agent.md")
		} else if a := b.pkg.Agents[n.Agent]; a != nil {
			c.checkArgs(a.Input, "the input of agent "+n.Agent)
		}
	case spec.NodeTool:
		if n.Tool != "" && b.pkg.Tools[n.Tool] == nil {
			c.get("tool").errorf("package.unknown_tool", "there is no tool %s", quote(n.Tool)).Hint = didYouMean(n.Tool, slices.Sorted(maps.Keys(b.pkg.Tools)))
		} else if t := b.pkg.Tools[n.Tool]; t != nil {
			c.checkArgs(t.In, "the arguments of "+n.Tool)
		}
	case spec.NodeCode:
		for _, e := range c.get("code").entries() {
			if src, ok := n.Code[e.key()]; ok {
				e.checkExpr(src, roots...)
			}
		}
	case spec.NodeHuman:
		h := c.get("human")
		if _, short := h.v.(string); short {
			h.checkText(roots...)
		}
		h.get("ask").checkText(roots...)
		b.target(h.get("else"), n.Human.Else, names)
	case spec.NodeEnd:
		c.get("end").checkTexts(roots...)
	}
	c.get("in").checkTexts(roots...)
	key := "next"
	if n.Kind == spec.NodeBranch {
		key = "branch"
	}
	edges := c.get(key)
	whens := append([]string{"out"}, roots...)
	if _, short := edges.v.(string); short {
		b.target(edges, edges.v.(string), names)
	} else {
		for _, e := range edges.list() {
			to, _ := e.get("to").v.(string)
			b.target(e.get("to"), to, names)
			if when, ok := e.get("when").v.(string); ok {
				e.get("when").checkExpr(when, whens...)
			}
		}
	}
	for _, e := range c.get("catch").entries() {
		to, _ := e.v.(string)
		b.target(e, to, names)
	}
}

func (b *builder) target(c cursor, to string, names []string) {
	if to == "" || to == endNode || slices.Contains(names, to) {
		return
	}
	c.errorf("package.unknown_node", "there is no node %s", quote(to)).Hint = didYouMean(to, append([]string{endNode}, names...))
}

// checkArgs compares the `in` of a node with the schema of what it calls.
func (c cursor) checkArgs(schema []byte, what string) {
	names, declared := properties(schema)
	if !declared {
		return
	}
	in := c.get("in")
	for _, e := range in.entries() {
		if !slices.Contains(names, e.key()) {
			e.keyErrorf("package.unknown_argument", "%s is not in %s", quote(e.key()), what).Hint = didYouMean(e.key(), names)
		}
	}
	for _, name := range required(schema) {
		if !in.has(name) {
			at := c
			if in.v != nil {
				at = in
			}
			at.errorf("package.missing_argument", "%s of %s is not given", quote(name), strings.TrimPrefix(what, "the ")).Hint = "add it under in"
		}
	}
}

// targets are where a node can lead to, with the place of each.
func targets(n *spec.Node) []string {
	var out []string
	for _, e := range n.Next {
		out = append(out, e.To)
	}
	if n.Human != nil && n.Human.Else != "" {
		out = append(out, n.Human.Else)
	}
	for _, k := range slices.Sorted(maps.Keys(n.Catch)) {
		out = append(out, n.Catch[k])
	}
	return out
}

// unbounded reports each cycle in which no node has max, at the node that closes it.
func (b *builder) unbounded(nodes cursor, f *spec.Flow) {
	const (
		open = iota + 1
		done
	)
	state := map[string]int{}
	var stack []string
	var visit func(name string)
	visit = func(name string) {
		n := f.Nodes[name]
		if n == nil || n.Max > 0 || state[name] == done {
			return
		}
		state[name] = open
		stack = append(stack, name)
		for _, to := range targets(n) {
			next := f.Nodes[to]
			if next == nil || next.Max > 0 {
				continue
			}
			if state[to] == open {
				cycle := append(slices.Clone(stack[slices.Index(stack, to):]), to)
				at := nodes.get(name).get("next")
				if n.Kind == spec.NodeBranch {
					at = nodes.get(name).get("branch")
				}
				for i, e := range n.Next {
					if e.To == to && len(at.list()) > i && at.list()[i].has("to") {
						at = at.step(strconv.Itoa(i), at.list()[i].v).get("to")
						break
					}
				}
				at.errorf("package.unbounded_cycle", "the cycle %s never has to end", strings.Join(cycle, " → ")).Hint = "add max: 3 to one of its nodes, the number of visits that are allowed"
				continue
			}
			visit(to)
		}
		stack = stack[:len(stack)-1]
		state[name] = done
	}
	if f.First != "" {
		visit(f.First)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		visit(name)
	}
}

// unreachable warns of nodes that nothing leads to.
func (b *builder) unreachable(nodes cursor, f *spec.Flow) {
	if f.Nodes[f.First] == nil {
		return
	}
	seen := map[string]bool{f.First: true}
	queue := []string{f.First}
	for len(queue) > 0 {
		n := f.Nodes[queue[0]]
		queue = queue[1:]
		if n == nil {
			continue
		}
		for _, to := range targets(n) {
			if !seen[to] {
				seen[to] = true
				queue = append(queue, to)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		if !seen[name] {
			p := nodes.get(name).keyErrorf("package.unreachable", "nothing leads to the node %s", quote(name))
			p.Warning = true
		}
	}
}
