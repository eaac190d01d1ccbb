package memory_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"flywheel/internal/run/memory"
)

func TestTermsAreWordsAndPairs(t *testing.T) {
	t.Parallel()
	want := []string{"my", "kärte", "4711", "is", "lost", "my kärte", "kärte 4711", "4711 is", "is lost"}
	if diff := cmp.Diff(want, memory.Terms("My KÄRTE, 4711: is... lost!")); diff != "" {
		t.Errorf("terms (-want +got):\n%s", diff)
	}
	if got := memory.Terms(" ,. "); len(got) != 0 {
		t.Errorf("terms of nothing = %v", got)
	}
}

func docs(hits []memory.Hit) string {
	var out []string
	for _, h := range hits {
		out = append(out, fmt.Sprint(h.Doc))
	}
	return strings.Join(out, " ")
}

func TestNearestIsLast(t *testing.T) {
	t.Parallel()
	x := memory.NewIndex([]string{"my card was stolen", "what is my balance", "stolen card in Rome", "hello"})
	if got := docs(x.Nearest("my card was stolen in Rome", 3)); got != "1 2 0" {
		t.Errorf("nearest = %s", got)
	}
	if got := x.Nearest("my card was stolen", 1)[0].Score; math.Abs(got-1) > 1e-12 {
		t.Errorf("the same text scores %v", got)
	}
	if got := docs(x.Nearest("my balance", 99)); len(strings.Fields(got)) != 4 {
		t.Errorf("more than there are: %s", got)
	}
	if x.Nearest("x", 0) != nil || memory.NewIndex(nil).Nearest("x", 3) != nil {
		t.Error("nothing should be found")
	}
}

func TestOfEqualsTheEarlierIsNearer(t *testing.T) {
	t.Parallel()
	x := memory.NewIndex([]string{"lost card", "other", "lost card", "lost card"})
	if got := docs(x.Nearest("lost card", 3)); got != "3 2 0" {
		t.Errorf("nearest = %s", got)
	}
	if got := docs(x.Nearest("nothing in common", 2)); got != "1 0" {
		t.Errorf("without a common word = %s", got)
	}
}

// The k nearest are those of a plain sort over all scores, and the same again.
func TestNearestEqualsSorting(t *testing.T) {
	t.Parallel()
	word := rapid.SampledFrom([]string{"card", "lost", "stolen", "my", "balance", "Rome"})
	text := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(word, 0, 6).Draw(t, "words"), " ") })
	rapid.Check(t, func(t *rapid.T) {
		x := memory.NewIndex(rapid.SliceOfN(text, 0, 20).Draw(t, "texts"))
		query := text.Draw(t, "query")
		k := rapid.IntRange(0, 8).Draw(t, "k")
		all := x.Nearest(query, x.Len())
		for i := 1; i < len(all); i++ {
			a, b := all[i-1], all[i]
			if a.Score > b.Score || a.Score == b.Score && a.Doc < b.Doc || b.Score > 1+1e-9 || a.Score < 0 {
				t.Fatalf("order: %v before %v", a, b)
			}
		}
		want := all[max(0, len(all)-k):]
		if len(want) == 0 {
			want = nil
		}
		if diff := cmp.Diff(want, x.Nearest(query, k)); diff != "" {
			t.Fatalf("nearest %d (-want +got):\n%s", k, diff)
		}
	})
}

func BenchmarkNearestOf900(b *testing.B) {
	var texts []string
	for i := range 900 {
		texts = append(texts, fmt.Sprintf("I lost my card number %d while I was travelling in city %d, please help me", i, i%37))
	}
	x := memory.NewIndex(texts)
	for b.Loop() {
		x.Nearest("my card was lost in city 12, can you help", 4)
	}
}
