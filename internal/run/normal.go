package run

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"flywheel/internal/model"
	"flywheel/internal/platform/canon"
	"flywheel/internal/tool"
)

// normal is the answer as a journal can hold it and gives it back: text is valid UTF-8, and what should
// be JSON and is not becomes a JSON string. The machine and the journal see answers in this form only.
func (a Answer) normal() Answer {
	if a.Model != nil {
		a.Model = normalResponse(a.Model)
	}
	if a.Tool != nil {
		a.Tool = normalResult(a.Tool)
	}
	if h := a.Human; h != nil && !utf8.ValidString(h.Text) {
		c := *h
		c.Text = valid(h.Text)
		a.Human = &c
	}
	if f := a.Failure; f != nil && !utf8.ValidString(f.Message) {
		c := *f
		c.Message = valid(f.Message)
		a.Failure = &c
	}
	return a
}

func normalResponse(r *model.Response) *model.Response {
	odd := func(c model.ToolCall) bool {
		return !isJSON(c.Args) || !utf8.ValidString(c.Name) || !utf8.ValidString(c.ID)
	}
	msg := r.Message
	if msg.Role == model.RoleAssistant && utf8.ValidString(msg.Content) && !slices.ContainsFunc(msg.ToolCalls, odd) {
		return r
	}
	c := *r
	c.Message.Role, c.Message.Content = model.RoleAssistant, valid(msg.Content)
	c.Message.ToolCalls = slices.Clone(msg.ToolCalls)
	for i := range c.Message.ToolCalls {
		call := &c.Message.ToolCalls[i]
		call.ID, call.Name = valid(call.ID), valid(call.Name)
		if len(bytes.TrimSpace(call.Args)) == 0 {
			call.Args = json.RawMessage("{}")
		}
		call.Args = asJSON(call.Args)
	}
	return &c
}

func normalResult(r *tool.Result) *tool.Result {
	if utf8.ValidString(r.Message) && (len(r.Out) == 0 || isJSON(r.Out)) {
		return r
	}
	c := *r
	c.Message = valid(r.Message)
	if len(c.Out) > 0 {
		c.Out = asJSON(c.Out)
	}
	return &c
}

func isJSON(b json.RawMessage) bool { return json.Valid(b) && utf8.Valid(b) }

func asJSON(b json.RawMessage) json.RawMessage {
	if isJSON(b) {
		return b
	}
	text, err := canon.JSON(valid(string(b)))
	if err != nil { // a string always has JSON
		return json.RawMessage("null")
	}
	return text
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
