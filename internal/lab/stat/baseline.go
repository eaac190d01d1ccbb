package stat

import (
	"math"
	"strings"
	"unicode"
)

// Labelled is a message and what a good agent does first with it. Examples of one group are never used to
// judge each other.
type Labelled struct {
	Text  string
	Label string
	Group string
}

// Majority is the commonest label among the examples of other groups; the first in the alphabet among
// equals. An example without a group is of no group.
type Majority struct {
	all    map[string]int
	groups map[string]map[string]int
}

// NewMajority counts labels.
func NewMajority(train []Labelled) *Majority {
	m := &Majority{all: map[string]int{}, groups: map[string]map[string]int{}}
	for _, e := range train {
		m.all[e.Label]++
		if e.Group == "" {
			continue
		}
		if m.groups[e.Group] == nil {
			m.groups[e.Group] = map[string]int{}
		}
		m.groups[e.Group][e.Label]++
	}
	return m
}

// Predict is the label for an example; only its group matters.
func (m *Majority) Predict(e Labelled) string {
	best, most := "", 0
	own := m.groups[e.Group]
	for label, n := range m.all {
		n -= own[label]
		if n > most || n == most && n > 0 && label < best {
			best, most = label, n
		}
	}
	return best
}

// Nearest is a nearest-neighbour classifier: TF-IDF of words and of pairs of words, cosine.
type Nearest struct {
	train    []Labelled
	term     map[string]int
	idf      []float64
	postings [][]posting // by term
}

// posting is a term's weight in an example.
type posting struct {
	example int
	weight  float64
}

// NewNearest learns examples by heart.
func NewNearest(train []Labelled) *Nearest {
	n := &Nearest{train: train, term: map[string]int{}}
	counts := make([][]weighted, len(train))
	for i, e := range train {
		counts[i] = n.count(e.Text, true)
		for _, w := range counts[i] {
			n.idf[w.term]++
		}
	}
	for t, df := range n.idf {
		n.idf[t] = math.Log((1+float64(len(train)))/(1+df)) + 1
	}
	n.postings = make([][]posting, len(n.idf))
	for i, list := range counts {
		for _, w := range n.weigh(list) {
			n.postings[w.term] = append(n.postings[w.term], posting{i, w.weight})
		}
	}
	return n
}

// Predict is the label of the most similar example of another group, the first among equals; "" when there
// is none.
func (n *Nearest) Predict(e Labelled) string {
	scores := make([]float64, len(n.train))
	for _, w := range n.weigh(n.count(e.Text, false)) {
		for _, p := range n.postings[w.term] {
			scores[p.example] += w.weight * p.weight
		}
	}
	best, label := -1.0, ""
	for i, s := range scores {
		if s > best && (e.Group == "" || n.train[i].Group != e.Group) {
			best, label = s, n.train[i].Label
		}
	}
	return label
}

type weighted struct {
	term   int
	weight float64
}

// count is how often each known term occurs, in order of first occurrence.
func (n *Nearest) count(text string, learn bool) []weighted {
	at := map[int]int{}
	var out []weighted
	for _, t := range terms(text) {
		id, ok := n.term[t]
		if !ok {
			if !learn {
				continue
			}
			id = len(n.idf)
			n.term[t] = id
			n.idf = append(n.idf, 0)
		}
		i, ok := at[id]
		if !ok {
			i = len(out)
			at[id] = i
			out = append(out, weighted{term: id})
		}
		out[i].weight++
	}
	return out
}

// weigh turns counts into a vector of length 1.
func (n *Nearest) weigh(list []weighted) []weighted {
	sum := 0.0
	for i := range list {
		list[i].weight *= n.idf[list[i].term]
		sum += list[i].weight * list[i].weight
	}
	for i := range list {
		list[i].weight /= math.Sqrt(sum)
	}
	return list
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
func Accuracy(test []Labelled, predict func(Labelled) string) float64 {
	if len(test) == 0 {
		return 0
	}
	right := 0
	for _, e := range test {
		if predict(e) == e.Label {
			right++
		}
	}
	return float64(right) / float64(len(test))
}
