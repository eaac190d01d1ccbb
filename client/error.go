package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Error is an error that the server answered, or that kept it from answering.
type Error struct {
	// Kind is the coarse class, as in not_found; see the problem schema of the API.
	Kind    string  `json:"kind"`
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Hint    string  `json:"hint,omitempty"`
	Fields  []Field `json:"fields,omitempty"`
	// Status is the HTTP status; 0 when there was no answer or the error ended a stream.
	Status    int    `json:"status,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Err is the cause on this side.
	Err error `json:"-"`
}

// Field is one of several errors in one input.
type Field struct {
	// Path is file:line:column, or the name of a field.
	Path    string `json:"path"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause on this side.
func (e *Error) Unwrap() error { return e.Err }

func errorOf(status int, body []byte) error {
	var p struct {
		Status    int     `json:"status"`
		Kind      string  `json:"kind"`
		Code      string  `json:"code"`
		Detail    string  `json:"detail"`
		Hint      string  `json:"hint"`
		Errors    []Field `json:"errors"`
		RequestID string  `json:"request_id"`
	}
	if err := json.Unmarshal(body, &p); err != nil || p.Kind == "" {
		text := strings.TrimSpace(string(body))
		if len(text) > 200 {
			text = text[:200] + "…"
		}
		return &Error{
			Kind: kindOf(status), Code: "client.answer", Status: status,
			Message: strings.TrimSpace(fmt.Sprintf("the server answered %d %s %s", status, http.StatusText(status), text)),
			Hint:    "check that the address is that of a Flywheel server",
		}
	}
	if status == 0 {
		status = p.Status
	}
	return &Error{
		Kind: p.Kind, Code: p.Code, Message: p.Detail, Hint: p.Hint, Fields: p.Errors, Status: status, RequestID: p.RequestID,
	}
}

func kindOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "unauthenticated"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusTooManyRequests:
		return "exhausted"
	}
	if status >= 500 {
		return "unavailable"
	}
	return "invalid"
}

// broken explains why there was no whole answer.
func broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Kind: "timeout", Code: "client.timeout", Message: "the time limit was reached", Err: ctx.Err()}
	case ctx.Err() != nil:
		return &Error{Kind: "canceled", Code: "client.canceled", Message: "canceled", Err: ctx.Err()}
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return &Error{
			Kind: "unavailable", Code: "client.unreachable", Message: "the server does not answer: " + dial.Err.Error(),
			Hint: "start it with flywheel up", Err: err,
		}
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &Error{
		Kind: "unavailable", Code: "client.cut", Message: "the connection to the server was cut: " + err.Error(),
		Hint: "what was answered is kept: flywheel up goes on with runs and cycles, and the same flywheel test continues", Err: err,
	}
}
