package memory_test

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"flywheel/internal/platform/corpus"
	"flywheel/internal/run/memory"
)

// TestNearestFindsTheIntent learns 900 questions of the seven commonest intents of BANKING77 and looks up
// 300 others: the nearest has the same intent far more often than the commonest intent is right.
func TestNearestFindsTheIntent(t *testing.T) {
	t.Parallel()
	byIntent := map[string][]corpus.Message{}
	for _, m := range corpus.Banking77(t) {
		byIntent[m.Intent] = append(byIntent[m.Intent], m)
	}
	intents := slices.SortedFunc(maps.Keys(byIntent), func(a, b string) int {
		return cmp.Or(len(byIntent[b])-len(byIntent[a]), cmp.Compare(a, b))
	})
	var all []corpus.Message
	for _, intent := range intents[:7] {
		all = append(all, byIntent[intent]...)
	}
	r := rand.New(rand.NewPCG(7, 77))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	learn, test := all[:900], all[900:1200]

	texts, seen := make([]string, len(learn)), map[string]int{}
	for i, m := range learn {
		texts[i] = m.Text
		seen[m.Intent]++
	}
	common := slices.MaxFunc(slices.Sorted(maps.Keys(seen)), func(a, b string) int { return seen[a] - seen[b] })
	index := memory.NewIndex(texts)
	right, majority := 0, 0
	for _, m := range test {
		if learn[index.Nearest(m.Text, 1)[0].Doc].Intent == m.Intent {
			right++
		}
		if m.Intent == common {
			majority++
		}
	}
	t.Logf("nearest neighbour %d of %d, commonest intent %d", right, len(test), majority)
	if right < 225 || right < 3*majority {
		t.Errorf("nearest neighbour %d of %d, commonest intent %d", right, len(test), majority)
	}
}
