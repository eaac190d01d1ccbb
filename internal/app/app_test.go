package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flywheel/internal/app"
	"flywheel/internal/cli"
	"flywheel/internal/platform/config"
)

// api calls a home, in this process or over HTTP.
type api struct {
	do func(t *testing.T, method, path, body string) (int, string)
}

func options(dir string, providers map[string]config.Provider) cli.Options {
	s := config.Default()
	s.Listen, s.Providers, s.Models.Cache = "127.0.0.1:0", providers, filepath.Join(dir, "cache")
	return cli.Options{Home: dir, Dir: dir, Settings: s, Log: slog.New(slog.DiscardHandler)}
}

func request(t *testing.T, method, url, token, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func open(t *testing.T, dir string, providers map[string]config.Provider) *api {
	t.Helper()
	h, err := (app.Program{}).Open(context.WithoutCancel(t.Context()), options(dir, providers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &api{func(t *testing.T, method, path, body string) (int, string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.Handler.ServeHTTP(w, request(t, method, "http://localhost"+path, h.Token, body))
		return w.Code, w.Body.String()
	}}
}

// serve serves a home until stop is called, which returns when the server has ended.
func serve(t *testing.T, dir string, providers map[string]config.Provider) (a *api, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	at, ended := make(chan cli.Listening, 1), make(chan error, 1)
	go func() {
		ended <- (app.Program{}).Serve(ctx, options(dir, providers), func(l cli.Listening) { at <- l })
	}()
	var l cli.Listening
	select {
	case l = <-at:
	case err := <-ended:
		t.Fatalf("the server ended: %v", err)
	}
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return &api{func(t *testing.T, method, path, body string) (int, string) {
		t.Helper()
		res, err := http.DefaultClient.Do(request(t, method, l.URL+path, strings.TrimSpace(string(token)), body))
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return 0, err.Error()
		}
		return res.StatusCode, string(b)
	}}, stop
}

// slowModel answers when it is told to, and says when it is asked.
type slowModel struct {
	asked  chan struct{}
	answer chan struct{}
}

func (m *slowModel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
		http.NotFound(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body) // the connection is watched only after the body is read
	m.asked <- struct{}{}
	select {
	case <-m.answer:
	case <-r.Context().Done():
		return
	}
	if strings.Contains(string(body), `"stream":true`) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Here I am."}}]}`, "\n\n",
			`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, "\n\ndata: [DONE]\n\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprint(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"Here I am."},"finish_reason":"stop"}]}`)
}

func runBody(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"message": "hello", "dir": map[string][]byte{
		"flywheel.yaml":        []byte("flywheel: 1\nname: desk\nentry: agents/desk\nmodels: {fast: slow/one}\n"),
		"agents/desk.agent.md": []byte("---\nmodel: fast\n---\nHelp.\n"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whoever stops the server does not cancel the runs that somebody follows: they go on at the next start.
func TestAStoppedServerLeavesItsRunsForTheNext(t *testing.T) {
	t.Parallel()
	m := &slowModel{asked: make(chan struct{}, 8), answer: make(chan struct{})}
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	providers := map[string]config.Provider{"slow": {BaseURL: srv.URL, Form: "native"}}
	dir := t.TempDir()
	a, stop := serve(t, dir, providers)
	followed := make(chan string, 1)
	body := runBody(t)
	go func() {
		status, answer := a.do(t, "POST", "/api/v1/runs", body)
		followed <- fmt.Sprint(status, " ", answer)
	}()
	select {
	case <-m.asked:
	case answer := <-followed:
		t.Fatalf("the run ended: %s", answer)
	}
	stop()
	if answer := <-followed; !strings.HasPrefix(answer, "503") || !strings.Contains(answer, "run.closing") {
		t.Errorf("who followed the run is told: %s", answer)
	}

	a, _ = serve(t, dir, providers)
	<-m.asked // again, by the run that goes on
	var page struct {
		Runs []struct{ ID, Status string }
	}
	_, list := a.do(t, "GET", "/api/v1/runs", "")
	if err := json.Unmarshal([]byte(list), &page); err != nil || len(page.Runs) != 1 || page.Runs[0].Status != "running" {
		t.Fatalf("%v %s", err, list)
	}
	close(m.answer)
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, show := a.do(t, "GET", "/api/v1/runs/"+page.Runs[0].ID, "")
		if strings.Contains(show, `"status":"succeeded"`) && strings.Contains(show, "Here I am.") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the run did not go on: %s", show)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// The endpoint refuses in the shape that OpenAI's clients read; everything else in problem+json.
func TestTheEndpointRefusesAsOpenAIDoes(t *testing.T) {
	t.Parallel()
	h, err := (app.Program{}).Open(t.Context(), options(t.TempDir(), nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	for _, c := range []struct {
		path, token string
		status      int
		want        string
	}{
		{"/v1/chat/completions", "wrong", 401, `{"error":{"message":`},
		{"/v1/nothing", h.Token, 404, `{"error":{"message":`},
		{"/v1/models/agent/none@prod", h.Token, 404, `{"error":{"message":`},
		{"/api/v1/runs", "wrong", 401, `{"type":"about:blank"`},
		{"/api/v1/nothing", h.Token, 404, `{"type":"about:blank"`},
	} {
		w := httptest.NewRecorder()
		h.Handler.ServeHTTP(w, request(t, "GET", "http://localhost"+c.path, c.token, ""))
		if w.Code != c.status || !strings.HasPrefix(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
	}
}
