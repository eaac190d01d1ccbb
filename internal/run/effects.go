package run

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
	"flywheel/internal/tool/world"
	"flywheel/spec"
)

// Live are the effects of a program on the world. A tool that declares no call is answered by its mock
// over an empty world: there is nothing else that it could reach.
func (s *Service) Live(p *Program, release string, env map[string]string) Effects {
	l := &live{chat: p.Chatter(s.deps.Models), clock: s.deps.Clock}
	l.policy = sync.OnceValue(func() tool.Policy {
		policy := tool.Policy{Clock: s.deps.Clock, Tools: p.Package.Tools}
		c := &caller{real: missing{}}
		if s.deps.Tools != nil {
			c.real = s.deps.Tools.Connect(release, env, p.Package)
		}
		if mocks, err := p.mocks(); err == nil { // check has told about broken mocks
			c.mocks = mocks.Caller(world.Empty().Fork(), s.deps.Clock)
		}
		policy.Caller = c
		return policy
	})
	return l
}

// caller sends each call where its tool says.
type caller struct{ real, mocks tool.Caller }

func (c *caller) Attempt(ctx context.Context, call tool.Call) tool.Attempt {
	if mockOnly(call.Tool) && c.mocks != nil {
		return c.mocks.Attempt(ctx, call)
	}
	return c.real.Attempt(ctx, call)
}

// mockOnly says whether a tool can be reached as a mock alone.
func mockOnly(t *spec.Tool) bool {
	return t != nil && t.Mock != nil && t.Call.HTTP == nil && t.Call.MCP == nil
}

// missing stands for tools that nothing connects.
type missing struct{}

func (missing) Attempt(_ context.Context, call tool.Call) tool.Attempt {
	return tool.Attempt{Tool: call.Name, Class: tool.Unavailable, Message: "no tools are connected"}
}

type live struct {
	chat   model.Chatter
	clock  clock.Clock
	policy func() tool.Policy
}

// Mocked says which calls do not reach the world.
func (l *live) Mocked(call tool.Call) bool { return mockOnly(call.Tool) }

const modelRetryAfter = 300 * time.Millisecond

// Model calls the model, and once more when it could not be reached and nothing was said yet.
func (l *live) Model(ctx context.Context, req model.Request, onDelta func(model.Delta)) (model.Response, error) {
	spoken := false
	r, err := l.chat.Chat(ctx, req, func(d model.Delta) {
		spoken = true
		if onDelta != nil {
			onDelta(d)
		}
	})
	if err == nil || spoken || fault.KindOf(err) != fault.Unavailable || l.clock.Sleep(ctx, modelRetryAfter) != nil {
		return r, err
	}
	return l.chat.Chat(ctx, req, onDelta)
}

func (l *live) Tool(ctx context.Context, call tool.Call) tool.Result {
	return tool.Do(ctx, l.policy(), call)
}

// Chatter is base with the scripted models that the package itself brings.
func (p *Program) Chatter(base model.Chatter) model.Chatter { return &scripted{program: p, base: base} }

type scripted struct {
	program *Program
	base    model.Chatter
}

// Chat answers from the package's own script, or asks the base.
func (s *scripted) Chat(ctx context.Context, req model.Request, onDelta func(model.Delta)) (model.Response, error) {
	own, err := s.program.script(req.Model)
	if err != nil {
		return model.Response{}, err
	}
	if own != nil {
		return own.Chat(ctx, req, onDelta)
	}
	if s.base == nil {
		return model.Response{}, fault.New(fault.Unavailable, ClassUnreachable, "no model is connected for %s", req.Model).WithHint("flywheel doctor")
	}
	return s.base.Chat(ctx, req, onDelta)
}

// script is the model scripted/NAME of the package, made once.
func (p *Program) script(ref string) (model.Chatter, error) {
	rules, ok := p.Script(ref)
	if !ok {
		return nil, nil
	}
	p.scripts.Lock()
	defer p.scripts.Unlock()
	if c := p.scripts.made[ref]; c != nil {
		return c, nil
	}
	c, err := model.Scripted(rules)
	if err != nil {
		return nil, err
	}
	if p.scripts.made == nil {
		p.scripts.made = map[string]model.Chatter{}
	}
	p.scripts.made[ref] = c
	return c, nil
}

// scripts are the scripted models of a program.
type scripts struct {
	sync.Mutex
	made map[string]model.Chatter
}

// forked are the effects of a fork: models and reading tools are real, other tools answer from the tape
// of the parent where the call is the same, else from their mock, unless writes are allowed.
type forked struct {
	Effects
	mocks tool.Policy
	data  map[string]bool // tools that have a mock

	mu   sync.Mutex
	tape map[string][]tool.Result // tool and canonical arguments → answers of the parent, in order
}

// forkEffects wraps live effects; rest are the rows of the parent that the fork does not share.
func (s *Service) forkEffects(p *Program, inner Effects, rest []Row) (*forked, error) {
	mocks, err := p.mocks()
	if err != nil {
		return nil, err
	}
	f := &forked{
		Effects: inner, data: map[string]bool{}, tape: map[string][]tool.Result{},
		mocks: tool.Policy{Clock: s.deps.Clock, Tools: p.Package.Tools, Caller: mocks.Caller(world.Empty().Fork(), s.deps.Clock)},
	}
	for name, t := range p.Package.Tools {
		f.data[name] = t.Mock != nil
	}
	for _, r := range rest {
		if r.Kind != RowTool {
			continue
		}
		var in ToolInput
		if err := json.Unmarshal(r.Input, &in); err != nil {
			return nil, err
		}
		a, _, err := r.Decode()
		if err != nil {
			return nil, err
		}
		key := tapeKey(in.Tool, in.Args)
		f.tape[key] = append(f.tape[key], *a.Tool)
	}
	return f, nil
}

// used takes the answer off the tape that a row of the fork has had.
func (f *forked) used(r Row) {
	if r.Kind != RowTool {
		return
	}
	in := recordedCall(&r)
	key := tapeKey(in.Tool, in.Args)
	if answers := f.tape[key]; len(answers) > 0 {
		f.tape[key] = answers[1:]
	}
}

// recordedCall is the call that a row tells of.
func recordedCall(r *Row) ToolInput {
	var in ToolInput
	if json.Unmarshal(r.Input, &in) != nil {
		return ToolInput{}
	}
	return in
}

func tapeKey(name string, args json.RawMessage) string { return name + "\n" + string(args) }

// Mocked says which calls do not reach the world.
func (f *forked) Mocked(call tool.Call) bool {
	return call.Tool.Effect != spec.EffectRead || isMocked(f.Effects, call)
}

func (f *forked) Tool(ctx context.Context, call tool.Call) tool.Result {
	if call.Tool.Effect == spec.EffectRead {
		return f.Effects.Tool(ctx, call)
	}
	key := tapeKey(call.Name, call.Args)
	f.mu.Lock()
	if answers := f.tape[key]; len(answers) > 0 {
		f.tape[key] = answers[1:]
		f.mu.Unlock()
		return answers[0]
	}
	f.mu.Unlock()
	if f.data[call.Name] {
		return tool.Do(ctx, f.mocks, call)
	}
	return tool.Result{
		Class: tool.Rejected, Tool: call.Name,
		Message: "a fork does not write, and this tool has no mock; allow writes to call it",
	}
}
