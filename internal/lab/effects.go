package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"flywheel/internal/lab/check"
	"flywheel/internal/lab/faults"
	"flywheel/internal/model"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/internal/tool/world"
)

// effects play the world for one trial: models live, from the tape or scripted; tools by their mocks,
// made to fail as planned, below the same policy engine that production has. They also keep what happened.
type effects struct {
	s       *Service
	job     job
	seed    uint64
	world   *world.State
	clock   *clock.Virtual
	caller  *faulty
	turnNum int

	usage     Usage
	modelTime time.Duration
	toolTime  time.Duration
	calls     []check.Call
	steps     []Step
	tallies   map[string]*ToolTally
	broken    error // a model or mock that could not be reached: the trial cannot be judged
}

func newEffects(s *Service, j job, seed uint64, w *world.State, clk *clock.Virtual) *effects {
	e := &effects{
		s: s, job: j, seed: seed, world: w, clock: clk, tallies: map[string]*ToolTally{},
		caller: &faulty{
			inner: j.sub.mocks.Caller(w, clk), schedule: faults.New(j.scenario.Faults, seed), clock: clk,
			counts: map[string]int{}, answered: map[string]tool.Attempt{},
		},
	}
	e.caller.noMock = func(name string) {
		e.broken = fault.New(fault.Invalid, "lab.no_mock", "the tool %s has no mock, and trials touch nothing real", name).
			WithHint("add mock: {star: mocks/%s.star} or mock: {out: …} to the tool", name)
	}
	return e
}

// labSecret keys idempotency keys of trials: they protect nothing.
var labSecret = []byte("lab")

// drive runs one turn to its end. Nobody sits at the other side of a human node: the question times out.
func (e *effects) drive(ctx context.Context, turn int, says string, history []run.Message) (run.Ended, error) {
	m := run.NewMachine(e.job.sub.program, run.Input{
		Message: says, Session: e.job.id, Fields: e.job.scenario.In, Models: e.job.sub.models,
		Seed: faults.Seed(e.seed, "turn", turn),
	}, history)
	in := run.DriveInput{
		Run: run.ID(fmt.Sprintf("%s_%d", e.job.id, turn)), Machine: m, Effects: e, Recorder: e, Clock: e.clock, Secret: labSecret,
	}
	for {
		ended, err := run.Drive(ctx, in)
		if err != nil || ended.Status != run.Waiting {
			return ended, err
		}
		open := m.Next()
		if len(open) == 0 || open[0].Kind != run.KindAsk {
			return ended, fmt.Errorf("the run waits, but for nobody")
		}
		e.step(Step{Kind: "ask", Node: open[0].Node, Text: open[0].Ask.Question})
		if err := m.Apply(open[0].Step, run.Answer{Human: &run.Human{TimedOut: true}}); err != nil {
			return ended, err
		}
	}
}

// Model answers a model call.
func (e *effects) Model(ctx context.Context, req model.Request, onDelta func(model.Delta)) (model.Response, error) {
	defer e.clock.Advance(modelTakes)
	e.usage.Calls++
	if script := e.job.sub.scripts[req.Model]; script != nil {
		response, err := script.Chat(ctx, req, onDelta)
		return e.count(ctx, response, err)
	}
	key := tapeKey(req, e.job.sub.pins[req.Model])
	if key != "" && !e.job.live {
		if v, ok := e.s.tape.get(ctx, key); ok {
			e.usage.Taped++
			e.modelTime += v.took
			return e.count(ctx, v.response, nil)
		}
	}
	if e.s.deps.Model == nil {
		return e.count(ctx, model.Response{}, fault.New(fault.Unavailable, "model.unreachable", "no model service"))
	}
	began := time.Now()
	response, err := e.s.deps.Model.Chat(ctx, req, onDelta)
	took := time.Since(began)
	e.modelTime += took
	if err == nil && key != "" {
		if err := e.s.tape.put(ctx, key, req.Model, taped{response, took}, e.s.deps.Clock.Now()); err != nil && ctx.Err() == nil {
			return response, fmt.Errorf("keep an answer on the tape: %w", err)
		}
	}
	return e.count(ctx, response, err)
}

// count adds up usage. An error that is neither the model's mistake nor the run's time limit comes from
// the surroundings: then the trial says nothing about the agent.
func (e *effects) count(ctx context.Context, r model.Response, err error) (model.Response, error) {
	if err != nil {
		if ctx.Err() == nil && fault.KindOf(err) != fault.Invalid {
			e.broken = err
		}
		return r, err
	}
	e.usage.In += r.Usage.In
	e.usage.Out += r.Usage.Out
	e.usage.Cached += r.Usage.Cached
	e.usage.Cost += r.Usage.Cost
	e.usage.Compute += r.Usage.Compute
	return r, nil
}

