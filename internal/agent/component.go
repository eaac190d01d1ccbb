package agent

import (
	"cmp"
	"slices"
	"strings"
)

// Kinds of components.
const (
	KindCode   = "code"
	KindData   = "data"
	KindMemory = "memory"
	KindModel  = "model"
	KindPolicy = "policy"
	KindPrompt = "prompt"
	KindTool   = "tool"
)

// Component is one part of an agent that can change on its own. Content is canonical JSON, or the bytes
// of a data file.
type Component struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Content []byte `json:"content"`
}

// Components are the parts of a package, ordered by kind and name; the same package gives the same bytes.
// Together they hold everything that is in the identity.
func Components(r *Resolved) []Component {
	var out []Component
	add := func(kind, name string, content []byte) { out = append(out, Component{kind, name, content}) }
	p := r.Package
	for alias, choice := range p.Models {
		add(KindModel, alias, compact(choice))
	}
	for name := range p.Agents {
		add(KindPrompt, "agents/"+name, compact(r.tree["agents/"+name+".agent.md"]))
	}
	for name := range p.Prompts {
		add(KindPrompt, "prompts/"+name, compact(r.tree["prompts/"+name+".prompt.md"]))
	}
	for name := range p.Flows {
		add(KindCode, "flows/"+name, compact(r.tree["flows/"+name+".flow.yaml"]))
	}
	for name := range p.Memories {
		add(KindMemory, name, compact(r.tree["memory/"+name+".memory.yaml"]))
	}
	for file, value := range r.tree {
		switch {
		case file == "flywheel.yaml":
			add(KindCode, "package", compact(without(value, "models")))
		case strings.HasPrefix(file, "tools/"):
			m, _ := value.(map[string]any)
			for name, t := range mapOf(m["tools"]) {
				add(KindTool, name, compact(t))
			}
			for name, s := range mapOf(m["mcp"]) {
				add(KindTool, "mcp/"+name, compact(s))
			}
		case r.Data[file] != nil:
			add(KindData, file, r.Data[file])
		case kindIsOther(file):
			add(KindPolicy, strings.TrimPrefix(file, "policies/"), compact(value))
		}
	}
	slices.SortFunc(out, func(a, b Component) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return out
}

// kindIsOther says whether a file of a tree belongs to a kind that another domain registered.
func kindIsOther(file string) bool {
	_, known := kindOf(file, nil)
	return !known
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func without(v any, key string) any {
	m := mapOf(v)
	out := make(map[string]any, len(m))
	for k, e := range m {
		if k != key {
			out[k] = e
		}
	}
	return out
}
