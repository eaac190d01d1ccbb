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

// both runs a test over HTTP and in process.
func both(t *testing.T, h http.HandlerFunc, fn func(t *testing.T, c *client.Client)) {
	t.Helper()
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		fn(t, client.New(client.Options{URL: srv.URL, Token: "fw_x"}))
	})
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		fn(t, client.New(client.Options{URL: "http://localhost", Token: "fw_x", Transport: client.Handler(h)}))
	})
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
	both(t, sse(": alive\n\n", "event: ev", "ent\ndata: {\"n\":\ndata: 1}\n\n", "event: result\r\ndata: \"done\"\r\n\r\n"),
		func(t *testing.T, c *client.Client) {
			var out string
			var events []string
			err := c.Stream(t.Context(), "POST", "/x", nil, &out, func(e json.RawMessage) error {
				events = append(events, string(e))
				return nil
			})
			if err != nil || out != "done" || strings.Join(events, "|") != "{\"n\":\n1}" {
				t.Errorf("%v %q %q", err, out, events)
			}
		})
}

func TestStreamThatIsCutIsAnError(t *testing.T) {
	t.Parallel()
	both(t, sse("event: event\ndata: 1\n\n", "event: resu"), func(t *testing.T, c *client.Client) {
		if err := c.Stream(t.Context(), "POST", "/x", nil, nil, nil); code(err) != "unavailable client.cut" {
			t.Errorf("error: %v", err)
		}
	})
	both(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: event\ndata: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, c *client.Client) {
		if err := c.Stream(t.Context(), "POST", "/x", nil, nil, nil); code(err) != "unavailable client.cut" {
			t.Errorf("error: %v", err)
		}
	})
}

func TestErrorEndsAStream(t *testing.T) {
	t.Parallel()
	both(t, sse("event: error\ndata: {\"kind\":\"conflict\",\"code\":\"x.y\",\"detail\":\"no\",\"hint\":\"h\",\"errors\":[{\"path\":\"a\",\"message\":\"b\"}]}\n\n"),
		func(t *testing.T, c *client.Client) {
			var e *client.Error
			if err := c.Stream(t.Context(), "POST", "/x", nil, nil, nil); !errors.As(err, &e) || e.Code != "x.y" || e.Hint != "h" || len(e.Fields) != 1 {
				t.Errorf("error: %+v", err)
			}
		})
}

func TestCallerThatLeavesIsSeenByTheHandler(t *testing.T) {
	t.Parallel()
	left := make(chan struct{}, 2)
	both(t, func(w http.ResponseWriter, r *http.Request) {
		sse("event: event\ndata: 1\n\n")(w, r)
		<-r.Context().Done()
		left <- struct{}{}
	}, func(t *testing.T, c *client.Client) {
		enough := errors.New("enough")
		if err := c.Stream(t.Context(), "POST", "/x", nil, nil, func(json.RawMessage) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("error: %v", err)
		}
		<-left
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Stream(ctx, "POST", "/x", nil, nil, func(json.RawMessage) error { cancel(); return nil })
		if code(err) != "canceled client.canceled" || !errors.Is(err, context.Canceled) {
			t.Errorf("error: %v", err)
		}
		<-left
	})
}

func TestAnswerOfSomebodyElseIsExplained(t *testing.T) {
	t.Parallel()
	both(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>teapot", http.StatusBadGateway) },
		func(t *testing.T, c *client.Client) {
			if err := c.Call(t.Context(), "GET", "/x", nil, nil); code(err) != "unavailable client.answer" || !strings.Contains(err.Error(), "502") {
				t.Errorf("error: %v", err)
			}
		})
}

func TestTokenDoesNotFollowARedirect(t *testing.T) {
	t.Parallel()
	both(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("the redirect was followed")
		}
		if r.Header.Get("Authorization") != "Bearer fw_x" {
			t.Errorf("token: %q", r.Header.Get("Authorization"))
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}, func(t *testing.T, c *client.Client) {
		if err := c.Call(t.Context(), "GET", "/x", nil, nil); code(err) != "invalid client.answer" {
			t.Errorf("error: %v", err)
		}
	})
}
