package lab

import (
	"time"

	"flywheel/internal/lab/stat"
	"flywheel/internal/platform/blob"
)

// The splits of a suite.
const (
	SplitDev   = "dev"
	SplitAudit = "audit"
	SplitAll   = "all"
)

// PurposeGate is the one purpose that may read the audit split.
const PurposeGate = "gate"

// Request asks for trials of one package on one suite.
type Request struct {
	Suite    blob.Digest `json:"suite"`            // canonical resolved suite, stored as a blob
	Identity blob.Digest `json:"identity"`         // package
	Split    string      `json:"split"`            // dev, audit or all; default dev
	Trials   int         `json:"trials,omitempty"` // per scenario; default the suite's
	Limit    int         `json:"limit,omitempty"`  // at most so many scenarios, spread over families
	Seed     uint64      `json:"seed,omitempty"`
	// Requester and Purpose say who asks and why: they are kept with the experiment and with audit looks.
	Requester string `json:"requester,omitempty"`
	Purpose   string `json:"purpose,omitempty"` // gate, test, evolve…
	// Parallel is how many trials run at once; default: 1 for models on this machine, more for others.
	Parallel int `json:"parallel,omitempty"`
	// Fresh runs every trial again instead of using stored results, and asks models again instead of taking
	// answers from the tape.
	Fresh bool `json:"fresh,omitempty"`
	// Release is shown with the experiment, when the identity is that of a release.
	Release string `json:"release,omitempty"`
}

// Progress is the state of a running experiment.
type Progress struct {
	Experiment string        `json:"experiment"`
	Done       int           `json:"done"` // durable trials
	Total      int           `json:"total"`
	Passed     int           `json:"passed"`
	Failed     int           `json:"failed"`
	Errors     int           `json:"errors,omitempty"`
	Reused     int           `json:"reused,omitempty"` // of Done: stored by an earlier request
	Elapsed    time.Duration `json:"elapsed"`          // nanoseconds
	Left       time.Duration `json:"left"`             // estimate; 0 while unknown
	// Comparisons only: discordant scenarios and evidence so far.
	Better   int     `json:"better,omitempty"`
	Worse    int     `json:"worse,omitempty"`
	Evidence float64 `json:"evidence,omitempty"`
	Last     string  `json:"last,omitempty"` // scenario that ended last
}

// The states of an experiment.
const (
	StatusRunning = "running"
	StatusDone    = "done"
	StatusPartial = "partial" // stopped before its end by a person or a lost model
)

// Report is what a test found.
type Report struct {
	Experiment string      `json:"experiment"`
	Suite      string      `json:"suite"`
	SuiteID    blob.Digest `json:"suite_id"`
	Package    string      `json:"package"`
	Identity   blob.Digest `json:"identity"`
	Release    string      `json:"release,omitempty"`
	Models     []string    `json:"models"`
	Scripted   bool        `json:"scripted,omitempty"` // only the scripted model answered: says nothing about a real one
	Split      string      `json:"split"`
	Seed       uint64      `json:"seed"`
	Trials     int         `json:"trials"`           // per scenario
	Reused     int         `json:"reused,omitempty"` // trials that an earlier test of the same package has stored
	Status     string      `json:"status"`
	Why        string      `json:"why,omitempty"` // why it is partial
	StartedAt  time.Time   `json:"started_at"`
	EndedAt    time.Time   `json:"ended_at"`

	Total      Tally           `json:"total"`
	Scenarios  []ScenarioTally `json:"scenarios"` // worst first
	Families   []GroupTally    `json:"families"`
	Tags       []GroupTally    `json:"tags,omitempty"`
	Failing    []FailingCheck  `json:"failing,omitempty"` // commonest first
	Slowest    []SlowTrial     `json:"slowest,omitempty"`
	Tools      []ToolTally     `json:"tools,omitempty"`
	Baselines  *Baselines      `json:"baselines,omitempty"`
	SafetyFail []string        `json:"safety_fail,omitempty"` // scenarios with safety: true that failed at least once
	// Deterministic is the digest of what does not depend on wall time: with a deterministic model it is
	// the same on every machine.
	Deterministic blob.Digest `json:"deterministic"`
}

