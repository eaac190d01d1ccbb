package http

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/tool/wire"
	"flywheel/spec"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T) *Client {
	t.Helper()
	c := New()
	t.Cleanup(c.Close)
	return c
}

func request(t *testing.T, call *spec.HTTPCall, env map[string]string, args string) Request {
	t.Helper()
	scope, err := wire.NewScope(env, json.RawMessage(args))
	if err != nil {
		t.Fatal(err)
	}
	return Request{Call: call, Effect: spec.EffectRead, Scope: scope, Args: json.RawMessage(args)}
}

type seen struct {
	Method, URI, Auth, Key, Type, Body string
}

func TestARequestIsFilledIn(t *testing.T) {
	t.Parallel()
	var got seen
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = seen{r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"), string(b)}
		_, _ = w.Write([]byte(` {"ok": true} `))
	})
	env := map[string]string{"URL": url + "/v1", "TOKEN": "s3cret-token"}
	call := &spec.HTTPCall{
		Method: "post", URL: "${env.URL}/cards/${in.card}/freeze?why=${in.why}&n=${in.n}",
		Headers: map[string]string{"Authorization": "Bearer ${env.TOKEN}"},
		Body: map[string]any{
			"card": "${in.card}", "n": "${in.n}", "text": "n=${in.n}", "gone": "${in.gone}", "list": []any{"${in.gone}", "${in.deep.x}"}, "fixed": 1,
		},
	}
	r := request(t, call, env, `{"card":"a/b c","why":"x&y=1","n":12345678901234567890,"deep":{"x":[1]}}`)
	r.KeyHeader, r.Key = "Idempotency-Key", "k1"
	a := client(t).Do(t.Context(), r)
	if a.Failure != nil || string(a.Out) != `{"ok":true}` || a.Status != 200 {
		t.Fatalf("answer: %+v", a)
	}
	want := seen{
		"POST", "/v1/cards/a%2Fb%20c/freeze?why=x%26y%3D1&n=12345678901234567890", "Bearer s3cret-token", "k1", "application/json",
		`{"card":"a/b c","fixed":1,"list":[[1]],"n":12345678901234567890,"text":"n=12345678901234567890"}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	r = request(t, &spec.HTTPCall{Method: "POST", URL: url}, nil, `{"a":1}`)
	if a := client(t).Do(t.Context(), r); a.Failure != nil || got.Body != `{"a":1}` {
		t.Errorf("without a body in the package: %+v, sent %s", a, got.Body)
	}
	r = request(t, &spec.HTTPCall{Method: "GET", URL: url}, nil, `{"a":1}`)
	if a := client(t).Do(t.Context(), r); a.Failure != nil || got.Body != "" || got.Type != "" {
		t.Errorf("GET: %+v, sent %q", a, got.Body)
	}
}

func TestARequestThatCannotBeMadeIsRejected(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"${env.NOPE}/x":            "the environment value NOPE is not set",
		"http://${in.host}/x":      "must not decide the host",
		"${in.host}/x":             "must not decide the host",
		"http://h.test/${in.up}/x": `".." cannot be part of a path`,
		"http://h.test/${in.no}/x": `"" cannot be part of a path`,
		"ftp://h.test/":            "ftp://h.test/ is not an http URL",
		"/x":                       "/x is not an http URL",
	} {
		r := request(t, &spec.HTTPCall{Method: "GET", URL: url}, nil, `{"host":"evil.test","up":".."}`)
		a := client(t).Do(t.Context(), r)
		if a.Failure == nil || a.Failure.Class != wire.Rejected || !strings.Contains(a.Failure.Message, want) {
			t.Errorf("%s: %+v, want %q", url, a.Failure, want)
		}
	}
}

func TestAnswersHaveTheirClass(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status         int
		kind, body     string
		class, message string
		out            string
	}{
		"empty":       {204, "", "", "", "", `{}`},
		"text":        {200, "text/plain; charset=utf-8", "hi", "", "", `{"text":"hi"}`},
		"a page":      {200, "text/html", "<html>\n login", wire.Malformed, "the answer is not JSON: <html> login", ""},
		"half a JSON": {200, "application/json", `{"a":`, wire.Malformed, "not JSON", ""},
		"too large":   {200, "application/json", `"` + strings.Repeat("x", wire.MaxAnswer) + `"`, wire.Malformed, "larger than 1048576 bytes", ""},
		"404":         {404, "application/json", `{"error":{"message":"no card"}}`, wire.Rejected, "status 404 Not Found: no card", ""},
		"422":         {422, "application/json", `{"detail":"bad"}`, wire.Rejected, "status 422 Unprocessable Entity: bad", ""},
		"408":         {408, "", "", wire.Timeout, "408", ""},
		"429":         {429, "", "", wire.Throttled, "429", ""},
		"500":         {500, "text/plain", "boom", wire.Unavailable, "status 500 Internal Server Error: boom", ""},
		"503":         {503, "application/json", `{"message":"down"}`, wire.Unavailable, "status 503 Service Unavailable: down", ""},
		"unfollowed":  {304, "", "", wire.Rejected, "304", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				w.Header().Set("Retry-After", "2")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			a := client(t).Do(t.Context(), request(t, &spec.HTTPCall{Method: "GET", URL: url}, nil, `{}`))
			if c.class == "" {
				if a.Failure != nil || string(a.Out) != c.out {
					t.Errorf("answer: %s, %+v", a.Out, a.Failure)
				}
				return
			}
			if a.Failure == nil || a.Failure.Class != c.class || a.Status != c.status || !strings.Contains(a.Failure.Message, c.message) {
				t.Fatalf("answer: %+v %+v", a, a.Failure)
			}
			if c.status >= 400 && a.Failure.RetryAfter != 2*time.Second {
				t.Errorf("retry after %s", a.Failure.RetryAfter)
			}
		})
	}
}

func TestABrokenConnectionIsAResetAndARefusedOneIsNot(t *testing.T) {
	t.Parallel()
	half := serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":")
		}
		_ = conn.Close()
	})
	for path, want := range map[string]string{"/none": wire.Reset, "/half": wire.Reset} {
		a := client(t).Do(t.Context(), request(t, &spec.HTTPCall{Method: "POST", URL: half + path}, nil, `{}`))
		if a.Failure == nil || a.Failure.Class != want || a.Failure.Message == "" {
			t.Errorf("%s: %+v", path, a.Failure)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	env := map[string]string{"URL": closed + "/?token=s3cret-token"}
	a := client(t).Do(t.Context(), request(t, &spec.HTTPCall{Method: "POST", URL: "${env.URL}"}, env, `{}`))
	if a.Failure == nil || a.Failure.Class != wire.Unavailable || a.Failure.Status != 0 {
		t.Errorf("refused: %+v", a.Failure)
	}
	if strings.Contains(a.Failure.Message, "s3cret") || !strings.Contains(a.Failure.Message, "POST ${env.URL}") {
		t.Errorf("message: %s", a.Failure.Message)
	}
}

func TestAServerThatHangsIsATimeout(t *testing.T) {
	t.Parallel()
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	a := client(t).Do(ctx, request(t, &spec.HTTPCall{Method: "GET", URL: url}, nil, `{}`))
	if a.Failure == nil || a.Failure.Class != wire.Timeout {
		t.Errorf("%+v", a.Failure)
	}
}

func TestRedirectsAreFollowedOnTheSameHostOnly(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/there":
			_, _ = io.WriteString(w, `{"there":true}`)
		case "/away":
			http.Redirect(w, r, other, http.StatusTemporaryRedirect)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	})
	get := func(path string, effect spec.Effect) wire.Answer {
		r := request(t, &spec.HTTPCall{Method: "GET", URL: url + path}, nil, `{}`)
		r.Effect = effect
		return client(t).Do(t.Context(), r)
	}
	if a := get("/here", spec.EffectRead); string(a.Out) != `{"there":true}` {
		t.Errorf("same host: %+v", a.Failure)
	}
	for path, want := range map[string]string{"/away": "leads to another host", "/loop": "more than 3"} {
		if a := get(path, spec.EffectRead); a.Failure == nil || a.Failure.Class != wire.Rejected || !strings.Contains(a.Failure.Message, want) {
			t.Errorf("%s: %+v", path, a.Failure)
		}
	}
	if a := get("/here", spec.EffectWrite); a.Failure == nil || a.Failure.Class != wire.Malformed || !strings.Contains(a.Failure.Message, "is not sent elsewhere") {
		t.Errorf("a write: %+v", a.Failure)
	}
	if reached.Load() != 0 {
		t.Error("the other host was called")
	}
}
