package model

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// replyReader follows the text of a JSON object while it grows: {"action":"NAME", … "text":"…". It gives
// out the text as far as it is certain: an escape or a character that is not whole yet waits. It only
// serves streaming; the whole answer is read again by a real parser.
type replyReader struct {
	action string
	whole  strings.Builder // the text so far

	state   replyState
	key     string
	token   []byte // string that is being read, decoded
	pending []byte // beginning of an escape or of a character
	depth   int    // inside a value that does not matter
	inText  bool   // inside a string of such a value
	escaped bool
}

type replyState int

const (
	beforeKey replyState = iota
	inKey
	afterKey
	inValue
	inOther
)

// feed takes a piece and gives the new text of the reply.
func (r *replyReader) feed(piece string) string {
	var fresh []byte
	for i := range len(piece) {
		c := piece[i]
		switch r.state {
		case beforeKey:
			if c == '"' {
				r.state, r.token = inKey, r.token[:0]
			}
		case inKey:
			if r.ended(c) {
				r.key, r.state = string(r.token), afterKey
			}
		case afterKey:
			r.begin(c)
		case inOther:
			r.skip(c)
		case inValue:
			before := len(r.token)
			end := r.ended(c)
			if r.key == "text" && len(r.token) > before {
				fresh = append(fresh, r.token[before:]...)
			}
			if end {
				if r.key == "action" && r.action == "" {
					r.action = string(r.token)
				}
				r.state = beforeKey
			}
		}
	}
	r.whole.Write(fresh)
	return string(fresh)
}

// begin is the first character of a value.
func (r *replyReader) begin(c byte) {
	switch c {
	case ':', ' ', '\n', '\t', '\r':
	case '"':
		r.state, r.token = inValue, r.token[:0]
	default:
		r.state, r.depth, r.inText, r.escaped = inOther, 0, false, false
		r.skip(c)
	}
}

// skip reads over a value that is no string.
func (r *replyReader) skip(c byte) {
	switch {
	case r.inText:
		switch {
		case r.escaped:
			r.escaped = false
		case c == '\\':
			r.escaped = true
		case c == '"':
			r.inText = false
		}
	case c == '"':
		r.inText = true
	case c == '{' || c == '[':
		r.depth++
	case c == '}' || c == ']':
		r.depth--
	case c == ',' && r.depth == 0:
		r.state = beforeKey
	}
}

// ended takes one byte of a string into token, and says whether the string ended with it.
func (r *replyReader) ended(c byte) bool {
	switch {
	case len(r.pending) > 0 && r.pending[0] == '\\':
		r.pending = append(r.pending, c)
		return r.escape()
	case c == '"':
		r.pending = r.pending[:0]
		return true
	case c == '\\':
		r.pending = append(r.pending[:0], c)
	default:
		r.pending = append(r.pending, c)
		if utf8.FullRune(r.pending) {
			r.token = append(r.token, r.pending...)
			r.pending = r.pending[:0]
		}
	}
	return false
}

// escape decodes pending once it is whole, and says whether the string ended on the way.
func (r *replyReader) escape() bool {
	p := r.pending
	if len(p) < 2 {
		return false
	}
	if p[1] != 'u' {
		plain := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 'f': '\f'}
		c, ok := plain[p[1]]
		if !ok {
			c = p[1]
		}
		r.token, r.pending = append(r.token, c), p[:0]
		return false
	}
	if len(p) < 6 {
		return false
	}
	first := hexRune(p[2:6])
	if !utf16.IsSurrogate(first) {
		r.token, r.pending = utf8.AppendRune(r.token, first), p[:0]
		return false
	}
	if len(p) < 12 && (len(p) < 7 || p[6] == '\\') && (len(p) < 8 || p[7] == 'u') {
		return false // the second half of the pair is on its way
	}
	if len(p) == 12 {
		if c := utf16.DecodeRune(first, hexRune(p[8:12])); c != utf8.RuneError {
			r.token, r.pending = utf8.AppendRune(r.token, c), p[:0]
			return false
		}
	}
	rest := string(p[6:]) // half a pair alone: what follows it stands for itself
	r.token, r.pending = utf8.AppendRune(r.token, utf8.RuneError), p[:0]
	for i := range len(rest) {
		if r.ended(rest[i]) {
			return true
		}
	}
	return false
}

func hexRune(digits []byte) rune {
	v, err := strconv.ParseUint(string(digits), 16, 16)
	if err != nil {
		return utf8.RuneError
	}
	return rune(v)
}
