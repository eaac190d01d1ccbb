package run

import (
	"encoding/json"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// ID names a run: run_….
type ID string

// Message is one turn of a conversation.
type Message = model.Message

// Input is everything that decides a run beside its package and its history. It is recorded when the
// run starts and never changes.
type Input struct {
	Message string         `json:"message"`
	Session string         `json:"session,omitempty"`
	Fields  map[string]any `json:"fields,omitempty"` // further input fields: ${input.NAME}
	// Env are the values of the environment that the package declares; what is missing has its default.
	Env map[string]string `json:"env,omitempty"`
	// Models are the aliases as resolved when the run started: alias → provider/name.
	Models map[string]string `json:"models,omitempty"`
	// Seed feeds everything that varies by chance; 0 asks models for no seed.
	Seed uint64 `json:"seed,omitempty"`
	// Limits narrow those of the package.
	Limits spec.Limits `json:"limits,omitzero"`
}

// Output is what a run gives back.
type Output struct {
	Reply string         `json:"reply"`
	Data  map[string]any `json:"data,omitempty"`
}

// Kind is what a command asks for.
type Kind string

// The kinds of commands.
const (
	KindModel  Kind = "model"
	KindTool   Kind = "tool"
	KindAsk    Kind = "ask"
	KindFinish Kind = "finish"
)

// Command is one effect that a machine asks for. Exactly one of Model, Tool, Ask, and for KindFinish
// Finish or Failure, is set. What it points to belongs to the machine: read, never change.
type Command struct {
	Step    int            `json:"step"` // from 0; the answer names it
	Kind    Kind           `json:"kind"`
	Node    string         `json:"node"`
	Model   *model.Request `json:"model,omitempty"`
	Tool    *tool.Call     `json:"tool,omitempty"`
	Ask     *Ask           `json:"ask,omitempty"`
	Finish  *Output        `json:"finish,omitempty"`
	Failure *Failure       `json:"failure,omitempty"`

	digest blob.Digest
	chat   *conversation
	after  int // step of the conversation's request before this one, or -1
	from   int // messages that it had
}

// Ask is a question to a person.
type Ask struct {
	Question string        `json:"question"`
	Who      string        `json:"who,omitempty"`
	Timeout  spec.Duration `json:"timeout,omitempty"`
	// Uncertain is set when a crash hid whether this call happened: approve means that it did.
	Uncertain *Uncertain `json:"uncertain,omitempty"`
}

// Uncertain is the call of which nobody knows whether it happened.
type Uncertain struct {
	Tool string          `json:"tool"`
	Args json.RawMessage `json:"args"`
}

// Failure is why a run, or an agent in it, could not go on.
type Failure struct {
	Class   string `json:"class"` // such as model.malformed; see the Class constants
	Message string `json:"message"`
	Node    string `json:"node,omitempty"`
}

// The classes of failed runs. A tool node that fails and is not caught gives tool.CLASS.
const (
	ClassMalformed     = "model.malformed"    // twice in one visit of an agent
	ClassUnknownTool   = "model.unknown_tool" // twice in one visit of an agent
	ClassUnreachable   = "model.unreachable"
	ClassInterrupted   = "model.interrupted"
	ClassRefused       = "model.refused"
	ClassLimitSteps    = "limit.steps"
	ClassLimitCost     = "limit.cost"
	ClassLimitTime     = "limit.time"
	ClassLimitVisits   = "limit.visits"
	ClassNoEdge        = "flow.no_edge"    // no condition of the node's next held
	ClassExpression    = "flow.expression" // an expression could not be computed
	ClassUncertain     = "uncertain"       // a crash hid whether a write happened
	ClassCanceled      = "canceled"
	ClassDiverged      = "run.diverged" // the machine did not ask for what its journal holds
	toolClassPrefix    = "tool."
	deadlineExceededIn = "the time limit of the run was reached"
)

// KindOf is the kind of error that a class of failure is to whoever asked for the run.
func KindOf(class string) fault.Kind {
	switch class {
	case ClassUnreachable, ClassInterrupted:
		return fault.Unavailable
	case ClassLimitTime:
		return fault.Timeout
	case ClassCanceled:
		return fault.Canceled
	case ClassUncertain:
		return fault.Conflict
	}
	return fault.Internal
}

// Answer is the result of a command. One of Model, Tool, Human is set, or Failure when the effect
// gave nothing.
type Answer struct {
	Model   *model.Response
	Tool    *tool.Result
	Human   *Human
	Failure *Failure
	// For is how long the effect took; it counts against the time limit. Whole microseconds.
	For time.Duration
}

// Human is what a person, or the end of the waiting time, answered.
type Human struct {
	Approved bool   `json:"approved"`
	Text     string `json:"text,omitempty"`
	By       string `json:"by,omitempty"`
	TimedOut bool   `json:"timed_out,omitempty"`
}

// Status is the state of an execution; whether the task was solved is an outcome, not a status.
type Status string

// The states. Waiting means for a person.
const (
	Running   Status = "running"
	Waiting   Status = "waiting"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Canceled  Status = "canceled"
)

// Done says whether the run has ended.
func (s Status) Done() bool { return s == Succeeded || s == Failed || s == Canceled }
