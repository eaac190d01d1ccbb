// Package spec holds the public types of the agent package, format 1, and of the suites that test it.
// It imports the standard library only, so that agents, tools and programs of others can use it.
package spec

import (
	"encoding/json"
	"path"
	"time"
)

// FormatVersion is the value of the key flywheel in flywheel.yaml.
const FormatVersion = 1

// Package is a resolved agent package: everything that decides how the agent behaves.
type Package struct {
	Name        string                 `json:"name"`
	Description string                 `json:"description,omitempty"`
	Goal        string                 `json:"goal,omitempty"`
	Entry       string                 `json:"entry"` // "agents/NAME" or "flows/NAME"
	Models      map[string]ModelChoice `json:"models,omitempty"`
	Env         map[string]EnvVar      `json:"env,omitempty"`
	Limits      Limits                 `json:"limits,omitzero"`

	Agents   map[string]*Agent     `json:"agents,omitempty"`
	Prompts  map[string]*Prompt    `json:"prompts,omitempty"`
	Flows    map[string]*Flow      `json:"flows,omitempty"`
	Tools    map[string]*Tool      `json:"tools,omitempty"`
	Servers  map[string]*MCPServer `json:"servers,omitempty"`
	Memories map[string]*Memory    `json:"memories,omitempty"`
	// Data are the files that the package refers to (examples, episodes, mocks), path → digest.
	Data map[string]DataFile `json:"data,omitempty"`
}

// DataFile pins a file by content.
type DataFile struct {
	Digest string `json:"digest"` // sha256:…
	Size   int64  `json:"size"`   // bytes
}

// ModelChoice is what an alias in `models` stands for: "provider/name", or the first that is reachable.
type ModelChoice struct {
	First string `json:"first"`
	Else  string `json:"else,omitempty"`
}

// EnvVar declares a value that differs between environments; used as ${env.NAME}.
type EnvVar struct {
	Description string `json:"description,omitempty"`
	Default     string `json:"default,omitempty"`
	Required    bool   `json:"required,omitempty"`
}

// Limits bound one run; zero means the default of the level above.
type Limits struct {
	Steps int      `json:"steps,omitempty"` // journaled effects
	Cost  float64  `json:"cost,omitempty"`  // USD
	Time  Duration `json:"time,omitempty"`
}

// Agent is one model with its prompt, tools and memory: agents/NAME.agent.md.
type Agent struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Model       string          `json:"model"` // alias, or provider/name
	Temperature float64         `json:"temperature,omitempty"`
	MaxTokens   int             `json:"max_tokens,omitempty"` // per answer
	Input       json.RawMessage `json:"input,omitempty"`      // JSON Schema of the input
	Tools       []ToolUse       `json:"tools,omitempty"`
	Memory      []string        `json:"memory,omitempty"`
	Output      json.RawMessage `json:"output,omitempty"`   // JSON Schema; the answer is then data
	Examples    string          `json:"examples,omitempty"` // data file, JSONL of Example: always shown
	AfterTools  string          `json:"after_tools,omitempty"`
	Limits      Limits          `json:"limits,omitzero"`
	Prompt      string          `json:"prompt"` // the body: system prompt template
}

// What an agent does after its tools have answered.
const (
	// AfterToolsContinue asks the model again (the default).
	AfterToolsContinue = "continue"
	// AfterToolsStop ends the agent: the tool's result is its output.
	AfterToolsStop = "stop"
)

// ToolUse is one entry of an agent's tool list: a name or a pattern such as cards.*, and arguments that
// are bound by expressions and hidden from the model.
type ToolUse struct {
	Tool string            `json:"tool"`
	With map[string]string `json:"with,omitempty"` // argument → text with ${…}
}

// Matches says whether the entry lets the agent use the tool of that name.
func (u ToolUse) Matches(name string) bool {
	ok, err := path.Match(u.Tool, name)
	return err == nil && ok
}

// Prompt is a reusable prompt part: prompts/NAME.prompt.md, inserted with {{> NAME}}.
type Prompt struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Text        string `json:"text"`
}

// Example is a line of an examples or episodes file: a message and what a good agent did with it.
type Example struct {
	User   string        `json:"user"`
	Calls  []ExampleCall `json:"calls,omitempty"`
	Reply  string        `json:"reply,omitempty"`
	Source string        `json:"source,omitempty"` // run that it was taken from
}

// ExampleCall is a tool call in an example, without the arguments that the package binds.
type ExampleCall struct {
	Tool string          `json:"tool"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Memory declares what an agent remembers: memory/NAME.memory.yaml. Format 1 has the kind episodes.
type Memory struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`  // episodes
	Scope string `json:"scope"` // agent
	Data  string `json:"data,omitempty"`
	K     int    `json:"k,omitempty"`  // how many are shown; default 4
	By    string `json:"by,omitempty"` // tfidf
}

