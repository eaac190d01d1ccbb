package run

import (
	"encoding/json"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/tool"
)

// CallFact is a tool call as told to those who watch runs.
type CallFact struct {
	Step     int             `json:"step"`
	Node     string          `json:"node"`
	Tool     string          `json:"tool"`
	Answered string          `json:"answered,omitempty"` // the backup's name, when it answered
	Args     json.RawMessage `json:"args,omitempty"`     // left out when longer than 4 KiB
	OK       bool            `json:"ok"`
	Class    string          `json:"class,omitempty"`
	Attempts int             `json:"attempts"`
	Failures int             `json:"failures,omitempty"` // of attempts
}

// Facts is the payload of run.started and run.ended.
type Facts struct {
	Run      ID          `json:"run"`
	Package  string      `json:"package"`
	Identity blob.Digest `json:"identity"`
	Release  string      `json:"release,omitempty"`
	Channel  string      `json:"channel,omitempty"`
	Source   string      `json:"source"`
	Session  string      `json:"session,omitempty"`
	Turn     int         `json:"turn,omitempty"`
	Parent   ID          `json:"parent,omitempty"` // of a fork
	Status   Status      `json:"status"`
	Class    string      `json:"class,omitempty"`
	Message  string      `json:"message,omitempty"` // of the failure
	Node     string      `json:"node,omitempty"`    // where it failed
	User     string      `json:"user,omitempty"`    // the user's message; cut at 4 KiB
	Reply    string      `json:"reply,omitempty"`   // cut at 4 KiB
	Usage    model.Usage `json:"usage"`
	Steps    int         `json:"steps"`
	ToolTally
	Malformed int           `json:"malformed,omitempty"`
	Calls     []CallFact    `json:"calls,omitempty"`
	Path      []string      `json:"path,omitempty"`
	Elapsed   time.Duration `json:"elapsed"` // in effects, nanoseconds
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`
}

// ToolTally counts: ToolAttempts and ToolFailures are single tries, retries included; ToolCalls and
// ToolErrors are calls after retries and backup.
type ToolTally struct {
	ToolCalls    int `json:"tool_calls"`
	ToolErrors   int `json:"tool_errors"`
	ToolAttempts int `json:"tool_attempts"`
	ToolFailures int `json:"tool_failures"`
}

const (
	maxFactText  = 4 << 10
	maxFactCalls = 200
	maxFactPath  = 200
)

// tally collects the facts while a machine runs.
type tally struct {
	calls     []CallFact
	path      []string
	malformed int
	tools     ToolTally
}

func (t *tally) visit(node string) {
	if len(t.path) < maxFactPath {
		t.path = append(t.path, node)
	}
}

func (t *tally) call(c Command, r *tool.Result) {
	f := CallFact{
		Step: c.Step, Node: c.Node, Tool: c.Tool.Name, OK: r.Class == tool.OK, Class: string(r.Class),
		Attempts: max(1, len(r.Attempts)),
	}
	if r.Tool != "" && r.Tool != c.Tool.Name {
		f.Answered = r.Tool
	}
	if len(c.Tool.Args) <= maxFactText {
		f.Args = c.Tool.Args
	}
	for _, a := range r.Attempts {
		if a.Class != tool.OK {
			f.Failures++
		}
	}
	t.tools.ToolCalls++
	if !f.OK {
		t.tools.ToolErrors++
	}
	t.tools.ToolAttempts += f.Attempts
	t.tools.ToolFailures += f.Failures
	if len(t.calls) < maxFactCalls {
		t.calls = append(t.calls, f)
	}
}

func cut(s string) string {
	if len(s) <= maxFactText {
		return s
	}
	return s[:maxFactText]
}
