package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/deploy"
	"flywheel/internal/model"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
)

type answer struct {
	status  int
	header  http.Header
	body    []byte
	content string
}

func (h *home) post(s *httptest.Server, body string, header ...string) answer {
	h.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: raw}
	var c struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if json.Unmarshal(raw, &c) == nil && len(c.Choices) == 1 {
		a.content = c.Choices[0].Message.Content
	}
	return a
}

func (h *home) ask(s *httptest.Server, text, session string) answer {
	h.t.Helper()
	body, _ := json.Marshal(map[string]any{"model": "agent/desk@prod", "user": session, "messages": []any{map[string]string{"role": "user", "content": text}}})
	a := h.post(s, string(body))
	if a.status != http.StatusOK {
		h.t.Fatalf("%d %s", a.status, a.body)
	}
	return a
}

const hello = `{"model":"agent/desk@prod","messages":[{"role":"user","content":"hello"}]`

func served(t *testing.T) (*home, *httptest.Server) {
	t.Helper()
	h := newHome(t)
	h.release(files("First."))
	h.deploy("1", 0)
	return h, h.serve()
}

// The shape is that of OpenAI's API reference, every field and no other.
func TestACompletionHasOpenAIsShape(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	a := h.post(s, hello+`}`)
	var got map[string]any
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != 200 || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s %v", a.status, a.body, err)
	}
	run := a.header.Get(deploy.HeaderRun)
	want := map[string]any{
		"id": "chatcmpl-" + run, "object": "chat.completion", "created": got["created"], "model": "agent/desk@prod",
		"choices": []any{map[string]any{
			"index": 0.0, "finish_reason": "stop", "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": "First. hello", "refusal": nil},
		}},
		"usage": map[string]any{
			"prompt_tokens": 40.0, "completion_tokens": 7.0, "total_tokens": 47.0,
			"prompt_tokens_details": map[string]any{"cached_tokens": 10.0},
		},
		"system_fingerprint": got["system_fingerprint"],
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if created, ok := got["created"].(float64); !ok || created < 1.7e9 || created != float64(int64(created)) {
		t.Errorf("created: %v", got["created"])
	}
	if !strings.HasPrefix(run, "run_") || !strings.HasPrefix(a.header.Get(deploy.HeaderSession), "ses_") ||
		!strings.HasPrefix(a.header.Get(deploy.HeaderRelease), "sha256:") || a.header.Get(deploy.HeaderSide) != "stable" {
		t.Errorf("headers: %v", a.header)
	}
}

// events reads a stream strictly: only data lines, comments, and empty lines between them.
func events(t *testing.T, r io.Reader) (chunks []map[string]any, done bool) {
	t.Helper()
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line := sc.Text()
		data, ok := strings.CutPrefix(line, "data: ")
		switch {
		case line == "" || strings.HasPrefix(line, ":"):
		case !ok || done:
			t.Fatalf("unexpected line %q", line)
		case data == "[DONE]":
			done = true
		default:
			var c map[string]any
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			chunks = append(chunks, c)
		}
	}
	return chunks, done
}

func deltaOf(c map[string]any) map[string]any {
	choices := c["choices"].([]any)
	if len(choices) == 0 {
		return nil
	}
	return choices[0].(map[string]any)["delta"].(map[string]any)
}

