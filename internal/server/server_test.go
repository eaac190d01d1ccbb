package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flywheel/client"
	"flywheel/internal/identity"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
	"flywheel/internal/platform/op"
	"flywheel/internal/server"
)

type none struct{}

type who struct {
	Actor string `json:"actor"`
}

type tick struct {
	N int `json:"n"`
}

type running struct {
	*server.Server
	url, token string
	identity   *identity.Service
	bus        *bus.Bus
	db         *db.DB
	stop       func() error
	entered    chan struct{}
}

func start(t *testing.T, ready func(context.Context) error) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{entered: make(chan struct{}, 1)}
	var err error
	if r.db, err = db.Open(t.Context(), filepath.Join(dir, "x.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() })
	if err := db.Migrate(t.Context(), r.db, bus.Migrations, identity.Migrations); err != nil {
		t.Fatal(err)
	}
	if r.identity, err = identity.New(identity.Deps{DB: r.db, Home: dir}); err != nil {
		t.Fatal(err)
	}
	r.token, r.bus = r.identity.Token(), bus.New(r.db)
	ops := append(r.identity.Ops(), op.Stream(op.Meta{
		ID: "slow.run", Path: "/api/v1/slow", Summary: "Work until it is told to stop", Permission: "slow.run",
	}, func(ctx context.Context, _ *none, emit func(tick)) (*who, error) {
		emit(tick{1})
		r.entered <- struct{}{}
		<-ctx.Done()
		return &who{Actor: "partial"}, nil
	}))
	r.Server = server.New(server.Deps{
		Ops: ops, Identity: r.identity, Bus: r.bus, Version: "1.0", Ready: ready,
		Data: map[string]server.Data{
			"/v1/": {Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.WriteString(w, "data for "+op.Actor(req.Context()))
			})},
			"/other/": {Handler: http.NotFoundHandler(), Errors: func(w http.ResponseWriter, p httpx.Problem) {
				w.Header().Set("Content-Type", "application/other")
				w.WriteHeader(p.Status)
				_, _ = io.WriteString(w, p.Code)
			}},
		},
	})
	ln, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = server.URL(ln)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, ln) }()
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func (r *running) get(t *testing.T, method, path string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestNothingButHealthIsOpen(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	token := "Bearer " + r.token
	for _, c := range []struct {
		method, path string
		header       []string
		want         int
	}{
		{"GET", "/healthz", nil, 200},
		{"GET", "/readyz", nil, 200},
		{"GET", "/api/v1/whoami", nil, 401},
		{"GET", "/api/v1/events", nil, 401},
		{"GET", "/openapi.json", nil, 401},
		{"GET", "/v1/models", nil, 401},
		{"GET", "/", nil, 401},
		{"GET", "/nowhere", nil, 401},
		{"POST", "/healthz", nil, 401},
		{"GET", "/api/v1/whoami", []string{"Authorization", "Bearer wrong"}, 401},
		{"GET", "/api/v1/whoami", []string{"Authorization", token}, 200},
		{"GET", "/openapi.json", []string{"Authorization", token}, 200},
		{"GET", "/v1/models", []string{"Authorization", token}, 200},
		{"GET", "/", []string{"Authorization", token}, 200},
		{"GET", "/nowhere", []string{"Authorization", token}, 404},
		{"POST", "/api/v1/whoami", []string{"Authorization", token}, 404},
		{"GET", "/api/v1/whoami", []string{"Authorization", token, "Origin", "https://evil.test"}, 403},
		{"GET", "/api/v1/whoami", []string{"Authorization", token, "Host", "evil.test"}, 403},
		{"GET", "/healthz", []string{"Host", "evil.test"}, 403},
		{"GET", "/api/v1/whoami", []string{"Authorization", token, "Origin", r.url}, 200},
	} {
		status, body, h := r.get(t, c.method, c.path, c.header...)
		if status != c.want {
			t.Errorf("%s %s %v: %d, want %d: %s", c.method, c.path, c.header, status, c.want, body)
		}
		if status >= 400 && h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s", c.method, c.path, h.Get("Content-Type"))
		}
	}
}

func TestADataPlaneIsRefusedInItsOwnShape(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for _, c := range []struct {
		header []string
		status int
		code   string
	}{
		{nil, http.StatusUnauthorized, "identity.sign_in"},
		{[]string{"Authorization", "Bearer " + r.token, "Origin", "https://evil.test"}, http.StatusForbidden, "request.foreign_origin"},
		{[]string{"Host", "evil.test"}, http.StatusForbidden, "request.foreign_host"},
	} {
		status, body, h := r.get(t, "GET", "/other/thing", c.header...)
		if status != c.status || body != c.code || h.Get("Content-Type") != "application/other" {
			t.Errorf("%v: %d %s %q", c.header, status, h.Get("Content-Type"), body)
		}
		if challenge := h.Get("WWW-Authenticate"); (challenge != "") != (status == http.StatusUnauthorized) {
			t.Errorf("%v: challenge %q", c.header, challenge)
		}
	}
}

