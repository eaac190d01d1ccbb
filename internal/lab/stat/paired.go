package stat

import (
	"math"
	"sort"

	"flywheel/internal/platform/interval"
)

// Pair is one scenario in two arms: mean results between 0 and 1.
type Pair struct {
	Cluster   string
	Base      float64
	Candidate float64
}

// Signs counts the scenarios in which the candidate did better, worse, or the same.
func Signs(pairs []Pair) (better, worse, ties int) {
	for _, p := range pairs {
		switch {
		case p.Candidate > p.Base:
			better++
		case p.Candidate < p.Base:
			worse++
		default:
			ties++
		}
	}
	return better, worse, ties
}

// PairedDiff is the mean of candidate − base with an interval that is clustered by family (Miller 2024,
// arXiv 2411.00640, section 2.2: cluster-robust variance, t quantile with G−1 degrees of freedom). It is
// never narrower than the interval of Agresti and Min (2005) on the signs, which stays honest where few
// or no pairs differ.
func PairedDiff(pairs []Pair, level float64) Effect {
	n := float64(len(pairs))
	if n == 0 {
		return Effect{Low: -1, High: 1, Level: level}
	}
	mean := 0.0
	for _, p := range pairs {
		mean += (p.Candidate - p.Base) / n
	}
	half := max(clusteredHalf(pairs, mean, level), signHalf(pairs, level))
	return Effect{Diff: mean, Low: max(-1, mean-half), High: min(1, mean+half), Level: level}
}

func clusteredHalf(pairs []Pair, mean, level float64) float64 {
	sums := map[string]float64{}
	for _, p := range pairs {
		sums[p.Cluster] += p.Candidate - p.Base - mean
	}
	if len(sums) < 2 {
		return 0
	}
	names := make([]string, 0, len(sums)) // sums of floats depend on their order
	for name := range sums {
		names = append(names, name)
	}
	sort.Strings(names)
	v := 0.0
	for _, name := range names {
		v += sums[name] * sums[name]
	}
	g, n := float64(len(sums)), float64(len(pairs))
	return TQuantile((1+level)/2, g-1) * math.Sqrt(v*g/(g-1)) / n
}

func signHalf(pairs []Pair, level float64) float64 {
	b, c, _ := Signs(pairs)
	n := float64(len(pairs)) + 2
	p, q := (float64(b)+0.5)/n, (float64(c)+0.5)/n
	return interval.Z(level) * math.Sqrt(max(0, p+q-(p-q)*(p-q))/n)
}

// Quantile is the q-th quantile of values (nearest rank); zero of none. It sorts a copy.
func Quantile[T ~int64 | ~float64](values []T, q float64) T {
	if len(values) == 0 {
		var none T
		return none
	}
	s := append([]T(nil), values...)
	sort.Slice(s, func(i, j int) bool { return s[i] < s[j] })
	return s[min(len(s)-1, max(0, int(math.Ceil(q*float64(len(s))))-1))]
}
