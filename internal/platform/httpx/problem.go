package httpx

import (
	"encoding/json"
	"errors"
	"net/http"

	"flywheel/internal/platform/fault"
)

// ProblemType is the media type of errors (RFC 9457).
const ProblemType = "application/problem+json"

// Problem is an error on the wire.
type Problem struct {
	Type      string        `json:"type" doc:"about:blank; the code says what happened"`
	Title     string        `json:"title" doc:"The HTTP status in words"`
	Status    int           `json:"status"`
	Kind      fault.Kind    `json:"kind" doc:"Coarse class: invalid, unauthenticated, forbidden, not_found, conflict, exhausted, unavailable, timeout, canceled, internal"`
	Code      string        `json:"code" doc:"What happened, as in run.not_found"`
	Detail    string        `json:"detail" doc:"The message for the person"`
	Hint      string        `json:"hint,omitempty" doc:"What to do next"`
	Errors    []fault.Field `json:"errors,omitempty" doc:"The single errors of an input"`
	RequestID string        `json:"request_id,omitempty"`
}

// ErrorWriter writes an error in another shape than problem+json, for clients of another protocol.
type ErrorWriter func(w http.ResponseWriter, p Problem)

// ProblemOf is how an error leaves the process: causes and unclassified details stay in the log.
func ProblemOf(err error, requestID string) Problem {
	f := classify(err)
	status := f.Kind.HTTPStatus()
	title := http.StatusText(status)
	if title == "" {
		title = "Canceled"
	}
	return Problem{
		Type: "about:blank", Title: title, Status: status, Kind: f.Kind, Code: f.Code, Detail: f.Message,
		Hint: f.Hint, Errors: f.Fields, RequestID: requestID,
	}
}

func classify(err error) *fault.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fault.Wrap(err, fault.Invalid, "request.too_large", "the request is larger than %d bytes", tooLarge.Limit)
	}
	return fault.From(err)
}

// WriteError answers a request with an error, in the shape that Options.Errors wants for its path, and
// leaves the error for the access log.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemOf(err, RequestID(r.Context()))
	Note(r.Context(), err)
	w.Header().Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="flywheel"`)
	}
	if state := requestOf(r.Context()); state != nil && state.errors != nil {
		state.errors(w, p)
		return
	}
	w.Header().Set("Content-Type", ProblemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// WriteJSON answers a request with a value.
func WriteJSON(w http.ResponseWriter, r *http.Request, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n'))
}
