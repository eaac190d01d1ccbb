package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"flywheel/internal/platform/fault"
)

// assembly puts the fragments of an answer together.
type assembly struct {
	client  *Client
	onChunk func(Chunk)

	text    strings.Builder
	calls   []*partCall
	last    *partCall
	finish  string
	model   string
	usage   Usage
	ended   bool // [DONE] was said
	frames  int
	strange bool // lines that are no server-sent events
	earlier int  // tool calls in the request
}

type partCall struct {
	index int
	id    string
	name  string
	args  strings.Builder
}

// stream reads events up to [DONE] or the end.
func (a *assembly) stream(r io.Reader) error {
	ev := newEvents(r)
	for {
		data, err := ev.next()
		a.strange = ev.strange
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if a.finish != "" { // the answer is whole; only the farewell was lost
				return nil
			}
			return err
		}
		if string(bytes.TrimSpace(data)) == "[DONE]" {
			a.ended = true
			return nil
		}
		if err := a.frame(data); err != nil {
			return err
		}
	}
}

// whole reads an answer of a server that does not stream.
func (a *assembly) whole(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxEvent))
	if err != nil {
		return err
	}
	return a.frame(b)
}

func (a *assembly) frame(data []byte) error {
	var f frame
	if err := json.Unmarshal(data, &f); err != nil {
		return fault.Wrap(err, fault.Invalid, CodeMalformed, "the stream of %s holds %q, which is no answer", a.client.Name, clip(data))
	}
	if f.Error.Message != "" {
		return a.errorFrame(f.Error)
	}
	if f.Choices == nil && f.Usage == nil && f.Object == "" {
		return fault.New(fault.Invalid, CodeMalformed, "%s sent %q, which is no answer", a.client.Name, clip(data))
	}
	a.frames++
	if f.Model != "" {
		a.model = f.Model
	}
	if f.Usage != nil {
		a.usage = Usage{In: f.Usage.Prompt, Out: f.Usage.Completion, Cached: f.Usage.Details.Cached, Known: true}
	}
	for _, c := range f.Choices {
		if c.Index != 0 {
			continue
		}
		part := c.Delta
		if part == nil {
			part = c.Message
		}
		if part != nil {
			if err := a.fragment(part); err != nil {
				return err
			}
		}
		if c.Finish != "" {
			a.finish = c.Finish
		}
	}
	return nil
}

// errorFrame is an error that comes inside a stream whose status was 200. What the caller did wrong is a
// refusal; anything else means that the server could not go on.
func (a *assembly) errorFrame(e wireError) error {
	status := e.Status
	if status == 0 {
		if n, err := strconv.Atoi(e.Code); err == nil {
			status = n
		}
	}
	if status >= 400 && status < 500 {
		return a.client.refused(status, e.Message)
	}
	return fault.Wrap(errors.New(a.client.refused(500, e.Message).Message), fault.Unavailable, CodeInterrupted, "%s gave up in the middle of its answer", a.client.Name)
}

func (a *assembly) fragment(p *fragment) error {
	text := p.Content + p.Refusal
	if text != "" {
		a.text.WriteString(text)
		if a.onChunk != nil {
			a.onChunk(Chunk{Text: text})
		}
	}
	for i := range p.ToolCalls {
		if err := a.call(&p.ToolCalls[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembly) call(f *callFragment) error {
	call := a.find(f)
	if call.id == "" {
		call.id = f.ID
	}
	if call.name == "" && f.Function.Name != "" {
		call.name = f.Function.Name
		if a.onChunk != nil {
			a.onChunk(Chunk{Tool: call.name})
		}
	}
	args := f.Function.Arguments
	switch {
	case len(args) == 0 || string(args) == "null":
	case args[0] == '"':
		var s string
		if err := json.Unmarshal(args, &s); err != nil {
			return fmt.Errorf("read arguments: %w", err)
		}
		call.args.WriteString(s)
	default:
		call.args.Write(args)
	}
	if call.args.Len() > maxEvent {
		return errEventTooBig
	}
	return nil
}

// find is the call that a fragment belongs to. Servers number calls, or give an id with each new one, or
// neither: then a fragment with a name begins a call.
func (a *assembly) find(f *callFragment) *partCall {
	index := -1
	if f.Index != nil {
		index = *f.Index
	}
	for _, c := range a.calls {
		if index >= 0 && c.index == index && (f.ID == "" || c.id == "" || c.id == f.ID) {
			return c
		}
		if index < 0 && f.ID != "" && c.id == f.ID {
			return c
		}
	}
	if index < 0 && f.ID == "" && f.Function.Name == "" && a.last != nil {
		return a.last
	}
	a.last = &partCall{index: index}
	a.calls = append(a.calls, a.last)
	return a.last
}

func (a *assembly) done() (Completion, error) {
	if !a.ended && a.finish == "" {
		if a.frames == 0 && a.strange {
			return Completion{}, fault.New(fault.Invalid, CodeMalformed, "%s answered with something that is no stream of events", a.client.Name)
		}
		if a.frames == 0 {
			return Completion{}, fault.New(fault.Unavailable, CodeInterrupted, "%s ended its answer before it began", a.client.Name)
		}
		return Completion{}, fault.New(fault.Unavailable, CodeInterrupted, "%s ended its answer in the middle, after %d characters", a.client.Name, a.text.Len())
	}
	if a.frames == 0 {
		return Completion{}, fault.New(fault.Invalid, CodeMalformed, "%s sent an empty stream", a.client.Name)
	}
	out := Completion{Text: a.text.String(), Finish: a.finish, Model: a.model, Usage: a.usage}
	for i, c := range a.calls {
		if c.name == "" {
			return Completion{}, fault.New(fault.Invalid, CodeMalformed, "%s called a tool without naming it", a.client.Name)
		}
		if c.id == "" {
			c.id = fmt.Sprintf("call_%d", a.earlier+i+1)
		}
		out.Calls = append(out.Calls, Call{ID: c.id, Type: "function", Function: CallFunction{Name: c.name, Arguments: c.args.String()}})
	}
	if out.Finish == "" || len(out.Calls) > 0 && out.Finish == "stop" {
		out.Finish = "stop"
		if len(out.Calls) > 0 {
			out.Finish = "tool_calls"
		}
	}
	return out, nil
}

// CallsIn counts the tool calls in messages: with it a call that comes without an id gets one that is new
// in the conversation and the same in every replay.
func CallsIn(messages []Message) int {
	n := 0
	for _, m := range messages {
		n += len(m.ToolCalls)
	}
	return n
}

func clip(b []byte) string {
	if len(b) > 80 {
		return string(bytes.ToValidUTF8(b[:80], nil)) + "…"
	}
	return string(bytes.ToValidUTF8(b, nil))
}
