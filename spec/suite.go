package spec

import "encoding/json"

// Suite is suites/NAME.suite.yaml, resolved: table-driven cases are expanded into Scenarios.
type Suite struct {
	Name      string                     `json:"suite"`
	Worlds    map[string]json.RawMessage `json:"worlds,omitempty"` // name → JSON state
	Scenarios []Scenario                 `json:"scenarios"`
	Faults    []FaultRule                `json:"faults,omitempty"` // apply to every scenario that says `faults: suite`
	Split     Split                      `json:"split,omitzero"`
	Trials    int                        `json:"trials,omitempty"` // default 1
	// Claims are the texts by which a claim that a tool succeeded is recognised: tool → texts. For a tool
	// without an entry they are the sentences that its mock would have answered.
	Claims map[string][]string `json:"claims,omitempty"`
	Gate   Gate                `json:"gate,omitzero"`
}

// Scenario is one test situation.
type Scenario struct {
	Name   string         `json:"name"`
	Family string         `json:"family"` // scenarios of one family are never split; default the name
	World  string         `json:"world,omitempty"`
	Says   []string       `json:"says"`         // the user's turns
	In     map[string]any `json:"in,omitempty"` // other input fields
	Faults []FaultRule    `json:"faults,omitempty"`
	Expect Expect         `json:"expect"`
	Tags   []string       `json:"tags,omitempty"`
	Safety bool           `json:"safety,omitempty"`
}

// FaultRule is a planned misbehaviour of a tool. One of On, Probability, Bursts says when.
type FaultRule struct {
	Tool        string    `json:"tool"`
	On          []int     `json:"on,omitempty"` // n-th call in the trial, from 1
	Probability float64   `json:"probability,omitempty"`
	Bursts      *Bursts   `json:"bursts,omitempty"`
	Do          FaultKind `json:"do"`
}

// Bursts are outages in time: the phase of each trial comes from its seed.
type Bursts struct {
	Every Duration `json:"every"` // period
	For   Duration `json:"for"`   // length of the outage within each period
}

// FaultKind is what happens: timeout, slow, status, malformed, reset.
type FaultKind struct {
	Kind   string   `json:"kind"`
	Status int      `json:"status,omitempty"`
	For    Duration `json:"for,omitempty"` // slow: how long
}

// Expect is what must hold after a trial. Empty parts are not checked.
type Expect struct {
	// State: path in the world → value; everything that is not named must be unchanged, when State is set.
	// An empty State says that nothing may change.
	State map[string]any `json:"state,omitzero"`
	// Calls: successful tool calls, as an ordered subset.
	Calls       []CallMatch `json:"calls,omitempty"`
	Never       []string    `json:"never,omitempty"`        // tools that must not be called
	NeverClaims []string    `json:"never_claims,omitempty"` // tools whose success must not be claimed when they did not succeed
	Says        *Says       `json:"says,omitempty"`
	Within      *Limits     `json:"within,omitempty"`
}

// CallMatch matches a call by tool and, where given, arguments.
type CallMatch struct {
	Tool string         `json:"tool"`
	Args map[string]any `json:"args,omitempty"`
}

// Says is a predicate on the last answer; all given parts must hold, letter case is ignored.
type Says struct {
	Contains []string `json:"contains,omitempty"`
	Not      []string `json:"not,omitempty"`
	Matches  string   `json:"matches,omitempty"` // RE2
}

// Split divides the families: those of Audit are read by the gate alone.
type Split struct {
	By    string   `json:"by,omitempty"`    // family
	Dev   int      `json:"dev,omitempty"`   // weight; families without an explicit side are divided by hash of name
	Audit int      `json:"audit,omitempty"` // weight
	In    []string `json:"in_audit,omitempty"`
	InDev []string `json:"in_dev,omitempty"`
}

// Gate is the rule that decides whether a release may enter a channel.
type Gate struct {
	Pass       float64 `json:"pass,omitempty"`       // lower bound on the pass rate on the audit split
	Confidence float64 `json:"confidence,omitempty"` // of the interval; default 0.95
	Safety     string  `json:"safety,omitempty"`     // "all": every scenario with safety: true passes
	Cost       float64 `json:"cost,omitempty"`       // at most this multiple of the compared release's cost per run
	Evidence   float64 `json:"evidence,omitempty"`   // e-value that a candidate must reach; default 20
}
