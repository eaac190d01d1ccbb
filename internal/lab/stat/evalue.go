package stat

import "math"

// EValue is the evidence that a candidate is better, from scenarios where exactly one arm passed: b of
// them won by the candidate, c by the base. Under the null hypothesis (a win is at most a coin flip) its
// expectation is at most 1 at every moment, so it may be looked at any number of times: 20 decides at 5 %.
//
// With a uniform prior on the chance θ ∈ (½, 1) of a win,
//
//	E(b,c) = 2^(b+c+1) · B(b+1, c+1) · P[Bin(b+c+1, ½) ≤ b] = Σ_{i=0..b} b!·c! / (i!·(b+c+1−i)!).
//
// The sum is taken in logarithms, its terms are positive, and a result beyond float64 is clamped to the
// largest float64. Negative counts are taken as zero.
func EValue(b, c int) float64 {
	l := LogEValue(b, c)
	if l >= math.Log(math.MaxFloat64) {
		return math.MaxFloat64
	}
	return math.Exp(l)
}

// LogEValue is the natural logarithm of EValue, for counts whose evidence exceeds float64.
func LogEValue(b, c int) float64 {
	b, c = max(b, 0), max(c, 0)
	n := b + c
	term := -math.Log(float64(c) + 1) // i = b
	largest, sum := term, 1.0
	for i := b; i > 0; i-- {
		term += math.Log(float64(i)) - math.Log(float64(n+2-i))
		switch {
		case term > largest:
			sum = sum*math.Exp(largest-term) + 1
			largest = term
		case term < largest-40 && i < n+2-i: // terms only shrink from here on
			return largest + math.Log(sum)
		default:
			sum += math.Exp(term - largest)
		}
	}
	return largest + math.Log(sum)
}
