package grammar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// gbnf is a small reader of the language that llama.cpp understands. It exists to check what the package
// writes: it makes random sentences, and says whether a text is one.
type gbnf struct {
	rules  map[string]*node
	budget int // nodes that sentence may still visit; 0 for no bound
}

var errTooBig = errors.New("the sentence grows without end")

type node struct {
	kind     string // text class rule seq alt repeat
	text     string
	ranges   [][2]rune
	negated  bool
	kids     []*node
	min, max int
}

type gbnfReader struct {
	in  []rune
	pos int
}

func readGBNF(src string) (*gbnf, error) {
	g := &gbnf{rules: map[string]*node{}}
	for line := range strings.SplitSeq(src, "\n") {
		if line == "" {
			continue
		}
		name, body, ok := strings.Cut(line, " ::= ")
		if !ok {
			return nil, fmt.Errorf("line %q is no rule", line)
		}
		if g.rules[name] != nil {
			return nil, fmt.Errorf("rule %s is there twice", name)
		}
		r := &gbnfReader{in: []rune(body)}
		n, err := r.alt()
		if err != nil {
			return nil, fmt.Errorf("%s at %d: %w", line, r.pos, err)
		}
		if r.pos != len(r.in) {
			return nil, fmt.Errorf("%s: left over at %d", line, r.pos)
		}
		g.rules[name] = n
	}
	for name, n := range g.rules {
		if missing := g.missing(n); missing != "" {
			return nil, fmt.Errorf("%s names the unknown rule %s", name, missing)
		}
	}
	return g, nil
}

func (g *gbnf) missing(n *node) string {
	if n.kind == "rule" && g.rules[n.text] == nil {
		return n.text
	}
	for _, k := range n.kids {
		if m := g.missing(k); m != "" {
			return m
		}
	}
	return ""
}

func (r *gbnfReader) peek() rune {
	if r.pos < len(r.in) {
		return r.in[r.pos]
	}
	return 0
}

func (r *gbnfReader) space() {
	for r.peek() == ' ' {
		r.pos++
	}
}

func (r *gbnfReader) alt() (*node, error) {
	out := &node{kind: "alt"}
	for {
		seq := &node{kind: "seq"}
		for r.space(); r.peek() != 0 && r.peek() != '|' && r.peek() != ')'; r.space() {
			item, err := r.item()
			if err != nil {
				return nil, err
			}
			seq.kids = append(seq.kids, item)
		}
		out.kids = append(out.kids, seq)
		if r.peek() != '|' {
			return out, nil
		}
		r.pos++
	}
}

func (r *gbnfReader) item() (n *node, err error) {
	switch c := r.peek(); c {
	case '(':
		r.pos++
		if n, err = r.alt(); err != nil {
			return nil, err
		}
		if r.peek() != ')' {
			return nil, fmt.Errorf("missing )")
		}
		r.pos++
	case '"':
		n = &node{kind: "text"}
		for r.pos++; r.peek() != '"'; {
			ch, err := r.char()
			if err != nil {
				return nil, err
			}
			n.text += string(ch)
		}
		r.pos++
	case '[':
		if n, err = r.class(); err != nil {
			return nil, err
		}
	default:
		start := r.pos
		for c := r.peek(); c == '-' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'; c = r.peek() {
			r.pos++
		}
		if start == r.pos {
			return nil, fmt.Errorf("unexpected %q", c)
		}
		n = &node{kind: "rule", text: string(r.in[start:r.pos])}
	}
	return r.suffix(n)
}

func (r *gbnfReader) suffix(n *node) (*node, error) {
	out := &node{kind: "repeat", kids: []*node{n}, max: -1}
	switch r.peek() {
	case '*':
	case '+':
		out.min = 1
	case '?':
		out.max = 1
	case '{':
		end := strings.IndexRune(string(r.in[r.pos:]), '}')
		from, to, ranged := strings.Cut(string(r.in[r.pos+1:r.pos+end]), ",")
		var err error
		if out.min, err = strconv.Atoi(from); err != nil {
			return nil, err
		}
		if !ranged {
			out.max = out.min
		} else if to != "" {
			if out.max, err = strconv.Atoi(to); err != nil {
				return nil, err
			}
		}
		r.pos += end
	default:
		return n, nil
	}
	r.pos++
	return out, nil
}

func (r *gbnfReader) class() (*node, error) {
	n := &node{kind: "class"}
	r.pos++
	if r.peek() == '^' {
		n.negated = true
		r.pos++
	}
	for r.peek() != ']' {
		low, err := r.char()
		if err != nil {
			return nil, err
		}
		high := low
		if r.peek() == '-' {
			r.pos++
			if high, err = r.char(); err != nil {
				return nil, err
			}
		}
		n.ranges = append(n.ranges, [2]rune{low, high})
	}
	r.pos++
	return n, nil
}

