// Package wire is what the ways to call a real tool share: the class of a failure, the limit on answers,
// and the templates ${env.NAME} and ${in.NAME}.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// MaxAnswer bounds a tool's answer.
const MaxAnswer = 1 << 20 // bytes

// The classes, as package tool explains them.
const (
	Timeout     = "timeout"
	Unavailable = "unavailable"
	Throttled   = "throttled"
	Reset       = "reset"
	Malformed   = "malformed"
	Rejected    = "rejected"
	Canceled    = "canceled"
	Drift       = "drift"
)

// Failure is why a tool gave no answer.
type Failure struct {
	Class      string
	Status     int // HTTP status, where there was one
	Message    string
	RetryAfter time.Duration // the wait that the server asked for
}

// Fail makes a failure.
func Fail(class, format string, args ...any) *Failure {
	return &Failure{Class: class, Message: fmt.Sprintf(format, args...)}
}

// Answer is what a tool said: JSON, or why not.
type Answer struct {
	Out     json.RawMessage
	Status  int
	Failure *Failure
}

// ClassOfStatus is the class of an HTTP status that is not a success.
func ClassOfStatus(status int) string {
	switch {
	case status == 429:
		return Throttled
	case status == 408:
		return Timeout
	case status >= 500:
		return Unavailable
	}
	return Rejected
}

// ClassOfError is the class of a transport error. Only an error that proves that nothing was sent is
// unavailable; once something may have been sent, a broken connection is reset.
func ClassOfError(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial":
		return Unavailable
	case errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return Reset
}

// ReadAll reads an answer up to the limit.
func ReadAll(r io.Reader) ([]byte, *Failure) {
	b, err := io.ReadAll(io.LimitReader(r, MaxAnswer+1))
	if err != nil {
		return nil, &Failure{Class: ClassOfError(err), Message: "the connection broke in the middle of the answer"}
	}
	if len(b) > MaxAnswer {
		return nil, TooLarge()
	}
	return b, nil
}

// TooLarge is the failure of an answer beyond the limit.
func TooLarge() *Failure {
	return Fail(Malformed, "the answer is larger than %d bytes", MaxAnswer)
}

// Compact is JSON without white space, or false when src is not one JSON value.
func Compact(src []byte) (json.RawMessage, bool) {
	var b bytes.Buffer
	if err := json.Compact(&b, src); err != nil {
		return nil, false
	}
	return b.Bytes(), true
}

// Text is a plain text as an answer: {"text": …}.
func Text(s string) json.RawMessage {
	b, err := json.Marshal(map[string]string{"text": s})
	if err != nil {
		return json.RawMessage(`{"text":""}`) // a string always encodes
	}
	return b
}

// Short cuts a message of a stranger to what fits in a log line.
func Short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return s
}
