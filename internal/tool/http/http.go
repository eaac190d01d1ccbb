// Package http calls tools that are HTTP requests: one attempt, no retries. Statuses and broken
// connections become classes; what proves that nothing happened is kept apart from what does not.
package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"flywheel/internal/tool/wire"
	"flywheel/spec"
)

// maxRedirects are followed, on the same host and for requests without effect only.
const maxRedirects = 3

// Client sends requests; goroutines share it.
type Client struct{ http *http.Client }

// Request is a call of an HTTP tool.
type Request struct {
	Call   *spec.HTTPCall
	Effect spec.Effect
	Scope  wire.Scope
	Args   json.RawMessage
	// KeyHeader carries Key, when both are set; the key never is in the URL or the body.
	KeyHeader, Key string
}

// New makes a client with its own connections.
func New() *Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	return &Client{&http.Client{Transport: t}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do sends the request and reads the answer.
func (c *Client) Do(ctx context.Context, r Request) wire.Answer {
	req, err := r.build(ctx)
	if err != nil {
		return wire.Answer{Failure: wire.Fail(wire.Rejected, "%v", err)}
	}
	client := *c.http
	client.CheckRedirect = r.checkRedirect
	resp, err := client.Do(req)
	if err != nil {
		return wire.Answer{Failure: r.transportFailure(ctx, err)}
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		return wire.Answer{Status: resp.StatusCode, Failure: statusFailure(resp)}
	}
	return read(resp)
}

func (r Request) build(ctx context.Context) (*http.Request, error) {
	target, err := r.Scope.URL(r.Call.URL)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(target); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%s is not an http URL", r.Call.URL) // the template: values may be secret
	}
	method := strings.ToUpper(r.Call.Method)
	var body io.Reader
	if method != http.MethodGet && method != http.MethodHead && method != http.MethodDelete || r.Call.Body != nil {
		b, err := r.body()
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s is not a request", method, r.Call.URL)
	}
	req.GetBody = nil // a request is never sent twice behind the policy's back
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, template := range r.Call.Headers {
		v, _, err := r.Scope.Private(template)
		if err != nil {
			return nil, err
		}
		req.Header.Set(name, v)
	}
	if r.KeyHeader != "" && r.Key != "" {
		req.Header.Set(r.KeyHeader, r.Key)
	}
	return req, nil
}

func (r Request) body() ([]byte, error) {
	if r.Call.Body == nil {
		if len(r.Args) == 0 {
			return []byte("{}"), nil
		}
		return r.Args, nil
	}
	v, err := r.Scope.Value(r.Call.Body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

var errRedirect = errors.New("redirect refused")

func (r Request) checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case r.Effect != spec.EffectRead:
		return fmt.Errorf("%w: a call with an effect is not sent elsewhere", errRedirect)
	case req.URL.Host != first.URL.Host || req.URL.Scheme != first.URL.Scheme:
		return fmt.Errorf("%w: it leads to another host, %s", errRedirect, req.URL.Host)
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d", errRedirect, maxRedirects)
	}
	return nil
}

// transportFailure describes an error without the URL, which may hold secrets.
func (r Request) transportFailure(ctx context.Context, err error) *wire.Failure {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	what := strings.ToUpper(r.Call.Method) + " " + r.Call.URL
	switch {
	case errors.Is(err, errRedirect) && r.Effect != spec.EffectRead:
		return wire.Fail(wire.Malformed, "%s: %v", what, err) // many servers redirect after they have done it
	case errors.Is(err, errRedirect):
		return wire.Fail(wire.Rejected, "%s: %v", what, err)
	case ctx.Err() != nil:
		return wire.Fail(classOfContext(ctx), "%s: %v", what, ctx.Err())
	}
	class := wire.ClassOfError(err)
	switch class {
	case wire.Unavailable:
		return wire.Fail(class, "%s: the server cannot be reached: %v", what, err)
	case wire.Reset:
		return wire.Fail(class, "%s: the connection broke before the answer: %v", what, err)
	}
	return wire.Fail(class, "%s: %v", what, err)
}

func classOfContext(ctx context.Context) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return wire.Timeout
	}
	return wire.Canceled
}

func statusFailure(resp *http.Response) *wire.Failure {
	f := wire.Fail(wire.ClassOfStatus(resp.StatusCode), "status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	f.Status = resp.StatusCode
	f.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	if b, failure := wire.ReadAll(resp.Body); failure == nil {
		if said := message(b); said != "" {
			f.Message += ": " + wire.Short(said)
		}
	}
	return f
}

// message is what an error body says: its message in the usual places, or the text itself.
func message(body []byte) string {
	var m map[string]any
	if json.Unmarshal(body, &m) != nil {
		return string(body)
	}
	for _, k := range []string{"message", "detail", "error_description", "title", "error"} {
		switch v := m[k].(type) {
		case string:
			return v
		case map[string]any:
			if s, ok := v["message"].(string); ok {
				return s
			}
		}
	}
	return string(body)
}

func retryAfter(header string) time.Duration {
	if s, err := strconv.Atoi(header); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	return 0 // a date needs the server's clock to be right
}

func read(resp *http.Response) wire.Answer {
	b, failure := wire.ReadAll(resp.Body)
	if failure != nil {
		return wire.Answer{Status: resp.StatusCode, Failure: failure}
	}
	a := wire.Answer{Status: resp.StatusCode}
	if len(bytes.TrimSpace(b)) == 0 {
		a.Out = json.RawMessage("{}")
		return a
	}
	if out, ok := wire.Compact(b); ok {
		a.Out = out
		return a
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/plain" {
		a.Out = wire.Text(string(b))
		return a
	}
	a.Failure = wire.Fail(wire.Malformed, "the answer is not JSON: %s", wire.Short(string(b)))
	a.Failure.Status = resp.StatusCode
	return a
}
