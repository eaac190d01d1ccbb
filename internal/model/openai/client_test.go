package openai_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/model/modeltest"
	"flywheel/internal/model/openai"
	"flywheel/internal/platform/fault"
)

func client(s *modeltest.Server) *openai.Client {
	return &openai.Client{Base: s.URL + "/v1", Name: "fake", Key: "sk-secret"}
}

func ask(t *testing.T, c *openai.Client) (openai.Completion, string, error) {
	t.Helper()
	var streamed strings.Builder
	hello := "hello"
	got, err := c.Complete(t.Context(), openai.Request{Model: "m", Messages: []openai.Message{{Role: "user", Content: &hello}}}, func(k openai.Chunk) {
		streamed.WriteString(k.Text)
		if k.Tool != "" {
			streamed.WriteString("[" + k.Tool + "]")
		}
	})
	return got, streamed.String(), err
}

func TestCompleteReadsWhatServersSend(t *testing.T) {
	t.Parallel()
	text := func(s, finish string, u openai.Usage) openai.Completion {
		return openai.Completion{Text: s, Finish: finish, Model: "m", Usage: u}
	}
	calls := func(cs ...openai.Call) openai.Completion {
		return openai.Completion{Finish: "tool_calls", Model: "m", Calls: cs}
	}
	call := func(id, name, args string) openai.Call {
		return openai.Call{ID: id, Type: "function", Function: openai.CallFunction{Name: name, Arguments: args}}
	}
	const one = `{"model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}`
	const end = `{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	tests := map[string]struct {
		answer modeltest.Answer
		want   openai.Completion
		stream string
	}{
		"a stream": {
			modeltest.Answer{Text: "Hello you there", Usage: &modeltest.Usage{In: 7, Out: 3, Cached: 4}},
			text("Hello you there", "stop", openai.Usage{In: 7, Out: 3, Cached: 4, Known: true}), "Hello you there",
		},
		"no usage":                 {modeltest.Answer{Text: "x", NoUsage: true}, text("x", "stop", openai.Usage{}), "x"},
		"not streamed":             {modeltest.Answer{Text: "one document", Whole: true, Usage: &modeltest.Usage{In: 1, Out: 2}}, text("one document", "stop", openai.Usage{In: 1, Out: 2, Known: true}), "one document"},
		"CRLF, comments and names": {modeltest.Answer{Raw: ": ping\r\nevent: x\r\nid: 3\r\ndata: " + one + "\r\n\r\n:\r\n\r\ndata:" + end + "\r\n\r\ndata: [DONE]\r\n\r\n"}, text("Hi", "stop", openai.Usage{}), "Hi"},
		"an event in two lines":    {modeltest.Answer{Raw: "data: {\"model\":\"m\",\ndata: \"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n"}, text("Hi", "stop", openai.Usage{}), "Hi"},
		"no DONE, no last newline": {modeltest.Answer{Raw: "data: " + one + "\n\ndata: " + end}, text("Hi", "stop", openai.Usage{}), "Hi"},
		"an event of 200 kB":       {modeltest.Answer{Text: strings.Repeat("x", 200_000)}, text(strings.Repeat("x", 200_000), "stop", openai.Usage{In: 10, Out: 1, Known: true}), strings.Repeat("x", 200_000)},
		"tool calls in fragments": {
			modeltest.Answer{NoUsage: true, Calls: []modeltest.Call{{ID: "a", Name: "cards_find", Args: `{"name":"Ann Müller"}`}, {ID: "b", Name: "cards_freeze", Args: `{}`}}},
			calls(call("a", "cards_find", `{"name":"Ann Müller"}`), call("b", "cards_freeze", `{}`)), "[cards_find][cards_freeze]",
		},
		"tool calls without index and id": {
			modeltest.Answer{Raw: `data: {"model":"m","choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"a\""}}]}}]}` + "\n\n" +
				`data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":":1}"}}]}}]}` + "\n\n" +
				`data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"g","arguments":{"b":2}}}]},"finish_reason":"stop"}]}` + "\n\n"},
			calls(call("call_1", "f", `{"a":1}`), call("call_2", "g", `{"b":2}`)), "[f][g]",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := modeltest.New(t, tt.answer)
			got, streamed, err := ask(t, client(s))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if streamed != tt.stream {
				t.Errorf("streamed %q", streamed)
			}
			if got := s.Requests()[0].Header.Get("Authorization"); got != "Bearer sk-secret" {
				t.Errorf("Authorization: %s", got)
			}
		})
	}
}

func TestCompleteSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer modeltest.Answer
		kind   fault.Kind
		code   string
		words  string
	}{
		"dies in mid-stream":           {modeltest.Answer{Text: "I will now", Die: true}, fault.Unavailable, openai.CodeInterrupted, ""},
		"dies before the first word":   {modeltest.Answer{Die: true}, fault.Unavailable, openai.CodeInterrupted, ""},
		"ends in mid-stream":           {modeltest.Answer{Raw: `data: {"choices":[{"delta":{"content":"I will"}}]}` + "\n\n"}, fault.Unavailable, openai.CodeInterrupted, "after 6 characters"},
		"error object in mid-stream":   {modeltest.Answer{Text: "I will", Error: "out of memory"}, fault.Unavailable, openai.CodeInterrupted, "out of memory"},
		"refusal in mid-stream":        {modeltest.Answer{Raw: `data: {"error":{"message":"too long","code":400}}` + "\n\n"}, fault.Invalid, openai.CodeRefused, "too long"},
		"garbage in the stream":        {modeltest.Answer{Raw: "data: {]\n\n"}, fault.Invalid, openai.CodeMalformed, ""},
		"an HTML page":                 {modeltest.Answer{Raw: "<html>\n<p>login</p>\n", Type: "text/html"}, fault.Invalid, openai.CodeMalformed, ""},
		"JSON of something else":       {modeltest.Answer{Raw: `{"hello":1}`, Type: "application/json"}, fault.Invalid, openai.CodeMalformed, ""},
		"only DONE":                    {modeltest.Answer{Raw: "data: [DONE]\n\n"}, fault.Invalid, openai.CodeMalformed, ""},
		"wrong key":                    {modeltest.Answer{Status: 401, Error: "Incorrect API key: sk-secret"}, fault.Unauthenticated, openai.CodeRefused, "Incorrect API key: ***"},
		"no such model":                {modeltest.Answer{Status: 404, Error: "model m does not exist"}, fault.NotFound, openai.CodeRefused, "model m does not exist"},
		"too many requests":            {modeltest.Answer{Status: 429, Error: "slow down"}, fault.Exhausted, openai.CodeRefused, "slow down"},
		"overloaded":                   {modeltest.Answer{Status: 503, Error: "Loading model"}, fault.Unavailable, openai.CodeRefused, "Loading model"},
		"a redirect is not followed":   {modeltest.Answer{Status: 307, Error: "elsewhere"}, fault.Internal, openai.CodeRefused, "elsewhere"},
		"a tool call without its name": {modeltest.Answer{Calls: []modeltest.Call{{Args: "{}"}}}, fault.Invalid, openai.CodeMalformed, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := ask(t, client(modeltest.New(t, tt.answer)))
			if fault.KindOf(err) != tt.kind || !fault.HasCode(err, tt.code) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %s %v", fault.KindOf(err), err)
			}
		})
	}
}

func TestDeadlineEndsASilentServer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]modeltest.Answer{"never answers": {Silent: true}, "stops in mid-stream": {Text: "I am ", Hang: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := modeltest.New(t, answer)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := client(s).Complete(ctx, openai.Request{Model: "m"}, nil)
			if fault.KindOf(err) != fault.Timeout || !fault.HasCode(err, openai.CodeTimeout) {
				t.Fatalf("got %v", err)
			}
			<-s.Gone // the connection was closed, so the server can stop to compute
		})
	}
}

func TestCancelClosesTheConnection(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: "word ", Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := client(s).Complete(ctx, openai.Request{Model: "m"}, func(openai.Chunk) { cancel() })
	if fault.KindOf(err) != fault.Canceled {
		t.Fatalf("got %v", err)
	}
	<-s.Gone
}

func TestSilenceHasALimit(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Silent: true}, modeltest.Answer{Text: "word ", Hang: true})
	c := client(s)
	c.Idle = 30 * time.Millisecond
	if _, err := c.Complete(t.Context(), openai.Request{}, nil); !fault.HasCode(err, openai.CodeTimeout) {
		t.Errorf("before the answer: %v", err)
	}
	if _, err := c.Complete(t.Context(), openai.Request{}, nil); !fault.HasCode(err, openai.CodeInterrupted) {
		t.Errorf("in the answer: %v", err)
	}
}

func TestRefusedConnectionIsTriedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := &openai.Client{Base: "http://" + addr + "/v1", Name: "fake"}
	_, err = c.Complete(t.Context(), openai.Request{}, nil)
	if !fault.HasCode(err, openai.CodeUnreachable) {
		t.Fatalf("got %v", err)
	}
	// A server that opens its door a little later is reached by the same call.
	refused := make(chan struct{})
	c.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, a string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, a)
		if err != nil {
			select {
			case <-refused:
			default:
				close(refused)
			}
		}
		return conn, err
	}}}
	go func() {
		<-refused
		late, err := net.Listen("tcp", addr)
		if err != nil {
			return
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"data":[{"id":"late"}]}`))
		})}
		t.Cleanup(func() { _ = server.Close() })
		_ = server.Serve(late)
	}()
	ids, err := c.Models(t.Context())
	if err != nil || len(ids) != 1 {
		t.Fatalf("got %v %v", ids, err)
	}
}

// A server may close a kept connection at any time, also while the next request is on its way.
func TestKeptConnectionThatWasClosed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	const body = `{"object":"chat.completion","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}`
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				if req, err := http.ReadRequest(in); err == nil {
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				}
				_, _ = in.ReadByte() // the connection closes under the second request
			}()
		}
	}()
	c := &openai.Client{Base: "http://" + l.Addr().String() + "/v1", Name: "fake", HTTP: &http.Client{Transport: &http.Transport{}}}
	for i := range 4 {
		if got, err := c.Complete(t.Context(), openai.Request{}, nil); err != nil || got.Text != "hi" {
			t.Fatalf("call %d: %+v %v", i, got, err)
		}
	}
}

// FuzzStream: no bytes make the client panic, and what is not whole is never taken for an answer.
func FuzzStream(f *testing.F) {
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"))
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\r\n\r\n"))
	f.Add([]byte(": c\n\ndata: {\"error\":\"no\"}\n\n"))
	f.Add([]byte("data: {\"usage\":null,\"object\":\"x\",\"choices\":null}\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := &openai.Client{Base: "http://fake/v1", Name: "fake", HTTP: &http.Client{Transport: replay(stream)}}
		streamed := 0
		got, err := c.Complete(context.Background(), openai.Request{}, func(k openai.Chunk) { streamed += len(k.Text) })
		var fa *fault.Error
		switch {
		case err != nil && !errors.As(err, &fa):
			t.Fatalf("no fault: %v", err)
		case err == nil && (got.Finish == "" || streamed != len(got.Text)):
			t.Fatalf("streamed %d of %+v", streamed, got)
		}
	})
}
