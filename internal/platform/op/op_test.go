package op_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
	"flywheel/internal/platform/op"
)

type paging struct {
	Limit int `query:"limit" default:"20" minimum:"1" maximum:"100"`
}

type listIn struct {
	paging
	Shelf string        `path:"shelf" cli:"arg"`
	Kind  string        `query:"kind" enum:"a,b"`
	Tags  []string      `query:"tag"`
	Since time.Duration `query:"since"`
	Until *time.Time    `query:"until"`
}

type nested struct {
	Name string          `json:"name"`
	Raw  json.RawMessage `json:"raw,omitempty"`
}

type makeIn struct {
	Shelf string         `path:"shelf"`
	Text  string         `json:"text" required:"true" maxLength:"10"`
	Count int            `json:"count,omitempty" default:"3"`
	Files op.Dir         `json:"files,omitempty"`
	Items []nested       `json:"items,omitempty"`
	Extra map[string]any `json:"extra,omitempty"`
	Odd   odd            `json:"odd,omitempty"`
}

// odd writes its own JSON: a text.
type odd struct{ a, b int }

func (o odd) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprintf("%d/%d", o.a, o.b)) }

func (o *odd) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	_, err := fmt.Sscanf(s, "%d/%d", &o.a, &o.b)
	return err
}

type echo struct {
	In    any    `json:"in"`
	Actor string `json:"actor"`
}

type event struct {
	N int `json:"n"`
}

func meta(method, path string) op.Meta {
	return op.Meta{
		ID: "thing." + strings.ToLower(method), Method: method, Path: path, Summary: "A thing", Permission: "thing.do",
	}
}

func serve(t *testing.T, guard op.Guard, ops ...op.Op) (string, *op.Router) {
	t.Helper()
	router := op.NewRouter(op.RouterOptions{Guard: guard, Heartbeat: 5 * time.Millisecond})
	mux := http.NewServeMux()
	router.Mount(mux, append(ops, router.Ops()...)...)
	srv := httptest.NewServer(httpx.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(op.WithActor(r.Context(), "anna")))
	}), httpx.Options{MaxBody: 10_000}))
	t.Cleanup(srv.Close)
	return srv.URL, router
}

func allow(context.Context, string) error { return nil }

func ask(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
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
	return resp.StatusCode, string(b)
}

func listOp() op.Op {
	return op.New(meta("GET", "/api/v1/shelves/{shelf}/things"), func(ctx context.Context, in *listIn) (*echo, error) {
		return &echo{In: []any{in.Shelf, in.Limit, in.Kind, in.Tags, in.Since.String(), in.Until}, Actor: op.Actor(ctx)}, nil
	})
}

func makeOp() op.Op {
	return op.New(meta("POST", "/api/v1/shelves/{shelf}/things"), func(ctx context.Context, in *makeIn) (*echo, error) {
		return &echo{In: []any{in.Shelf, in.Text, in.Count, string(in.Files["a/b.txt"]), len(in.Files), in.Odd.b}, Actor: op.Actor(ctx)}, nil
	})
}

func TestInputIsReadFromPathQueryAndBody(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, allow, listOp(), makeOp())
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/api/v1/shelves/desk/things", "", `{"in":["desk",20,"",null,"0s",null],"actor":"anna"}`},
		{
			"GET", "/api/v1/shelves/a%2Fb%20c/things?limit=5&kind=b&tag=x,y&tag=z&since=1h30m&until=2026-01-02T03:04:05Z", "",
			`{"in":["a/b c",5,"b",["x","y","z"],"1h30m0s","2026-01-02T03:04:05Z"],"actor":"anna"}`,
		},
		{
			"POST", "/api/v1/shelves/desk/things", `{"text":"hi","files":{"a/b.txt":"aGVsbG8=","empty":""},"extra":{"x":[1,{}]},"odd":"7/8"}`,
			`{"in":["desk","hi",3,"hello",2,8],"actor":"anna"}`,
		},
		{
			"POST", "/api/v1/shelves/desk/things", `{"text":"hi","count":0,"items":[{"name":"n","raw":{"any":1}}]}`,
			`{"in":["desk","hi",0,"",0,0],"actor":"anna"}`,
		},
	} {
		if status, got := ask(t, c.method, url+c.path, c.body); status != 200 || strings.TrimSpace(got) != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, got)
		}
	}
}

