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

// Live are the effects of a program on the world.
func (s *Service) Live(p *Program, env map[string]string) Effects {
	l := &live{chat: p.Chatter(s.deps.Models), clock: s.deps.Clock}
	policy := tool.Policy{Clock: s.deps.Clock, Tools: p.Package.Tools}
	l.policy = sync.OnceValue(func() tool.Policy {
		if s.deps.Tools != nil {
			policy.Caller = s.deps.Tools.Caller(env, p.Package)
		}
		return policy
	})
	return l
}

type live struct {
	chat   model.Chatter
	clock  clock.Clock
	policy func() tool.Policy
}

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
	policy := l.policy()
	if policy.Caller == nil {
		return tool.Result{Class: tool.Unavailable, Message: "no tools are connected", Tool: call.Name}
	}
	return tool.Do(ctx, policy, call)
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
	mocks, err := tool.NewMocks(p.Package, p.data)
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
	var in ToolInput
	if r.Kind != RowTool || json.Unmarshal(r.Input, &in) != nil {
		return
	}
	key := tapeKey(in.Tool, in.Args)
	if answers := f.tape[key]; len(answers) > 0 {
		f.tape[key] = answers[1:]
	}
}

// recordedTool is the tool that a row tells of.
func recordedTool(r *Row) string {
	var in ToolInput
	if json.Unmarshal(r.Input, &in) != nil {
		return ""
	}
	return in.Tool
}

func tapeKey(name string, args json.RawMessage) string { return name + "\n" + string(args) }

// Repeatable says that calls which never reach the world need no intent.
func (f *forked) Repeatable(call tool.Call) bool { return call.Tool.Effect != spec.EffectRead }

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
