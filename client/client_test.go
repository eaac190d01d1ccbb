package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"flywheel/client"
)

// both makes the same client over HTTP and in process.
func both(t *testing.T, h http.HandlerFunc) map[string]*client.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return map[string]*client.Client{
		"http":       client.New(client.Options{URL: srv.URL, Token: "fw_x"}),
		"in process": client.New(client.Options{URL: "http://localhost", Token: "fw_x", Transport: client.Handler(h)}),
	}
}

func sse(parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, p := range parts {
			_, _ = io.WriteString(w, p)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func code(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Kind + " " + e.Code
	}
	return ""
}

func TestStreamReadsEventsAndResult(t *testing.T) {
	t.Parallel()
	answer := sse(": alive\n\n", "event: ev", "ent\ndata: {\"n\":\ndata: 1}\n\n", "event: result\r\ndata: \"done\"\r\n\r\n")
	for name, c := range both(t, answer) {
		var out string
		var events []string
		err := c.Stream(t.Context(), "POST", "/x", nil, &out, func(e json.RawMessage) error {
			events = append(events, string(e))
			return nil
		})
		if err != nil || out != "done" || strings.Join(events, "|") != "{\"n\":\n1}" {
			t.Errorf("%s: %v %q %q", name, err, out, events)
		}
	}
}

func TestStreamThatIsCutIsAnError(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]http.HandlerFunc{
		"ends": sse("event: event\ndata: 1\n\n", "event: resu"),
		"breaks": func(w http.ResponseWriter, r *http.Request) {
			sse("event: event\ndata: 1\n\n")(w, r)
			panic(http.ErrAbortHandler)
		},
	} {
		for name, c := range both(t, answer) {
			if err := c.Stream(t.Context(), "POST", "/x", nil, nil, nil); code(err) != "unavailable client.cut" {
				t.Errorf("%s, %s: %v", what, name, err)
			}
		}
	}
}

func TestErrorEndsAStream(t *testing.T) {
	t.Parallel()
	answer := sse("event: error\ndata: {\"kind\":\"conflict\",\"code\":\"x.y\",\"detail\":\"no\",\"hint\":\"h\",\"errors\":[{\"path\":\"a\",\"message\":\"b\"}]}\n\n")
	for name, c := range both(t, answer) {
		var e *client.Error
		if err := c.Stream(t.Context(), "POST", "/x", nil, nil, nil); !errors.As(err, &e) || e.Code != "x.y" || e.Hint != "h" || len(e.Fields) != 1 {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

func TestCallerThatLeavesIsSeenByTheHandler(t *testing.T) {
	t.Parallel()
	left := make(chan struct{}, 2)
	for name, c := range both(t, func(w http.ResponseWriter, r *http.Request) {
		sse("event: event\ndata: 1\n\n")(w, r)
		<-r.Context().Done()
		left <- struct{}{}
	}) {
		enough := errors.New("enough")
		if err := c.Stream(t.Context(), "POST", "/x", nil, nil, func(json.RawMessage) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("%s: %v", name, err)
		}
		<-left
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Stream(ctx, "POST", "/x", nil, nil, func(json.RawMessage) error { cancel(); return nil })
		if code(err) != "canceled client.canceled" || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		<-left
		cancel()
	}
}

func TestAnswerOfSomebodyElseIsExplained(t *testing.T) {
	t.Parallel()
	for name, c := range both(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>teapot", http.StatusBadGateway) }) {
		if err := c.Call(t.Context(), "GET", "/x", nil, nil); code(err) != "unavailable client.answer" || !strings.Contains(err.Error(), "502") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenDoesNotFollowARedirect(t *testing.T) {
	t.Parallel()
	for name, c := range both(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("the redirect was followed")
		}
		if r.Header.Get("Authorization") != "Bearer fw_x" {
			t.Errorf("token: %q", r.Header.Get("Authorization"))
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}) {
		if err := c.Call(t.Context(), "GET", "/x", nil, nil); code(err) != "invalid client.answer" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
