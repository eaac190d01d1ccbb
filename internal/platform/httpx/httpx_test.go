package httpx_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
)

func get(t *testing.T, h http.Handler, path string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:7700"+path, nil)
	for k, v := range header {
		if k == "Host" {
			r.Host = v
		} else {
			r.Header.Set(k, v)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestForeignPagesAndHostsAreRefused(t *testing.T) {
	t.Parallel()
	h := httpx.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), httpx.Options{Hosts: []string{"desk.test"}})
	api := "/api/v1/runs"
	for _, c := range []struct {
		name   string
		path   string
		header map[string]string
		code   string
	}{
		{"a program", api, nil, ""},
		{"our page", api, map[string]string{"Origin": "http://localhost:7700", "Sec-Fetch-Site": "same-origin"}, ""},
		{"127.0.0.1", api, map[string]string{"Host": "127.0.0.1:7700"}, ""},
		{"IPv6", api, map[string]string{"Host": "[::1]:7700"}, ""},
		{"IPv6 without port", api, map[string]string{"Host": "[::1]"}, ""},
		{"configured name", api, map[string]string{"Host": "Desk.test:80"}, ""},
		{"link from elsewhere to a page", "/", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, ""},
		{"rebound name", api, map[string]string{"Host": "evil.test:7700"}, "request.foreign_host"},
		{"name that looks like ours", api, map[string]string{"Host": "localhost.evil.test"}, "request.foreign_host"},
		{"no host", api, map[string]string{"Host": ""}, "request.foreign_host"},
		{"any address", api, map[string]string{"Host": "0.0.0.0:7700"}, "request.foreign_host"},
		{"foreign page", api, map[string]string{"Origin": "https://evil.test"}, "request.foreign_origin"},
		{"another port", api, map[string]string{"Origin": "http://localhost:3000"}, "request.foreign_origin"},
		{"other scheme", api, map[string]string{"Origin": "https://localhost:7700"}, "request.foreign_origin"},
		{"sandboxed page", api, map[string]string{"Origin": "null"}, "request.foreign_origin"},
		{"image on a foreign page", api, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "request.foreign_origin"},
		{"link from elsewhere to the API", api, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, "request.foreign_origin"},
		{"page in a frame", "/", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, "request.foreign_origin"},
	} {
		w := get(t, h, c.path, c.header)
		var p httpx.Problem
		_ = json.Unmarshal(w.Body.Bytes(), &p)
		if want := map[bool]int{true: 200, false: 403}[c.code == ""]; w.Code != want || p.Code != c.code {
			t.Errorf("%s: %d %s, want %q", c.name, w.Code, p.Code, c.code)
		}
	}
}

func TestErrorsLeaveAsProblemsWithoutTheirCause(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := httpx.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("secret detail")
		case "/unknown":
			httpx.WriteError(w, r, errors.New("secret detail"))
		default:
			httpx.WriteError(w, r, fault.Wrap(errors.New("secret detail"), fault.NotFound, "x.gone", "it is gone").WithHint("look elsewhere"))
		}
	}), httpx.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for path, status := range map[string]int{"/panic": 500, "/unknown": 500, "/known?code=s3cret": 404} {
		w := get(t, h, path, map[string]string{"X-Request-Id": "req_12345678"})
		var p httpx.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != status || p.RequestID != "req_12345678" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "secret") || w.Header().Get("Content-Type") != httpx.ProblemType {
			t.Errorf("%s: %s %s", path, w.Header().Get("Content-Type"), w.Body)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
	}
	if got := log.String(); strings.Count(got, "secret detail") != 3 || strings.Contains(got, "s3cret") || !strings.Contains(got, "level=ERROR") {
		t.Errorf("log: %s", got)
	}
}

func TestPanicAfterTheAnswerBeganCutsTheConnection(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(httpx.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
		panic("half-way")
	}), httpx.Options{}))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err == nil {
		_, err = new(bytes.Buffer).ReadFrom(resp.Body)
	}
	if err == nil {
		t.Error("half an answer looked whole")
	}
}

func TestHostileRequestIDIsReplaced(t *testing.T) {
	t.Parallel()
	h := httpx.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(httpx.RequestID(r.Context()))) }), httpx.Options{})
	for _, id := range []string{"", "short", "has space in it", "new\nline_12345", strings.Repeat("x", 65)} {
		if got := get(t, h, "/", map[string]string{"X-Request-Id": id}).Body.String(); !strings.HasPrefix(got, "req_") || got == id {
			t.Errorf("%q became %q", id, got)
		}
	}
}
