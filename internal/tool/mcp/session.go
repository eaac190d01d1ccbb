package mcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"flywheel/internal/tool/wire"
)

// protocol is the newest one with sessions, in which a silent server can be pinged.
const protocol = "2025-11-25"

// session is a connection to one server.
type session struct {
	server Server
	log    *slog.Logger
	mcp    *sdk.ClientSession
	cmd    *exec.Cmd // nil over HTTP
	stderr *tail
	dead   chan struct{} // closed when nothing is left of the session

	broken  atomic.Bool // a call found the connection closed: dead soon
	pinging atomic.Bool
	stale   atomic.Bool // the server says that its list has changed
	mu      sync.Mutex  // guards known
	known   map[string]Tool
}

// open starts the server, where it is a command, and says hello.
func (p *Pool) open(ctx context.Context, server Server) (*session, *wire.Failure) {
	s := &session{server: server, log: p.log, dead: make(chan struct{}), stderr: &tail{secrets: server.Secrets}}
	client := sdk.NewClient(&sdk.Implementation{Name: "flywheel", Version: "1"}, &sdk.ClientOptions{
		Capabilities:           &sdk.ClientCapabilities{}, // a tool server asks nothing of us
		ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) { s.stale.Store(true) },
	})
	var err error
	s.mcp, err = client.Connect(ctx, s.transport(ctx, p), &sdk.ClientSessionOptions{ProtocolVersion: protocol})
	if err != nil {
		s.killGroup()
		return nil, s.startFailure(err)
	}
	p.log.Debug("mcp server started", slog.String("server", server.Name))
	return s, nil
}

func (s *session) transport(ctx context.Context, p *Pool) sdk.Transport {
	if len(s.server.Command) == 0 {
		client := &http.Client{Transport: &httpTransport{inner: p.http, headers: s.server.Headers}}
		return &sdk.StreamableClientTransport{Endpoint: s.server.URL, HTTPClient: client, MaxEventSize: 2 * wire.MaxAnswer}
	}
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), s.server.Command[0], s.server.Command[1:]...)
	s.cmd.Env = append([]string{}, s.server.Env...)
	s.cmd.Stderr = s.stderr
	s.cmd.WaitDelay = terminateAfter // a grandchild may hold stderr open
	setProcess(s.cmd)
	return &spawned{inner: &sdk.CommandTransport{Command: s.cmd, TerminateDuration: terminateAfter}, spawn: p.spawn}
}

func (s *session) startFailure(err error) *wire.Failure {
	what := fmt.Sprintf("the MCP server %s does not start", s.server.Name)
	if s.cmd == nil {
		what = fmt.Sprintf("the MCP server %s cannot be reached", s.server.Name)
	}
	var missing *exec.Error
	if errors.As(err, &missing) {
		return wire.Fail(wire.Unavailable, "%s: %s: %v", what, missing.Name, missing.Err)
	}
	if last := s.stderr.last(); last != "" {
		return wire.Fail(wire.Unavailable, "%s: it says: %s", what, last)
	}
	return wire.Fail(wire.Unavailable, "%s: %s", what, s.hide(err.Error()))
}

// watch returns when the session has ended and nothing of its process is left.
func (s *session) watch() {
	err := s.mcp.Wait()
	close(s.dead)
	s.killGroup()
	s.log.Debug("mcp server ended", slog.String("server", s.server.Name), slog.Any("error", err))
}

func (s *session) isDead() bool {
	if s.broken.Load() {
		return true
	}
	select {
	case <-s.dead:
		return true
	default:
		return false
	}
}

// giveUp makes the next call start a new session.
func (s *session) giveUp() {
	if !s.broken.Swap(true) {
		go s.close()
	}
}

// close ends the session in order.
func (s *session) close() { _ = s.mcp.Close() }

func (s *session) killGroup() {
	if s.cmd != nil && s.cmd.Process != nil {
		killGroup(s.cmd.Process.Pid)
	}
}

// call makes one tools/call.
func (s *session) call(ctx context.Context, call Call) wire.Answer {
	sent := &delivery{}
	params := &sdk.CallToolParams{Name: call.Tool, Meta: sdk.Meta(call.Meta)}
	if len(call.Args) > 0 {
		params.Arguments = call.Args
	}
	res, err := s.mcp.CallTool(context.WithValue(ctx, deliveryKey{}, sent), params)
	if err != nil {
		f := s.callFailure(ctx, err, sent)
		return wire.Answer{Status: f.Status, Failure: f}
	}
	return answer(res)
}

