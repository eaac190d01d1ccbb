package run

import (
	"fmt"
	"maps"
	"time"

	"flywheel/internal/model"
	"flywheel/spec"
)

// What bounds a run that says nothing itself.
const (
	DefaultSteps = 100
	DefaultTime  = 10 * time.Minute
	maxMoves     = 100_000 // from node to node, for flows whose steps cost nothing
)

// Machine executes one run as a pure function of program, input, history and answers. It is used by one
// goroutine at a time.
type Machine struct {
	program *Program
	in      Input
	history []Message
	limits  spec.Limits

	vars   map[string]any // input, env, out, all, and each visited node
	all    map[string]any
	env    map[string]any
	input  map[string]any
	node   *node
	visit  *visit // of an agent node
	visits map[string]int
	moves  int

	step    int
	pending []Command
	effects int
	usage   model.Usage
	elapsed time.Duration
	tally   tally
	ended   *Ended

	compared int // commands that replay found equal
}

// Ended is how a run stands when nothing can be done for it now.
type Ended struct {
	Status  Status   `json:"status"`
	Output  Output   `json:"output"`
	Failure *Failure `json:"failure,omitempty"`
	// Ask is the question of a waiting run.
	Ask     *Ask          `json:"ask,omitempty"`
	Usage   model.Usage   `json:"usage"`
	Steps   int           `json:"steps"`
	Elapsed time.Duration `json:"elapsed"` // spent in effects, nanoseconds
	Calls   []CallFact    `json:"calls,omitempty"`
	Path    []string      `json:"path,omitempty"` // nodes in the order of their visits
	// Malformed counts answers of models that could not be used.
	Malformed int `json:"malformed,omitempty"`
	ToolTally
}

// NewMachine starts a run: history are the messages of the session's earlier runs, oldest first.
func NewMachine(p *Program, in Input, history []Message) *Machine {
	m := &Machine{
		program: p, in: in, history: history, limits: narrow(p.limits, in.Limits),
		vars: map[string]any{}, all: map[string]any{}, visits: map[string]int{},
	}
	m.input = make(map[string]any, len(in.Fields)+1)
	maps.Copy(m.input, in.Fields)
	m.input["message"] = in.Message
	m.env = make(map[string]any, len(p.reads))
	for name := range p.reads {
		m.env[name] = p.Package.Env[name].Default
		if v, ok := in.Env[name]; ok {
			m.env[name] = v
		}
	}
	m.vars["input"], m.vars["env"], m.vars["all"] = m.input, m.env, m.all
	if m.limits.Steps == 0 {
		m.limits.Steps = DefaultSteps
	}
	if m.limits.Time == 0 {
		m.limits.Time = spec.Duration(DefaultTime)
	}
	m.node = p.flow.first
	m.advance()
	return m
}

// Narrow lowers the limits of the run from here on; zero leaves a limit as it is.
func (m *Machine) Narrow(l spec.Limits) {
	m.limits = narrow(m.limits, l)
}

// Next gives the commands that have no answer yet, in the order in which they should be performed. It
// is empty when the run has ended.
func (m *Machine) Next() []Command { return m.pending }

// TimeLeft is how long effects may still take.
func (m *Machine) TimeLeft() time.Duration { return time.Duration(m.limits.Time) - m.elapsed }

// Ended is how the run stands: the end, or what it waits for.
func (m *Machine) Ended() Ended {
	var e Ended
	if m.ended != nil {
		e = *m.ended
	} else {
		e.Status = Running
		if len(m.pending) > 0 && m.pending[0].Kind == KindAsk {
			e.Status, e.Ask = Waiting, m.pending[0].Ask
		}
	}
	e.Usage, e.Steps, e.Elapsed = m.usage, m.effects, m.elapsed
	e.Calls, e.Path, e.Malformed = m.tally.calls, m.tally.path, m.tally.malformed
	e.ToolTally = m.tally.tools
	return e
}

