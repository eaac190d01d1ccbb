// Package modeltest is a server for tests that speaks OpenAI's chat completions over real HTTP and
// answers what the test says, errors of all kinds included.
package modeltest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Answer is what the server does with one request. The zero value answers with an empty text.
type Answer struct {
	Text   string // streamed word by word
	Calls  []Call
	Finish string // default: stop, or tool_calls
	Usage  *Usage // default: 10 in, as many out as there are words

	Status  int           // another HTTP status than 200, with Error as its words
	Error   string        // words of the error; with Status 0: an error event after the text
	Raw     string        // sent as it is, instead of everything else
	Type    string        // content type with Raw; default text/event-stream
	Die     bool          // close the connection after the text, without an end
	Hang    bool          // send the headers and the text, then nothing until the client goes
	Silent  bool          // send nothing at all until the client goes
	Until   chan struct{} // wait for this before answering
	NoUsage bool          // leave the usage out
	Whole   bool          // one JSON document instead of a stream
}

// Call is a tool call, its arguments sent in small fragments.
type Call struct {
	ID   string // default call_N
	Name string
	Args string
}

// Usage is what the answer claims to have used.
type Usage struct{ In, Out, Cached int }

// Request is what a client sent.
type Request struct {
	Path   string
	Header http.Header
	Body   map[string]any
	Raw    []byte
}

// Server is the running server.
type Server struct {
	URL string // without /v1
	// Gone gets a value whenever a client went away before its answer was whole.
	Gone chan struct{}

	mu       sync.Mutex
	answers  []Answer
	requests []Request
	paths    map[string]string
	reply    func(Request) Answer
}

// New starts a server that gives the answers in order and repeats the last one. It ends with the test.
func New(tb testing.TB, answers ...Answer) *Server {
	tb.Helper()
	s := &Server{answers: answers, paths: map[string]string{}, Gone: make(chan struct{}, 64)}
	h := httptest.NewServer(http.HandlerFunc(s.serve))
	tb.Cleanup(h.Close)
	tb.Cleanup(h.CloseClientConnections)
	s.URL = h.URL
	return s
}

// Func makes the server answer with fn, which may be called concurrently.
func (s *Server) Func(fn func(Request) Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = fn
}

// JSON makes the server answer a path beside the chat, such as /props, with a document.
func (s *Server) JSON(path, document string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths[path] = document
}

// Requests are the chat requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	document, ok := s.paths[r.URL.Path]
	s.mu.Unlock()
	if ok {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, document)
		return
	}
	if r.URL.Path != "/v1/chat/completions" {
		http.Error(w, `{"error":{"message":"no such path","type":"not_found"}}`, http.StatusNotFound)
		return
	}
	req := Request{Path: r.URL.Path, Header: r.Header.Clone(), Raw: body}
	_ = json.Unmarshal(body, &req.Body)
	a := s.next(req)
	if a.Silent {
		<-r.Context().Done()
		s.left()
		return
	}
	if a.Until != nil {
		select {
		case <-a.Until:
		case <-r.Context().Done():
			s.left()
			return
		}
	}
	s.answer(w, r, req, a)
}

func (s *Server) next(req Request) Answer {
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, req)
	reply := s.reply
	s.mu.Unlock()
	if reply != nil {
		return reply(req)
	}
	if len(s.answers) == 0 {
		return Answer{Status: http.StatusInternalServerError, Error: "the test gave no answer"}
	}
	return s.answers[min(n, len(s.answers)-1)]
}

func (s *Server) left() {
	select {
	case s.Gone <- struct{}{}:
	default:
	}
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, req Request, a Answer) {
	model, _ := req.Body["model"].(string)
	if a.Status != 0 && a.Status != http.StatusOK {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": a.Error, "type": "test"}})
		return
	}
	kind := a.Type
	if kind == "" {
		kind = "text/event-stream"
	}
	if a.Whole {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	if a.Raw != "" {
		_, _ = io.WriteString(w, a.Raw)
		return
	}
	if a.Whole {
		_ = json.NewEncoder(w).Encode(whole(model, a))
		return
	}
	out := &stream{w: w, model: model}
	out.text(a.Text)
	switch {
	case a.Die:
		panic(http.ErrAbortHandler)
	case a.Hang:
		out.flush()
		<-r.Context().Done()
		s.left()
		return
	case a.Error != "":
		out.event(map[string]any{"error": map[string]any{"message": a.Error, "code": a.Status}})
		return
	}
	out.calls(a.Calls)
	out.end(a)
}

type stream struct {
	w     http.ResponseWriter
	model string
}

func (s *stream) flush() { _ = http.NewResponseController(s.w).Flush() }

func (s *stream) event(v any) {
	b, _ := json.Marshal(v)
	_, _ = fmt.Fprintf(s.w, "data: %s\n\n", b)
	s.flush()
}

func (s *stream) delta(delta map[string]any, finish any) {
	s.event(map[string]any{
		"object": "chat.completion.chunk", "model": s.model,
		"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
	})
}

func (s *stream) text(text string) {
	s.delta(map[string]any{"role": "assistant"}, nil)
	for _, word := range strings.SplitAfter(text, " ") {
		if word != "" {
			s.delta(map[string]any{"content": word}, nil)
		}
	}
}

func (s *stream) calls(calls []Call) {
	for i, c := range calls {
		s.delta(map[string]any{"tool_calls": []any{map[string]any{
			"index": i, "id": c.id(i), "type": "function", "function": map[string]any{"name": c.Name, "arguments": ""},
		}}}, nil)
		for piece := range slices.Chunk([]rune(c.Args), 5) {
			s.delta(map[string]any{"tool_calls": []any{map[string]any{
				"index": i, "function": map[string]any{"arguments": string(piece)},
			}}}, nil)
		}
	}
}

func (s *stream) end(a Answer) {
	s.delta(map[string]any{}, a.finish())
	if !a.NoUsage {
		s.event(map[string]any{"object": "chat.completion.chunk", "model": s.model, "choices": []any{}, "usage": a.usage()})
	}
	_, _ = io.WriteString(s.w, "data: [DONE]\n\n")
}

func (c Call) id(i int) string {
	if c.ID != "" {
		return c.ID
	}
	return fmt.Sprintf("call_%d", i+1)
}

func (a Answer) finish() string {
	switch {
	case a.Finish != "":
		return a.Finish
	case len(a.Calls) > 0:
		return "tool_calls"
	}
	return "stop"
}

func (a Answer) usage() map[string]any {
	u := a.Usage
	if u == nil {
		u = &Usage{In: 10, Out: len(strings.Fields(a.Text)) + 5*len(a.Calls)}
	}
	return map[string]any{
		"prompt_tokens": u.In, "completion_tokens": u.Out, "total_tokens": u.In + u.Out,
		"prompt_tokens_details": map[string]any{"cached_tokens": u.Cached},
	}
}

func whole(model string, a Answer) map[string]any {
	message := map[string]any{"role": "assistant", "content": a.Text}
	var calls []any
	for i, c := range a.Calls {
		calls = append(calls, map[string]any{"id": c.id(i), "type": "function", "function": map[string]any{"name": c.Name, "arguments": c.Args}})
	}
	if calls != nil {
		message["tool_calls"] = calls
	}
	return map[string]any{
		"object": "chat.completion", "model": model, "usage": a.usage(),
		"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": a.finish()}},
	}
}