func TestAStreamHasOpenAIsShape(t *testing.T) {
	t.Parallel()
	for name, usage := range map[string]bool{"plain": false, "with usage": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, s := served(t)
			options := ""
			if usage {
				options = `,"stream_options":{"include_usage":true}`
			}
			a := h.post(s, hello+`,"stream":true`+options+`}`)
			if ct := a.header.Get("Content-Type"); ct != "text/event-stream" || a.header.Get(deploy.HeaderRun) == "" {
				t.Errorf("headers: %v", a.header)
			}
			chunks, done := events(t, bytes.NewReader(a.body))
			if !done {
				t.Error("no [DONE]")
			}
			if usage {
				last := chunks[len(chunks)-1]
				chunks = chunks[:len(chunks)-1]
				if len(last["choices"].([]any)) != 0 || last["usage"].(map[string]any)["total_tokens"] != 47.0 {
					t.Errorf("usage chunk: %v", last)
				}
			}
			text := ""
			for i, c := range chunks {
				if c["id"] != chunks[0]["id"] || c["object"] != "chat.completion.chunk" || c["created"] != chunks[0]["created"] || c["model"] != "agent/desk@prod" {
					t.Errorf("chunk %d: %v", i, c)
				}
				if u, has := c["usage"]; has != usage || u != nil {
					t.Errorf("chunk %d: usage %v", i, u)
				}
				reason := c["choices"].([]any)[0].(map[string]any)["finish_reason"]
				if (reason == "stop") != (i == len(chunks)-1) {
					t.Errorf("chunk %d: finish_reason %v", i, reason)
				}
				if (deltaOf(c)["role"] == "assistant") != (i == 0) {
					t.Errorf("chunk %d: %v", i, c)
				}
				if piece, ok := deltaOf(c)["content"].(string); ok {
					text += piece
				}
			}
			if text != "First. hello" || len(chunks) < 4 {
				t.Errorf("%d chunks say %q", len(chunks), text)
			}
		})
	}
}

