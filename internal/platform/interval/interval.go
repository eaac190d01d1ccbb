// Package interval gives the interval that stands beside a rate, so that nobody reads three successes
// out of three as certainty.
package interval

import "math"

// Rate is a share of successes with its Wilson score interval.
type Rate struct {
	Successes  int     `json:"successes"`
	Trials     int     `json:"trials"`
	Value      float64 `json:"value"` // 0 when there are no trials
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	Confidence float64 `json:"confidence"` // of the interval, as 0.95
}

// Of is the rate of successes among trials with a 95 % interval.
func Of(successes, trials int) Rate {
	low, high := Wilson(successes, trials, 0.95)
	r := Rate{Successes: successes, Trials: trials, Low: low, High: high, Confidence: 0.95}
	if trials > 0 {
		r.Value = float64(successes) / float64(trials)
	}
	return r
}

// Wilson is the two-sided Wilson score interval of a binomial rate (Wilson 1927); 0 to 1 when nothing
// was tried.
func Wilson(successes, trials int, confidence float64) (low, high float64) {
	if trials <= 0 {
		return 0, 1
	}
	return WilsonRate(float64(successes)/float64(trials), float64(trials), confidence)
}

// WilsonRate is Wilson for a rate that n independent observations carry, where n is smaller than the
// number of trials because trials of one scenario depend on each other.
func WilsonRate(p, n, confidence float64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	z := Z(confidence)
	center := p + z*z/(2*n)
	half := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	scale := 1 + z*z/n
	low, high = max(0, (center-half)/scale), min(1, (center+half)/scale)
	if p <= 0 {
		low = 0 // not a rounding error above it
	}
	if p >= 1 {
		high = 1
	}
	return low, high
}

// Z is the two-sided quantile of the normal distribution: 1.96 for a confidence of 0.95.
func Z(confidence float64) float64 {
	return math.Sqrt2 * math.Erfinv(min(max(confidence, 0), 1-1e-15))
}