// Apply gives the answer of a command; the error says that nobody asked for it.
func (m *Machine) Apply(step int, a Answer) error {
	at := -1
	for i := range m.pending {
		if m.pending[i].Step == step {
			at = i
		}
	}
	if at < 0 {
		return fmt.Errorf("step %d is not open", step)
	}
	c := m.pending[at]
	if err := a.fits(c.Kind); err != nil {
		return fmt.Errorf("step %d: %w", step, err)
	}
	m.pending = append(m.pending[:at:at], m.pending[at+1:]...)
	a = a.normal()
	switch c.Kind {
	case KindModel:
		m.elapsed += a.For
		m.applyModel(a)
	case KindTool:
		m.elapsed += a.For
		m.applyTool(c, a)
	case KindAsk: // people take their time: it does not count
		m.applyHuman(*a.Human)
	case KindFinish:
		return nil
	}
	if m.ended == nil {
		m.advance()
	}
	return nil
}

func (a *Answer) fits(k Kind) error {
	ok := false
	switch k {
	case KindModel:
		ok = a.Model != nil || a.Failure != nil
	case KindTool:
		ok = a.Tool != nil
	case KindAsk:
		ok = a.Human != nil
	case KindFinish:
		ok = true
	}
	if !ok {
		return fmt.Errorf("a command of kind %s got an answer of another kind", k)
	}
	return nil
}

// advance goes from node to node until a command is open.
func (m *Machine) advance() {
	for len(m.pending) == 0 && m.ended == nil {
		if m.moves++; m.moves > maxMoves {
			m.fail(ClassLimitVisits, fmt.Sprintf("the flow moved %d times from node to node without an end", maxMoves))
			return
		}
		m.enter(m.node)
	}
}

// issue opens a command, unless a limit is reached.
func (m *Machine) issue(c Command) bool {
	if class, message := m.overLimit(); class != "" {
		m.fail(class, message)
		return false
	}
	m.effects++
	c.Step = m.step
	m.step++
	m.pending = append(m.pending, c)
	return true
}

func (m *Machine) overLimit() (class, message string) {
	over := func(l spec.Limits, steps int, cost int64, elapsed time.Duration, whose string) bool {
		switch {
		case l.Steps > 0 && steps >= l.Steps:
			class, message = ClassLimitSteps, fmt.Sprintf("%s may take %d steps", whose, l.Steps)
		case l.Cost > 0 && cost > int64(l.Cost*1e9):
			class, message = ClassLimitCost, fmt.Sprintf("%s may cost %g USD and has cost %g", whose, l.Cost, float64(cost)/1e9)
		case l.Time > 0 && elapsed >= time.Duration(l.Time):
			class, message = ClassLimitTime, fmt.Sprintf("%s may take %s", whose, time.Duration(l.Time))
		}
		return class != ""
	}
	if over(m.limits, m.effects, m.usage.Cost, m.elapsed, "the run") {
		return class, message
	}
	if v := m.visit; v != nil {
		over(v.agent.spec.Limits, m.effects-v.effects, m.usage.Cost-v.cost, m.elapsed-v.elapsed, "the agent "+v.agent.spec.Name)
	}
	return class, message
}

// fail ends the run without success.
func (m *Machine) fail(class, message string) {
	f := &Failure{Class: class, Message: message}
	if m.node != nil {
		f.Node = m.node.name
	}
	m.end(&Ended{Status: Failed, Failure: f}, Command{Kind: KindFinish, Node: f.Node, Failure: f})
}

// finish ends the run with its output.
func (m *Machine) finish(out Output) {
	m.end(&Ended{Status: Succeeded, Output: out}, Command{Kind: KindFinish, Node: m.node.name, Finish: &out})
}

func (m *Machine) end(e *Ended, c Command) {
	m.ended, m.visit = e, nil
	c.Step = m.step
	m.step++
	m.pending = []Command{c}
}

// narrow takes the smaller of two limits; zero is no limit.
func narrow(a, b spec.Limits) spec.Limits {
	if a.Steps == 0 || b.Steps > 0 && b.Steps < a.Steps {
		a.Steps = b.Steps
	}
	if a.Cost == 0 || b.Cost > 0 && b.Cost < a.Cost {
		a.Cost = b.Cost
	}
	if a.Time == 0 || b.Time > 0 && b.Time < a.Time {
		a.Time = b.Time
	}
	return a
}
