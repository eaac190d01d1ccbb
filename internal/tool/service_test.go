package tool_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
	"flywheel/internal/tool/world"
	"flywheel/spec"
)

func TestAnHTTPToolIsCalledUnderOneKey(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.URL.Path+" "+r.Header.Get("Idempotency-Key")+" "+string(b))
		if len(got) == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"status":"frozen"}`)
	}))
	t.Cleanup(server.Close)
	pkg := &spec.Package{Env: map[string]spec.EnvVar{"URL": {Default: server.URL}}}
	s := tool.New(tool.Deps{})
	t.Cleanup(func() { _ = s.Close() })
	call := func(idempotency string) tool.Result {
		declared := &spec.Tool{
			Name: "cards.freeze", Effect: spec.EffectWrite, Idempotency: idempotency, Retry: &spec.Retry{Max: 1},
			Call: spec.ToolCall{HTTP: &spec.HTTPCall{Method: "POST", URL: "${env.URL}/cards/${in.card}"}},
		}
		p := tool.Policy{Clock: clock.NewVirtual(start), Caller: s.Caller(nil, pkg)}
		return tool.Do(t.Context(), p, tool.Call{Tool: declared, Name: declared.Name, Args: json.RawMessage(`{"card":"4711"}`), Key: "k1"})
	}
	if r := call("header:Idempotency-Key"); r.Class != tool.OK || string(r.Out) != `{"status":"frozen"}` || r.Attempts[0].Status != 502 {
		t.Errorf("result: %+v", r)
	}
	if r := call("arg:key"); r.Class != tool.OK {
		t.Errorf("result: %+v", r)
	}
	want := []string{
		`/cards/4711 k1 {"card":"4711"}`, `/cards/4711 k1 {"card":"4711"}`,
		`/cards/4711  {"card":"4711","key":"k1"}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAToolThatCannotBeReachedSaysWhy(t *testing.T) {
	t.Parallel()
	s := tool.New(tool.Deps{})
	t.Cleanup(func() { _ = s.Close() })
	pkg := &spec.Package{Servers: map[string]*spec.MCPServer{"bare": {}, "env": {Command: []string{"${env.NOPE}"}}}}
	for want, call := range map[string]spec.ToolCall{
		"it exists as a mock only":                                  {},
		"it is not declared under mcp in a tool file":               {MCP: &spec.MCPCall{Server: "gone", Tool: "x"}},
		"it has neither a command nor a url":                        {MCP: &spec.MCPCall{Server: "bare", Tool: "x"}},
		"the MCP server env: the environment value NOPE is not set": {MCP: &spec.MCPCall{Server: "env", Tool: "x"}},
	} {
		declared := &spec.Tool{Name: "x", Effect: spec.EffectRead, Call: call}
		a := s.Caller(nil, pkg).Attempt(t.Context(), tool.Call{Tool: declared, Name: "x"})
		if a.Class != tool.Rejected || !strings.Contains(a.Message, want) {
			t.Errorf("attempt: %+v, want %q", a, want)
		}
	}
}

func mockPackage() (*spec.Package, map[string][]byte) {
	star := func(fn string) *spec.Mock { return &spec.Mock{Star: "mocks/cards.star", Func: fn} }
	pkg := &spec.Package{Tools: map[string]*spec.Tool{
		"cards.freeze": {Effect: spec.EffectWrite, Mock: star("freeze")},
		"cards.find":   {Effect: spec.EffectRead, Mock: star("")},
		"cards.down":   {Effect: spec.EffectRead, Mock: star("down")},
		"cards.odd":    {Effect: spec.EffectRead, Mock: star("odd")},
		"desk.hello":   {Effect: spec.EffectRead, Mock: &spec.Mock{Out: map[string]any{"text": "hi"}}},
		"real.only":    {Effect: spec.EffectWrite},
	}}
	for name, t := range pkg.Tools {
		t.Name = name
	}
	return pkg, map[string][]byte{"mocks/cards.star": []byte(`
def freeze(world, args, now):
    world["cards"][args["card"]]["status"] = "frozen"
    return {"at": now}
def cards_find(world, args, now):
    return world["cards"][args["card"]]
def down(world, args, now):
    fail("unavailable", "down", status=503)
def odd(world, args, now):
    fail("drift", "a mock cannot say that")
`)}
}

func TestMocksAnswerInsteadOfTools(t *testing.T) {
	t.Parallel()
	pkg, data := mockPackage()
	mocks, err := tool.NewMocks(pkg, data)
	if err != nil {
		t.Fatal(err)
	}
	base, err := world.Parse([]byte(`{"cards":{"4711":{"status":"active"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	w := base.Fork()
	clk := clock.NewVirtual(start)
	p := tool.Policy{Clock: clk, Tools: pkg.Tools, Caller: mocks.Caller(w, clk)}
	call := func(name, args string) tool.Result {
		return tool.Do(t.Context(), p, tool.Call{Name: name, Args: json.RawMessage(args)})
	}
	for _, c := range []struct {
		name, args, out string
		class           tool.Class
		message         string
	}{
		{"cards.freeze", `{"card":"4711"}`, `{"at":"2026-03-01T09:00:00Z"}`, tool.OK, ""},
		{"cards.find", `{"card":"4711"}`, `{"status":"frozen"}`, tool.OK, ""},
		{"cards.find", `{"card":"1"}`, ``, tool.Rejected, `mocks/cards.star:6:26: in cards_find: key "1" not in dict`},
		{"cards.down", `{}`, ``, tool.Unavailable, "down"},
		{"cards.odd", `{}`, ``, tool.Rejected, "a mock cannot say that"},
		{"desk.hello", `{}`, `{"text":"hi"}`, tool.OK, ""},
		{"real.only", `{}`, ``, tool.Rejected, "has no mock"},
	} {
		r := call(c.name, c.args)
		if r.Class != c.class || string(r.Out) != c.out || !strings.Contains(r.Message, c.message) {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	if len(w.Diff(base)) != 1 || !mocks.Has("cards.find") || mocks.Has("real.only") {
		t.Errorf("differences: %v", w.Diff(base))
	}
	one := tool.Mocked(pkg, data, base.Fork(), clk)
	if a := one.Attempt(t.Context(), tool.Call{Name: "cards.find", Args: json.RawMessage(`{"card":"4711"}`)}); string(a.Out) != `{"status":"active"}` {
		t.Errorf("attempt: %+v", a)
	}
}

func TestBrokenMocksAreAllNamed(t *testing.T) {
	t.Parallel()
	pkg, data := mockPackage()
	pkg.Tools["cards.freeze"].Mock.Func = "freze"
	pkg.Tools["cards.find"].Mock.Star = "mocks/gone.star"
	_, err := tool.NewMocks(pkg, data)
	var got []string
	for _, f := range fault.From(err).Fields {
		got = append(got, f.Path+": "+f.Message)
	}
	want := []string{
		"cards.find: there is no file mocks/gone.star",
		"cards.freeze: mocks/cards.star:1:1: there is no function freze; did you mean freeze?",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	a := tool.Mocked(pkg, data, world.Empty().Fork(), clock.NewVirtual(start)).Attempt(t.Context(), tool.Call{Name: "desk.hello"})
	if a.Class != tool.Rejected || !strings.Contains(a.Message, "mocks/gone.star") {
		t.Errorf("attempt: %+v", a)
	}
}
