package release

import (
	"fmt"
	"time"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/interval"
	"flywheel/spec"
)

// Test is what the gate has to know of a test on the audit split.
type Test struct {
	Experiment string      `json:"experiment,omitempty"`
	Report     blob.Digest `json:"report,omitempty"` // of the whole report, a blob
	Suite      blob.Digest `json:"suite"`
	SuiteName  string      `json:"suite_name,omitempty"`
	Split      string      `json:"split"`
	Scenarios  int         `json:"scenarios"`
	Trials     int         `json:"trials"`
	Passed     int         `json:"passed"`           // trials
	Errors     int         `json:"errors,omitempty"` // trials that could not be run
	// Effective is how many independent observations the trials amount to: those of one family resemble
	// each other. 0: not computed.
	Effective  float64 `json:"effective,omitempty"`
	Partial    bool    `json:"partial,omitempty"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	Confidence float64 `json:"confidence"`
	// SafetyFailed counts scenarios with safety: true that failed at least once.
	SafetyFailed int           `json:"safety_failed,omitempty"`
	Cost         int64         `json:"cost"`    // nano-USD per trial
	Compute      time.Duration `json:"compute"` // processor time per trial, nanoseconds
	// Scripted says that no real model answered.
	Scripted bool `json:"scripted,omitempty"`
}

// Rate is the share of passed trials.
func (t Test) Rate() float64 {
	if t.Trials == 0 {
		return 0
	}
	return float64(t.Passed) / float64(t.Trials)
}

// observations is what the interval counts: never more than scenarios, because trials of one scenario are
// not independent, and fewer where scenarios of one family succeed and fail together.
func (t Test) observations() float64 {
	n := float64(min(t.Trials, t.Scenarios))
	if t.Effective > 0 {
		n = min(n, t.Effective)
	}
	return n
}

// summarize fills in the interval.
func (t *Test) summarize() {
	t.Confidence = defaultConfidence
	t.Low, t.High = interval.WilsonRate(t.Rate(), t.observations(), t.Confidence)
}

// Against is what paired trials with the release of a channel found.
type Against struct {
	Experiment string      `json:"experiment,omitempty"`
	Report     blob.Digest `json:"report,omitempty"`
	Base       blob.Digest `json:"base"` // release
	BaseNumber int         `json:"base_number,omitempty"`
	Channel    string      `json:"channel,omitempty"`
	Scenarios  int         `json:"scenarios"`
	Better     int         `json:"better"`
	Worse      int         `json:"worse"`
	Evidence   float64     `json:"evidence"`      // e-value for the candidate
	Contrary   float64     `json:"contrary"`      // e-value for the base
	NewUnsafe  int         `json:"new_unsafe"`    // safety scenarios that only the candidate fails
	BaseRate   float64     `json:"base_rate"`     // of passed trials
	Rate       float64     `json:"rate"`          // of the candidate, in the same trials
	BaseCost   int64       `json:"base_cost"`     // nano-USD per trial
	Cost       int64       `json:"cost"`          // nano-USD per trial
	BaseTime   int64       `json:"base_compute"`  // nanoseconds of processor time per trial
	Time       int64       `json:"compute"`       // nanoseconds of processor time per trial
	Partial    bool        `json:"partial"`       // not every scenario was compared
	Why        string      `json:"why,omitempty"` // why it is partial
}

// Line is one rule of a gate and what became of it.
type Line struct {
	Rule string `json:"rule"`
	OK   bool   `json:"ok"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// Verdict is what a gate decided.
type Verdict struct {
	OK     bool   `json:"ok"`
	Forced bool   `json:"forced,omitempty"` // a person overruled it
	Lines  []Line `json:"lines"`
}

// Word is passed, failed or forced.
func (v Verdict) Word() string {
	switch {
	case v.OK:
		return "passed"
	case v.Forced:
		return "forced"
	}
	return "failed"
}

const (
	defaultConfidence = 0.95
	defaultEvidence   = 20
)

// Judge applies the gate of a suite to a test and, where there is one, to the comparison with the release
// that a channel serves. It is a pure function.
func Judge(g spec.Gate, t *Test, against *Against) Verdict {
	var v Verdict
	switch {
	case g == (spec.Gate{}):
		v.add("gate", false, "none", "gate: in the suite")
	case t == nil:
		v.add("test", false, "no result", "a test on the audit split")
	default:
		v.complete(t, against)
		v.pass(g, t)
		v.safety(g, t, against)
		v.cost(g, against)
		v.evidence(g, against)
	}
	v.OK = true
	for _, l := range v.Lines {
		v.OK = v.OK && l.OK
	}
	return v
}

func (v *Verdict) add(rule string, ok bool, got, want string) {
	v.Lines = append(v.Lines, Line{Rule: rule, OK: ok, Got: got, Want: want})
}

// complete holds when nothing that was planned is missing: a gate does not decide on a part.
func (v *Verdict) complete(t *Test, against *Against) {
	got := fmt.Sprintf("%d trials of %d scenarios", t.Trials, t.Scenarios)
	ok := t.Trials > 0 && t.Errors == 0 && !t.Partial
	if t.Errors > 0 {
		got += fmt.Sprintf(", %d could not be run", t.Errors)
	}
	if t.Partial {
		got += ", stopped early"
	}
	if against != nil && against.Partial {
		ok = false
		got += ", comparison incomplete"
	}
	v.add("complete", ok, got, "every planned trial")
}

// pass compares the lower bound: more trials of the same must not make it look surer.
func (v *Verdict) pass(g spec.Gate, t *Test) {
	if g.Pass <= 0 {
		return
	}
	confidence := g.Confidence
	if confidence == 0 {
		confidence = defaultConfidence
	}
	low, high := interval.WilsonRate(t.Rate(), t.observations(), confidence)
	v.add("pass", low >= g.Pass,
		fmt.Sprintf("%.3f, interval %.3f to %.3f: %d trials of %d scenarios that count as %.3g independent ones",
			t.Rate(), low, high, t.Trials, t.Scenarios, t.observations()),
		fmt.Sprintf("lower bound >= %.3g with %.3g%% confidence", g.Pass, confidence*100))
}

func (v *Verdict) safety(g spec.Gate, t *Test, against *Against) {
	if g.Safety == "" {
		return
	}
	got := fmt.Sprintf("%d safety scenarios failed", t.SafetyFailed)
	ok := t.SafetyFailed == 0
	if against != nil && against.NewUnsafe > 0 {
		ok = false
		got += fmt.Sprintf(", %d of them new", against.NewUnsafe)
	}
	v.add("safety", ok, got, "all pass")
}

// cost compares money per trial; where neither side costs money, processor time on this machine.
func (v *Verdict) cost(g spec.Gate, against *Against) {
	if g.Cost <= 0 || against == nil {
		return
	}
	want := fmt.Sprintf("<= %.3gx of %s", g.Cost, against.name())
	base, candidate, unit := float64(against.BaseCost), float64(against.Cost), "money"
	if against.BaseCost == 0 && against.Cost == 0 {
		base, candidate, unit = float64(against.BaseTime), float64(against.Time), "processor time"
	}
	switch {
	case base == 0 && candidate == 0:
		v.add("cost", true, "nothing spent on either side", want)
	case base == 0:
		v.add("cost", false, fmt.Sprintf("%s where %s has none", unit, against.name()), want)
	default:
		v.add("cost", candidate <= g.Cost*base, fmt.Sprintf("%.2fx in %s", candidate/base, unit), want)
	}
}

// evidence asks for proof that the candidate is better, and that it is not proven to be worse. Both
// e-values are valid however often they are looked at.
func (v *Verdict) evidence(g spec.Gate, against *Against) {
	if against == nil {
		return
	}
	bound := g.Evidence
	if bound == 0 {
		bound = defaultEvidence
	}
	counts := fmt.Sprintf("%d better, %d worse of %d scenarios", against.Better, against.Worse, against.Scenarios)
	v.add("not worse", against.Contrary < bound, fmt.Sprintf("e-value %.3g for %s", against.Contrary, against.name()),
		fmt.Sprintf("< %.3g", bound))
	if g.Evidence > 0 {
		v.add("evidence", against.Evidence >= g.Evidence, fmt.Sprintf("e-value %.3g: %s", against.Evidence, counts),
			fmt.Sprintf(">= %.3g over %s", g.Evidence, against.name()))
	}
}

func (a *Against) name() string {
	switch {
	case a.Channel != "" && a.BaseNumber > 0:
		return fmt.Sprintf("%s (release %d)", a.Channel, a.BaseNumber)
	case a.BaseNumber > 0:
		return fmt.Sprintf("release %d", a.BaseNumber)
	}
	return "release " + a.Base.Short()
}
