package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"flywheel/internal/agent"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/expr"
	"flywheel/internal/run/memory"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// Program is a package made ready to run: expressions, prompts, schemas and the index over episodes are
// compiled once. It is immutable and shared by any number of machines.
type Program struct {
	Identity blob.Digest
	Package  *spec.Package

	flow   *flow
	agents map[string]*agentProgram
	memory map[string]*episodes
	data   map[string][]byte
	limits spec.Limits
	// reads are the names of the environment that agents, prompts and flows mention. Others are for tools
	// alone: machines do not see them and journals do not hold them.
	reads map[string]bool

	scripts scripts
	mocks   func() (*tool.Mocks, error) // compiled when first needed
}

// flow is a compiled flow; an agent as entry is a flow with one node.
type flow struct {
	name  string
	first *node
	nodes map[string]*node
}

// node is a compiled node. to == nil on an edge means the end.
type node struct {
	name  string
	kind  spec.NodeKind
	agent *agentProgram
	tool  *spec.Tool
	code  []field
	human *human
	end   []field
	in    map[string]value
	edges []edge
	catch map[string]string
	max   int
}

// field is an output field with its expression: program in code nodes, text in end nodes.
type field struct {
	name    string
	program *expr.Program
	text    *expr.Text
}

type human struct {
	spec *spec.Human
	ask  *expr.Text
}

type edge struct {
	when *expr.Program // nil: always
	to   string
}

// endNode is the name that ends a flow in `next`.
const endNode = "end"

