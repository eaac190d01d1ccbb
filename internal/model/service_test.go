package model_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/model"
	"flywheel/internal/model/modeltest"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// service has one configured provider, fake, on the server.
func service(t *testing.T, s *modeltest.Server, form model.Form) *model.Service {
	t.Helper()
	m := model.New(model.Deps{
		Config:   model.Config{Providers: []model.Provider{{Name: "fake", BaseURL: s.URL + "/v1", Form: form}}},
		CacheDir: t.TempDir(),
	})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

var (
	freeze = model.ToolDef{Name: "cards.freeze", Description: "Freeze a card.", Schema: json.RawMessage(`{"type":"object","properties":{"card_id":{"type":"string","pattern":"^[0-9]{4}$"},"reason":{"enum":["lost","stolen"]}},"required":["card_id"]}`)}
	list   = model.ToolDef{Name: "cards.list", Schema: json.RawMessage(`{"type":"object","properties":{}}`)}
)

const llamaProps = `{"chat_template":"{% for m in messages %}{{ m.content }}{% endfor %}"}`

func request(messages ...model.Message) model.Request {
	return model.Request{Model: "fake/m", Messages: messages, Tools: []model.ToolDef{freeze, list}}
}

func user(text string) model.Message { return model.Message{Role: model.RoleUser, Content: text} }

func chat(t *testing.T, m model.Chatter, req model.Request) (model.Response, []model.Delta, error) {
	t.Helper()
	var deltas []model.Delta
	r, err := m.Chat(t.Context(), req, func(d model.Delta) { deltas = append(deltas, d) })
	return r, deltas, err
}

// sent are role and content of the messages that the server saw.
func sent(t *testing.T, r modeltest.Request) []string {
	t.Helper()
	var body struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.Unmarshal(r.Raw, &body); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range body.Messages {
		out = append(out, m.Role+": "+m.Content)
	}
	return out
}

func TestNativeToolCalls(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Calls: []modeltest.Call{{ID: "c9", Name: "cards_freeze", Args: `{"card_id": "4711"}`}, {Name: "cards_list"}}, Usage: &modeltest.Usage{In: 100, Out: 20, Cached: 60}})
	m := service(t, s, model.FormNative)
	r, deltas, err := chat(t, m, request(user("freeze 4711"),
		model.Message{Role: model.RoleAssistant, ToolCalls: []model.ToolCall{{ID: "c1", Name: "cards.find", Args: json.RawMessage(`{"x":1}`)}}},
		model.Message{Role: model.RoleTool, ToolCallID: "c1", Content: `{"ok":true}`}))
	if err != nil {
		t.Fatal(err)
	}
	want := model.Response{
		Message: model.Message{Role: model.RoleAssistant, ToolCalls: []model.ToolCall{
			{ID: "c9", Name: "cards.freeze", Args: json.RawMessage(`{"card_id":"4711"}`)},
			{ID: "call_2", Name: "cards.list", Args: json.RawMessage(`{}`)},
		}},
		Finish: model.FinishToolCalls, Model: "m", Form: model.FormNative,
		Usage: model.Usage{In: 100, Out: 20, Cached: 60, Prices: "unknown"},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]model.Delta{{Tool: "cards.freeze"}, {Tool: "cards.list"}}, deltas); diff != "" {
		t.Error(diff)
	}
	body := string(s.Requests()[0].Raw)
	for _, want := range []string{`"name":"cards_find","arguments":"{\"x\":1}"`, `"tool_call_id":"c1"`, `"content":null`, `"temperature":0`, `"name":"cards_list"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the request lacks %s: %s", want, body)
		}
	}
	if strings.Contains(body, "grammar") {
		t.Errorf("a grammar was sent to a server that knows none: %s", body)
	}
}

func TestActionFormOnALlamaServer(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t,
		modeltest.Answer{Text: `{"action":"cards_freeze","card_id":"4711","reason":"lost"}`},
		modeltest.Answer{Text: `{"action":"cards_list"}`},
		modeltest.Answer{Text: `{"action":"reply","text":"It is \"frozen\",\nMüller 🙂."}`})
	s.JSON("/props", llamaProps)
	m := service(t, s, "")
	history := []model.Message{
		{Role: model.RoleSystem, Content: "Pick an action."},
		user("lost 1234"),
		{Role: model.RoleAssistant, ToolCalls: []model.ToolCall{{ID: "e1", Name: "cards.freeze", Args: json.RawMessage(`{"reason":"lost", "card_id":"1234"}`)}}},
		{Role: model.RoleTool, ToolCallID: "e1", Content: `{"status":"frozen"}`},
		{Role: model.RoleAssistant, Content: `Done & "frozen".`},
		user("freeze 4711"),
	}
	r, deltas, err := chat(t, m, request(history...))
	if err != nil {
		t.Fatal(err)
	}
	want := []model.ToolCall{{ID: "call_2", Name: "cards.freeze", Args: json.RawMessage(`{"card_id":"4711","reason":"lost"}`)}}
	if diff := cmp.Diff(want, r.Message.ToolCalls); diff != "" || r.Finish != model.FinishToolCalls || r.Form != model.FormAction {
		t.Error(diff, r)
	}
	if diff := cmp.Diff([]model.Delta{{Tool: "cards.freeze"}}, deltas); diff != "" {
		t.Error(diff)
	}
	wire := s.Requests()[0]
	if diff := cmp.Diff([]string{
		"system: Pick an action.", "user: lost 1234",
		`assistant: {"action":"cards_freeze","card_id":"1234","reason":"lost"}`, // the order of the schema, as the model must write it
		`user: result: {"status":"frozen"}`,
		`assistant: {"action":"reply","text":"Done & \"frozen\"."}`,
		"user: freeze 4711",
	}, sent(t, wire)); diff != "" {
		t.Error(diff)
	}
	if wire.Body["tools"] != nil || wire.Body["cache_prompt"] != true || !strings.HasPrefix(fmt.Sprint(wire.Body["grammar"]), `root ::= "{\"action\":" (action0 | action1 | action2) "}"`) {
		t.Errorf("sent %s", wire.Raw)
	}

	r, _, err = chat(t, m, request(user("which cards?")))
	if err != nil || string(r.Message.ToolCalls[0].Args) != "{}" || r.Message.ToolCalls[0].Name != "cards.list" {
		t.Errorf("a tool without arguments: %+v %v", r, err)
	}
	r, deltas, err = chat(t, m, request(user("thanks")))
	const reply = "It is \"frozen\",\nMüller 🙂."
	if err != nil || r.Message.Content != reply || r.Finish != model.FinishStop {
		t.Errorf("reply: %+v %v", r, err)
	}
	streamed := ""
	for _, d := range deltas {
		streamed += d.Text
	}
	if streamed != reply || len(deltas) < 2 {
		t.Errorf("streamed %q in %d pieces", streamed, len(deltas))
	}
}

func TestActionFormWithoutGrammar(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: "{\"action\": \"cards_freeze\",\n \"card_id\": \"4711\"}"})
	m := service(t, s, model.FormAction)
	r, _, err := chat(t, m, request(user("freeze 4711")))
	if err != nil || string(r.Message.ToolCalls[0].Args) != `{"card_id":"4711"}` {
		t.Fatalf("%+v %v", r, err)
	}
	body := s.Requests()[0].Body
	format, _ := json.Marshal(body["response_format"])
	if body["grammar"] != nil || !strings.Contains(string(format), `"enum":["cards_freeze"]`) || !strings.Contains(string(format), `"enum":["reply"]`) {
		t.Errorf("sent %s", s.Requests()[0].Raw)
	}
}

func TestPrefixStaysTheSame(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: `{"action":"cards_list"}`})
	s.JSON("/props", llamaProps)
	m := service(t, s, "")
	system := model.Message{Role: model.RoleSystem, Content: "Constant."}
	for _, text := range []string{"first", "second"} {
		if _, _, err := chat(t, m, request(system, user(text))); err != nil {
			t.Fatal(err)
		}
	}
	a, b := s.Requests()[0], s.Requests()[1]
	if string(a.Raw) != strings.Replace(string(b.Raw), "second", "first", 1) {
		t.Errorf("more than the message changed:\n%s\n%s", a.Raw, b.Raw)
	}
}

func TestOutputSchema(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"object","properties":{"intent":{"enum":["a","b"]}},"required":["intent"]}`
	tests := map[string]struct {
		provider string
		tools    bool
		llama    bool
		answer   modeltest.Answer
		want     string // in the request
	}{
		"by response_format":                  {"fake", false, false, modeltest.Answer{Text: `{"intent":"a"}`}, `"response_format":{"type":"json_schema"`},
		"by grammar":                          {"fake", false, true, modeltest.Answer{Text: `{"intent":"a"}`}, `"grammar":"root ::=`},
		"by grammar beside actions":           {"fake", true, true, modeltest.Answer{Text: `{"action":"reply","data":{"intent":"a"}}`}, `\"data\\\":`},
		"by a forced tool where nothing else": {"anthropic", false, false, modeltest.Answer{Calls: []modeltest.Call{{Name: "answer", Args: `{"intent":"a"}`}}}, `"tool_choice":{"function":{"name":"answer"},"type":"function"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := modeltest.New(t, tt.answer)
			if tt.llama {
				s.JSON("/props", llamaProps)
			}
			m := model.New(model.Deps{CacheDir: t.TempDir(), Config: model.Config{Providers: []model.Provider{{Name: tt.provider, BaseURL: s.URL + "/v1", Key: "k"}}}})
			req := request(user("x"))
			req.Model, req.Output = tt.provider+"/m", json.RawMessage(schema)
			if !tt.tools {
				req.Tools = nil
			}
			r, _, err := chat(t, m, req)
			if err != nil || r.Message.Content != `{"intent":"a"}` || len(r.Message.ToolCalls) > 0 || r.Finish != model.FinishStop {
				t.Errorf("%+v %v", r, err)
			}
			if body := string(s.Requests()[0].Raw); !strings.Contains(body, tt.want) {
				t.Errorf("sent %s", body)
			}
		})
	}
}

func TestFormIsFoundOnceAndShown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		props string
		want  model.Form
	}{
		"a template with tools":     {`{"chat_template":"{% if tools %}…{% endif %}"}`, model.FormNative},
		"a template without":        {llamaProps, model.FormAction},
		"tools named but not there": {`{"chat_template":"{# no tools #}","chat_template_caps":{"supports_tools":false}}`, model.FormAction},
		"a server that says none":   {"", model.FormNative},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := modeltest.New(t, modeltest.Answer{Text: "x"})
			s.JSON("/v1/models", `{"data":[{"id":"m"}]}`)
			if tt.props != "" {
				s.JSON("/props", tt.props)
			}
			m := service(t, s, "")
			for range 2 {
				for _, r := range m.Doctor(t.Context()) {
					if r.Name == "fake" && (!r.Reachable || len(r.Models) != 1 || r.Models[0].Form != tt.want) {
						t.Errorf("doctor: %+v", r)
					}
				}
				s.JSON("/props", `{"chat_template":"changed tools"}`) // asked once only
			}
			if pin, err := m.Pin(t.Context(), "fake/m"); err != nil || pin.Form != tt.want || pin.Reproducible {
				t.Errorf("pin: %+v %v", pin, err)
			}
		})
	}
}

func TestOllama(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: `{"action":"reply","text":"hi"}`})
	s.JSON("/v1/models", `{"data":[{"id":"tiny:latest"}]}`)
	s.JSON("/api/tags", `{"models":[{"name":"tiny:latest","digest":"abc","size":5}]}`)
	s.JSON("/api/show", `{"capabilities":["completion"]}`)
	m := model.New(model.Deps{CacheDir: t.TempDir(), Getenv: func(k string) string {
		return map[string]string{"OLLAMA_HOST": strings.TrimPrefix(s.URL, "http://")}[k]
	}})
	req := request(user("x"))
	req.Model = "ollama/tiny"
	r, _, err := chat(t, m, req)
	if err != nil || r.Message.Content != "hi" || r.Form != model.FormAction || r.Usage.Prices != "local" {
		t.Errorf("%+v %v", r, err)
	}
	pin, err := m.Pin(t.Context(), "ollama/tiny")
	if err != nil || pin.Digest != "sha256:abc" || !pin.Reproducible {
		t.Errorf("%+v %v", pin, err)
	}
	if _, err := m.Resolve(t.Context(), spec.ModelChoice{First: "ollama/big"}); !fault.HasCode(err, model.CodeUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestNoModelNamesEveryWayToGetOne(t *testing.T) {
	t.Parallel()
	m := model.New(model.Deps{CacheDir: t.TempDir(), Getenv: func(k string) string {
		return map[string]string{"OLLAMA_HOST": "127.0.0.1:1"}[k]
	}})
	for _, ref := range []string{"local/smollm2-135m-instruct", "openai/gpt-5-mini", "anthropic/claude-sonnet-4-5", "ollama/x", "scripted/none"} {
		_, _, err := chat(t, m, model.Request{Model: ref})
		checkWays(t, ref, err)
	}
	_, err := m.Resolve(t.Context(), spec.ModelChoice{First: "local/x", Else: "openai/y"})
	checkWays(t, "resolve", err)
}

func checkWays(t *testing.T, what string, err error) {
	t.Helper()
	if !fault.HasCode(err, model.CodeUnreachable) {
		t.Fatalf("%s: %v", what, err)
	}
	for _, way := range []string{"make local-model", "llama-server", "Ollama", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "base_url", "flywheel doctor"} {
		if hint := fault.From(err).Hint; !strings.Contains(hint, way) {
			t.Errorf("%s: the hint lacks %s: %s", what, way, hint)
		}
	}
}

func TestBadReferences(t *testing.T) {
	t.Parallel()
	m := model.New(model.Deps{CacheDir: t.TempDir()})
	for ref, hint := range map[string]string{"gpt-5": "provider/name", "opnai/gpt-5": "did you mean openai", "/x": "provider/name", "mistral/": "provider/name", "zzzzzzzz/x": "anthropic, local"} {
		_, _, err := chat(t, m, model.Request{Model: ref})
		if !fault.HasCode(err, model.CodeBadRef) || !strings.Contains(fault.From(err).Hint, hint) {
			t.Errorf("%s: %v (%s)", ref, err, fault.From(err).Hint)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	m := model.New(model.Deps{CacheDir: t.TempDir(), Getenv: func(k string) string { return map[string]string{"OPENAI_API_KEY": "sk-x"}[k] }})
	got, err := m.Resolve(t.Context(), spec.ModelChoice{First: "anthropic/claude-sonnet-4-5", Else: "openai/gpt-5-mini"})
	if err != nil || got != "openai/gpt-5-mini" {
		t.Errorf("got %s %v", got, err)
	}
	script, err := model.Scripted([]byte("default: {reply: hi}"))
	if err != nil {
		t.Fatal(err)
	}
	m.Register("scripted/desk", script)
	if got, err = m.Resolve(t.Context(), spec.ModelChoice{First: "scripted/desk"}); err != nil || got != "scripted/desk" {
		t.Errorf("got %s %v", got, err)
	}
	pin, err := m.Pin(t.Context(), "scripted/desk")
	if err != nil || pin.Form != model.FormScripted || !strings.HasPrefix(pin.Digest, "sha256:") {
		t.Errorf("%+v %v", pin, err)
	}
}

func TestSettingsOfEachDialect(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: "x"})
	m := model.New(model.Deps{CacheDir: t.TempDir(), Getenv: func(k string) string {
		return map[string]string{"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": s.URL + "/v1/", "ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": s.URL}[k]
	}})
	for i, tt := range []struct {
		ref       string
		has, lack []string
	}{
		{"openai/gpt-4.1-mini", []string{`"max_completion_tokens":9`, `"temperature":0.5`, `"seed":3`}, []string{`"max_tokens"`}},
		{"openai/gpt-5-mini", []string{`"max_completion_tokens":9`}, []string{`"temperature"`}},
		{"anthropic/claude-sonnet-4-5", []string{`"max_tokens":9`, `"temperature":0.5`}, []string{`"seed"`, `completion_tokens`}},
	} {
		r, _, err := chat(t, m, model.Request{Model: tt.ref, Messages: []model.Message{user("x")}, Temperature: 0.5, MaxTokens: 9, Seed: 3})
		if err != nil || r.Usage.Cost == 0 && r.Usage.Prices != "unknown" {
			t.Fatalf("%s: %+v %v", tt.ref, r, err)
		}
		body := string(s.Requests()[i].Raw)
		for _, w := range tt.has {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %s: %s", tt.ref, w, body)
			}
		}
		for _, w := range tt.lack {
			if strings.Contains(body, w) {
				t.Errorf("%s has %s: %s", tt.ref, w, body)
			}
		}
	}
}

func TestToolNamesThatCollide(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Calls: []modeltest.Call{{Name: "a_b_2"}, {Name: "a_b"}, {Name: "reply_2"}}})
	m := service(t, s, model.FormNative)
	r, _, err := chat(t, m, model.Request{Model: "fake/m", Tools: []model.ToolDef{{Name: "a.b"}, {Name: "a_b"}, {Name: "reply"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range r.Message.ToolCalls {
		got = append(got, c.Name)
	}
	if diff := cmp.Diff([]string{"a_b", "a.b", "reply"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestArgumentCalledAction(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: `{"action":"do_it","action_":"jump","action__":"run"}`})
	s.JSON("/props", llamaProps)
	m := service(t, s, "")
	r, _, err := chat(t, m, model.Request{Model: "fake/m", Tools: []model.ToolDef{{Name: "do.it", Schema: json.RawMessage(`{"type":"object","properties":{"action":{"type":"string"},"action_":{"type":"string"}},"required":["action"]}`)}}})
	if err != nil || string(r.Message.ToolCalls[0].Args) != `{"action":"jump","action_":"run"}` {
		t.Errorf("%+v %v", r, err)
	}
	if g := fmt.Sprint(s.Requests()[0].Body["grammar"]); !strings.Contains(g, `\"action_\":`) {
		t.Errorf("grammar %s", g)
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	err := model.Config{Providers: []model.Provider{
		{Name: "ok", BaseURL: "http://h/v1"},
		{Name: "local", BaseURL: "http://h"},
		{Name: "a/b", BaseURL: "http://h"},
		{Name: "x", BaseURL: "h:80"},
		{Name: "ok", BaseURL: "http://h"},
		{Name: "y", BaseURL: "http://h", Form: "odd"},
	}}.Check()
	if f := fault.From(err); f == nil || len(f.Fields) != 5 {
		t.Errorf("got %+v", f)
	}
}

func TestDeadlineWhileWaiting(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Silent: true})
	m := service(t, s, model.FormNative)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
	defer cancel()
	if _, err := m.Chat(ctx, request(user("x")), nil); !fault.HasCode(err, model.CodeTimeout) {
		t.Errorf("got %v", err)
	}
	<-s.Gone
}

func TestCacheDir(t *testing.T) {
	t.Parallel()
	get := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	for want, env := range map[string]map[string]string{
		"/c":                 {"FLYWHEEL_CACHE": "/c", "HOME": "/h"},
		"/x/flywheel":        {"XDG_CACHE_HOME": "/x", "HOME": "/h"},
		"/h/.cache/flywheel": {"HOME": "/h"},
	} {
		if got := model.DefaultCacheDir(get(env)); got != filepath.FromSlash(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestBrokenModelFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "models"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "models", "bad.gguf"), []byte("GGUF but not really"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := model.New(model.Deps{CacheDir: dir})
	if _, err := m.Pin(t.Context(), "local/bad"); !fault.HasCode(err, model.CodeUnreachable) || !strings.Contains(fault.From(err).Hint, "bad.gguf") {
		t.Errorf("got %v", err)
	}
}