// Tool makes a call under the package's policy.
func (e *effects) Tool(ctx context.Context, call tool.Call) tool.Result {
	if call.Seed == 0 {
		call.Seed = faults.Seed(e.seed, call.Name, len(e.calls))
	}
	began := e.clock.Now()
	r := tool.Do(ctx, tool.Policy{Clock: e.clock, Tools: e.job.sub.resolved.Package.Tools, Caller: e.caller}, call)
	e.toolTime += e.clock.Now().Sub(began)
	e.tally(call, r)
	c := check.Call{Tool: call.Name, Args: call.Args, Class: string(r.Class)}
	if r.Class != tool.OK && e.watched(call.Name) {
		c.Success = e.wouldAnswer(ctx, call)
	}
	e.calls = append(e.calls, c)
	return r
}

// watched says whether a check wants to know what a failed tool would have said.
func (e *effects) watched(name string) bool {
	for _, p := range e.job.scenario.Expect.NeverClaims {
		if faults.Match(p, name) {
			return true
		}
	}
	return false
}

// wouldAnswer asks the mock on a copy of the world, without faults.
func (e *effects) wouldAnswer(ctx context.Context, call tool.Call) json.RawMessage {
	a := e.job.sub.mocks.Caller(e.world.Fork(), clock.NewVirtual(e.clock.Now())).Attempt(ctx, call)
	if a.Class != tool.OK {
		return nil
	}
	return a.Out
}

func (e *effects) tally(call tool.Call, r tool.Result) {
	t := e.tallies[call.Name]
	if t == nil {
		t = &ToolTally{Tool: call.Name}
		e.tallies[call.Name] = t
	}
	t.Calls++
	e.usage.Tools++
	if r.Class != tool.OK {
		t.Failed++
		e.usage.Failed++
	}
	for _, a := range r.Attempts {
		t.Attempts++
		e.usage.Attempts++
		if a.Class == tool.OK {
			continue
		}
		t.Missed++
		e.usage.Missed++
		if t.Classes == nil {
			t.Classes = map[string]int{}
		}
		t.Classes[string(a.Class)]++
	}
}

// Intent is nothing here: a trial that dies is done again from its beginning.
func (e *effects) Intent(context.Context, run.Row) error { return nil }

// Result keeps a line of the transcript.
func (e *effects) Result(_ context.Context, r run.Row) error {
	if r.Command == nil || r.Answer == nil {
		return nil
	}
	s := Step{Node: r.Node, Class: r.Class}
	switch {
	case r.Answer.Model != nil:
		s.Kind, s.Text, s.Asked = "model", clip(r.Answer.Model.Message.Content), r.Answer.Model.Message.ToolCalls
	case r.Answer.Tool != nil:
		s.Kind, s.Tool, s.Args, s.Out = "tool", r.Command.Tool.Name, r.Command.Tool.Args, clipJSON(r.Answer.Tool.Out)
		s.Text, s.Attempts = r.Answer.Tool.Message, attemptsOf(r.Answer.Tool)
	case r.Answer.Failure != nil:
		s.Kind, s.Text = "failure", r.Answer.Failure.Message
	default:
		return nil
	}
	e.step(s)
	return nil
}

func attemptsOf(r *tool.Result) []AttemptedCall {
	if len(r.Attempts) == 1 && r.Attempts[0].Class == tool.OK {
		return nil
	}
	out := make([]AttemptedCall, len(r.Attempts))
	for i, a := range r.Attempts {
		out[i] = AttemptedCall{Tool: a.Tool, Class: string(a.Class), Status: a.Status, For: a.For, Waited: a.Waited}
	}
	return out
}

func (e *effects) step(s Step) {
	s.Turn, s.At = e.turnNum, e.clock.Now().Sub(trialStart)
	e.steps = append(e.steps, s)
}

func (e *effects) turn(n int, says string) {
	e.turnNum = n
	e.step(Step{Kind: "user", Text: says})
}

func (e *effects) ended(ended run.Ended) {
	if f := ended.Failure; f != nil {
		e.step(Step{Kind: "failure", Class: f.Class, Text: f.Message, Node: f.Node})
		return
	}
	e.step(Step{Kind: "reply", Text: clip(ended.Output.Reply)})
}

// fill writes what was kept into the trial.
func (e *effects) fill(t *Trial) {
	steps := t.Usage.Steps
	t.Usage = e.usage
	t.Usage.Steps = steps
	t.ToolTime, t.ModelTime, t.Transcript = e.toolTime, e.modelTime, e.steps
	for _, c := range e.calls {
		t.Called = append(t.Called, c.Tool)
	}
	for _, name := range slices.Sorted(maps.Keys(e.tallies)) {
		t.Tools = append(t.Tools, *e.tallies[name])
	}
}

func clip(s string) string {
	if len(s) <= maxStepText {
		return s
	}
	return s[:maxStepText] + "…"
}

func clipJSON(b json.RawMessage) json.RawMessage {
	if len(b) <= maxStepText {
		return b
	}
	text, _ := json.Marshal(clip(string(b)))
	return text
}
