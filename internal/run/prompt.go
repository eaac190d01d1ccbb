package run

import (
	"fmt"
	"maps"

	"flywheel/internal/agent/prompt"
	"flywheel/spec"
)

// systemPrompt renders the system prompt of an agent.
type systemPrompt struct {
	fixed    string // the prompt, when it has no variables
	template *prompt.Template
	parts    map[string]*prompt.Template
}

func compilePrompt(pkg *spec.Package, a *spec.Agent) (*systemPrompt, error) {
	t, err := prompt.Parse(a.Prompt)
	if err != nil {
		return nil, err
	}
	p := &systemPrompt{template: t, parts: map[string]*prompt.Template{}}
	variable := len(t.Vars()) > 0
	for _, name := range sorted(pkg.Prompts) {
		part, err := prompt.Parse(pkg.Prompts[name].Text)
		if err != nil {
			return nil, fmt.Errorf("part %s: %w", name, err)
		}
		p.parts[name] = part
		variable = variable || len(part.Vars()) > 0
	}
	if !variable {
		if p.fixed, err = t.Render(nil, p.parts); err != nil {
			return nil, err
		}
		p.template = nil
	}
	return p, nil
}

// render fills the prompt in; the fields of the agent's input are known by their own names too.
func (p *systemPrompt) render(vars, input map[string]any) (string, error) {
	if p.template == nil {
		return p.fixed, nil
	}
	all := make(map[string]any, len(input)+len(vars))
	maps.Copy(all, input)
	maps.Copy(all, vars)
	return p.template.Render(all, p.parts)
}