// Tally sums trials up.
type Tally struct {
	Scenarios int           `json:"scenarios"`
	Trials    int           `json:"trials"` // judged: errors are not among them
	Planned   int           `json:"planned,omitempty"`
	Passed    int           `json:"passed"`
	Errors    int           `json:"errors,omitempty"`
	Rate      stat.Interval `json:"rate"`
	PassAll   float64       `json:"pass_all"` // pass^k with k = trials per scenario: mean over scenarios
	PassAny   float64       `json:"pass_any"` // pass@k
	K         int           `json:"k"`
	Usage     Usage         `json:"usage"`
	Latency   Latency       `json:"latency"`
	// Action is how often the agent decided for the tool that its scenario expects first: the measure of
	// the baselines. Calls of tools that no scenario expects first, such as look-ups, are not decisions.
	Action float64 `json:"action"`
}

// Usage is what trials consumed.
type Usage struct {
	In       int           `json:"in"`  // tokens
	Out      int           `json:"out"` // tokens
	Cached   int           `json:"cached,omitempty"`
	Cost     int64         `json:"cost"`            // nano-USD
	Compute  time.Duration `json:"compute"`         // processor time on this machine, nanoseconds
	Calls    int           `json:"model_calls"`     // model calls
	Taped    int           `json:"taped,omitempty"` // of Calls: answered by the tape
	Tools    int           `json:"tool_calls"`
	Failed   int           `json:"tool_calls_failed"` // after retries and backup
	Attempts int           `json:"attempts"`
	Missed   int           `json:"attempts_failed"`
	Steps    int           `json:"steps"`
}

// Latency is real model time plus virtual tool time per trial, in nanoseconds.
type Latency struct {
	P50 time.Duration `json:"p50"`
	P95 time.Duration `json:"p95"`
}

// ScenarioTally is one scenario's result.
type ScenarioTally struct {
	Name    string        `json:"name"`
	Family  string        `json:"family"`
	Tags    []string      `json:"tags,omitempty"`
	Safety  bool          `json:"safety,omitempty"`
	Passed  int           `json:"passed"`
	Trials  int           `json:"trials"`
	Errors  int           `json:"errors,omitempty"`
	Rate    stat.Interval `json:"rate"`
	PassAll float64       `json:"pass_all"`
	Reason  string        `json:"reason,omitempty"` // the first failed check, or error
	Trial   string        `json:"trial,omitempty"`  // the trial to look at: its first failure
	Latency time.Duration `json:"latency"`          // median
}

// GroupTally sums a family or a tag up.
type GroupTally struct {
	Name      string        `json:"name"`
	Scenarios int           `json:"scenarios"`
	Passed    int           `json:"passed"`
	Trials    int           `json:"trials"`
	Rate      stat.Interval `json:"rate"`
}

// FailingCheck counts the trials in which a check failed.
type FailingCheck struct {
	Check   string `json:"check"` // state, calls, never, never_claims, says, within, ended
	Count   int    `json:"count"`
	Example string `json:"example"` // one reason
	Trial   string `json:"trial"`
}

// SlowTrial is one of the slowest trials.
type SlowTrial struct {
	Trial    string        `json:"trial"`
	Scenario string        `json:"scenario"`
	Latency  time.Duration `json:"latency"`
}

// ToolTally is what happened to one tool.
type ToolTally struct {
	Tool     string         `json:"tool"`
	Calls    int            `json:"calls"`
	Failed   int            `json:"failed"` // calls that failed after retries and backup
	Attempts int            `json:"attempts"`
	Missed   int            `json:"missed"` // attempts that failed
	Classes  map[string]int `json:"classes,omitempty"`
}
