// Package memory finds past episodes that resemble a message: TF-IDF over words and pairs of words.
package memory

import (
	"math"
	"slices"
	"strings"
	"unicode"
)

// Index holds the texts of episodes; it is immutable and safe for concurrent use.
type Index struct {
	terms    map[string]int // term → its number
	weights  []float64      // by term: inverse document frequency
	postings [][]posting    // by term, in the order of the documents
	size     int
}

type posting struct {
	doc    int
	weight float64 // of the term in the document, of unit length
}

// Hit is a found episode.
type Hit struct {
	Doc   int     // position in the texts that the index was made from
	Score float64 // cosine, 0…1
}

// NewIndex indexes texts. The inverse document frequency is smoothed: ln((1+n)/(1+df)) + 1.
func NewIndex(texts []string) *Index {
	x := &Index{terms: map[string]int{}, size: len(texts)}
	counts := make([][]count, len(texts))
	var df []int
	for i, text := range texts {
		counts[i] = x.count(text, true)
		for _, c := range counts[i] {
			for len(df) <= c.term {
				df = append(df, 0)
			}
			df[c.term]++
		}
	}
	x.weights = make([]float64, len(df))
	for term, n := range df {
		x.weights[term] = math.Log(float64(1+len(texts))/float64(1+n)) + 1
	}
	x.postings = make([][]posting, len(df))
	for doc, list := range counts {
		norm := x.norm(list)
		for _, c := range list {
			x.postings[c.term] = append(x.postings[c.term], posting{doc, float64(c.n) * x.weights[c.term] / norm})
		}
	}
	return x
}

// Len is how many texts are indexed.
func (x *Index) Len() int { return x.size }

// Nearest returns the k texts that resemble the query most, the nearest last. Of equals the earlier
// text counts as nearer. Texts without a common word follow in the same order, with score 0.
func (x *Index) Nearest(query string, k int) []Hit {
	k = min(k, x.size)
	if k <= 0 {
		return nil
	}
	scores := make([]float64, x.size)
	list := x.count(query, false)
	norm := x.norm(list)
	for _, c := range list { // in the order of the terms, so that sums have the same bits everywhere
		w := float64(c.n) * x.weights[c.term] / norm
		for _, p := range x.postings[c.term] {
			scores[p.doc] += float64(w * p.weight) // no fused multiply-add
		}
	}
	best := make([]Hit, 0, k+1)
	for doc, score := range scores {
		if len(best) == k && score <= best[k-1].Score {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, score, func(h Hit, s float64) int {
			if h.Score >= s {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, Hit{doc, score})
		best = best[:min(k, len(best))]
	}
	slices.Reverse(best)
	return best
}

type count struct{ term, n int }

// count counts the terms of a text by their number; terms that the index does not know are left out
// unless they are to be added.
func (x *Index) count(text string, add bool) []count {
	var list []int
	for _, term := range Terms(text) {
		n, ok := x.terms[term]
		if !ok {
			if !add {
				continue
			}
			n = len(x.terms)
			x.terms[term] = n
		}
		list = append(list, n)
	}
	slices.Sort(list)
	var out []count
	for _, term := range list {
		if len(out) > 0 && out[len(out)-1].term == term {
			out[len(out)-1].n++
			continue
		}
		out = append(out, count{term, 1})
	}
	return out
}

func (x *Index) norm(list []count) float64 {
	sum := 0.0
	for _, c := range list {
		w := float64(c.n) * x.weights[c.term]
		sum += float64(w * w)
	}
	if sum == 0 {
		return 1
	}
	return math.Sqrt(sum)
}

// Terms are the lower-case words of a text, followed by its pairs of neighbouring words.
func Terms(text string) []string {
	words := make([]string, 0, 2*strings.Count(text, " ")+2)
	start := -1
	for i, r := range text {
		inside := unicode.IsLetter(r) || unicode.IsDigit(r)
		switch {
		case inside && start < 0:
			start = i
		case !inside && start >= 0:
			words = append(words, strings.ToLower(text[start:i]))
			start = -1
		}
	}
	if start >= 0 {
		words = append(words, strings.ToLower(text[start:]))
	}
	n := len(words)
	for i := 1; i < n; i++ {
		words = append(words, words[i-1]+" "+words[i])
	}
	return words
}
