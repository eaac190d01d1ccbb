// Package id makes identifiers: a prefix that says what it is, an underscore, and 26 characters
// (Crockford base 32) that sort by creation time, as in run_01jd3k7v0q….
package id

import (
	"crypto/rand"
	"strings"
	"sync"
	"time"
)

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

var (
	mu       sync.Mutex
	lastMS   int64
	lastRand [10]byte
)

// New makes an identifier for the moment at. Identifiers made in one process are strictly increasing
// within one millisecond.
func New(prefix string, at time.Time) string {
	mu.Lock()
	ms := at.UnixMilli()
	if ms == lastMS {
		for i := len(lastRand) - 1; i >= 0; i-- {
			lastRand[i]++
			if lastRand[i] != 0 {
				break
			}
		}
	} else {
		lastMS = ms
		_, _ = rand.Read(lastRand[:])
		lastRand[0] &= 0x7f // room to count up
	}
	random := lastRand
	mu.Unlock()

	var raw [16]byte
	for i := range 6 {
		raw[i] = byte(ms >> (40 - 8*i))
	}
	copy(raw[6:], random[:])
	return prefix + "_" + encode(raw)
}

// HasPrefix says whether s looks like an identifier with that prefix.
func HasPrefix(s, prefix string) bool { return strings.HasPrefix(s, prefix+"_") }

func encode(raw [16]byte) string {
	var out [26]byte
	var acc uint32
	bits := 2 // 128 bits are padded in front to 130
	pos := 0
	for _, b := range raw {
		acc = acc<<8 | uint32(b)
		bits += 8
		for bits >= 5 {
			bits -= 5
			out[pos] = alphabet[acc>>bits&31]
			pos++
		}
	}
	return string(out[:pos])
}