func (s *session) callFailure(ctx context.Context, err error, sent *delivery) *wire.Failure {
	name, status := s.server.Name, int(sent.status.Load())
	var said *jsonrpc.Error
	switch {
	case ctx.Err() != nil:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			go s.checkAlive()
		}
		return wire.Fail(classOfContext(ctx), "the MCP server %s did not answer in time", name)
	case errors.Is(err, sdk.ErrSessionMissing):
		s.giveUp() // the server was restarted and did not run the call
		return wire.Fail(wire.Unavailable, "the MCP server %s has forgotten the session", name)
	case status >= 400:
		f := wire.Fail(wire.ClassOfStatus(status), "the MCP server %s answered with status %d", name, status)
		f.Status = status
		if f.Class == wire.Rejected {
			s.giveUp() // the SDK has closed the session
		}
		return f
	case s.cmd == nil && !sent.left.Load():
		s.giveUp()
		return wire.Fail(wire.Unavailable, "the MCP server %s cannot be reached", name)
	case s.cmd == nil && status == 0: // no answer: what the error says comes from this side
	case errors.As(err, &said) && !errors.Is(err, sdk.ErrConnectionClosed):
		return protocolFailure(name, said)
	}
	s.giveUp()
	s.awaitEnd()
	message := fmt.Sprintf("the MCP server %s ended in the middle of the call", name)
	if last := s.stderr.last(); last != "" {
		message += "; its last words: " + last
	}
	return wire.Fail(wire.Reset, "%s", message)
}

// awaitEnd gives a process that has closed its connection a moment to end, so that its last words are
// there to be told.
func (s *session) awaitEnd() {
	if s.cmd == nil {
		return
	}
	limit := time.NewTimer(lastWordsLimit)
	defer limit.Stop()
	select {
	case <-s.dead:
	case <-limit.C:
	}
}

// protocolFailure is what a JSON-RPC error means. One that comes before the tool ran is a rejection.
func protocolFailure(server string, e *jsonrpc.Error) *wire.Failure {
	switch e.Code {
	case jsonrpc.CodeMethodNotFound, jsonrpc.CodeInvalidParams, jsonrpc.CodeInvalidRequest, jsonrpc.CodeParseError:
		return wire.Fail(wire.Rejected, "the MCP server %s refuses the call: %s", server, wire.Short(e.Message))
	}
	f := wire.Fail(wire.Unavailable, "the MCP server %s failed: %s", server, wire.Short(e.Message))
	f.Status = http.StatusInternalServerError
	return f
}

// checkAlive kills a server that answers nothing any more, so that the next call starts a new one.
func (s *session) checkAlive() {
	if s.cmd == nil || s.pinging.Swap(true) {
		return
	}
	defer s.pinging.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), pingLimit)
	defer cancel()
	if err := s.mcp.Ping(ctx, nil); err != nil && !s.isDead() {
		s.log.Warn("mcp server does not answer: stopped", slog.String("server", s.server.Name))
		s.killGroup()
		s.close()
	}
}

// hide takes secrets out of a message.
func (s *session) hide(text string) string { return hide(text, s.server.Secrets) }

func hide(text string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) >= 6 {
			text = strings.ReplaceAll(text, secret, "•••")
		}
	}
	return wire.Short(text)
}

// tail keeps the end of what a server writes to stderr.
type tail struct {
	secrets []string
	mu      sync.Mutex
	buf     []byte
}

const tailSize = 4096

// Write keeps the last bytes.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(b), nil
}

// last is the last line that says something.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	return hide(lines[len(lines)-1], t.secrets)
}

// httpTransport adds the declared headers and remembers what became of calls.
type httpTransport struct {
	inner   http.RoundTripper
	headers map[string]string
}

type deliveryKey struct{}

// delivery is what became of a request: whether it may have left, and the status that came back.
type delivery struct {
	left   atomic.Bool
	status atomic.Int64
}

// RoundTrip sends a request of the SDK.
func (t *httpTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if len(t.headers) > 0 {
		req = req.Clone(req.Context())
		for k, v := range t.headers {
			req.Header.Set(k, v)
		}
	}
	resp, err := t.inner.RoundTrip(req)
	if d, ok := req.Context().Value(deliveryKey{}).(*delivery); ok {
		if err == nil {
			d.status.Store(int64(resp.StatusCode))
		}
		if err == nil || wire.ClassOfError(err) != wire.Unavailable {
			d.left.Store(true)
		}
	}
	return resp, err
}
