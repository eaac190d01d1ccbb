package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"flywheel/internal/model"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
	"flywheel/internal/run"
)

// chatRequest is the part of OpenAI's chat completion request that an agent can follow. Everything else
// is in rest.
type chatRequest struct {
	Model         string        `json:"model"`
	Messages      []chatMessage `json:"messages"`
	Stream        bool          `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	User     string            `json:"user"`
	Metadata map[string]string `json:"metadata"`
	N        *int              `json:"n"`

	dropped []string
}

type chatMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// text joins the text parts of a message; other parts are refused.
func (m chatMessage) text() (string, error) {
	if len(m.Content) == 0 || string(m.Content) == "null" {
		return "", nil
	}
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s, nil
	}
	var parts []struct {
		Type    string `json:"type"`
		Text    string `json:"text"`
		Refusal string `json:"refusal"`
	}
	if err := json.Unmarshal(m.Content, &parts); err != nil {
		return "", errors.New("content is neither a string nor a list of parts")
	}
	var b strings.Builder
	for _, p := range parts {
		switch p.Type {
		case "text":
			b.WriteString(p.Text)
		case "refusal":
			b.WriteString(p.Refusal)
		default:
			return "", fmt.Errorf("agents read text, not %s", p.Type)
		}
	}
	return b.String(), nil
}

// followed are the request fields that mean something to an agent, or whose absence nobody notices.
var followed = map[string]bool{
	"model": true, "messages": true, "stream": true, "stream_options": true, "user": true, "metadata": true,
	"n": true, "store": true,
}

func parseChat(body []byte) (*chatRequest, error) {
	var r chatRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, badRequest("", "the body is not a chat completion request: %v", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, badRequest("", "the body is not a JSON object: %v", err)
	}
	for name, raw := range all {
		if !followed[name] && !bytes.Equal(raw, []byte("null")) {
			r.dropped = append(r.dropped, name)
		}
	}
	switch {
	case r.Model == "":
		return nil, badRequest("model", "you must provide a model parameter")
	case len(r.Messages) == 0:
		return nil, badRequest("messages", "there is no message")
	case r.N != nil && *r.N != 1:
		return nil, badRequest("n", "an agent gives one answer: n must be 1")
	}
	return &r, nil
}

// conversation splits the messages: the last one by the user starts the run, what came before is history.
// System messages are dropped: an agent's constitution is in its release.
func (r *chatRequest) conversation() (message string, history []model.Message, err error) {
	last := len(r.Messages) - 1
	if r.Messages[last].Role != model.RoleUser {
		return "", nil, badRequest("messages", "the last message is by %q; an agent answers to user", r.Messages[last].Role)
	}
	for i, m := range r.Messages {
		text, err := m.text()
		if err != nil {
			return "", nil, badRequest(fmt.Sprintf("messages[%d].content", i), "%v", err)
		}
		switch m.Role {
		case model.RoleUser, model.RoleAssistant:
			if i == last {
				message = text
			} else if text != "" {
				history = append(history, model.Message{Role: m.Role, Content: text})
			}
		case model.RoleSystem, "developer", model.RoleTool, "function":
			r.drop("messages." + m.Role)
		default:
			return "", nil, badRequest(fmt.Sprintf("messages[%d].role", i), "%q is not a role", m.Role)
		}
	}
	if strings.TrimSpace(message) == "" {
		return "", nil, badRequest("messages", "the last message is empty")
	}
	return message, history, nil
}

func (r *chatRequest) drop(what string) {
	for _, d := range r.dropped {
		if d == what {
			return
		}
	}
	r.dropped = append(r.dropped, what)
}

// completion is a chat.completion object.
type completion struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	Created           int64    `json:"created"`
	Model             string   `json:"model"`
	Choices           []choice `json:"choices"`
	Usage             *usage   `json:"usage"`
	SystemFingerprint string   `json:"system_fingerprint"`
}

type choice struct {
	Index        int     `json:"index"`
	Message      message `json:"message"`
	Logprobs     *string `json:"logprobs"`
	FinishReason string  `json:"finish_reason"`
}

type message struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

// chunk is a chat.completion.chunk object. Usage is absent, null or set, as OpenAI does it.
type chunk struct {
	ID                string          `json:"id"`
	Object            string          `json:"object"`
	Created           int64           `json:"created"`
	Model             string          `json:"model"`
	SystemFingerprint string          `json:"system_fingerprint"`
	Choices           []chunkChoice   `json:"choices"`
	Usage             json.RawMessage `json:"usage,omitempty"`
}

type chunkChoice struct {
	Index        int     `json:"index"`
	Delta        delta   `json:"delta"`
	Logprobs     *string `json:"logprobs"`
	FinishReason *string `json:"finish_reason"`
}

type delta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type usage struct {
	PromptTokens        int `json:"prompt_tokens"`
	CompletionTokens    int `json:"completion_tokens"`
	TotalTokens         int `json:"total_tokens"`
	PromptTokensDetails struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func usageOf(u model.Usage) *usage {
	out := &usage{PromptTokens: u.In, CompletionTokens: u.Out, TotalTokens: u.In + u.Out}
	out.PromptTokensDetails.CachedTokens = u.Cached
	return out
}

// apiError is OpenAI's error object.
type apiError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// wireError is an error with its HTTP status.
type wireError struct {
	status int
	body   apiError
}

func (e *wireError) Error() string { return e.body.Message }

func newWireError(status int, kind, code, param, message string) *wireError {
	e := &wireError{status: status, body: apiError{Message: message, Type: kind}}
	if code != "" {
		e.body.Code = &code
	}
	if param != "" {
		e.body.Param = &param
	}
	return e
}

func badRequest(param, format string, args ...any) *wireError {
	return newWireError(http.StatusBadRequest, "invalid_request_error", "", param, fmt.Sprintf(format, args...))
}

// wireErrorOf maps faults to OpenAI's errors.
func wireErrorOf(err error) *wireError {
	var w *wireError
	if errors.As(err, &w) {
		return w
	}
	f := fault.From(err)
	message := f.Message
	if f.Hint != "" {
		message += " (" + f.Hint + ")"
	}
	switch f.Kind {
	case fault.Invalid:
		return newWireError(http.StatusBadRequest, "invalid_request_error", f.Code, "", message)
	case fault.NotFound:
		code := f.Code
		if code == "release.no_channel" || code == "deploy.no_model" {
			code = "model_not_found"
		}
		return newWireError(http.StatusNotFound, "invalid_request_error", code, "model", message)
	case fault.Exhausted:
		return newWireError(http.StatusTooManyRequests, "rate_limit_error", f.Code, "", message)
	case fault.Unauthenticated:
		return newWireError(http.StatusUnauthorized, "authentication_error", f.Code, "", message)
	case fault.Forbidden:
		return newWireError(http.StatusForbidden, "permission_error", f.Code, "", message)
	case fault.Conflict:
		return newWireError(http.StatusConflict, "invalid_request_error", f.Code, "", message)
	case fault.Canceled, fault.Timeout, fault.Unavailable:
		return newWireError(f.Kind.HTTPStatus(), "server_error", f.Code, "", message)
	}
	return newWireError(http.StatusInternalServerError, "server_error", f.Code, "", message)
}

// WriteProblem answers with OpenAI's error object what was refused before the endpoint was reached.
func WriteProblem(w http.ResponseWriter, p httpx.Problem) {
	writeError(w, wireErrorOf(fault.New(p.Kind, p.Code, "%s", p.Detail).WithHint("%s", p.Hint)))
}

// runError maps the failure of a run.
func runError(runID, class, message string) *wireError {
	status := run.KindOf(class).HTTPStatus()
	if class == run.ClassCanceled { // by somebody else: this caller is still there
		status = http.StatusConflict
	}
	return newWireError(status, "server_error", class, "", fmt.Sprintf("%s failed: %s", runID, message))
}

// compact is JSON of the shapes above, which always encode.
func compact(v any) []byte {
	b, _ := canon.JSON(v)
	return b
}
