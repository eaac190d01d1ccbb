package httpx

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"flywheel/internal/platform/fault"
)

// DefaultMaxBody bounds a request body: a package with a few data files, in base64.
const DefaultMaxBody = 64 << 20

// Options configure the middleware.
type Options struct {
	// Hosts are the names by which this server may be called besides loopback names, without port.
	Hosts []string
	// MaxBody bounds request bodies in bytes; 0 means DefaultMaxBody.
	MaxBody int64
	// Errors are the shapes of errors by the prefix of the path, where it is not problem+json.
	Errors map[string]ErrorWriter
	Log    *slog.Logger
}

// Wrap puts the middleware around the handler of a server.
func Wrap(next http.Handler, o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := &request{id: requestIDFrom(r.Header)}
		for prefix, write := range o.Errors {
			if strings.HasPrefix(r.URL.Path, prefix) {
				state.errors = write
			}
		}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, state))
		rec := &recorder{ResponseWriter: w}
		began := time.Now()
		defer func() { logAccess(o.Log, r, rec, state, time.Since(began)) }()
		defer recoverPanic(rec, r)
		secure(rec.Header(), state.id)
		if err := checkHost(r, o.Hosts); err != nil {
			WriteError(rec, r, err)
			return
		}
		if err := checkOrigin(r); err != nil {
			WriteError(rec, r, err)
			return
		}
		if r.Body != nil {
			r.Body = http.MaxBytesReader(rec, r.Body, o.MaxBody)
		}
		next.ServeHTTP(rec, r)
	})
}

func secure(h http.Header, requestID string) {
	h.Set(RequestIDHeader, requestID)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy",
		"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
}

// checkHost defeats DNS rebinding: a page of a stranger whose name now points here still sends its own
// name as Host.
func checkHost(r *http.Request, allowed []string) error {
	host := strings.ToLower(strings.TrimSuffix(hostname(r.Host), "."))
	if loopback(host) || slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, host) }) {
		return nil
	}
	return fault.New(fault.Forbidden, "request.foreign_host", "this server is not called %q", host).
		WithHint("use the address that flywheel up printed, or add the name to hosts in config.yaml")
}

func hostname(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return strings.Trim(hostport, "[]")
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkOrigin refuses what the page of another origin sends. Programs send neither header and pass:
// they have to show a token, which no page can know.
func checkOrigin(r *http.Request) error {
	refused := fault.New(fault.Forbidden, "request.foreign_origin", "a page of another origin may not call this server").
		WithHint("call the API from a program with its token, or open the server's own address")
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		u, err := url.Parse(origins[0])
		if len(origins) > 1 || err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) || u.Scheme != scheme(r) {
			return refused
		}
		return nil
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return nil
	}
	// A link on another page that a person followed is a plain navigation; it may open a page, not the API.
	navigation := r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" &&
		r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, "/api/") && !strings.HasPrefix(r.URL.Path, "/v1/")
	if navigation {
		return nil
	}
	return refused
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func recoverPanic(w *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // the server compares it so
		panic(p)
	}
	err := fault.Wrap(fmt.Errorf("panic: %v\n%s", p, debug.Stack()), fault.Internal, "internal", "internal error")
	if w.status == 0 {
		WriteError(w, r, err)
		return
	}
	Note(r.Context(), err)
	panic(http.ErrAbortHandler) // the answer had begun: cut it, so that nobody takes it for whole
}

// logAccess writes one line per request. The query is left out: a sign-in link has its code there.
func logAccess(log *slog.Logger, r *http.Request, w *recorder, state *request, took time.Duration) {
	state.mu.Lock()
	err := state.err
	attrs := append([]slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", w.status),
		slog.Int64("bytes", w.bytes), slog.Duration("took", took.Round(time.Microsecond)),
		slog.String("request_id", state.id),
	}, state.attrs...)
	state.mu.Unlock()
	level := slog.LevelDebug
	if err != nil {
		kind := fault.KindOf(err)
		attrs = append(attrs, slog.String("kind", string(kind)), slog.Any("error", err))
		if level = slog.LevelInfo; kind == fault.Internal {
			level = slog.LevelError
		}
	}
	log.LogAttrs(context.WithoutCancel(r.Context()), level, "request", attrs...)
}
