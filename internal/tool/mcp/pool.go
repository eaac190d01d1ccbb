// Package mcp calls tools of MCP servers, over stdio or streamable HTTP: one attempt, no retries.
//
// Sessions are shared by everybody who names the same server in the same environment, and started again
// when they are dead. A server that is a command dies with Flywheel: it is in a process group of its own
// that is killed as a whole, its standard input closes, and on Linux the kernel kills it when Flywheel
// itself is killed.
package mcp

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"flywheel/internal/tool/wire"
)

const (
	startLimit     = 30 * time.Second // for a server to start and say hello
	pingLimit      = 5 * time.Second
	lastWordsLimit = 250 * time.Millisecond
	closeLimit     = 10 * time.Second
	terminateAfter = 2 * time.Second // from closing stdin to SIGTERM, and from there to SIGKILL
)

// Server is how an MCP server is reached; all values are filled in.
type Server struct {
	Name    string            `json:"-"` // for messages
	Command []string          `json:"command,omitempty"`
	Env     []string          `json:"env,omitempty"` // KEY=value, all that the process gets
	URL     string            `json:"url,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	// Secrets are texts that messages must not show.
	Secrets []string `json:"-"`
}

func (s Server) key() [32]byte {
	b, _ := json.Marshal(s) // strings always encode
	return sha256.Sum256(b)
}

// Call is one call of a tool of a server.
type Call struct {
	Tool string
	Args json.RawMessage
	Meta map[string]any
	// Pin is the schema that the tool must have; nil for any.
	Pin *Tool
}

// Pool holds the sessions.
type Pool struct {
	log   *slog.Logger
	http  *http.Transport
	spawn chan func()
	ctx   context.Context //nolint:containedctx // the life of the pool
	end   context.CancelFunc

	mu       sync.Mutex
	sessions map[[32]byte]*entry
	closed   bool
	alive    sync.WaitGroup // sessions that have not ended yet
}

// entry is a session that is starting, or has.
type entry struct {
	ready   chan struct{}
	session *session
	failure *wire.Failure
}

// NewPool makes a pool without sessions.
func NewPool(log *slog.Logger) *Pool {
	p := &Pool{
		log: log, http: http.DefaultTransport.(*http.Transport).Clone(),
		spawn: make(chan func()), sessions: map[[32]byte]*entry{},
	}
	p.ctx, p.end = context.WithCancel(context.Background())
	go spawner(p.spawn)
	return p
}

// Close ends all servers and waits until they are gone. A remote server that does not let go of its
// session is left alone after a while.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	entries := make([]*entry, 0, len(p.sessions))
	for _, e := range p.sessions {
		entries = append(entries, e)
	}
	p.mu.Unlock()
	p.end()
	for _, e := range entries {
		<-e.ready
		if e.session != nil {
			go e.session.close()
		}
	}
	gone := make(chan struct{})
	go func() {
		p.alive.Wait()
		close(gone)
	}()
	late := time.NewTimer(closeLimit)
	defer late.Stop()
	defer close(p.spawn) // whatever is left dies with the spawner's thread
	p.http.CloseIdleConnections()
	select {
	case <-gone:
		return nil
	case <-late.C:
		return fmt.Errorf("some MCP servers did not end within %s", closeLimit)
	}
}

// Do makes one attempt.
func (p *Pool) Do(ctx context.Context, server Server, call Call) wire.Answer {
	s, failure := p.session(ctx, server)
	if failure != nil {
		return wire.Answer{Failure: failure}
	}
	if call.Pin != nil {
		if failure := s.checkPin(ctx, call); failure != nil {
			return wire.Answer{Failure: failure}
		}
	}
	return s.call(ctx, call)
}

// Tools lists what the server offers, by name.
func (p *Pool) Tools(ctx context.Context, server Server) (map[string]Tool, *wire.Failure) {
	s, failure := p.session(ctx, server)
	if failure != nil {
		return nil, failure
	}
	return s.tools(ctx)
}

// session is the live session of a server; it starts one when there is none.
func (p *Pool) session(ctx context.Context, server Server) (*session, *wire.Failure) {
	key := server.key()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, wire.Fail(wire.Unavailable, "the tools are shut down")
	}
	e, ok := p.sessions[key]
	if !ok || e.isOver() {
		e = &entry{ready: make(chan struct{})}
		p.sessions[key] = e
		p.alive.Add(1)
		go p.start(e, server)
	}
	p.mu.Unlock()
	select {
	case <-e.ready:
		return e.session, e.failure
	case <-ctx.Done():
		return nil, wire.Fail(classOfContext(ctx), "the MCP server %s did not start in time", server.Name)
	}
}

// isOver says whether the entry can serve nobody any more.
func (e *entry) isOver() bool {
	select {
	case <-e.ready:
		return e.failure != nil || e.session.isDead()
	default:
		return false
	}
}

// start does not depend on the call that asked first: others may be waiting too.
func (p *Pool) start(e *entry, server Server) {
	ctx, cancel := context.WithTimeout(p.ctx, startLimit)
	defer cancel()
	e.session, e.failure = p.open(ctx, server)
	if e.failure != nil {
		p.alive.Done()
	} else {
		go func() {
			e.session.watch()
			p.alive.Done()
		}()
	}
	close(e.ready)
}

func classOfContext(ctx context.Context) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return wire.Timeout
	}
	return wire.Canceled
}
