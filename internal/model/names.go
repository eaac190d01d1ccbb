package model

import (
	"strconv"
	"strings"

	"flywheel/internal/platform/fault"
)

// replyAction is the action of the action form that is not a tool.
const replyAction = "reply"

// wireNames translates tool names for one request: servers allow letters, digits, _ and - only. The
// translation is the same for equal requests, whatever else a process does.
type wireNames struct {
	to   map[string]string // tool → name on the wire
	from map[string]string // name on the wire → tool, of the tools that may be called
	used map[string]bool
}

func newWireNames(req Request) *wireNames {
	n := &wireNames{to: map[string]string{}, from: map[string]string{}, used: map[string]bool{replyAction: true}}
	for _, t := range req.Tools {
		n.from[n.wire(t.Name)] = t.Name
	}
	for _, m := range req.Messages { // calls in the history may be of tools that are gone
		for _, c := range m.ToolCalls {
			n.wire(c.Name)
		}
	}
	return n
}

// wire is the name of a tool for the server.
func (n *wireNames) wire(tool string) string {
	if w, ok := n.to[tool]; ok {
		return w
	}
	base := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, tool)
	base = base[:min(len(base), 60)]
	w := base
	for i := 2; n.used[w]; i++ {
		w = base + "_" + strconv.Itoa(i)
	}
	n.used[w] = true
	n.to[tool] = w
	return w
}

// tool is the tool that a name from the wire means.
func (n *wireNames) tool(wire string) (string, error) {
	if t, ok := n.from[wire]; ok {
		return t, nil
	}
	known := make([]string, 0, len(n.from))
	for w, t := range n.from {
		if t == wire { // some models write the name that the prompt uses
			return t, nil
		}
		known = append(known, w)
	}
	e := fault.New(fault.Invalid, CodeUnknownTool, "the model called the tool %q, which it was not given", wire)
	if s := fault.Suggest(wire, known); s != "" {
		return "", e.WithHint("the nearest tool is %s", n.from[s])
	}
	return "", e
}