func TestTextArrivesWhileItIsWritten(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	h.model.gate = make(chan struct{})
	res, err := s.Client().Post(s.URL+"/v1/chat/completions", "application/json", strings.NewReader(hello+`,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	r := bufio.NewReader(res.Body)
	for { // the model waits for the gate: what comes now came before the end
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, `"content":"First. "`) {
			break
		}
	}
	close(h.model.gate)
	if _, done := events(t, r); !done {
		t.Error("no [DONE]")
	}
}

func TestARunGoesOnWhenItsCallerHangsUp(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	h.model.gate = make(chan struct{})
	ctx, hangUp := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(hello+`,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	id := res.Header.Get(deploy.HeaderRun)
	hangUp()
	_ = res.Body.Close()
	close(h.model.gate)
	r, err := h.runs.Wait(context.Background(), runID(id))
	if err != nil || r.Output.Reply != "First. hello" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestErrorsAreOpenAIs(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	long := strings.Repeat("x", 201)
	for name, c := range map[string]struct {
		body         string
		status       int
		kind, param  string
		code, phrase string
	}{
		"no JSON":        {`hello`, 400, "invalid_request_error", "", "", "not a chat completion"},
		"no model":       {`{"messages":[{"role":"user","content":"x"}]}`, 400, "invalid_request_error", "model", "", "model"},
		"no messages":    {`{"model":"agent/desk@prod","messages":[]}`, 400, "invalid_request_error", "messages", "", "no message"},
		"two answers":    {hello + `,"n":2}`, 400, "invalid_request_error", "n", "", "n must be 1"},
		"not the user":   {`{"model":"agent/desk@prod","messages":[{"role":"assistant","content":"x"}]}`, 400, "invalid_request_error", "messages", "", "last message"},
		"strange role":   {`{"model":"agent/desk@prod","messages":[{"role":"boss","content":"x"},{"role":"user","content":"x"}]}`, 400, "invalid_request_error", "messages[0].role", "", "not a role"},
		"a picture":      {`{"model":"agent/desk@prod","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`, 400, "invalid_request_error", "messages[0].content", "", "image_url"},
		"empty":          {`{"model":"agent/desk@prod","messages":[{"role":"user","content":" "}]}`, 400, "invalid_request_error", "messages", "", "empty"},
		"long session":   {hello + `,"user":"` + long + `"}`, 400, "invalid_request_error", "user", "", "session"},
		"unknown agent":  {strings.Replace(hello, "desk@", "other@", 1) + `}`, 404, "invalid_request_error", "model", "model_not_found", "no channel"},
		"unknown name":   {strings.Replace(hello, "agent/desk@prod", "gpt-4o", 1) + `}`, 404, "invalid_request_error", "model", "model_not_found", "agent/NAME@CHANNEL"},
		"stream of none": {strings.Replace(hello, "desk@prod", "desk@test", 1) + `,"stream":true}`, 404, "invalid_request_error", "model", "model_not_found", "no channel"},
	} {
		a := h.post(s, c.body)
		var got struct {
			Error struct {
				Message, Type string
				Param, Code   *string
			}
		}
		d := json.NewDecoder(bytes.NewReader(a.body))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Errorf("%s: %s: %v", name, a.body, err)
			continue
		}
		e := got.Error
		if a.status != c.status || e.Type != c.kind || value(e.Param) != c.param || value(e.Code) != c.code || !strings.Contains(e.Message, c.phrase) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a.header.Get(deploy.HeaderRun) != "" {
			t.Errorf("%s: a run was started", name)
		}
	}
}

func TestWhatIsRefusedBeforeTheEndpointIsOpenAIsErrorToo(t *testing.T) {
	t.Parallel()
	for kind, want := range map[fault.Kind]string{
		fault.Unauthenticated: "401 authentication_error", fault.Forbidden: "403 permission_error",
		fault.NotFound: "404 invalid_request_error", fault.Exhausted: "429 rate_limit_error", fault.Internal: "500 server_error",
	} {
		w := httptest.NewRecorder()
		deploy.WriteProblem(w, httpx.ProblemOf(fault.New(kind, "x.y", "no").WithHint("flywheel login"), "req_1"))
		var got struct {
			Error struct{ Message, Type, Code string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", w.Body, err)
		}
		e := got.Error
		if is := fmt.Sprint(w.Code, " ", e.Type); is != want || e.Code != "x.y" || e.Message != "no (flywheel login)" {
			t.Errorf("%s: %d %s", kind, w.Code, w.Body)
		}
	}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func TestAFailedRunIsAnErrorThatIsNotRepeated(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	h.model.fail = fault.New(fault.Unavailable, "model.unreachable", "the model server is gone").WithHint("flywheel doctor")
	a := h.post(s, hello+`}`)
	if a.status != http.StatusServiceUnavailable || a.header.Get("X-Should-Retry") != "false" || a.header.Get(deploy.HeaderRun) == "" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if !strings.Contains(string(a.body), `"code":"model.unreachable"`) {
		t.Errorf("%s", a.body)
	}
	a = h.post(s, hello+`,"stream":true}`)
	chunks, done := events(t, bytes.NewReader(a.body))
	last := chunks[len(chunks)-1]
	if e, ok := last["error"].(map[string]any); done || !ok || e["code"] != "model.unreachable" || e["type"] != "server_error" {
		t.Errorf("done %v, last chunk %v", done, last)
	}
}

func TestSessionsComeFromHeaderThenUserThenMetadata(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	for want, c := range map[string]struct{ body, header string }{
		"from-header":   {hello + `,"user":"from-user","metadata":{"session":"from-metadata"}}`, "from-header"},
		"from-user":     {hello + `,"user":"from-user","metadata":{"session":"from-metadata"}}`, ""},
		"from-metadata": {hello + `,"metadata":{"session":"from-metadata","customer":"c7"}}`, ""},
	} {
		var header []string
		if c.header != "" {
			header = []string{deploy.HeaderSession, c.header}
		}
		a := h.post(s, c.body, header...)
		if a.header.Get(deploy.HeaderSession) != want || h.runner.last().Session != want {
			t.Errorf("want %s: %v", want, a.header)
		}
	}
	h.post(s, hello+`,"metadata":{"customer":"c7"}}`)
	if f := h.runner.last().Fields; f["customer"] != "c7" {
		t.Errorf("fields: %v", f)
	}
}

func TestASessionRemembers(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	h.ask(s, "my card is 4711", "talk")
	h.ask(s, "freeze it", "talk")
	messages := h.model.requests[len(h.model.requests)-1].Messages
	var said []string
	for _, m := range messages[1:] {
		said = append(said, m.Role+": "+m.Content)
	}
	want := []string{"user: my card is 4711", "assistant: First. my card is 4711", "user: freeze it"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
}

const conversation = `{"model":"agent/desk@prod","temperature":0.3,"tools":[],"messages":[{"role":"system","content":"You are a pirate."},
	{"role":"user","content":"my card is 4711"},{"role":"assistant","content":"And?"},{"role":"user","content":[{"type":"text","text":"freeze "},{"type":"text","text":"it"}]}]`

// Whoever repeats the conversation in the request decides what was said; the session answers for those who
// send one message at a time.
func TestEarlierMessagesOfTheRequestAreTheHistory(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	a := h.post(s, conversation+`}`)
	got := h.runner.last()
	want := []model.Message{{Role: "user", Content: "my card is 4711"}, {Role: "assistant", Content: "And?"}}
	if diff := cmp.Diff(want, got.History); diff != "" || got.Message != "freeze it" {
		t.Errorf("message %q, history:\n%s", got.Message, diff)
	}
	messages := h.model.requests[len(h.model.requests)-1].Messages
	if n := len(messages); n != 4 || messages[1].Content != "my card is 4711" || messages[2].Content != "And?" || messages[3].Content != "freeze it" {
		t.Errorf("the model saw %+v", messages)
	}
	if dropped := a.header.Get(deploy.HeaderDropped); dropped != "messages.system, temperature, tools" {
		t.Errorf("dropped: %q", dropped)
	}
	h.ask(s, "hello", "talk")
	h.post(s, conversation+`,"user":"talk"}`)
	if got := h.runner.last(); len(got.History) != 2 || got.Session != "talk" {
		t.Errorf("with a session: %+v", got)
	}
	if messages := h.model.requests[len(h.model.requests)-1].Messages; len(messages) != 4 || messages[1].Content != "my card is 4711" {
		t.Errorf("with a session the model saw %+v", messages)
	}
	h.ask(s, "and?", "talk")
	if messages := h.model.requests[len(h.model.requests)-1].Messages; len(messages) != 6 || messages[1].Content != "hello" || messages[3].Content != "freeze it" {
		t.Errorf("without earlier messages the model saw %+v", messages)
	}
}

// Clients that name no session and repeat the conversation stay on one side from its first message on,
// also when they take up the session that they were given.
func TestAConversationWithoutASessionStaysOnItsSide(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.release(files("First."))
	h.release(files("Second."))
	h.deploy("1", 0)
	h.deploy("2", 0.5)
	s := h.serve()
	sides := map[string]int{}
	for i := range 20 {
		first := fmt.Sprintf(`{"role":"user","content":"hello %d"}`, i)
		one := h.post(s, `{"model":"agent/desk@prod","messages":[`+first+`]}`)
		two := h.post(s, `{"model":"agent/desk@prod","messages":[`+first+`,{"role":"assistant","content":"yes?"},{"role":"user","content":"again"}]}`)
		three := h.post(s, hello+`}`, deploy.HeaderSession, one.header.Get(deploy.HeaderSession))
		side := one.header.Get(deploy.HeaderSide)
		sides[side]++
		for _, a := range []answer{two, three} {
			if a.header.Get(deploy.HeaderSide) != side {
				t.Errorf("conversation %d began on %s and went on on %s", i, side, a.header.Get(deploy.HeaderSide))
			}
		}
		if one.header.Get(deploy.HeaderSession) == two.header.Get(deploy.HeaderSession) {
			t.Error("two requests without a session share one")
		}
	}
	if sides["stable"] == 0 || sides["canary"] == 0 {
		t.Errorf("sides: %v", sides)
	}
}

func TestModelsAreTheChannels(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	get := func(path string) (int, string) {
		res, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	one := `\{"id":"agent/desk@prod","object":"model","created":\d+,"owned_by":"flywheel"\}`
	for path, want := range map[string]string{
		"/v1/models": `^\{"data":\[` + one + `\],"object":"list"\}\s*$`, "/v1/models/agent/desk@prod": `^` + one + `\s*$`,
		"/v1/models/agent%2Fdesk%40prod": `^` + one + `\s*$`,
	} {
		if status, body := get(path); status != 200 || !regexp.MustCompile(want).MatchString(body) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"/v1/models/gpt-4o", "/v1/embeddings"} {
		if status, body := get(path); status != 404 || !strings.Contains(body, `"error":{"message":`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	_ = h
}

func TestALargeBodyIsRefused(t *testing.T) {
	t.Parallel()
	h, s := served(t)
	a := h.post(s, `{"model":"`+strings.Repeat("x", 9<<20)+`"}`)
	if a.status != http.StatusRequestEntityTooLarge || !strings.Contains(string(a.body), `"error"`) {
		t.Errorf("%d %.200s", a.status, a.body)
	}
}
