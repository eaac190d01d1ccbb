package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"flywheel/internal/identity"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
	"flywheel/internal/platform/op"
)

// Deps is what a server serves.
type Deps struct {
	Ops      []op.Op
	Identity *identity.Service
	Bus      *bus.Bus
	// Data are the handlers of the data plane by path, as in "/v1/": they get signed-in
	// requests with op.Actor set.
	Data map[string]Data
	// Ready says why the server cannot work yet; nil means that it always can.
	Ready   func(ctx context.Context) error
	Version string
	// Hosts are the names by which the server may be called besides loopback names.
	Hosts []string
	Log   *slog.Logger
}

// Data is a handler of the data plane: it speaks a protocol of its own, also when it refuses.
type Data struct {
	http.Handler
	// Errors writes what goes wrong before the handler is reached; nil: problem+json.
	Errors httpx.ErrorWriter
}

// Server is the handler of a home. Close it before the services behind it.
type Server struct {
	deps    Deps
	router  *op.Router
	handler http.Handler
	openAPI func() ([]byte, error)

	stopping context.Context //nolint:containedctx // the life of the server
	stop     context.CancelFunc
}

// New puts the routes together. It makes no connection and starts nothing.
func New(d Deps) *Server {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{deps: d}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.router = op.NewRouter(op.RouterOptions{Guard: s.guard, Log: d.Log})
	ops := append(s.router.Ops(), d.Ops...)
	s.openAPI = sync.OnceValues(func() ([]byte, error) { return op.OpenAPI("Flywheel", d.Version, ops...) })

	inside := http.NewServeMux()
	s.router.Mount(inside, ops...)
	inside.Handle("GET /openapi.json", s.needs("api.read", http.HandlerFunc(s.serveOpenAPI)))
	if d.Bus != nil {
		inside.Handle("GET /api/v1/events", s.needs("events.read", s.untilStop(d.Bus)))
	}
	errors := map[string]httpx.ErrorWriter{}
	for pattern, h := range d.Data {
		inside.Handle(pattern, s.needs("data.use", h))
		if h.Errors != nil {
			errors[pattern] = h.Errors
		}
	}
	inside.Handle("/", s.needs("page.read", http.HandlerFunc(s.servePage)))

	outside := http.NewServeMux()
	outside.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	outside.HandleFunc("GET /readyz", s.serveReady)
	outside.HandleFunc("GET "+identity.LoginPath, d.Identity.Login)
	outside.Handle("/", s.signedIn(inside))
	s.handler = httpx.Wrap(outside, httpx.Options{Hosts: d.Hosts, Errors: errors, Log: d.Log})
	return s
}

// ServeHTTP serves a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the event streams, stops running operations and waits for them.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	return s.router.Close(ctx)
}

// untilStop ends the requests of a handler that would never end by itself when the server stops.
func (s *Server) untilStop(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.stopping, cancel)()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// signedIn lets only known callers pass and says who they are.
func (s *Server) signedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		actor, err := s.deps.Identity.Authenticate(r)
		if err != nil {
			if fault.KindOf(err) == fault.Unauthenticated && wantsPage(r) {
				httpx.Note(r.Context(), err)
				writePage(w, http.StatusUnauthorized, signInPage, nil)
				return
			}
			httpx.WriteError(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(op.WithActor(r.Context(), actor)))
	})
}

func (s *Server) guard(ctx context.Context, permission string) error {
	return s.deps.Identity.Allow(ctx, op.Actor(ctx), permission)
}

// needs guards a handler that is not an operation.
func (s *Server) needs(permission string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.guard(r.Context(), permission); err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if s.deps.Ready != nil {
		if err := s.deps.Ready(r.Context()); err != nil {
			httpx.Note(r.Context(), err)
			writeText(w, http.StatusServiceUnavailable, "not ready\n") // open to all, so no details
			return
		}
	}
	writeText(w, http.StatusOK, "ready\n")
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	doc, err := s.openAPI()
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(doc)
}

func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}
