package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Options say where the server is and who calls.
type Options struct {
	// URL is the address of the server, as in http://127.0.0.1:7700.
	URL string
	// Token is sent as Authorization: Bearer.
	Token string
	// Transport carries the requests; nil means HTTP.
	Transport http.RoundTripper
}

// Client calls one server. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New makes a client.
func New(o Options) *Client {
	return &Client{
		base: strings.TrimRight(o.URL, "/"), token: o.Token,
		http: &http.Client{
			Transport: o.Transport,
			// A token is for one server: what answers with a redirect does not get it.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Call sends in as JSON (a nil in sends no body) and reads the answer into out, which may be nil or a
// *json.RawMessage. path starts with a slash and may have a query. An answer that is an error comes
// back as *Error.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in, "application/json")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return broken(ctx, err)
	}
	return decode(body, out)
}

// Event is one server-sent event.
type Event struct {
	ID   string
	Name string
	Data json.RawMessage
}

// Stream sends in as JSON, gives every event of the work to onEvent, and reads the result into out.
// An error of onEvent ends the call with that error.
func (c *Client) Stream(ctx context.Context, method, path string, in, out any, onEvent func(data json.RawMessage) error) error {
	resp, err := c.send(ctx, method, path, in, "text/event-stream")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return broken(ctx, err)
		}
		return decode(body, out)
	}
	events := newReader(resp.Body)
	for {
		e, err := events.next()
		switch {
		case errors.Is(err, io.EOF):
			return broken(ctx, io.ErrUnexpectedEOF)
		case err != nil:
			return broken(ctx, err)
		case e.Name == "result":
			return decode(e.Data, out)
		case e.Name == "error":
			return errorOf(0, e.Data)
		case e.Name == "event" && onEvent != nil:
			if err := onEvent(e.Data); err != nil {
				return err
			}
		}
	}
}

// Events follows what happens on the server, from the event after lastID on when that is not empty,
// until ctx ends or onEvent returns an error.
func (c *Client) Events(ctx context.Context, topics []string, lastID string, onEvent func(Event) error) error {
	query := url.Values{"topic": topics}
	if lastID != "" {
		query.Set("after", lastID)
	}
	resp, err := c.send(ctx, http.MethodGet, "/api/v1/events?"+query.Encode(), nil, "text/event-stream")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	events := newReader(resp.Body)
	for {
		e, err := events.next()
		if err != nil {
			return broken(ctx, err)
		}
		if err := onEvent(e); err != nil {
			return err
		}
	}
}

// Cancel asks the request with that id, sent by the same caller, to stop and answer with what it has.
func (c *Client) Cancel(ctx context.Context, requestID string) error {
	return c.Call(ctx, http.MethodPost, "/api/v1/requests/"+url.PathEscape(requestID)+"/cancel", nil, nil)
}

type requestIDKey struct{}

// NewRequestID makes an id for WithRequestID.
func NewRequestID() string { return "req_" + strings.ToLower(rand.Text()) }

// WithRequestID gives the calls made with the context a known id, so that Cancel can name them.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

func (c *Client) send(ctx context.Context, method, path string, in any, accept string) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", accept)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if id, ok := ctx.Value(requestIDKey{}).(string); ok {
		req.Header.Set("X-Request-Id", id)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return nil, errorOf(resp.StatusCode, b)
	}
	return resp, nil
}

func decode(body []byte, out any) error {
	if out == nil {
		return nil
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = bytes.Clone(bytes.TrimSpace(body))
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