func TestWrongInputNamesEveryField(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, allow, listOp(), makeOp())
	for _, c := range []struct {
		method, query, body string
		want                []string
	}{
		{"GET", "?limit=0&kind=c&sinze=1h", "", []string{
			`kind request.invalid expected value to be one of "a, b" `, "limit request.invalid expected number >= 1 ",
			`sinze request.unknown_field is not known here did you mean "since"?`,
		}},
		{"GET", "?since=soon&until=later", "", []string{
			`since request.invalid "soon" is not a duration such as 30s `,
			`until request.invalid "later": parsing time "later" as "2006-01-02T15:04:05Z07:00": cannot parse "later" as "2006" `,
		}},
		{"POST", "", `{"txt":"x"}`, []string{"text request.required is required ", `txt request.unknown_field is not known here did you mean "text"?`}},
		{"POST", "", `{"text":7,"items":[{"name":1},{}],"Shelf":"x"}`, []string{
			`Shelf request.unknown_field is not known here `, "items[0].name request.invalid expected string ", "items[1].name request.required is required ",
			"text request.invalid expected string ",
		}},
		{"POST", "", `{"text":"x","files":{"a":"%%%"}}`, []string{"body request.invalid illegal base64 data at input byte 0 "}},
	} {
		status, body := ask(t, c.method, url+"/api/v1/shelves/desk/things"+c.query, c.body)
		var p httpx.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || status != 422 || p.Code != "request.invalid" || p.Kind != fault.Invalid {
			t.Errorf("%d %s", status, body)
		}
		var got []string
		for _, f := range p.Errors {
			got = append(got, f.Path+" "+f.Code+" "+f.Message+" "+f.Hint)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s %s:\n%s", c.query, c.body, d)
		}
	}
}

func TestBodyMustBeJSONOfBearableSize(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, allow, makeOp())
	url += "/api/v1/shelves/desk/things"
	for _, c := range []struct{ body, kind, code string }{
		{`{"text":`, "application/json", "request.json"},
		{`{"text":"x"}`, "text/plain", "request.content_type"}, // what a form of another page could send
		{`{"text":"` + strings.Repeat("x", 20_000) + `"}`, "application/json", "request.too_large"},
	} {
		status, body := ask(t, "POST", url, c.body, "Content-Type", c.kind)
		if status != 422 || !strings.Contains(body, `"code":"`+c.code+`"`) {
			t.Errorf("%s: %d %.200s", c.code, status, body)
		}
	}
}

func TestNothingIsServedWithoutAPermission(t *testing.T) {
	t.Parallel()
	called := false
	o := op.New(meta("POST", "/api/v1/x"), func(context.Context, *struct{}) (*struct{}, error) { called = true; return nil, nil })
	url, _ := serve(t, nil, o) // no guard: deny
	if status, body := ask(t, "POST", url+"/api/v1/x", ""); status != 403 || called {
		t.Errorf("%d %s", status, body)
	}
	var asked string
	url, _ = serve(t, func(_ context.Context, p string) error {
		asked = p
		return fault.New(fault.Forbidden, "identity.forbidden", "no")
	}, o)
	if status, body := ask(t, "POST", url+"/api/v1/x", "not even JSON"); status != 403 || called || asked != "thing.do" {
		t.Errorf("%d %s, asked for %q", status, body, asked)
	}
}

