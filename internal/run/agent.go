package run

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"flywheel/internal/model"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/expr"
	"flywheel/spec"
)

// agentProgram is a compiled agent.
type agentProgram struct {
	spec     *spec.Agent
	prompt   *systemPrompt
	tools    []*agentTool
	byName   map[string]*agentTool
	defs     []model.ToolDef
	names    []string
	toolSum  []byte // digest of defs
	examples []exchange
	memories []*episodes
	output   *schema // nil: any text
}

// agentTool is a tool as one agent may use it.
type agentTool struct {
	tool   *spec.Tool
	bound  map[string]*expr.Text
	names  []string // of bound, sorted
	schema *schema  // of what the model gives; nil: anything
}

func (p *Program) compileAgent(s *spec.Agent) (*agentProgram, error) {
	a := &agentProgram{spec: s, byName: map[string]*agentTool{}}
	var err error
	if a.prompt, err = compilePrompt(p.Package, s); err != nil {
		return nil, fmt.Errorf("prompt: %w", err)
	}
	for _, use := range s.Tools {
		if err := p.addTools(a, use); err != nil {
			return nil, err
		}
	}
	for _, t := range a.tools {
		def, err := t.define()
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", t.tool.Name, err)
		}
		a.defs = append(a.defs, def)
		a.names = append(a.names, def.Name)
	}
	if a.toolSum, err = sumOf(a.defs); err != nil {
		return nil, err
	}
	if s.Examples != "" {
		list, err := readExamples(s.Examples, p.data)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			a.examples = append(a.examples, exchangeOf(e))
		}
	}
	for _, m := range s.Memory {
		if p.memory[m] == nil {
			return nil, fmt.Errorf("there is no memory %q", m)
		}
		a.memories = append(a.memories, p.memory[m])
	}
	if len(s.Output) > 0 {
		if a.output, err = compileSchema(s.Output); err != nil {
			return nil, fmt.Errorf("output: %w", err)
		}
	}
	return a, nil
}

// addTools adds the tools that a use names; a name after a pattern replaces what the pattern gave.
func (p *Program) addTools(a *agentProgram, use spec.ToolUse) error {
	found := false
	for _, name := range sorted(p.Package.Tools) {
		if !use.Matches(name) {
			continue
		}
		found = true
		t := &agentTool{tool: p.Package.Tools[name], bound: map[string]*expr.Text{}}
		for _, arg := range sorted(use.With) {
			text, err := expr.CompileText(use.With[arg])
			if err != nil {
				return fmt.Errorf("tool %s, argument %s: %w", name, arg, err)
			}
			t.bound[arg] = text
			t.names = append(t.names, arg)
		}
		if a.byName[name] == nil {
			a.tools = append(a.tools, t)
		} else {
			a.tools[slices.Index(a.tools, a.byName[name])] = t
		}
		a.byName[name] = t
	}
	if !found {
		return fmt.Errorf("no tool is called %q", use.Tool)
	}
	return nil
}

// define is the tool as the model sees it: without the arguments that are bound.
func (t *agentTool) define() (model.ToolDef, error) {
	def := model.ToolDef{Name: t.tool.Name, Description: t.tool.Does, Schema: t.tool.In}
	if len(def.Schema) == 0 {
		def.Schema = json.RawMessage(`{"type":"object"}`)
	}
	if len(t.bound) > 0 {
		reduced, err := withoutArguments(def.Schema, t.bound)
		if err != nil {
			return def, err
		}
		def.Schema = reduced
	}
	var err error
	t.schema, err = compileSchema(def.Schema)
	return def, err
}

func withoutArguments[V any](text json.RawMessage, hidden map[string]V) (json.RawMessage, error) {
	var s map[string]any
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	if properties, ok := s["properties"].(map[string]any); ok {
		for name := range hidden {
			delete(properties, name)
		}
	}
	if required, ok := s["required"].([]any); ok {
		kept := slices.DeleteFunc(required, func(v any) bool {
			name, _ := v.(string)
			_, gone := hidden[name]
			return gone
		})
		if len(kept) == 0 {
			delete(s, "required")
		} else {
			s["required"] = kept
		}
	}
	return canon.JSON(s)
}

func sumOf(v any) ([]byte, error) {
	b, err := canon.JSON(v)
	sum := sha256.Sum256(b)
	return sum[:], err
}

// toolNames is the list for a model that asked for a tool which is not there.
func (a *agentProgram) toolNames() string {
	if len(a.names) == 0 {
		return "you have no tools"
	}
	return "your tools are " + strings.Join(a.names, ", ")
}
