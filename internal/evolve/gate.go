package evolve

import (
	"fmt"
	"math"

	"flywheel/internal/lab"
)

// alpha is the chance of ever releasing a change that does not help, over the whole life of an agent.
const alpha = 0.05

// Bound is the e-value that counts as proof for the look-th candidate of an agent that reaches the
// audit split. The levels alpha·6/(π²·look²) add up to alpha over all looks.
func Bound(look int) float64 {
	t := float64(max(look, 1))
	return math.Pi * math.Pi * t * t / (6 * alpha)
}

// margin is the loss of success that a cheaper candidate may have at most, at 95 % confidence.
const margin = 0.05

// judge applies the gate's rules to a comparison.
func judge(goal Goal, c *lab.Comparison, bound float64, look int) *Evidence {
	e := &Evidence{Split: c.Split, Look: look, Bound: bound, Comparison: c}
	add := func(rule string, ok bool, got, want string) {
		e.Lines = append(e.Lines, Line{Rule: rule, OK: ok, Got: got, Want: want})
	}
	switch {
	case goal == GoalCheaper:
		add("not worse", c.Diff.Low >= -margin,
			fmt.Sprintf("%+.0f points [%+.0f, %+.0f]", 100*c.Diff.Diff, 100*c.Diff.Low, 100*c.Diff.High),
			fmt.Sprintf("at worst %.0f points lost, with 95%% confidence", 100*margin))
		base, candidate := perTrial(c.Base), perTrial(c.Candidate)
		add("fewer tokens", candidate < base, fmt.Sprintf("%.0f a run", candidate), fmt.Sprintf("below %.0f", base))
	case c.Split == lab.SplitAudit:
		add("better", c.Evidence >= bound,
			fmt.Sprintf("%d better, %d worse of %d: e-value %s", c.Better, c.Worse, c.Scenarios, FormatE(c.Evidence)),
			fmt.Sprintf("e-value %s (look %d at the audit split)", FormatE(bound), look))
	default:
		add("better on dev", c.Better > c.Worse,
			fmt.Sprintf("%d better, %d worse of %d", c.Better, c.Worse, c.Scenarios), "more better than worse")
	}
	add("evidence against", c.Against < lab.DefaultEvidence,
		"e-value "+FormatE(c.Against), fmt.Sprintf("below %d", lab.DefaultEvidence))
	add("safety", len(c.Safety) == 0, fmt.Sprintf("%d new failures", len(c.Safety)), "none")
	for _, s := range c.Slices {
		if s.Against >= lab.DefaultEvidence {
			add("slice "+s.Name, false, fmt.Sprintf("%d better, %d worse", s.Better, s.Worse), "no slice proven worse")
		}
	}
	e.Verdict = "pass"
	for _, l := range e.Lines {
		if !l.OK {
			e.Verdict = "fail"
		}
	}
	if c.Status == lab.StatusPartial {
		e.Verdict = "fail"
		add("complete", false, "stopped early: "+c.Why, "all trials")
	}
	return e
}

// reason is the first broken rule in a sentence.
func (e *Evidence) reason() string {
	for _, l := range e.Lines {
		if !l.OK {
			return fmt.Sprintf("the gate on %s: %s: got %s, want %s", e.Split, l.Rule, l.Got, l.Want)
		}
	}
	return ""
}

func perTrial(t lab.Tally) float64 {
	if t.Trials == 0 {
		return 0
	}
	return float64(t.Usage.In+t.Usage.Out) / float64(t.Trials)
}

// FormatE writes an e-value for people.
func FormatE(e float64) string {
	switch {
	case math.IsInf(e, 1) || e >= 1e6:
		return fmt.Sprintf("%.1e", e)
	case e >= 100:
		return fmt.Sprintf("%.0f", e)
	}
	return fmt.Sprintf("%.2g", e)
}
