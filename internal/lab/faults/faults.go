// Package faults is the plan by which tools misbehave in a trial. The plan is a pure function of the seed,
// the tool, and the index or the virtual time of an attempt, so that two packages on the same seed meet
// the same faults, and a fitter can simulate a policy against it without running an agent.
package faults

import (
	"path"
	"time"

	"flywheel/spec"
)

// The kinds of faults.
const (
	Timeout   = "timeout"   // no answer within the tool's timeout; the call does not reach the tool
	Slow      = "slow"      // the answer comes For later; a call that times out by that does reach the tool
	Status    = "status"    // an HTTP status instead of an answer; the call does not take effect
	Malformed = "malformed" // the call takes effect but its answer cannot be read
	Reset     = "reset"     // the connection breaks; a seeded half of the calls take effect before that
)

// Kinds lists the kinds in the order in which help names them.
var Kinds = []string{Timeout, Slow, Status, Malformed, Reset}

// Schedule is the plan of one trial.
type Schedule struct {
	rules []spec.FaultRule
	seed  uint64
}

// New makes the plan of the trial with that seed (see Seed). The first rule that applies wins.
func New(rules []spec.FaultRule, seed uint64) *Schedule { return &Schedule{rules: rules, seed: seed} }

// Hit is a fault that befalls an attempt.
type Hit struct {
	Rule int // index of the rule
	Do   spec.FaultKind
	// Reaches says whether the call takes effect although its caller sees a failure.
	Reaches bool
}

// At says what befalls the n-th attempt (from 1) of a tool at a virtual time since the trial began.
func (s *Schedule) At(tool string, n int, since time.Duration) (Hit, bool) {
	for i, r := range s.rules {
		if Match(r.Tool, tool) && s.applies(i, r, tool, n, since) {
			return Hit{Rule: i, Do: r.Do, Reaches: s.reaches(i, r, tool, n)}, true
		}
	}
	return Hit{}, false
}

func (s *Schedule) applies(i int, r spec.FaultRule, tool string, n int, since time.Duration) bool {
	switch {
	case len(r.On) > 0:
		for _, on := range r.On {
			if on == n {
				return true
			}
		}
		return false
	case r.Bursts != nil:
		every, length := time.Duration(r.Bursts.Every), time.Duration(r.Bursts.For)
		return every > 0 && (since+s.Phase(i))%every < length
	case r.Probability > 0:
		return unit(mix(s.seed, uint64(i), hash(tool), uint64(n))) < r.Probability
	}
	return true // a rule without a when holds always
}

// Phase is how far into the period of rule i the trial begins.
func (s *Schedule) Phase(i int) time.Duration {
	b := s.rules[i].Bursts
	if b == nil || b.Every <= 0 {
		return 0
	}
	return time.Duration(unit(mix(s.seed, 0x70686173, uint64(i))) * float64(b.Every))
}

func (s *Schedule) reaches(i int, r spec.FaultRule, tool string, n int) bool {
	switch r.Do.Kind {
	case Malformed, Slow:
		return true
	case Reset:
		return unit(mix(s.seed, 0x7265, uint64(i), hash(tool), uint64(n))) < 0.5
	}
	return false
}

// Match says whether a tool name matches a name or a pattern such as cards.*.
func Match(pattern, tool string) bool {
	if pattern == tool {
		return true
	}
	ok, err := path.Match(pattern, tool)
	return err == nil && ok
}

// Seed is the seed of a trial: the same for every package that is tried on the scenario.
func Seed(seed uint64, scenario string, trial int) uint64 {
	return mix(seed, hash(scenario), uint64(trial))
}

// Order is a number that shuffles scenarios: sort by it.
func Order(seed uint64, scenario string) uint64 { return mix(seed, 0x6f72646572, hash(scenario)) }

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix folds numbers into one with the finaliser of SplitMix64 after each.
func mix(values ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, v := range values {
		h += v + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// unit is a number in [0, 1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }
