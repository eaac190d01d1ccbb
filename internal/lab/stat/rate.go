package stat

import "flywheel/internal/platform/interval"

// Wilson is the score interval (Wilson 1927) of a rate of passed out of n; n may be an effective number.
// With n = 0 nothing is known: the interval is [0, 1].
func Wilson(passed, n, level float64) Interval {
	if n <= 0 {
		return Interval{Rate: 0, Low: 0, High: 1, Level: level}
	}
	p := min(max(passed/n, 0), 1)
	low, high := interval.WilsonRate(p, n, level)
	return Interval{Rate: p, Low: low, High: high, Level: level, N: n}
}

// Cluster are the trials of one family.
type Cluster struct {
	Passed, Trials float64
}

// ClusteredRate is the Wilson interval of a rate whose trials resemble each other within clusters: the
// number of observations is divided by the design effect (variance between clusters over that of a
// simple sample, at least 1). Where all or none passed the design effect cannot be seen: then units, the
// number of distinct scenarios, is what counts.
func ClusteredRate(clusters []Cluster, units int, level float64) Interval {
	var passed, n float64
	groups := 0
	for _, c := range clusters {
		passed += c.Passed
		n += c.Trials
		if c.Trials > 0 {
			groups++
		}
	}
	if n == 0 {
		return Wilson(0, 0, level)
	}
	p := passed / n
	if p == 0 || p == 1 {
		n = min(n, float64(units))
		return Wilson(p*n, n, level)
	}
	if groups < 2 {
		return Wilson(passed, n, level)
	}
	between := 0.0
	for _, c := range clusters {
		d := c.Passed - c.Trials*p
		between += d * d
	}
	between *= float64(groups) / float64(groups-1) / (n * n)
	effect := max(1, between/(p*(1-p)/n))
	return Wilson(p*n/effect, n/effect, level)
}

// PassAll is pass^k: the chance that k trials drawn from n, of which c passed, all passed:
// C(c,k)/C(n,k). With k > n it is taken at k = n.
func PassAll(n, c, k int) float64 {
	if n <= 0 || k <= 0 {
		return 0
	}
	k, c = min(k, n), min(max(c, 0), n)
	p := 1.0
	for i := range k {
		p *= float64(c-i) / float64(n-i)
		if p <= 0 {
			return 0
		}
	}
	return p
}

// PassAny is pass@k: the chance that at least one of k trials drawn from n passed.
func PassAny(n, c, k int) float64 {
	if n <= 0 || k <= 0 {
		return 0
	}
	return 1 - PassAll(n, n-min(max(c, 0), n), k)
}

// RuleOfThree is the upper 95 % bound on a failure rate after n trials without a failure.
func RuleOfThree(n int) float64 {
	if n <= 0 {
		return 1
	}
	return min(1, 3/float64(n))
}
