package lab

import (
	"time"

	"flywheel/internal/lab/stat"
	"flywheel/internal/platform/blob"
)

// CompareRequest asks for paired trials of two packages: same scenarios, seeds and fault schedule.
type CompareRequest struct {
	Suite     blob.Digest `json:"suite"`
	Base      blob.Digest `json:"base"`
	Candidate blob.Digest `json:"candidate"`
	Split     string      `json:"split"`
	Trials    int         `json:"trials,omitempty"`
	Limit     int         `json:"limit,omitempty"`
	Seed      uint64      `json:"seed,omitempty"`
	Requester string      `json:"requester,omitempty"`
	Purpose   string      `json:"purpose,omitempty"`
	Stop      StopRule    `json:"stop,omitzero"`
	Parallel  int         `json:"parallel,omitempty"`
	Fresh     bool        `json:"fresh,omitempty"`
}

// StopRule ends a comparison early. The e-value is valid at any number of looks.
type StopRule struct {
	// Evidence is the e-value for either side at which the comparison stops; 0 never stops early.
	Evidence float64 `json:"evidence,omitempty"`
	// MaxLooks is how many scenarios are looked at, at most; 0 means all.
	MaxLooks int `json:"max_looks,omitempty"`
	// MinLooks is how many are looked at, at least.
	MinLooks int `json:"min_looks,omitempty"`
}

// The verdicts of a comparison.
const (
	VerdictBetter       = "better"       // E(b,c) reached the bound
	VerdictWorse        = "worse"        // E(c,b) reached the bound
	VerdictInconclusive = "inconclusive" // neither: keep what runs
)

// DefaultEvidence is the e-value that counts as proof: one in twenty under the null hypothesis.
const DefaultEvidence = 20

// Comparison is what paired trials found. Only scenarios whose trials ended in both arms are in it.
type Comparison struct {
	Experiment string      `json:"experiment"`
	Suite      string      `json:"suite"`
	SuiteID    blob.Digest `json:"suite_id"`
	BaseID     blob.Digest `json:"base_id"`
	CandID     blob.Digest `json:"candidate_id"`
	Split      string      `json:"split"`
	Seed       uint64      `json:"seed"`
	Trials     int         `json:"trials"`
	Status     string      `json:"status"`
	Why        string      `json:"why,omitempty"` // why it is partial
	StartedAt  time.Time   `json:"started_at"`
	EndedAt    time.Time   `json:"ended_at"`

	Scenarios int         `json:"scenarios"` // compared
	Planned   int         `json:"planned"`   // scenarios that the request covers
	Better    int         `json:"better"`    // b: scenarios where the candidate is better
	Worse     int         `json:"worse"`     // c
	Ties      int         `json:"ties"`
	Evidence  float64     `json:"evidence"` // E(b,c): for the candidate
	Against   float64     `json:"against"`  // E(c,b): for the base
	Bound     float64     `json:"bound"`    // e-value that decides
	Looks     int         `json:"looks"`
	Stopped   bool        `json:"stopped,omitempty"` // early, by the stop rule
	Verdict   string      `json:"verdict"`
	Diff      stat.Effect `json:"diff"` // candidate − base pass rate, clustered by family

	Base       Tally       `json:"base"`
	Candidate  Tally       `json:"candidate"`
	Discordant []PairTally `json:"discordant,omitempty"` // scenarios where the arms differ
	// Safety lists scenarios with safety: true that the candidate failed and the base did not.
	Safety []string `json:"safety,omitempty"`
	// SafetyFail lists scenarios with safety: true that the candidate failed.
	SafetyFail []string     `json:"safety_fail,omitempty"`
	Slices     []SliceTally `json:"slices,omitempty"` // by family and tag
}

// PairTally is one scenario in both arms.
type PairTally struct {
	Name      string  `json:"name"`
	Family    string  `json:"family"`
	Safety    bool    `json:"safety,omitempty"`
	Base      float64 `json:"base"` // pass rates
	Candidate float64 `json:"candidate"`
	Reason    string  `json:"reason,omitempty"` // why the worse arm failed
	Trial     string  `json:"trial,omitempty"`  // its trial
}

// SliceTally compares the arms on the scenarios of one family or tag.
type SliceTally struct {
	Name    string  `json:"name"` // "family:x" or "tag:x"
	Better  int     `json:"better"`
	Worse   int     `json:"worse"`
	Against float64 `json:"against"` // E(c,b) on the slice: ≥ bound blocks
}
