package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/canon"
	"flywheel/internal/tool"
)

// The kinds of journal rows.
const (
	RowModel  = "model"  // a model's answer
	RowIntent = "intent" // a tool is about to be called that may not be called twice
	RowTool   = "tool"   // a tool's answer
	RowAsk    = "ask"    // a person is asked
	RowAnswer = "answer" // the person's answer
	RowFinish = "finish" // the end
)

// Row is one line of a journal.
type Row struct {
	Run    ID     `json:"run"`
	Seq    int    `json:"seq"`  // from 1 without gaps; (run, seq) is written once
	Step   int    `json:"step"` // of the command
	Kind   string `json:"kind"`
	Node   string `json:"node"`
	Digest string `json:"digest,omitempty"` // of the command
	// Input is the command: for a model only what is new since the conversation's last request (see
	// ModelInput), for a tool its name, arguments and idempotency key.
	Input json.RawMessage `json:"input,omitempty"`
	// Output is the answer: model.Response, tool.Result, Human, Output, or nothing.
	Output    json.RawMessage   `json:"output,omitempty"`
	StartedAt time.Time         `json:"started_at"`
	EndedAt   time.Time         `json:"ended_at,omitzero"`
	Attempt   int               `json:"attempt,omitempty"` // tries that the answer took, from 1
	Usage     model.Usage       `json:"usage,omitzero"`
	Class     string            `json:"class,omitempty"` // of the failure; empty when the effect succeeded
	Labels    map[string]string `json:"labels,omitempty"`

	// Command and Answer are what the row tells of, for recorders in memory. Encode fills Digest, Input
	// and Output from them, for recorders that write.
	Command *Command `json:"-"`
	Answer  *Answer  `json:"-"`
	// Ended is set on the finish row.
	Ended *Ended `json:"-"`
}

// ModelInput is the recorded form of a model request: requests of one conversation share their
// beginning, so each row holds what its predecessor did not.
type ModelInput struct {
	After       int             `json:"after"` // step of the request that Messages continue, or -1
	Model       string          `json:"model"`
	Messages    []Message       `json:"messages"`
	Tools       []string        `json:"tools,omitempty"` // names
	Schema      json.RawMessage `json:"schema,omitempty"`
	Temperature float64         `json:"temperature,omitempty"`
	MaxTokens   int             `json:"max_tokens,omitempty"`
	Seed        int64           `json:"seed,omitempty"`
}

// ToolInput is the recorded form of a tool call.
type ToolInput struct {
	Tool string          `json:"tool"`
	Args json.RawMessage `json:"args"`
	Key  string          `json:"key,omitempty"`
}

// Encode fills Digest, Input and Output from Command and Answer.
func (r *Row) Encode() error {
	if c := r.Command; c != nil {
		r.Digest = string(c.Digest())
		input, err := c.encode()
		if err != nil {
			return fmt.Errorf("encode step %d: %w", r.Step, err)
		}
		r.Input = input
	}
	if a := r.Answer; a != nil {
		output, err := a.encode()
		if err != nil {
			return fmt.Errorf("encode the answer of step %d: %w", r.Step, err)
		}
		r.Output = output
	}
	return nil
}

func (c *Command) encode() (json.RawMessage, error) {
	switch c.Kind {
	case KindModel:
		return canon.JSON(c.modelInput())
	case KindTool:
		return canon.JSON(ToolInput{Tool: c.Tool.Name, Args: c.Tool.Args, Key: c.Tool.Key})
	case KindAsk:
		return canon.JSON(c.Ask)
	}
	return nil, nil
}

func (a *Answer) encode() (json.RawMessage, error) {
	n := a.normal()
	switch a = &n; {
	case a.Failure != nil:
		return canon.JSON(a.Failure)
	case a.Model != nil:
		return canon.JSON(a.Model)
	case a.Tool != nil:
		return canon.JSON(a.Tool)
	case a.Human != nil:
		return canon.JSON(a.Human)
	}
	return nil, nil
}

// Decode reads the answer that a result row holds. Intents and questions hold none.
func (r *Row) Decode() (Answer, bool, error) {
	a := Answer{For: r.EndedAt.Sub(r.StartedAt)}
	var err error
	switch {
	case r.Kind == RowModel && failedEffect(r.Output):
		a.Failure = new(Failure)
		err = json.Unmarshal(r.Output, a.Failure)
	case r.Kind == RowModel:
		a.Model = new(model.Response)
		err = json.Unmarshal(r.Output, a.Model)
	case r.Kind == RowTool:
		a.Tool = new(tool.Result)
		err = json.Unmarshal(r.Output, a.Tool)
	case r.Kind == RowAnswer:
		a.Human = new(Human)
		err = json.Unmarshal(r.Output, a.Human)
	default:
		return Answer{}, false, nil
	}
	if err != nil {
		return Answer{}, false, fmt.Errorf("read the answer of step %d: %w", r.Step, err)
	}
	return a, true, nil
}

// failedEffect tells a recorded Failure from a recorded model.Response by the first key.
func failedEffect(output json.RawMessage) bool {
	return bytes.HasPrefix(output, []byte(`{"class":`))
}
