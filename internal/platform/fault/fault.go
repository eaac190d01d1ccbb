// Package fault is the one error type that crosses borders: a kind that machines act on, a code
// that documentation lists, a message for the person, and a hint that names the next command.
//
// Classify once, at the place that knows; wrap below with fmt.Errorf and %w; return or log, never both.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Kind is the coarse class of an error. It decides HTTP status, exit code and whether to retry.
type Kind string

// The kinds. There are no others; a new situation gets a new code, not a new kind.
const (
	Invalid         Kind = "invalid"
	Unauthenticated Kind = "unauthenticated"
	Forbidden       Kind = "forbidden"
	NotFound        Kind = "not_found"
	Conflict        Kind = "conflict"
	Exhausted       Kind = "exhausted"
	Unavailable     Kind = "unavailable"
	Timeout         Kind = "timeout"
	Canceled        Kind = "canceled"
	Internal        Kind = "internal"
)

type kindFacts struct {
	status, exit int
	retry        bool
}

var facts = map[Kind]kindFacts{
	Invalid:         {422, 2, false},
	Unauthenticated: {401, 3, false},
	Forbidden:       {403, 4, false},
	NotFound:        {404, 5, false},
	Conflict:        {409, 6, false},
	Exhausted:       {429, 7, true},
	Unavailable:     {503, 8, true},
	Timeout:         {504, 9, true},
	Canceled:        {499, 130, false},
	Internal:        {500, 1, false},
}

// HTTPStatus is the response status for the kind.
func (k Kind) HTTPStatus() int { return k.facts().status }

// ExitCode is the exit code of a command that ends with the kind.
func (k Kind) ExitCode() int { return k.facts().exit }

// Retryable says whether the same call may succeed later without a change.
func (k Kind) Retryable() bool { return k.facts().retry }

func (k Kind) facts() kindFacts {
	if f, ok := facts[k]; ok {
		return f
	}
	return facts[Internal]
}

// KindOfStatus is the kind for an HTTP status that another server gave.
func KindOfStatus(status int) Kind {
	for k, f := range facts {
		if f.status == status {
			return k
		}
	}
	switch {
	case status == 400:
		return Invalid
	case status == 408:
		return Timeout
	case status >= 500:
		return Unavailable
	case status >= 400:
		return Invalid
	}
	return Internal
}

// Field is one of several errors in one input: a place, what is wrong, what to do.
type Field struct {
	// Path names the place: file:line:column of a file, or the field of a request.
	Path    string `json:"path"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error is an error that a person or a program can act on.
type Error struct {
	Kind    Kind
	Code    string
	Message string
	Hint    string
	Fields  []Field
	Err     error
}

// New makes an error; code is "domain.what_happened".
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error that keeps its cause for the log.
func Wrap(err error, kind Kind, code, format string, args ...any) *Error {
	e := New(kind, code, format, args...)
	e.Err = err
	return e
}

// WithHint returns a copy whose hint says what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithFields returns a copy that lists the single errors of an input.
func (e *Error) WithFields(fields ...Field) *Error {
	c := *e
	c.Fields = fields
	return &c
}

// Error is the message followed by its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches another fault with the same code, so that errors.Is works with sentinel faults.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// From classifies any error: a fault stays, cancellation and deadlines keep their kind, the rest is
// internal and its detail is for the log only.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Wrap(err, Canceled, "canceled", "canceled")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Wrap(err, Timeout, "timeout", "the time limit was reached")
	}
	return Wrap(err, Internal, "internal", "internal error")
}

// KindOf is the kind of any error; empty for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	return From(err).Kind
}

// HasCode says whether err is a fault with that code.
func HasCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// Suggest finds the known name that a person probably meant, or "".
func Suggest(got string, known []string) string {
	best, bestDistance := "", max(2, len(got)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(got), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		previous := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			previous, row[j] = row[j], min(row[j]+1, row[j-1]+1, previous+cost)
		}
	}
	return row[len(b)]
}