func TestUnsoundDefinitionsPanic(t *testing.T) {
	t.Parallel()
	type in struct {
		A string `path:"a"`
	}
	type noTag struct{ A string }
	type badDir struct {
		A string `json:"a" cli:"dir"`
	}
	good := meta("POST", "/api/v1/x")
	change := func(fn func(m *op.Meta)) op.Meta { m := good; fn(&m); return m }
	for name, make := range map[string]func(){
		"no permission": func() { noop[struct{}](change(func(m *op.Meta) { m.Permission = "" })) },
		"no summary":    func() { noop[struct{}](change(func(m *op.Meta) { m.Summary = "" })) },
		"path":          func() { noop[struct{}](change(func(m *op.Meta) { m.Path = "/x" })) },
		"method":        func() { noop[struct{}](change(func(m *op.Meta) { m.Method = "DELETE" })) },
		"id":            func() { noop[struct{}](change(func(m *op.Meta) { m.ID = "x" })) },
		"missing field": func() { noop[struct{}](change(func(m *op.Meta) { m.Path = "/api/v1/{a}" })) },
		"unused field":  func() { noop[in](good) },
		"no tag":        func() { noop[noTag](good) },
		"dir":           func() { noop[badDir](good) },
		"GET with body": func() { noop[makeIn](meta("GET", "/api/v1/{shelf}")) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			make()
		}()
	}
	noop[struct{}](good)
}

func noop[I any](m op.Meta) op.Op {
	return op.New(m, func(context.Context, *I) (*struct{}, error) { return nil, nil })
}

// streamLines reads server-sent events as "name data".
func streamLines(t *testing.T, r io.Reader) []string {
	t.Helper()
	var lines []string
	var name string
	for s := bufio.NewScanner(r); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "event":
			name = value
		case "data":
			lines = append(lines, name+" "+value)
		}
	}
	return lines
}

func countOp(fn func(ctx context.Context, emit func(event)) (*echo, error)) op.Op {
	m := meta("POST", "/api/v1/count")
	m.ID = "count.run"
	return op.Stream(m, func(ctx context.Context, _ *struct{}, emit func(event)) (*echo, error) {
		return fn(ctx, emit)
	})
}

func TestStreamSendsEventsThenResultOrError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fn   func(ctx context.Context, emit func(event)) (*echo, error)
		want []string
	}{
		{func(_ context.Context, emit func(event)) (*echo, error) {
			emit(event{1})
			emit(event{2})
			return &echo{Actor: "x"}, nil
		}, []string{`event {"n":1}`, `event {"n":2}`, `result {"in":null,"actor":"x"}`}},
		{func(_ context.Context, emit func(event)) (*echo, error) {
			emit(event{1})
			return nil, fault.New(fault.Exhausted, "x.limit", "enough").WithHint("later")
		}, []string{`event {"n":1}`, `error {"type":"about:blank","title":"Too Many Requests","status":429,"kind":"exhausted","code":"x.limit","detail":"enough","hint":"later","request_id":"req_1234567"}`}},
	} {
		url, _ := serve(t, allow, countOp(c.fn))
		status, body := ask(t, "POST", url+"/api/v1/count", "", "Accept", "text/event-stream", "X-Request-Id", "req_1234567")
		if d := cmp.Diff(c.want, streamLines(t, strings.NewReader(body))); status != 200 || d != "" {
			t.Errorf("%d %s", status, d)
		}
	}
}

func TestStreamErrorBeforeTheFirstEventIsAPlainAnswer(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, allow, countOp(func(context.Context, func(event)) (*echo, error) {
		return nil, fault.New(fault.NotFound, "x.none", "none")
	}))
	if status, body := ask(t, "POST", url+"/api/v1/count", "", "Accept", "text/event-stream"); status != 404 || !strings.HasPrefix(body, `{"type"`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestStreamWithoutEventStreamAnswersOnce(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, allow, countOp(func(_ context.Context, emit func(event)) (*echo, error) {
		emit(event{1})
		return &echo{Actor: "x"}, nil
	}))
	if status, body := ask(t, "POST", url+"/api/v1/count", ""); status != 200 || strings.TrimSpace(body) != `{"in":null,"actor":"x"}` {
		t.Errorf("%d %s", status, body)
	}
}

func TestIdleStreamHasHeartbeats(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	url, _ := serve(t, allow, countOp(func(context.Context, func(event)) (*echo, error) { <-release; return nil, nil }))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/count", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req) // returns at the first heartbeat
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasPrefix(string(body), ": alive\n\n") || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%q %v", body, err)
	}
}

