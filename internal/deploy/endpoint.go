package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
)

// Headers of the endpoint.
const (
	HeaderSession = "X-Flywheel-Session"
	HeaderRun     = "X-Flywheel-Run"
	HeaderRelease = "X-Flywheel-Release"
	HeaderSide    = "X-Flywheel-Side"    // stable or canary
	HeaderDropped = "X-Flywheel-Dropped" // request fields that an agent cannot follow
	// headerRetry tells OpenAI's clients not to repeat a request whose run has begun: it may have acted.
	headerRetry = "X-Should-Retry"
)

const (
	maxBody    = 8 << 20 // bytes
	maxSession = 200     // characters
	source     = "endpoint"
)

// Handler serves /v1/chat/completions and /v1/models. Whoever mounts it checks who calls.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("GET /v1/models/{model...}", s.model)
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, newWireError(http.StatusNotFound, "invalid_request_error", "unknown_url", "",
			fmt.Sprintf("unknown request URL: %s %s", r.Method, r.URL.Path)))
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(compact(v), '\n'))
}

func writeError(w http.ResponseWriter, e *wireError) {
	writeJSON(w, e.status, map[string]any{"error": e.body})
}

func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := wireErrorOf(err)
	if e.status >= http.StatusInternalServerError {
		s.deps.Log.ErrorContext(r.Context(), "endpoint failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	writeError(w, e)
}

// modelObject is an entry of /v1/models.
type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (s *Service) modelList(ctx context.Context) ([]modelObject, error) {
	list, err := s.deps.Releases.Channels(ctx, "")
	if err != nil {
		return nil, err
	}
	out := make([]modelObject, 0, len(list))
	for _, c := range list {
		out = append(out, modelObject{ID: ModelName(c.Agent, c.Name), Object: "model", Created: c.MovedAt.Unix(), OwnedBy: "flywheel"})
	}
	return out, nil
}

func (s *Service) models(w http.ResponseWriter, r *http.Request) {
	list, err := s.modelList(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

func (s *Service) model(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("model")
	list, err := s.modelList(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for _, m := range list {
		if m.ID == name || m.ID == "agent/"+name {
			writeJSON(w, http.StatusOK, m)
			return
		}
	}
	s.fail(w, r, fault.New(fault.NotFound, "deploy.no_model", "there is no model %q", name).WithHint("GET /v1/models lists them"))
}

func (s *Service) chat(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			err = newWireError(http.StatusRequestEntityTooLarge, "invalid_request_error", "", "", fmt.Sprintf("the body is larger than %d bytes", maxBody))
		}
		s.fail(w, r, err)
		return
	}
	req, err := parseChat(body)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	call, err := s.prepare(r, req)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set(HeaderSession, call.start.Session)
	h.Set(HeaderRelease, string(call.start.Release))
	h.Set(HeaderSide, call.target.Side)
	if len(req.dropped) > 0 {
		slices.Sort(req.dropped)
		h.Set(HeaderDropped, strings.Join(req.dropped, ", "))
	}
	if req.Stream {
		s.stream(w, r, call)
		return
	}
	s.answer(w, r, call)
}

// call is one request on its way.
type call struct {
	request *chatRequest
	target  *Target
	start   StartRequest
	created time.Time
}

func (s *Service) prepare(r *http.Request, req *chatRequest) (*call, error) {
	agent, channel, err := parseModel(req.Model)
	if err != nil {
		return nil, err
	}
	text, history, err := req.conversation()
	if err != nil {
		return nil, err
	}
	session, given, err := sessionOf(r, req)
	if err != nil {
		return nil, err
	}
	if !given {
		session = s.newSession(text, history)
	}
	target, err := s.Route(r.Context(), agent, channel, session)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	for k, v := range req.Metadata {
		if k != "session" {
			fields[k] = v
		}
	}
	return &call{request: req, target: target, created: s.deps.Clock.Now(), start: StartRequest{
		Identity: target.Identity, Release: target.Release, Agent: agent, Channel: channel, Source: source,
		Session: session, Message: text, History: history, Fields: fields, Env: target.Env,
	}}, nil
}

// sessionOf reads the session from the header, else from user, else from metadata.session.
func sessionOf(r *http.Request, req *chatRequest) (session string, given bool, err error) {
	session = r.Header.Get(HeaderSession)
	if session == "" {
		session = req.User
	}
	if session == "" {
		session = req.Metadata["session"]
	}
	if session == "" {
		return "", false, nil
	}
	control := strings.ContainsFunc(session, func(c rune) bool { return !unicode.IsPrint(c) })
	if len(session) > maxSession || control {
		return "", false, badRequest("user", "a session is at most %d printable characters", maxSession)
	}
	return session, true, nil
}

func (c *call) id(run string) string      { return "chatcmpl-" + run }
func (c *call) systemFingerprint() string { return "fp_" + c.target.Release.Short() }
func (c *call) withoutCaller(r *http.Request) context.Context {
	// A run that has begun may have acted: it goes on when the caller hangs up.
	return context.WithoutCancel(r.Context())
}

// waitingText answers for an agent that waits for a person.
const waitingText = "A person has to decide this first. The answer will follow."

func (c *call) reply(result Result) string {
	switch {
	case result.Waiting && result.Reply == "":
		return waitingText
	case result.Reply == "" && len(result.Data) > 0:
		return string(compact(result.Data))
	}
	return result.Reply
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request, c *call) {
	run, wait, err := s.deps.Runs.Start(c.withoutCaller(r), c.start)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set(HeaderRun, run)
	result, err := wait()
	if err != nil || result.Class != "" {
		w.Header().Set(headerRetry, "false")
		if err == nil {
			err = runError(run, result.Class, result.Message)
		}
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, completion{
		ID: c.id(run), Object: "chat.completion", Created: c.created.Unix(), Model: c.request.Model,
		Choices:           []choice{{Message: message{Role: "assistant", Content: c.reply(result)}, FinishReason: "stop"}},
		Usage:             usageOf(result.Usage),
		SystemFingerprint: c.systemFingerprint(),
	})
}

// stream sends the reply as it comes. Headers go out when the run has begun, so what is wrong with the
// request is an ordinary error answer, and what goes wrong later an error event.
func (s *Service) stream(w http.ResponseWriter, r *http.Request, c *call) {
	out := &chunkWriter{w: w, control: http.NewResponseController(w), call: c, ready: make(chan struct{})}
	c.start.OnText = out.text
	run, wait, err := s.deps.Runs.Start(c.withoutCaller(r), c.start)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out.begin(run)
	stop := out.heartbeat(httpx.HeartbeatEvery)
	result, err := wait()
	stop()
	switch {
	case err != nil:
		s.deps.Log.ErrorContext(r.Context(), "run not followed", slog.String("run", run), slog.Any("error", err))
		out.fail(wireErrorOf(err))
	case result.Class != "":
		out.fail(runError(run, result.Class, result.Message))
	default:
		out.end(c.reply(result), result)
	}
}

// chunkWriter writes OpenAI's stream: a chunk with the role, chunks with text, one with the reason to
// finish, one with the usage where it was asked for, and [DONE].
type chunkWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	call    *call
	ready   chan struct{} // closed by begin: text may come before Start has returned

	mu   sync.Mutex
	run  string
	sent strings.Builder
	done bool
}

func (o *chunkWriter) begin(run string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.run = run
	h := o.w.Header()
	h.Set(HeaderRun, run)
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	o.w.WriteHeader(http.StatusOK)
	empty := ""
	o.chunk([]chunkChoice{{Delta: delta{Role: "assistant", Content: &empty}}}, nil)
	close(o.ready)
}

// text is a piece of the reply.
func (o *chunkWriter) text(piece string) {
	<-o.ready
	o.mu.Lock()
	defer o.mu.Unlock()
	if piece == "" || o.done {
		return
	}
	o.sent.WriteString(piece)
	o.chunk([]chunkChoice{{Delta: delta{Content: &piece}}}, nil)
}

// end sends what of the reply was not streamed. Where the run replied something else than what was
// streamed, the reply follows as a paragraph of its own.
func (o *chunkWriter) end(reply string, result Result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = true
	streamed := o.sent.String()
	rest, ok := strings.CutPrefix(reply, streamed)
	switch {
	case ok:
	case strings.TrimSpace(streamed) == strings.TrimSpace(reply):
		rest = ""
	default:
		rest = "\n\n" + reply
	}
	if rest != "" {
		o.chunk([]chunkChoice{{Delta: delta{Content: &rest}}}, nil)
	}
	reason := "stop"
	o.chunk([]chunkChoice{{FinishReason: &reason}}, nil)
	if o.withUsage() {
		o.chunk([]chunkChoice{}, usageOf(result.Usage))
	}
	o.data([]byte("[DONE]"))
}

func (o *chunkWriter) fail(e *wireError) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = true
	o.data(compact(map[string]any{"error": e.body}))
}

func (o *chunkWriter) withUsage() bool {
	return o.call.request.StreamOptions != nil && o.call.request.StreamOptions.IncludeUsage
}

func (o *chunkWriter) chunk(choices []chunkChoice, u *usage) {
	c := chunk{
		ID: o.call.id(o.run), Object: "chat.completion.chunk", Created: o.call.created.Unix(), Model: o.call.request.Model,
		SystemFingerprint: o.call.systemFingerprint(), Choices: choices,
	}
	switch {
	case u != nil:
		c.Usage = compact(u)
	case o.withUsage():
		c.Usage = json.RawMessage("null")
	}
	o.data(compact(c))
}

// data writes one event; the caller holds the lock. A client that has gone makes writes fail: the run
// goes on, so that is no error here.
func (o *chunkWriter) data(b []byte) {
	_, _ = o.w.Write(append(append([]byte("data: "), b...), "\n\n"...))
	_ = o.control.Flush()
}

// heartbeat keeps the connection open while tools work.
func (o *chunkWriter) heartbeat(every time.Duration) (stop func()) {
	return httpx.Beat(every, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		_, _ = o.w.Write([]byte(httpx.Alive))
		_ = o.control.Flush()
	})
}
