package stat

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestEValueVectors(t *testing.T) {
	t.Parallel()
	// Published vectors, to one decimal.
	for _, v := range []struct {
		b, c int
		want float64
	}{{5, 0, 10.5}, {6, 0, 18.1}, {7, 0, 31.9}, {8, 1, 11.3}, {10, 1, 30.9}, {10, 2, 9.4}, {15, 4, 13.4}, {20, 8, 5.9}, {25, 10, 10.3}} {
		if got := EValue(v.b, v.c); math.Abs(got-v.want) > 0.05001 {
			t.Errorf("E(%d,%d) = %.4f, want %.1f", v.b, v.c, got, v.want)
		}
	}
}

// exactE is the formula as written, in rational numbers.
func exactE(b, c int) float64 {
	n := int64(b + c)
	beta := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Mul(big.NewInt(n+1), new(big.Int).Binomial(n, int64(b))))
	sum := new(big.Int)
	for i := range int64(b + 1) {
		sum.Add(sum, new(big.Int).Binomial(n+1, i))
	}
	f, _ := new(big.Rat).Mul(beta, new(big.Rat).SetInt(sum)).Float64()
	return f
}

func TestEValueEqualsExactRationalFormula(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b, c := rapid.IntRange(0, 120).Draw(t, "b"), rapid.IntRange(0, 120).Draw(t, "c")
		got, want := EValue(b, c), exactE(b, c)
		if math.Abs(got-want) > 1e-10*want {
			t.Fatalf("E(%d,%d) = %v, exactly %v", b, c, got, want)
		}
	})
}

func TestEValueIsMonotoneAndFinite(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b, c := rapid.IntRange(0, 100_000).Draw(t, "b"), rapid.IntRange(0, 100_000).Draw(t, "c")
		e := EValue(b, c)
		if math.IsNaN(e) || math.IsInf(e, 0) || e < 0 {
			t.Fatalf("E(%d,%d) = %v", b, c, e)
		}
		if up := LogEValue(b+1, c); up <= LogEValue(b, c) {
			t.Fatalf("a win lowered the evidence at (%d,%d)", b, c)
		}
		if down := LogEValue(b, c+1); down >= LogEValue(b, c) {
			t.Fatalf("a loss raised the evidence at (%d,%d)", b, c)
		}
	})
	if got := EValue(5000, 0); got != math.MaxFloat64 {
		t.Errorf("E(5000,0) = %v, want the clamp", got)
	}
	if got, want := EValue(-3, -1), 1.0; got != want {
		t.Errorf("E of negative counts = %v, want %v", got, want)
	}
}

// The e-value is a martingale under θ = ½: its mean after the next flip is what it is now.
func TestEValueIsAMartingaleUnderTheNull(t *testing.T) {
	t.Parallel()
	for b := range 30 {
		for c := range 30 {
			now, next := EValue(b, c), (EValue(b+1, c)+EValue(b, c+1))/2
			if math.Abs(now-next) > 1e-9*now {
				t.Fatalf("at (%d,%d): now %v, next %v", b, c, now, next)
			}
		}
	}
}

func TestEValueRarelyAcceptsEqualsUnderUnlimitedLooks(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	const runs = 1500
	for range runs {
		b, c := 0, 0
		for range 300 {
			if r.IntN(2) == 0 {
				b++
			} else {
				c++
			}
			if EValue(b, c) >= 20 {
				accepted++
				break
			}
		}
	}
	if rate := float64(accepted) / runs; rate > 0.05 {
		t.Errorf("false acceptance %.3f > 0.05", rate)
	}
}