func TestBrowserSignsInByLink(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	if status, body, _ := r.get(t, "GET", "/", "Accept", "text/html"); status != 401 || !strings.Contains(body, "flywheel login") {
		t.Errorf("%d %s", status, body)
	}
	link, _, err := r.identity.NewLink(t.Context(), identity.Owner)
	if err != nil {
		t.Fatal(err)
	}
	status, _, h := r.get(t, "GET", link, "Accept", "text/html")
	cookie, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	if status != 200 || cookie == "" {
		t.Fatalf("%d %v", status, h)
	}
	if status, body, _ := r.get(t, "GET", "/", "Cookie", cookie, "Accept", "text/html"); status != 200 || !strings.Contains(body, "signed in as owner") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := r.get(t, "GET", "/api/v1/whoami", "Cookie", cookie, "Origin", "http://127.0.0.1:1"); status != 403 {
		t.Errorf("the cookie works for the page of another port: %d", status)
	}
	if status, _, _ := r.get(t, "GET", link); status != 401 {
		t.Errorf("the link worked twice: %d", status)
	}
}

func TestReadyTellsNoDetails(t *testing.T) {
	t.Parallel()
	r := start(t, func(context.Context) error { return errors.New("the disk at /secret is full") })
	if status, body, _ := r.get(t, "GET", "/readyz"); status != 503 || strings.Contains(body, "secret") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := r.get(t, "GET", "/healthz"); status != 200 {
		t.Errorf("%d", status)
	}
}

func TestClientReadsErrorsAndEvents(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for name, c := range map[string]*client.Client{
		"http":       client.New(client.Options{URL: r.url, Token: r.token}),
		"in process": client.New(client.Options{URL: "http://localhost", Token: r.token, Transport: client.Handler(r.Server)}),
	} {
		var me who
		if err := c.Call(t.Context(), "GET", "/api/v1/whoami", nil, &me); err != nil || me.Actor != "owner" {
			t.Errorf("%s: %v %v", name, me, err)
		}
		var e *client.Error
		err := c.Call(t.Context(), "GET", "/api/v1/whoami?x=1", nil, nil)
		if !errors.As(err, &e) || e.Kind != "invalid" || e.Status != 422 || len(e.Fields) != 1 || e.Fields[0].Path != "x" || e.RequestID == "" {
			t.Errorf("%s: %+v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		got := make(chan client.Event, 1)
		ended := make(chan error, 1)
		go func() {
			ended <- c.Events(ctx, []string{"run.*"}, "0", func(e client.Event) error { got <- e; return io.EOF })
		}()
		if err := r.db.Write(t.Context(), func(tx *db.Tx) error { return r.bus.Emit(t.Context(), tx, "run.ended", "run_1", nil) }); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		if e := <-got; e.Name != "run.ended" || e.ID == "" {
			t.Errorf("%s: %+v", name, e)
		}
		cancel()
	}
	var e *client.Error
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := client.New(client.Options{URL: "http://" + ln.Addr().String()}).Call(t.Context(), "GET", "/", nil, nil); !errors.As(err, &e) || e.Code != "client.unreachable" {
		t.Errorf("nobody there: %v", err)
	}
}

func TestStopLetsOperationsAnswerWithWhatTheyHave(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	c := client.New(client.Options{URL: r.url, Token: r.token})
	answer := make(chan error, 1)
	var out who
	var events []string
	go func() {
		answer <- c.Stream(context.Background(), "POST", "/api/v1/slow", nil, &out, func(e json.RawMessage) error {
			events = append(events, string(e))
			return nil
		})
	}()
	followed := make(chan error, 1)
	go func() { followed <- c.Events(context.Background(), nil, "", func(client.Event) error { return nil }) }()
	<-r.entered
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if err := <-answer; err != nil || out.Actor != "partial" || len(events) != 1 {
		t.Errorf("%v %v %v", err, out, events)
	}
	if err := <-followed; err == nil {
		t.Error("the event stream did not end")
	}
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	ln, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if _, err := server.Listen(t.Context(), ln.Addr().String()); !fault.HasCode(err, "server.address_in_use") {
		t.Errorf("error: %v", err)
	}
	if _, err := server.Listen(t.Context(), "nowhere"); !fault.HasCode(err, "server.address") {
		t.Errorf("error: %v", err)
	}
}
