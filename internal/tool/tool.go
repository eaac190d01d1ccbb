package tool

import (
	"context"
	"encoding/json"
	"time"

	"flywheel/spec"
)

// Call is one tool call as a run asks for it.
type Call struct {
	Tool *spec.Tool      `json:"-"`
	Name string          `json:"tool"`
	Args json.RawMessage `json:"args"`          // a JSON object
	Key  string          `json:"key,omitempty"` // idempotency key: the same over attempts and after a crash
	Run  string          `json:"-"`
	// Seed feeds the jitter of the backoff, so that a replayed or simulated run waits the same.
	Seed uint64 `json:"-"`
}

// Class is the class of a failed attempt; empty means that the tool answered.
type Class string

// The classes. Transient ones are worth a retry.
const (
	OK          Class = ""
	Timeout     Class = "timeout"
	Unavailable Class = "unavailable" // connection refused, 5xx
	Throttled   Class = "throttled"   // 429
	Reset       Class = "reset"       // connection broke in mid-call: it may have happened
	Malformed   Class = "malformed"   // the answer could not be read
	Rejected    Class = "rejected"    // 4xx, or the tool says that the arguments are wrong: never retried
	Drift       Class = "drift"       // the tool's schema is not the one that was pinned
	Uncertain   Class = "uncertain"   // a crash hid whether it happened
	Canceled    Class = "canceled"
)

// Attempt is what one try gave.
type Attempt struct {
	Tool    string          `json:"tool"` // the backup's name when it was used
	Class   Class           `json:"class,omitempty"`
	Status  int             `json:"status,omitempty"` // HTTP status, where there was one
	Message string          `json:"message,omitempty"`
	Out     json.RawMessage `json:"-"`
	At      time.Time       `json:"at"`
	For     time.Duration   `json:"for"`              // nanoseconds
	Waited  time.Duration   `json:"waited,omitempty"` // before this attempt
	// RetryAfter is the wait that the server asked for.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
}

// Result is the end of a call after retries and backup.
type Result struct {
	Out      json.RawMessage `json:"out,omitempty"` // the tool's answer as JSON, when Class is OK
	Class    Class           `json:"class,omitempty"`
	Message  string          `json:"message,omitempty"` // what went wrong, for the model and the person
	Tool     string          `json:"tool"`              // which tool answered: the tool itself or its backup
	Attempts []Attempt       `json:"attempts"`
}

// Caller makes one attempt, within the deadline of ctx. It never retries.
type Caller interface {
	Attempt(ctx context.Context, call Call) Attempt
}
