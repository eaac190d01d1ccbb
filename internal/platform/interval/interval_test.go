package interval_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"flywheel/internal/platform/interval"
)

func TestWilsonKnownValues(t *testing.T) {
	t.Parallel()
	// R: binom::binom.confint(x, n, methods = "wilson")
	for _, c := range []struct {
		x, n      int
		low, high float64
	}{
		{0, 10, 0, 0.2775328},
		{10, 10, 0.7224672, 1},
		{5, 10, 0.2365931, 0.7634069},
		{81, 263, 0.2552914, 0.3662076},
		{1, 1, 0.2065493, 1},
		{0, 0, 0, 1},
	} {
		low, high := interval.Wilson(c.x, c.n, 0.95)
		if math.Abs(low-c.low) > 2e-4 || math.Abs(high-c.high) > 2e-4 {
			t.Errorf("%d of %d: got %.5f..%.5f, want %.5f..%.5f", c.x, c.n, low, high, c.low, c.high)
		}
	}
}

func TestWilsonHoldsTheRateAndShrinks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5000).Draw(t, "n")
		x := rapid.IntRange(0, n).Draw(t, "x")
		low, high := interval.Wilson(x, n, 0.95)
		p := float64(x) / float64(n)
		if low > p+1e-12 || high < p-1e-12 || low < 0 || high > 1 {
			t.Fatalf("%d of %d: %v..%v", x, n, low, high)
		}
		low2, high2 := interval.Wilson(2*x, 2*n, 0.95)
		if high2-low2 > high-low+1e-12 {
			t.Fatalf("twice the evidence gave a wider interval")
		}
	})
}