// Models are the model references and aliases that agents of the program use, sorted.
func (p *Program) Models() []string {
	seen := map[string]bool{}
	for _, a := range p.agents {
		seen[a.spec.Model] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// Script returns the rules that the package brings for the model scripted/NAME: models/NAME.script.yaml.
func (p *Program) Script(ref string) ([]byte, bool) {
	return agent.Script(p.data, ref)
}

// CompilePackage compiles a package whose data files are given by path.
func CompilePackage(pkg *spec.Package, identity blob.Digest, data map[string][]byte) (*Program, error) {
	p := &Program{
		Identity: identity, Package: pkg, data: data, limits: pkg.Limits,
		agents: map[string]*agentProgram{}, memory: map[string]*episodes{},
	}
	p.mocks = sync.OnceValues(func() (*tool.Mocks, error) { return tool.NewMocks(pkg, data) })
	for _, name := range sorted(pkg.Memories) {
		m, err := compileMemory(pkg.Memories[name], data)
		if err != nil {
			return nil, fmt.Errorf("memory %s: %w", name, err)
		}
		p.memory[name] = m
	}
	for _, name := range sorted(pkg.Agents) {
		a, err := p.compileAgent(pkg.Agents[name])
		if err != nil {
			return nil, fmt.Errorf("agent %s: %w", name, err)
		}
		p.agents[name] = a
	}
	var err error
	if p.reads, err = environmentOf(pkg); err != nil {
		return nil, err
	}
	kind, name, _ := strings.Cut(pkg.Entry, "/")
	switch {
	case kind == "agents" && p.agents[name] != nil:
		p.flow = oneNode(name, p.agents[name])
	case kind == "flows" && pkg.Flows[name] != nil:
		p.flow, err = p.compileFlow(name, pkg.Flows[name])
	default:
		err = fmt.Errorf("the entry %q is neither an agent nor a flow of the package", pkg.Entry)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func environmentOf(pkg *spec.Package) (map[string]bool, error) {
	text, err := canon.JSON([]any{pkg.Agents, pkg.Prompts, pkg.Flows})
	if err != nil {
		return nil, err
	}
	reads := map[string]bool{}
	for name := range pkg.Env {
		if bytes.Contains(text, []byte(name)) {
			reads[name] = true
		}
	}
	return reads, nil
}

// oneNode is the flow of an agent that is the entry.
func oneNode(name string, a *agentProgram) *flow {
	n := &node{name: name, kind: spec.NodeAgent, agent: a}
	return &flow{name: name, first: n, nodes: map[string]*node{name: n}}
}

func (p *Program) compileFlow(name string, f *spec.Flow) (*flow, error) {
	out := &flow{name: name, nodes: map[string]*node{}}
	for _, n := range sorted(f.Nodes) {
		compiled, err := p.compileNode(n, f.Nodes[n])
		if err != nil {
			return nil, fmt.Errorf("flow %s, node %s: %w", name, n, err)
		}
		out.nodes[n] = compiled
	}
	out.first = out.nodes[f.First]
	if out.first == nil {
		return nil, fmt.Errorf("flow %s has no node %q to begin with", name, f.First)
	}
	for _, n := range out.nodes {
		if err := n.checkTargets(out); err != nil {
			return nil, fmt.Errorf("flow %s, node %s: %w", name, n.name, err)
		}
	}
	return out, nil
}

func (n *node) checkTargets(f *flow) error {
	targets := slices.Collect(maps.Values(n.catch))
	for _, e := range n.edges {
		targets = append(targets, e.to)
	}
	if n.human != nil && n.human.spec.Else != "" {
		targets = append(targets, n.human.spec.Else)
	}
	for _, to := range targets {
		if to != endNode && f.nodes[to] == nil {
			return fmt.Errorf("there is no node %q to go to", to)
		}
	}
	return nil
}

func (p *Program) compileNode(name string, s *spec.Node) (*node, error) {
	n := &node{name: name, kind: s.Kind, max: s.Max, catch: s.Catch}
	var err error
	switch s.Kind {
	case spec.NodeAgent:
		if n.agent = p.agents[s.Agent]; n.agent == nil {
			return nil, fmt.Errorf("there is no agent %q", s.Agent)
		}
	case spec.NodeTool:
		if n.tool = p.Package.Tools[s.Tool]; n.tool == nil {
			return nil, fmt.Errorf("there is no tool %q", s.Tool)
		}
	case spec.NodeCode:
		n.code, err = compileFields(s.Code, false)
	case spec.NodeEnd:
		n.end, err = compileFields(s.End, true)
	case spec.NodeHuman:
		n.human, err = compileHuman(s.Human)
	case spec.NodeBranch:
	default:
		return nil, fmt.Errorf("this version cannot run nodes of kind %q", s.Kind)
	}
	if err != nil {
		return nil, err
	}
	if n.in, err = compileValues(s.In); err != nil {
		return nil, err
	}
	for i, e := range s.Next {
		compiled := edge{to: e.To}
		if e.When != "" {
			if compiled.when, err = expr.Compile(e.When); err != nil {
				return nil, fmt.Errorf("next %d: %w", i+1, err)
			}
		}
		n.edges = append(n.edges, compiled)
	}
	return n, nil
}

func compileHuman(s *spec.Human) (*human, error) {
	if s == nil {
		return nil, fmt.Errorf("a human node needs a question")
	}
	text, err := expr.CompileText(s.Ask)
	if err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	return &human{spec: s, ask: text}, nil
}

func compileFields(in map[string]string, text bool) ([]field, error) {
	var out []field
	for _, name := range sorted(in) {
		f := field{name: name}
		var err error
		if text {
			f.text, err = expr.CompileText(in[name])
		} else {
			f.program, err = expr.Compile(in[name])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// value is an argument: constant JSON, a text with ${…}, or a map or list that holds some.
type value struct {
	constant any
	text     *expr.Text
	list     []value
	object   map[string]value
}

func compileValues(in map[string]any) (map[string]value, error) {
	if in == nil {
		return nil, nil
	}
	out := make(map[string]value, len(in))
	for name, v := range in {
		compiled, err := compileValue(v)
		if err != nil {
			return nil, fmt.Errorf("in.%s: %w", name, err)
		}
		out[name] = compiled
	}
	return out, nil
}

func compileValue(v any) (value, error) {
	switch x := v.(type) {
	case string:
		if !strings.Contains(x, "${") {
			return value{constant: x}, nil
		}
		text, err := expr.CompileText(x)
		return value{text: text}, err
	case []any:
		out := value{list: make([]value, len(x))}
		for i, item := range x {
			var err error
			if out.list[i], err = compileValue(item); err != nil {
				return value{}, err
			}
		}
		return out, nil
	case map[string]any:
		object, err := compileValues(x)
		return value{object: object}, err
	}
	return value{constant: v}, nil
}

func (v value) eval(vars map[string]any) (any, error) {
	switch {
	case v.text != nil:
		return v.text.Eval(vars)
	case v.list != nil:
		out := make([]any, len(v.list))
		for i, item := range v.list {
			var err error
			if out[i], err = item.eval(vars); err != nil {
				return nil, err
			}
		}
		return out, nil
	case v.object != nil:
		return evalValues(v.object, vars)
	}
	return v.constant, nil
}

func evalValues(in map[string]value, vars map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(in))
	for name, v := range in {
		x, err := v.eval(vars)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = x
	}
	return out, nil
}

// episodes are past successes with their index.
type episodes struct {
	examples []exchange
	index    *memory.Index
	k        int
}

const defaultEpisodes = 4

func compileMemory(m *spec.Memory, data map[string][]byte) (*episodes, error) {
	if m.Kind != "episodes" {
		return nil, fmt.Errorf("this version has no memory of kind %q", m.Kind)
	}
	e := &episodes{k: m.K}
	if e.k == 0 {
		e.k = defaultEpisodes
	}
	var list []spec.Example
	if m.Data != "" {
		var err error
		if list, err = readExamples(m.Data, data); err != nil {
			return nil, err
		}
	}
	texts := make([]string, len(list))
	for i, example := range list {
		texts[i] = example.User
		e.examples = append(e.examples, exchangeOf(example))
	}
	e.index = memory.NewIndex(texts)
	return e, nil
}

// exchange is an example as messages.
type exchange []Message

func exchangeOf(e spec.Example) exchange {
	answer := Message{Role: model.RoleAssistant, Content: e.Reply}
	for i, c := range e.Calls {
		args := c.Args
		if len(args) == 0 {
			args = json.RawMessage("{}")
		}
		answer.ToolCalls = append(answer.ToolCalls, model.ToolCall{ID: fmt.Sprintf("example_%d", i+1), Name: c.Tool, Args: args})
	}
	return exchange{{Role: model.RoleUser, Content: e.User}, answer}
}

// readExamples reads a JSONL file of examples.
func readExamples(file string, data map[string][]byte) ([]spec.Example, error) {
	content, ok := data[file]
	if !ok {
		content, ok = data[path.Clean(file)]
	}
	if !ok {
		return nil, fmt.Errorf("the data file %s is not in the package", file)
	}
	var out []spec.Example
	for i, line := range strings.Split(string(content), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var e spec.Example
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		out = append(out, e)
	}
	return out, nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
