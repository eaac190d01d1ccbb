package local

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"flywheel/internal/platform/clock"
)

// Deps is what a Supervisor needs.
type Deps struct {
	CacheDir string
	Clock    clock.Clock
	Log      *slog.Logger
	Getenv   func(string) string
	Context  int           // tokens of context per server; 0: 4096, or less when the model knows less
	Threads  int           // 0: one per processor but one
	Startup  time.Duration // how long a start may take; 0: two minutes
}

// Supervisor owns the servers of one process.
type Supervisor struct {
	deps    Deps
	digests sync.Mutex

	mu      sync.Mutex
	servers map[string]*Server // by path of the file
	closed  bool
}

// Errors of the package. The caller turns them into its own words.
var (
	ErrNoModel  = errors.New("there is no such model file")
	ErrNoEngine = errors.New("there is no server for model files")
	ErrClosed   = errors.New("the local servers have been stopped")
)

const defaultContext = 4096

// New makes a supervisor. It starts nothing.
func New(d Deps) *Supervisor {
	if d.Threads == 0 {
		d.Threads = max(1, runtime.NumCPU()-1)
	}
	if d.Startup == 0 {
		d.Startup = 2 * time.Minute
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Clock == nil {
		d.Clock = clock.Real()
	}
	return &Supervisor{deps: d, servers: map[string]*Server{}}
}

// Server is the server of a model. It is made on the first call and shared afterwards.
func (s *Supervisor) Server(name string) (*Server, error) {
	file, ok := s.Find(name)
	if !ok {
		return nil, ErrNoModel
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if srv, ok := s.servers[file.Path]; ok {
		return srv, nil
	}
	engines := s.Engines()
	if len(engines) == 0 {
		return nil, ErrNoEngine
	}
	srv := newServer(s.deps, file, engines)
	s.servers[file.Path] = srv
	return srv, nil
}

// ContextSize is the context that a server of the file is given.
func (s *Supervisor) ContextSize(m Meta) int { return contextSize(s.deps, m) }

func contextSize(d Deps, m Meta) int {
	size := d.Context
	if size == 0 {
		size = defaultContext
	}
	if m.Context > 0 {
		size = min(size, m.Context)
	}
	return size
}

// Running lists the servers that have been asked for.
func (s *Supervisor) Running() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Status
	for _, srv := range s.servers {
		out = append(out, srv.Status())
	}
	return out
}

// Close ends all servers and waits until their processes are gone.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	servers := s.servers
	s.servers, s.closed = map[string]*Server{}, true
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, srv := range servers {
		all.Go(srv.stop)
	}
	all.Wait()
	return nil
}

// Conn is a healthy server during one call.
type Conn struct {
	Base string // http://127.0.0.1:PORT/v1
	Key  string
	PID  int
}

// Use waits for its turn and for a healthy server, then calls fn. compute is the processor time that the
// server spent meanwhile.
func (s *Server) Use(ctx context.Context, fn func(Conn) error) (compute time.Duration, err error) {
	select {
	case s.turn <- struct{}{}: // Go serves waiting senders in the order in which they came
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-s.turn }()
	conn, err := s.healthy(ctx)
	if err != nil {
		return 0, err
	}
	before, known := processTime(conn.PID)
	err = fn(conn)
	if after, ok := processTime(conn.PID); ok && known {
		compute = after - before
	}
	return compute, err
}
