package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"syscall"
	"time"

	"flywheel/internal/platform/fault"
)

// Client talks to one server.
type Client struct {
	Base   string // up to and including /v1, without a slash at the end
	Key    string // bearer token; may be empty
	Name   string // how errors call the server
	Header http.Header
	HTTP   *http.Client
	// Idle is how long a stream may be silent; 0 means five minutes.
	Idle time.Duration
}

// Codes of the faults.
const (
	CodeUnreachable = "model.unreachable"
	CodeInterrupted = "model.interrupted"
	CodeMalformed   = "model.malformed"
	CodeRefused     = "model.refused"
	CodeTimeout     = "model.timeout"
)

// maxErrorBody is how much of an error page is read.
const maxErrorBody = 64 << 10

var errIdle = errors.New("the server has been silent for too long")

// Complete sends the request and reads the answer, giving each piece to onChunk (may be nil) in the
// calling goroutine.
func (c *Client) Complete(ctx context.Context, req Request, onChunk func(Chunk)) (Completion, error) {
	req.Stream = true
	req.StreamOptions = &StreamOptions{IncludeUsage: true}
	body, err := json.Marshal(req)
	if err != nil {
		return Completion{}, fault.Wrap(err, fault.Internal, "model.encode", "encode the request")
	}
	watched, watch, stop := c.watch(ctx)
	defer stop()
	resp, err := c.send(watched, http.MethodPost, "/chat/completions", body)
	if err != nil {
		return Completion{}, c.sendError(ctx, watched, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return Completion{}, c.statusError(resp)
	}
	a := &assembly{client: c, onChunk: onChunk, earlier: CallsIn(req.Messages)}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/json" {
		err = a.whole(&watchedReader{resp.Body, watch})
	} else {
		err = a.stream(&watchedReader{resp.Body, watch})
	}
	out, doneErr := a.done()
	if err == nil {
		err = doneErr
	}
	if err != nil {
		return Completion{}, c.readError(ctx, watched, err)
	}
	return out, nil
}

// watchdog cancels a request when nothing arrives for a while.
type watchdog struct {
	timer *time.Timer
	idle  time.Duration
}

func (c *Client) watch(ctx context.Context) (context.Context, *watchdog, func()) {
	idle := c.Idle
	if idle == 0 {
		idle = 5 * time.Minute
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{idle: idle}
	w.timer = time.AfterFunc(idle, func() { cancel(errIdle) })
	return ctx, w, func() {
		w.timer.Stop()
		cancel(context.Canceled)
	}
}

type watchedReader struct {
	io.Reader
	watch *watchdog
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.watch.timer.Reset(r.watch.idle)
	return n, err
}

// startAttempts is how often a refused connection is tried: the one failure after which nothing can have
// happened, and that a server which is just starting gives.
const startAttempts = 3

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	client := c.HTTP
	if client == nil {
		client = shared
	}
	for attempt := 1; ; attempt++ {
		req, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		for k, v := range c.Header {
			req.Header[k] = v
		}
		// Tells the transport, without a word to the server, that it may send the request again when a kept
		// connection turns out to have been closed by the other side before anything was answered.
		req.Header["Idempotency-Key"] = nil
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "text/event-stream, application/json")
		if c.Key != "" {
			req.Header.Set("Authorization", "Bearer "+c.Key)
		}
		resp, err := client.Do(req)
		if err == nil || attempt == startAttempts || !errors.Is(err, syscall.ECONNREFUSED) {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Duration(attempt) * 50 * time.Millisecond):
		}
	}
}

// shared keeps connections open between calls. It never follows a redirect: a key must not travel.
var shared = &http.Client{
	Transport: transport(),
	CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	},
}

func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	return t
}

// ended is the fault when the caller's context is why the call ended, or nil.
func (c *Client) ended(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.Wrap(err, fault.Timeout, CodeTimeout, "%s did not answer in time", c.Name)
	}
	return fault.Wrap(context.Cause(ctx), fault.Canceled, "canceled", "the call to %s was canceled", c.Name)
}

func (c *Client) sendError(ctx, watched context.Context, err error) error {
	if e := c.ended(ctx, err); e != nil {
		return e
	}
	if errors.Is(context.Cause(watched), errIdle) {
		return fault.Wrap(errIdle, fault.Timeout, CodeTimeout, "%s did not answer", c.Name)
	}
	var op interface{ Timeout() bool }
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fault.Wrap(err, fault.Unavailable, CodeInterrupted, "%s closed the connection before it answered", c.Name)
	case errors.As(err, &op) && op.Timeout():
		return fault.Wrap(err, fault.Timeout, CodeTimeout, "%s did not answer in time", c.Name)
	}
	return fault.Wrap(err, fault.Unavailable, CodeUnreachable, "%s cannot be reached at %s", c.Name, c.Base)
}

func (c *Client) readError(ctx, watched context.Context, err error) error {
	if e := c.ended(ctx, err); e != nil { // first: what a cut connection left behind may look like garbage
		return e
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	if errors.Is(context.Cause(watched), errIdle) {
		err = errIdle
	}
	if errors.Is(err, errEventTooBig) {
		return fault.Wrap(err, fault.Invalid, CodeMalformed, "the stream of %s cannot be read", c.Name)
	}
	return fault.Wrap(err, fault.Unavailable, CodeInterrupted, "the stream of %s broke", c.Name)
}

// statusError reads what the server says when it refuses.
func (c *Client) statusError(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var f struct {
		Error wireError `json:"error"`
	}
	words := http.StatusText(resp.StatusCode)
	if json.Unmarshal(body, &f) == nil && f.Error.Message != "" {
		words = f.Error.Message
	} else if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/plain" && len(body) > 0 {
		words = string(body)
	}
	return c.refused(resp.StatusCode, words)
}

func (c *Client) refused(status int, words string) *fault.Error {
	words = strings.TrimSpace(words)
	if r := []rune(words); len(r) > 500 {
		words = string(r[:500]) + "…"
	}
	if c.Key != "" {
		words = strings.ReplaceAll(words, c.Key, "***")
	}
	e := fault.New(fault.KindOfStatus(status), CodeRefused, "%s refused with status %d: %s", c.Name, status, words)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return e.WithHint("check the key of %s: flywheel doctor shows where it comes from", c.Name)
	case http.StatusNotFound:
		return e.WithHint("flywheel models lists what can be called")
	case http.StatusTooManyRequests:
		return e.WithHint("wait, or take another model in flywheel.yaml")
	}
	return e
}

// Get fetches a JSON document beside the chat, such as /models, into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.document(ctx, http.MethodGet, path, nil, out)
}

// Post sends in as JSON and reads the JSON answer into out.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	return c.document(ctx, http.MethodPost, path, body, out)
}

func (c *Client) document(ctx context.Context, method, path string, body []byte, out any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return c.sendError(ctx, ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return c.statusError(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
	if err != nil {
		return c.readError(ctx, ctx, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fault.Wrap(err, fault.Invalid, CodeMalformed, "the answer of %s to %s cannot be read", c.Name, path)
	}
	return nil
}

// Models lists the ids at /models.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := c.Get(ctx, "/models", &list); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(list.Data))
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids, nil
}