// Flow orchestrates: flows/NAME.flow.yaml. Control flow is Next on the node; data flow is ${node.out.…}.
type Flow struct {
	Name  string           `json:"name"`
	In    json.RawMessage  `json:"in,omitempty"` // JSON Schema of the input
	First string           `json:"first"`        // the first node as written
	Nodes map[string]*Node `json:"nodes"`
}

// NodeKind is what a node does.
type NodeKind string

// The node kinds that this version runs.
const (
	NodeAgent  NodeKind = "agent"
	NodeTool   NodeKind = "tool"
	NodeCode   NodeKind = "code"
	NodeBranch NodeKind = "branch"
	NodeHuman  NodeKind = "human"
	NodeEnd    NodeKind = "end"
)

// Node is one step of a flow. Exactly one of Agent, Tool, Code, Branch, Human, End is set, as Kind says.
type Node struct {
	Kind  NodeKind          `json:"kind"`
	Agent string            `json:"agent,omitempty"`
	Tool  string            `json:"tool,omitempty"`
	Code  map[string]string `json:"code,omitempty"` // output field → CEL expression, without ${}
	Human *Human            `json:"human,omitempty"`
	End   map[string]string `json:"end,omitempty"`  // output field → text with ${…}; "reply" is the answer
	In    map[string]any    `json:"in,omitempty"`   // argument → value or text with ${…}
	Next  []Edge            `json:"next,omitempty"` // first edge whose When holds; "end" ends the flow
	Catch map[string]string `json:"catch,omitempty"`
	Max   int               `json:"max,omitempty"` // visits allowed; required on a node that closes a cycle
}

// Edge leads to the next node.
type Edge struct {
	When string `json:"when,omitempty"` // CEL over input, nodes, and out (this node's output)
	To   string `json:"to"`
}

// Human asks a person and waits.
type Human struct {
	Ask     string   `json:"ask"`
	Who     string   `json:"who,omitempty"`
	Timeout Duration `json:"timeout,omitempty"`
	Else    string   `json:"else,omitempty"` // node to go to when nobody answers in time
}

// Effect says what a tool does to the world.
type Effect string

// The effects.
const (
	EffectRead         Effect = "read"
	EffectWrite        Effect = "write"
	EffectIrreversible Effect = "irreversible"
)

// Tool is one entry of tools/NAME.tool.yaml.
type Tool struct {
	Name        string          `json:"name"`
	Does        string          `json:"does"`
	Effect      Effect          `json:"effect"`
	Authority   []string        `json:"authority,omitempty"`
	Returns     string          `json:"returns,omitempty"` // trusted | untrusted
	In          json.RawMessage `json:"in"`                // JSON Schema of the arguments
	Call        ToolCall        `json:"call,omitzero"`
	Timeout     Duration        `json:"timeout,omitempty"`
	Retry       *Retry          `json:"retry,omitempty"`
	Backup      string          `json:"backup,omitempty"` // tool called when this one has failed for good
	Idempotency string          `json:"idempotency,omitempty"`
	Mock        *Mock           `json:"mock,omitempty"`
}

// ToolCall says how the tool is reached. Exactly one is set.
type ToolCall struct {
	HTTP *HTTPCall `json:"http,omitempty"`
	MCP  *MCPCall  `json:"mcp,omitempty"`
}

// HTTPCall is a request; URL, headers and body may hold ${env.…} and ${in.…}.
type HTTPCall struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    any               `json:"body,omitempty"` // default: the arguments as JSON, for methods with a body
}

// MCPCall names a tool of an MCP server: written as `mcp: server/tool`.
type MCPCall struct {
	Server string `json:"server"`
	Tool   string `json:"tool"`
}

// MCPServer is a server under the key `mcp` of a tool file: a command over stdio, or a URL.
type MCPServer struct {
	Name    string            `json:"name"`
	Command []string          `json:"command,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	URL     string            `json:"url,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

// Retry says when and how often a call is repeated.
type Retry struct {
	Max     int      `json:"max"`              // attempts after the first
	For     []string `json:"for,omitempty"`    // timeout, 5xx, 429, reset, unavailable, or a status; default all transient
	Backoff Backoff  `json:"backoff,omitzero"` // written as "200ms..5s"
}

// Backoff is the wait before a retry: From doubled each time up to To, with full jitter from the
// journaled randomness of the run.
type Backoff struct {
	From Duration `json:"from,omitempty"`
	To   Duration `json:"to,omitempty"`
}

// Mock answers instead of the tool in tests, replays and forks.
type Mock struct {
	Star string `json:"star,omitempty"` // data file: Starlark
	Func string `json:"func,omitempty"` // function in it; default the tool's name with _ for .
	Out  any    `json:"out,omitempty"`  // a fixed answer instead of Star
}

// Duration is a time.Duration that is written as "3s" in files and JSON.
type Duration time.Duration

// MarshalText writes the duration as text.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "1m30s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// Or is d, or other when d is zero.
func (d Duration) Or(other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return time.Duration(d)
}
