package faults

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flywheel/spec"
)

func burst(every, length time.Duration) spec.FaultRule {
	return spec.FaultRule{
		Tool: "cards.*", Bursts: &spec.Bursts{Every: spec.Duration(every), For: spec.Duration(length)},
		Do: spec.FaultKind{Kind: Status, Status: 503},
	}
}

func TestTheSameCallMeetsTheSameFaultInBothArms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := []spec.FaultRule{
			{Tool: "cards.freeze", Probability: rapid.Float64Range(0, 1).Draw(t, "p"), Do: spec.FaultKind{Kind: Reset}},
			burst(30*time.Second, time.Duration(rapid.IntRange(0, 30).Draw(t, "for"))*time.Second),
		}
		seed := Seed(rapid.Uint64().Draw(t, "seed"), "a scenario", rapid.IntRange(0, 9).Draw(t, "trial"))
		a, b := New(rules, seed), New(rules, seed)
		// Arm b makes other calls in between: that must not shift anything.
		for range rapid.IntRange(0, 5).Draw(t, "extra") {
			b.At("cards.find", 1, time.Second)
		}
		n := rapid.IntRange(1, 40).Draw(t, "n")
		since := time.Duration(rapid.IntRange(0, 200_000).Draw(t, "ms")) * time.Millisecond
		ha, oka := a.At("cards.freeze", n, since)
		hb, okb := b.At("cards.freeze", n, since)
		if oka != okb || ha != hb {
			t.Fatalf("a: %v %v, b: %v %v", ha, oka, hb, okb)
		}
	})
}

func TestBurstsTakeTheirShareOfTimeAndVaryByTrial(t *testing.T) {
	t.Parallel()
	rules := []spec.FaultRule{burst(20*time.Second, 5*time.Second)}
	down, phases := 0, map[time.Duration]bool{}
	const trials = 4000
	for i := range trials {
		s := New(rules, Seed(7, "x", i))
		phases[s.Phase(0)] = true
		if _, hit := s.At("cards.freeze", 1, 0); hit {
			down++
		}
	}
	if share := float64(down) / trials; math.Abs(share-0.25) > 0.03 {
		t.Errorf("an outage of 5 s in 20 s hit %.3f of the trials", share)
	}
	if len(phases) < trials/2 {
		t.Errorf("only %d phases", len(phases))
	}
	// Within one trial an outage is one connected piece per period.
	s := New(rules, Seed(7, "x", 1))
	flips, last := 0, false
	for ms := range 20_000 {
		_, hit := s.At("cards.find", 1, time.Duration(ms)*time.Millisecond)
		if ms > 0 && hit != last {
			flips++
		}
		last = hit
	}
	if flips > 2 {
		t.Errorf("%d changes within one period", flips)
	}
}

func TestProbabilityIsTheShareOfAttemptsAndIndependentOfTools(t *testing.T) {
	t.Parallel()
	rules := []spec.FaultRule{{Tool: "*", Probability: 0.1, Do: spec.FaultKind{Kind: Timeout}}}
	hits, both := 0, 0
	const trials = 20_000
	for i := range trials {
		s := New(rules, Seed(1, fmt.Sprint("scenario ", i), 0))
		_, a := s.At("a", 1, 0)
		_, b := s.At("b", 1, 0)
		if a {
			hits++
		}
		if a && b {
			both++
		}
	}
	if share := float64(hits) / trials; math.Abs(share-0.1) > 0.01 {
		t.Errorf("share %.4f", share)
	}
	if share := float64(both) / trials; math.Abs(share-0.01) > 0.004 {
		t.Errorf("two tools fail together in %.4f", share)
	}
}

func TestOnTheNthAttemptAndFirstRuleWins(t *testing.T) {
	t.Parallel()
	s := New([]spec.FaultRule{
		{Tool: "cards.freeze", On: []int{1}, Do: spec.FaultKind{Kind: Timeout}},
		{Tool: "cards.freeze", On: []int{1, 2}, Do: spec.FaultKind{Kind: Status, Status: 503}},
	}, 1)
	for n, want := range map[int]string{1: Timeout, 2: Status} {
		if hit, ok := s.At("cards.freeze", n, 0); !ok || hit.Do.Kind != want {
			t.Errorf("attempt %d: %v %v", n, hit, ok)
		}
	}
	if _, ok := s.At("cards.freeze", 3, 0); ok {
		t.Error("attempt 3 must go through")
	}
	if _, ok := s.At("cards.find", 1, 0); ok {
		t.Error("another tool must go through")
	}
}

func TestSeedsAreSpread(t *testing.T) {
	t.Parallel()
	seen := map[uint64]string{}
	for seed := range uint64(20) {
		for s := range 50 {
			for trial := range 5 {
				key := fmt.Sprint(seed, s, trial)
				h := Seed(seed, fmt.Sprint("s", s), trial)
				if other, ok := seen[h]; ok {
					t.Fatalf("%s and %s share a seed", key, other)
				}
				seen[h] = key
			}
		}
	}
}