func (r *gbnfReader) char() (rune, error) {
	c := r.peek()
	r.pos++
	if c == 0 {
		return 0, fmt.Errorf("unfinished")
	}
	if c != '\\' {
		return c, nil
	}
	c = r.peek()
	r.pos++
	switch c {
	case 'n':
		return '\n', nil
	case 't':
		return '\t', nil
	case 'r':
		return '\r', nil
	case '"', '\\', '[', ']':
		return c, nil
	}
	digits, ok := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]
	if !ok || r.pos+digits > len(r.in) {
		return 0, fmt.Errorf("unknown escape %q", c)
	}
	v, err := strconv.ParseUint(string(r.in[r.pos:r.pos+digits]), 16, 32)
	r.pos += digits
	return rune(v), err
}

func (n *node) holds(c rune) bool {
	for _, r := range n.ranges {
		if c >= r[0] && c <= r[1] {
			return !n.negated
		}
	}
	return n.negated
}

// matches says whether the whole text is a sentence.
func (g *gbnf) matches(text string) bool {
	in := []rune(text)
	for _, end := range g.ends(g.rules["root"], in, 0, 0) {
		if end == len(in) {
			return true
		}
	}
	return false
}

// ends are the places where a match that begins at pos may end.
func (g *gbnf) ends(n *node, in []rune, pos, depth int) []int {
	if depth > 400 {
		return nil
	}
	switch n.kind {
	case "text":
		t := []rune(n.text)
		if pos+len(t) <= len(in) && string(in[pos:pos+len(t)]) == n.text {
			return []int{pos + len(t)}
		}
		return nil
	case "class":
		if pos < len(in) && n.holds(in[pos]) {
			return []int{pos + 1}
		}
		return nil
	case "rule":
		return g.ends(g.rules[n.text], in, pos, depth+1)
	case "alt":
		var out []int
		for _, k := range n.kids {
			out = union(out, g.ends(k, in, pos, depth+1))
		}
		return out
	case "seq":
		at := []int{pos}
		for _, k := range n.kids {
			var next []int
			for _, p := range at {
				next = union(next, g.ends(k, in, p, depth+1))
			}
			at = next
		}
		return at
	}
	var out []int
	at := []int{pos}
	for i := 0; len(at) > 0; i++ {
		if i >= n.min {
			before := len(out)
			out = union(out, at)
			if len(out) == before && i > n.min {
				break
			}
		}
		if n.max >= 0 && i == n.max {
			break
		}
		var next []int
		for _, p := range at {
			next = union(next, g.ends(n.kids[0], in, p, depth+1))
		}
		at = next
	}
	return out
}

func union(a, b []int) []int {
	for _, x := range b {
		found := false
		for _, y := range a {
			found = found || x == y
		}
		if !found {
			a = append(a, x)
		}
	}
	return a
}

// sentence makes a random sentence.
func (g *gbnf) sentence(r *rand.Rand) string {
	var b strings.Builder
	g.write(&b, g.rules["root"], r, 0)
	return b.String()
}

func (g *gbnf) write(b *strings.Builder, n *node, r *rand.Rand, depth int) {
	if g.budget > 0 {
		if g.budget--; g.budget == 0 {
			panic(errTooBig)
		}
	}
	switch n.kind {
	case "text":
		b.WriteString(n.text)
	case "class":
		b.WriteRune(n.pick(r))
	case "rule":
		g.write(b, g.rules[n.text], r, depth+1)
	case "alt":
		k := n.kids[r.IntN(len(n.kids))]
		if depth > 40 { // the alternative that ends soonest is the last in what the package writes
			k = n.kids[len(n.kids)-1]
		}
		g.write(b, k, r, depth+1)
	case "seq":
		for _, k := range n.kids {
			g.write(b, k, r, depth+1)
		}
	default:
		high := n.max
		if high < 0 || high > n.min+3 {
			high = n.min + 3
		}
		if depth > 40 {
			high = n.min
		}
		for range n.min + r.IntN(high-n.min+1) {
			g.write(b, n.kids[0], r, depth+1)
		}
	}
}

func (n *node) pick(r *rand.Rand) rune {
	if n.negated {
		for {
			c := rune(r.IntN(0x300))
			if r.IntN(20) == 0 {
				c = rune(0xe000 + r.IntN(0x10000))
			}
			if n.holds(c) {
				return c
			}
		}
	}
	x := n.ranges[r.IntN(len(n.ranges))]
	return x[0] + rune(r.IntN(int(x[1]-x[0])+1))
}