func TestWorkOutlivesItsCallerUnlessTheOperationSaysSo(t *testing.T) {
	t.Parallel()
	for _, stops := range []bool{false, true} {
		m := meta("POST", "/api/v1/count")
		m.StopWithCaller = stops
		begun, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		o := op.Stream(m, func(ctx context.Context, _ *struct{}, emit func(event)) (*echo, error) {
			emit(event{1})
			close(begun)
			select {
			case <-ctx.Done():
			case <-release:
			}
			ended <- ctx.Err()
			return nil, nil
		})
		url, _ := serve(t, allow, o)
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/count", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		<-begun
		leave()
		_ = resp.Body.Close()
		if stops {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("error: %v", err)
			}
			continue
		}
		select {
		case err := <-ended:
			t.Errorf("the work ended with its caller: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		close(release)
		if err := <-ended; err != nil {
			t.Errorf("error: %v", err)
		}
	}
}

func TestCancelByRequestIDReachesOnlyOnesOwn(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	url, router := serve(t, allow, countOp(func(ctx context.Context, emit func(event)) (*echo, error) {
		emit(event{1})
		close(begun)
		<-ctx.Done()
		return &echo{Actor: "partial"}, nil
	}))
	answer := make(chan string, 1)
	go func() {
		_, body := ask(t, "POST", url+"/api/v1/count", "", "Accept", "text/event-stream", "X-Request-Id", "req_mine_1")
		answer <- body
	}()
	<-begun
	if status, _ := ask(t, "POST", url+"/api/v1/requests/req_other/cancel", ""); status != 404 {
		t.Errorf("another request: %d", status)
	}
	if status, body := ask(t, "POST", url+"/api/v1/requests/req_mine_1/cancel", ""); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if body := <-answer; !strings.Contains(body, `event: result`+"\n"+`data: {"in":null,"actor":"partial"}`) {
		t.Errorf("%s", body)
	}
	if err := router.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenAPIDescribesEveryOperation(t *testing.T) {
	t.Parallel()
	doc, err := op.OpenAPI("Test", "1", listOp(), makeOp(), countOp(nil))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		OpenAPI    string
		Paths      map[string]map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	if d.OpenAPI != "3.1.0" || len(d.Paths) != 2 {
		t.Fatalf("%s", doc)
	}
	post := d.Paths["/api/v1/shelves/{shelf}/things"]["post"]
	body, _ := json.Marshal(post["requestBody"])
	for _, part := range []string{`"required":["text"]`, `"default":3`, `"additionalProperties":false`, `"maxLength":10`, `"type":"array"`} {
		if !strings.Contains(string(body), part) {
			t.Errorf("%s is not in %s", part, body)
		}
	}
	if post["x-permission"] != "thing.do" || strings.Contains(string(doc), "$schema") || strings.Contains(string(doc), `"null"`) && strings.Contains(string(body), `["array","null"]`) {
		t.Errorf("%s", doc)
	}
	if _, ok := d.Components.Schemas["HttpxProblem"]; !ok {
		t.Errorf("schemas: %v", d.Components.Schemas)
	}
}

type verdict struct {
	Bad bool `json:"bad"`
}

func (v *verdict) Failure() error {
	if v.Bad {
		return fault.New(fault.Conflict, "x.bad", "bad")
	}
	return nil
}

func TestFailureInAResult(t *testing.T) {
	t.Parallel()
	o := op.New(meta("POST", "/api/v1/x"), func(context.Context, *struct{}) (*verdict, error) { return nil, nil })
	if err := o.Failure([]byte(`{"bad":true}`)); !fault.HasCode(err, "x.bad") {
		t.Errorf("error: %v", err)
	}
	if err := o.Failure([]byte(`{}`)); err != nil {
		t.Errorf("error: %v", err)
	}
	o = op.WithFailure(o, func(v *verdict) error { return fault.New(fault.Timeout, "x.late", "late %v", v.Bad) })
	if err := o.Failure([]byte(`{}`)); !fault.HasCode(err, "x.late") {
		t.Errorf("error: %v", err)
	}
	if err := noop[struct{}](meta("POST", "/api/v1/x")).Failure([]byte(`{}`)); err != nil {
		t.Errorf("error: %v", err)
	}
}
