package evolve

import (
	"context"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/platform/blob"
)

// State is where a proposal stands on its way.
type State string

// The states of a proposal, in their order.
const (
	Proposed   State = "proposed"
	DevTested  State = "dev_tested"
	Ready      State = "ready" // the gate has proof on the audit split: waits for a person
	Rejected   State = "rejected"
	Approved   State = "approved"
	Released   State = "released"
	Canary     State = "canary"
	Promoted   State = "promoted"
	RolledBack State = "rolled_back"
)

// Kind is what a proposal changes.
type Kind string

// The kinds.
const (
	KindToolPolicy     Kind = "tool_policy"
	KindPromptExamples Kind = "prompt_examples"
	KindPromptTrim     Kind = "prompt_trim"
)

// Goal is what a change is meant to do, which decides the rule that the gate applies.
type Goal string

// The goals.
const (
	// GoalBetter: more tasks solved, proven by the e-value.
	GoalBetter Goal = "better"
	// GoalCheaper: not worse, and fewer tokens.
	GoalCheaper Goal = "cheaper"
)

// Proposal is a candidate package with the evidence for it.
type Proposal struct {
	ID        string      `json:"id"`
	Cycle     string      `json:"cycle"`
	Agent     string      `json:"agent"`
	Kind      Kind        `json:"kind"`
	State     State       `json:"state"`
	Base      string      `json:"base"`      // release digest
	Candidate blob.Digest `json:"candidate"` // identity of the changed package
	// On lists the proposals of the same cycle that this one is proven on top of: improvements add up,
	// and one that fixes a tool shows best when the right tool is chosen. Approval needs them too.
	On      []string `json:"on,omitempty"`
	Release string   `json:"release,omitempty"`
	Draft
	Dev    *Evidence `json:"dev,omitempty"`
	Audit  *Evidence `json:"audit,omitempty"`
	Reason string    `json:"reason,omitempty"` // why it was rejected

	CreatedAt   time.Time    `json:"created_at"`
	Transitions []Transition `json:"transitions,omitempty"`
}

// Draft is a change as its proposer made it.
type Draft struct {
	Kind    Kind           `json:"kind"`
	Goal    Goal           `json:"goal"`
	Title   string         `json:"title"`
	Why     []string       `json:"why"` // what was seen in operations, one fact a line
	Changes []agent.Change `json:"changes"`
	// Fit is the proposer's own analysis, such as the fitted error process.
	Fit any `json:"fit,omitempty"`
}

// Evidence is what paired trials said about a candidate, and what the gate made of it.
type Evidence struct {
	Split      string          `json:"split"`
	Look       int             `json:"look,omitempty"` // audit: the how-manieth candidate of this agent
	Bound      float64         `json:"bound"`          // e-value that counts as proof at this look
	Verdict    string          `json:"verdict"`        // pass, fail
	Lines      []Line          `json:"lines"`
	Comparison *lab.Comparison `json:"comparison"`
}

// Line is one rule of the gate.
type Line struct {
	Rule string `json:"rule"`
	OK   bool   `json:"ok"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// Transition is one step of a proposal.
type Transition struct {
	From State     `json:"from"`
	To   State     `json:"to"`
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	Note string    `json:"note,omitempty"`
}

// Situation is what a proposer may know: the package, and what production recorded of it. It holds
// neither the suite nor any way to its audit split.
type Situation struct {
	Base BaseRelease
	Runs []Observed
	Pack *agent.Resolved
}

// Proposer looks at operations and proposes changes; none is a good answer.
type Proposer interface {
	Propose(ctx context.Context, s Situation) ([]Draft, error)
}

// DefaultProposers are those that need no model to be useful, in the order in which their drafts are
// proven: what decides which action is taken comes before what makes an action succeed.
func DefaultProposers() []Proposer {
	return []Proposer{PromptExamplesProposer{}, ToolPolicyProposer{}, PromptTrimProposer{}}
}

// Cycle is one turn of the loop for one agent.
type Cycle struct {
	ID        string      `json:"id"`
	Agent     string      `json:"agent"`
	Channel   string      `json:"channel"`
	Base      string      `json:"base"`
	Identity  blob.Digest `json:"identity"`
	Suite     blob.Digest `json:"suite"`
	State     string      `json:"state"` // observing, testing, done, failed
	Note      string      `json:"note,omitempty"`
	By        string      `json:"by"`
	Limit     int         `json:"limit,omitempty"` // scenarios that a comparison looks at, at most
	Runs      int         `json:"runs,omitempty"`  // production runs that were read, at most
	CreatedAt time.Time   `json:"created_at"`
	EndedAt   time.Time   `json:"ended_at"`
	Continued bool        `json:"continued,omitempty"` // found unfinished and taken up again
	Proposals []*Proposal `json:"proposals,omitempty"`
}

// The states of a cycle.
const (
	CycleObserving = "observing"
	CycleTesting   = "testing"
	CycleDone      = "done"
)
