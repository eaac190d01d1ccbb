package stat

import (
	"math"
	"sort"
	"strings"
	"unicode"
)

// Labelled is a message and what a good agent does first with it.
type Labelled struct {
	Text  string
	Label string
}

// Majority is the commonest label; the first in the alphabet among equals.
func Majority(train []Labelled) string {
	counts := map[string]int{}
	for _, e := range train {
		counts[e.Label]++
	}
	best, most := "", 0
	for label, n := range counts {
		if n > most || n == most && label < best {
			best, most = label, n
		}
	}
	return best
}

// Nearest is a nearest-neighbour classifier: TF-IDF of words and of pairs of words, cosine.
type Nearest struct {
	idf    map[string]float64
	vector []map[string]float64
	labels []string
}

// NewNearest learns examples by heart.
func NewNearest(train []Labelled) *Nearest {
	n := &Nearest{idf: map[string]float64{}}
	for _, e := range train {
		seen := map[string]bool{}
		for _, t := range terms(e.Text) {
			if !seen[t] {
				seen[t] = true
				n.idf[t]++
			}
		}
	}
	for t, df := range n.idf {
		n.idf[t] = math.Log((1+float64(len(train)))/(1+df)) + 1
	}
	for _, e := range train {
		n.vector = append(n.vector, n.embed(e.Text))
		n.labels = append(n.labels, e.Label)
	}
	return n
}

// Predict is the label of the most similar example, "" when nothing was learned.
func (n *Nearest) Predict(text string) string {
	v := n.embed(text)
	best, label := -1.0, ""
	for i, u := range n.vector {
		if s := dot(v, u); s > best {
			best, label = s, n.labels[i]
		}
	}
	return label
}

func (n *Nearest) embed(text string) map[string]float64 {
	v := map[string]float64{}
	for _, t := range terms(text) {
		if idf, ok := n.idf[t]; ok {
			v[t] += idf
		}
	}
	keys := sortedKeys(v)
	sum := 0.0
	for _, k := range keys {
		sum += v[k] * v[k]
	}
	if sum > 0 {
		for _, k := range keys {
			v[k] /= math.Sqrt(sum)
		}
	}
	return v
}

func dot(a, b map[string]float64) float64 {
	if len(b) < len(a) {
		a, b = b, a
	}
	s := 0.0
	for _, k := range sortedKeys(a) { // a fixed order: equal inputs give equal sums
		s += a[k] * b[k]
	}
	return s
}

func sortedKeys(m map[string]float64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func terms(text string) []string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\''
	})
	out := append([]string(nil), words...)
	for i := 1; i < len(words); i++ {
		out = append(out, words[i-1]+" "+words[i])
	}
	return out
}

// Accuracy is the share of examples that predict labels right.
func Accuracy(test []Labelled, predict func(text string) string) float64 {
	if len(test) == 0 {
		return 0
	}
	right := 0
	for _, e := range test {
		if predict(e.Text) == e.Label {
			right++
		}
	}
	return float64(right) / float64(len(test))
}