func TestWilsonKnownValues(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ k, n, low, high float64 }{
		{10, 10, 0.7225, 1}, {0, 10, 0, 0.2775}, {5, 10, 0.2366, 0.7634}, {81, 263, 0.2553, 0.3662},
	} {
		got := Wilson(v.k, v.n, 0.95)
		if math.Abs(got.Low-v.low) > 5e-5 || math.Abs(got.High-v.high) > 5e-5 {
			t.Errorf("Wilson(%v/%v) = [%.4f, %.4f], want [%.4f, %.4f]", v.k, v.n, got.Low, got.High, v.low, v.high)
		}
	}
	if got := Wilson(0, 0, 0.95); got.Low != 0 || got.High != 1 {
		t.Errorf("nothing known must be [0,1], got %+v", got)
	}
}

func TestWilsonProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5000).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		w := Wilson(float64(k), float64(n), 0.95)
		if !(0 <= w.Low && w.Low <= w.Rate && w.Rate <= w.High && w.High <= 1) {
			t.Fatalf("not ordered: %+v", w)
		}
		mirror := Wilson(float64(n-k), float64(n), 0.95)
		if math.Abs(mirror.Low-(1-w.High)) > 1e-12 {
			t.Fatalf("not symmetric: %+v %+v", w, mirror)
		}
		wide := Wilson(float64(k), float64(n), 0.99)
		if wide.Low > w.Low+1e-12 || wide.High < w.High-1e-12 {
			t.Fatalf("more confidence gave a narrower interval")
		}
		more := Wilson(float64(2*k), float64(2*n), 0.95)
		if more.High-more.Low > w.High-w.Low+1e-12 {
			t.Fatalf("more trials gave a wider interval")
		}
	})
}

func TestClusteredRateIsWiderWhenFamiliesAgreeWithin(t *testing.T) {
	t.Parallel()
	var alike, mixed []Cluster
	for i := range 20 {
		alike = append(alike, Cluster{Passed: float64(i % 2 * 10), Trials: 10})
		mixed = append(mixed, Cluster{Passed: 5, Trials: 10})
	}
	a, m, plain := ClusteredRate(alike, 200, 0.95), ClusteredRate(mixed, 200, 0.95), Wilson(100, 200, 0.95)
	if a.High-a.Low < 2*(plain.High-plain.Low) {
		t.Errorf("clusters that agree within must widen the interval: %+v vs %+v", a, plain)
	}
	if m != plain {
		t.Errorf("clusters that vary within are as good as independent trials: %+v vs %+v", m, plain)
	}
	all := ClusteredRate([]Cluster{{40, 40}}, 10, 0.95)
	if want := Wilson(10, 10, 0.95); all != want {
		t.Errorf("40 of 40 trials of 10 scenarios count as 10 of 10: %+v", all)
	}
}

func TestPassAllAndAnyEqualEnumeration(t *testing.T) {
	t.Parallel()
	if got := PassAll(4, 3, 2); math.Abs(got-0.5) > 1e-12 { // C(3,2)/C(4,2) = 3/6
		t.Errorf("pass^2 of 3/4 = %v", got)
	}
	for n := 1; n <= 8; n++ {
		for c := 0; c <= n; c++ {
			for k := 1; k <= n; k++ {
				all, any, sets := 0, 0, 0
				for set := range 1 << n {
					size, passed := 0, 0
					for i := range n {
						if set>>i&1 == 1 {
							size++
							if i < c {
								passed++
							}
						}
					}
					if size != k {
						continue
					}
					sets++
					if passed == k {
						all++
					}
					if passed > 0 {
						any++
					}
				}
				if got, want := PassAll(n, c, k), float64(all)/float64(sets); math.Abs(got-want) > 1e-12 {
					t.Fatalf("PassAll(%d,%d,%d) = %v, want %v", n, c, k, got, want)
				}
				if got, want := PassAny(n, c, k), float64(any)/float64(sets); math.Abs(got-want) > 1e-12 {
					t.Fatalf("PassAny(%d,%d,%d) = %v, want %v", n, c, k, got, want)
				}
			}
		}
	}
}

