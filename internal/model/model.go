// Package model is the one port through which every model is called: local servers, OpenAI-compatible
// endpoints, the scripted model of tests. Answers come back in one shape, with their usage and price.
package model

import (
	"context"
	"encoding/json"
	"time"
)

// Roles of a message.
const (
	RoleSystem    = "system"
	RoleUser      = "user"
	RoleAssistant = "assistant"
	RoleTool      = "tool"
)

// Message is one turn of the conversation that a model sees.
type Message struct {
	Role       string     `json:"role"`
	Content    string     `json:"content,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`   // assistant only
	ToolCallID string     `json:"tool_call_id,omitempty"` // tool only
}

// ToolCall is a call that a model asks for. Name is the package's tool name, as in cards.freeze: wire
// clients translate to and from what their server allows.
type ToolCall struct {
	ID   string          `json:"id"`
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"` // a JSON object
}

// ToolDef is a tool as a model sees it.
type ToolDef struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema"` // JSON Schema of the arguments, an object
}

// Request is one model call. Its canonical JSON is what a tape compares.
type Request struct {
	Model       string          `json:"model"` // provider/name, or an alias already resolved
	Messages    []Message       `json:"messages"`
	Tools       []ToolDef       `json:"tools,omitempty"`
	Output      json.RawMessage `json:"output,omitempty"` // JSON Schema that the answer must follow
	Temperature float64         `json:"temperature,omitempty"`
	MaxTokens   int             `json:"max_tokens,omitempty"`
	Seed        int64           `json:"seed,omitempty"`
}

// Delta is a piece of a streamed answer.
type Delta struct {
	Text string `json:"text,omitempty"`
	Tool string `json:"tool,omitempty"` // set once when a tool call begins
}

// Response is a whole answer.
type Response struct {
	Message Message `json:"message"`
	Finish  string  `json:"finish"` // stop, tool_calls, length
	Usage   Usage   `json:"usage"`
	Model   string  `json:"model"` // what really answered, as the server names it
	Form    Form    `json:"form"`
}

// Form is how tool calls reach a model.
type Form string

// The forms.
const (
	FormNative   Form = "native"   // the model's own tool calling
	FormAction   Form = "action"   // an answer constrained to {"action": …}, translated
	FormScripted Form = "scripted" // no model: rules from a file
)

// Usage is what a call consumed.
type Usage struct {
	In     int `json:"in"`               // prompt tokens, cached ones included
	Out    int `json:"out"`              // completion tokens
	Cached int `json:"cached,omitempty"` // prompt tokens served from a cache
	// Compute is processor time spent on this machine, for local models.
	Compute time.Duration `json:"compute,omitempty"` // nanoseconds
	// Cost is money in nano-USD by the price table of version Prices; 0 for local models.
	Cost   int64  `json:"cost,omitempty"`
	Prices string `json:"prices,omitempty"`
}

// Add sums two usages.
func (u Usage) Add(o Usage) Usage {
	u.In += o.In
	u.Out += o.Out
	u.Cached += o.Cached
	u.Compute += o.Compute
	u.Cost += o.Cost
	if o.Prices != "" {
		u.Prices = o.Prices
	}
	return u
}

// Chatter answers requests. onDelta may be nil; it is called in order and never after Chat returns.
//
// Errors are faults: model.unreachable (unavailable), model.malformed (invalid: the answer could not be
// read as what was asked), model.unknown_tool, model.interrupted (unavailable: the stream broke),
// model.refused (the server said no, with its words).
type Chatter interface {
	Chat(ctx context.Context, req Request, onDelta func(Delta)) (Response, error)
}
