package openai

import "encoding/json"

// Request is the body of POST /chat/completions, with the additions of llama-server.
type Request struct {
	Model               string          `json:"model"`
	Messages            []Message       `json:"messages"`
	Tools               []Tool          `json:"tools,omitempty"`
	ToolChoice          any             `json:"tool_choice,omitempty"`
	ResponseFormat      *ResponseFormat `json:"response_format,omitempty"`
	Temperature         *float64        `json:"temperature,omitempty"`
	Seed                *int64          `json:"seed,omitempty"`
	MaxTokens           int             `json:"max_tokens,omitempty"`
	MaxCompletionTokens int             `json:"max_completion_tokens,omitempty"`
	Stream              bool            `json:"stream"`
	StreamOptions       *StreamOptions  `json:"stream_options,omitempty"`

	Grammar     string `json:"grammar,omitempty"`      // llama-server: GBNF
	CachePrompt *bool  `json:"cache_prompt,omitempty"` // llama-server
}

// StreamOptions asks for the usage at the end of a stream.
type StreamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// Message is one message. Content is null only when there are tool calls.
type Message struct {
	Role       string  `json:"role"`
	Content    *string `json:"content"`
	ToolCalls  []Call  `json:"tool_calls,omitempty"`
	ToolCallID string  `json:"tool_call_id,omitempty"`
}

// Tool declares a function.
type Tool struct {
	Type     string   `json:"type"` // function
	Function Function `json:"function"`
}

// Function is a declared function: parameters are a JSON Schema.
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

// Call is a tool call in a message.
type Call struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"` // function
	Function CallFunction `json:"function"`
}

// CallFunction names the function; the arguments are JSON in a string.
type CallFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// ResponseFormat constrains the answer.
type ResponseFormat struct {
	Type       string      `json:"type"` // json_schema
	JSONSchema *JSONSchema `json:"json_schema,omitempty"`
}

// JSONSchema is a named schema.
type JSONSchema struct {
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	Strict bool            `json:"strict,omitempty"`
}

// Chunk is what one piece of a stream brought.
type Chunk struct {
	Text string
	Tool string // name of a tool call that begins
}

// Completion is a whole answer.
type Completion struct {
	Text   string
	Calls  []Call
	Finish string // stop, tool_calls, length, content_filter
	Model  string
	Usage  Usage
}

// Usage counts tokens. Known is false when the server did not say.
type Usage struct {
	In, Out, Cached int
	Known           bool
}

// frame is one data event of a stream, or a whole answer that was not streamed.
type frame struct {
	Model   string     `json:"model"`
	Choices []choice   `json:"choices"`
	Usage   *wireUsage `json:"usage"`
	Error   wireError  `json:"error"`
	Object  string     `json:"object"`
}

type choice struct {
	Index   int       `json:"index"`
	Delta   *fragment `json:"delta"`
	Message *fragment `json:"message"`
	Finish  string    `json:"finish_reason"`
}

type fragment struct {
	Content   string         `json:"content"`
	Refusal   string         `json:"refusal"`
	ToolCalls []callFragment `json:"tool_calls"`
}

type callFragment struct {
	Index    *int   `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"` // a string; an object from some servers
	} `json:"function"`
}

type wireUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// wireError is an error as servers send it: an object, or just a text.
type wireError struct {
	Message string
	Type    string
	Code    string
	Status  int
}

// UnmarshalJSON reads {"message","type","code"} or "text"; a code may be a number.
func (e *wireError) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &e.Message)
	}
	var o struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    any    `json:"code"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		e.Message = string(b)
		return nil //nolint:nilerr // whatever else a server sends is the message
	}
	e.Message, e.Type = o.Message, o.Type
	switch c := o.Code.(type) {
	case string:
		e.Code = c
	case float64:
		e.Status = int(c)
	}
	if e.Message == "" && string(b) != "null" {
		e.Message = string(b)
	}
	return nil
}
