package httpx

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"flywheel/internal/platform/id"
)

// RequestIDHeader carries the id of a request both ways.
const RequestIDHeader = "X-Request-Id"

type requestKey struct{}

// request is what the access log says about a request besides its line.
type request struct {
	id     string
	errors ErrorWriter // nil: problem+json

	mu    sync.Mutex
	err   error
	attrs []slog.Attr
}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// RequestID is the id of the request; empty outside of the middleware.
func RequestID(ctx context.Context) string {
	if r := requestOf(ctx); r != nil {
		return r.id
	}
	return ""
}

// Note leaves an error for the access log.
func Note(ctx context.Context, err error) {
	if r := requestOf(ctx); r != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
}

// Annotate adds attributes to the access log line of the request.
func Annotate(ctx context.Context, attrs ...slog.Attr) {
	if r := requestOf(ctx); r != nil {
		r.mu.Lock()
		r.attrs = append(r.attrs, attrs...)
		r.mu.Unlock()
	}
}

// requestIDFrom keeps the caller's id when it is harmless, so that both logs can be joined.
func requestIDFrom(h http.Header) string {
	given := h.Get(RequestIDHeader)
	if len(given) >= 8 && len(given) <= 64 {
		ok := true
		for _, c := range given {
			ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-')
		}
		if ok {
			return given
		}
	}
	return id.New("req", time.Now())
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Flush sends what was written; some handlers ask for http.Flusher instead of a ResponseController.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