func TestTQuantileKnownValues(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ p, df, want float64 }{
		{0.975, 1, 12.7062}, {0.975, 4, 2.77645}, {0.975, 9, 2.26216}, {0.975, 30, 2.04227}, {0.95, 5, 2.01505}, {0.975, 2e6, 1.95996},
	} {
		if got := TQuantile(v.p, v.df); math.Abs(got-v.want) > 1e-4 {
			t.Errorf("t(%v; %v) = %v, want %v", v.p, v.df, got, v.want)
		}
	}
}

func TestPairedDiff(t *testing.T) {
	t.Parallel()
	var pairs []Pair
	for i := range 40 {
		p := Pair{Cluster: fmt.Sprint(i / 4), Base: 0, Candidate: 1}
		if i%4 == 0 {
			p.Candidate = 0
		}
		pairs = append(pairs, p)
	}
	b, c, ties := Signs(pairs)
	if b != 30 || c != 0 || ties != 10 {
		t.Fatalf("signs %d %d %d", b, c, ties)
	}
	e := PairedDiff(pairs, 0.95)
	if math.Abs(e.Diff-0.75) > 1e-12 || e.Low < 0.5 || e.Low >= e.Diff {
		t.Errorf("effect %+v", e)
	}
	same := PairedDiff([]Pair{{"a", 1, 1}, {"b", 1, 1}, {"c", 0, 0}}, 0.95)
	if same.Low > -0.2 || same.High < 0.2 {
		t.Errorf("three ties prove nothing, got %+v", same)
	}
	if none := PairedDiff(nil, 0.95); none.Low != -1 || none.High != 1 {
		t.Errorf("no pairs: %+v", none)
	}
}

func TestPairedDiffIsWiderWhenFamiliesMoveTogether(t *testing.T) {
	t.Parallel()
	var together, apart []Pair
	for i := range 60 {
		p := Pair{Base: 0, Candidate: 1}
		if i/6%2 == 0 {
			p.Base, p.Candidate = 1, 0
		}
		p.Cluster = fmt.Sprint(i / 6)
		together = append(together, p)
		p.Cluster = fmt.Sprint(i)
		apart = append(apart, p)
	}
	a, b := PairedDiff(together, 0.95), PairedDiff(apart, 0.95)
	if a.High-a.Low < 1.8*(b.High-b.Low) {
		t.Errorf("together %+v, apart %+v", a, b)
	}
}

func TestBaselines(t *testing.T) {
	t.Parallel()
	train := []Labelled{
		{"I lost my card", "freeze", "a"},
		{"my card was stolen in Rome", "freeze", "b"},
		{"show my last payments", "list", "c"},
		{"send me a new card", "replace", "d"},
		{"a new card, send it", "replace", "d"},
		{"please a new card, send it", "replace", "d"},
	}
	most := NewMajority(train)
	if got := most.Predict(Labelled{}); got != "replace" {
		t.Errorf("majority %q", got)
	}
	if got := most.Predict(Labelled{Group: "d"}); got != "freeze" {
		t.Errorf("majority without the group %q", got)
	}
	near := NewNearest(train)
	for text, want := range map[string]string{"somebody has stolen my card": "freeze", "the last payments please": "list", "I need a new card": "replace"} {
		if got := near.Predict(Labelled{Text: text}); got != want {
			t.Errorf("nearest(%q) = %q, want %q", text, got, want)
		}
	}
	if got := near.Predict(Labelled{Text: "send me a new card", Group: "d"}); got == "replace" {
		t.Error("an example of the same group was used")
	}
	for i := range train {
		train[i].Group = ""
	}
	if got := Accuracy(train, NewNearest(train).Predict); got != 1 {
		t.Errorf("a nearest neighbour knows what it learned: %v", got)
	}
	if NewNearest(nil).Predict(Labelled{Text: "x"}) != "" || NewMajority(nil).Predict(Labelled{}) != "" {
		t.Error("nothing learned must give nothing")
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	v := []int64{5, 1, 4, 2, 3}
	if Quantile(v, 0.5) != 3 || Quantile(v, 0.95) != 5 || Quantile(v, 0) != 1 || Quantile([]int64{}, 0.5) != 0 {
		t.Error("quantile")
	}
}
