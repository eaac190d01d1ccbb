package mcp

import (
	"encoding/json"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"flywheel/internal/platform/canon"
	"flywheel/internal/tool/wire"
)

// answer reads a result: structured content, else text that is JSON, else {"text": …}.
//
// An error result is a rejection, unless it says more: structured content, or _meta, of the form
// {"error": {"class": "unavailable", "status": 503, "message": "…"}}.
func answer(res *sdk.CallToolResult) wire.Answer {
	text := contentText(res.Content)
	if res.NeedsInput() {
		return wire.Answer{Failure: wire.Fail(wire.Rejected, "the tool asks for more input, which is not supported")}
	}
	if res.IsError {
		f := errorResult(res, text)
		return wire.Answer{Status: f.Status, Failure: f}
	}
	var out json.RawMessage
	switch {
	case res.StructuredContent != nil:
		var err error
		if out, err = canon.JSON(res.StructuredContent); err != nil {
			return wire.Answer{Failure: wire.Fail(wire.Malformed, "the answer cannot be read: %v", err)}
		}
	case text == "":
		out = json.RawMessage("{}")
	default:
		var ok bool
		if out, ok = wire.Compact([]byte(text)); !ok {
			out = wire.Text(text)
		}
	}
	if len(out) > wire.MaxAnswer {
		return wire.Answer{Failure: wire.TooLarge()}
	}
	return wire.Answer{Out: out}
}

func contentText(content []sdk.Content) string {
	var parts []string
	for _, c := range content {
		if t, ok := c.(*sdk.TextContent); ok {
			parts = append(parts, t.Text)
		}
	}
	return strings.TrimSpace(strings.Join(parts, "\n"))
}

func errorResult(res *sdk.CallToolResult, text string) *wire.Failure {
	f := &wire.Failure{Class: wire.Rejected, Message: wire.Short(text)}
	said, ok := errorOf(res.StructuredContent)
	if !ok {
		said, ok = errorOf(map[string]any(res.Meta))
	}
	if ok {
		f.Status = said.Status
		if said.Message != "" {
			f.Message = wire.Short(said.Message)
		}
		switch said.Class {
		case wire.Timeout, wire.Unavailable, wire.Throttled, wire.Reset, wire.Malformed, wire.Rejected:
			f.Class = said.Class
		default:
			if said.Status >= 400 {
				f.Class = wire.ClassOfStatus(said.Status)
			}
		}
	}
	if f.Message == "" {
		f.Message = "the tool failed and did not say why"
	}
	return f
}

type saidError struct {
	Class   string `json:"class"`
	Status  int    `json:"status"`
	Message string `json:"message"`
}

func errorOf(v any) (saidError, bool) {
	m, ok := v.(map[string]any)
	if !ok || m["error"] == nil {
		return saidError{}, false
	}
	b, err := json.Marshal(m["error"])
	if err != nil {
		return saidError{}, false
	}
	var e saidError
	return e, json.Unmarshal(b, &e) == nil
}
