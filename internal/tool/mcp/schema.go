package mcp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool/wire"
)

// Tool is a tool as its server describes it. Its fields are in the order of their JSON names.
type Tool struct {
	Annotations json.RawMessage `json:"annotations,omitempty"`
	Description string          `json:"description,omitempty"`
	Digest      string          `json:"digest,omitempty"` // sha256:… of Canonical
	Name        string          `json:"name"`
	Output      json.RawMessage `json:"output,omitempty"` // JSON Schema of the answer
	Schema      json.RawMessage `json:"schema"`           // JSON Schema of the arguments
}

// Canonical is the JSON that the digest is of: a blob with these bytes has the tool's digest as its own.
func (t Tool) Canonical() []byte {
	t.Digest = ""
	b, _ := canon.JSON(t) // a Tool that describe or ReadTool has made always encodes
	return b
}

// ReadTool reads what Canonical has written.
func ReadTool(canonical []byte) (Tool, error) {
	var t Tool
	if err := json.Unmarshal(canonical, &t); err != nil {
		return t, fmt.Errorf("read a tool's schema: %w", err)
	}
	t.Digest = digest(canonical)
	return t, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// tools lists what the server offers, asked once and again when the server says that it has changed.
func (s *session) tools(ctx context.Context) (map[string]Tool, *wire.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known != nil && !s.stale.Swap(false) {
		return s.known, nil
	}
	known := map[string]Tool{}
	sent := &delivery{}
	for t, err := range s.mcp.Tools(context.WithValue(ctx, deliveryKey{}, sent), nil) {
		if err != nil {
			s.stale.Store(true)
			f := s.callFailure(ctx, err, sent)
			if f.Class == wire.Reset {
				f.Class = wire.Unavailable // no tool has been called yet
			}
			return nil, f
		}
		described, err := describe(t)
		if err != nil {
			return nil, wire.Fail(wire.Malformed, "the MCP server %s: tool %s: %v", s.server.Name, t.Name, err)
		}
		known[t.Name] = described
	}
	s.known = known
	return known, nil
}

func describe(t *sdk.Tool) (Tool, error) {
	d := Tool{Name: t.Name, Description: t.Description}
	var err error
	if d.Schema, err = canonical(t.InputSchema); err != nil {
		return d, err
	}
	if t.OutputSchema != nil {
		if d.Output, err = canonical(t.OutputSchema); err != nil {
			return d, err
		}
	}
	if t.Annotations != nil {
		if d.Annotations, err = canonical(t.Annotations); err != nil {
			return d, err
		}
	}
	d.Digest = digest(d.Canonical())
	return d, nil
}

// canonical is JSON with sorted keys, whatever v is.
func canonical(v any) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var plain any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&plain); err != nil {
		return nil, err
	}
	return canon.JSON(plain)
}

// checkPin compares the tool with its pin; the failure shows the difference.
func (s *session) checkPin(ctx context.Context, call Call) *wire.Failure {
	known, failure := s.tools(ctx)
	if failure != nil {
		return failure
	}
	now, ok := known[call.Tool]
	if !ok {
		message := fmt.Sprintf("the MCP server %s has no tool %s any more", s.server.Name, call.Tool)
		if near := fault.Suggest(call.Tool, slices.Sorted(maps.Keys(known))); near != "" {
			message += "; it has " + near
		}
		return wire.Fail(wire.Drift, "%s", message)
	}
	if now.Digest == call.Pin.Digest {
		return nil
	}
	return wire.Fail(wire.Drift, "the tool %s of the MCP server %s is not the one that was locked: %s",
		call.Tool, s.server.Name, Changes(*call.Pin, now))
}

// Changes is Difference as one text; of a pin that is a digest alone it can only tell the digests.
func Changes(pin, now Tool) string {
	if pin.Name == "" {
		return fmt.Sprintf("locked %s, now %s", pin.Digest, now.Digest)
	}
	return strings.Join(Difference(pin, now), "; ")
}

// Difference says in words what has changed from one description of a tool to another; empty when
// nothing has.
func Difference(before, after Tool) []string {
	var out []string
	if before.Name != after.Name {
		out = append(out, fmt.Sprintf("name %s → %s", before.Name, after.Name))
	}
	if before.Description != after.Description {
		out = append(out, fmt.Sprintf("description %q → %q", wire.Short(before.Description), wire.Short(after.Description)))
	}
	out = append(out, differs("argument", before.Schema, after.Schema)...)
	out = append(out, differs("answer field", before.Output, after.Output)...)
	if string(before.Annotations) != string(after.Annotations) {
		out = append(out, fmt.Sprintf("annotations %s → %s", orNone(before.Annotations), orNone(after.Annotations)))
	}
	return out
}

// differs compares two JSON Schemas of objects field by field.
func differs(what string, before, after json.RawMessage) []string {
	if string(before) == string(after) {
		return nil
	}
	b, a := readSchema(before), readSchema(after)
	var out []string
	names := maps.Clone(b.fields)
	maps.Copy(names, a.fields)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, had := b.fields[name]
		is, has := a.fields[name]
		switch {
		case !had:
			out = append(out, fmt.Sprintf("%s %s added (%s%s)", what, name, kind(is), a.need(name)))
		case !has:
			out = append(out, fmt.Sprintf("%s %s removed", what, name))
		case was != is:
			out = append(out, fmt.Sprintf("%s %s changed: %s → %s", what, name, was, is))
		}
		if had && has && b.required[name] != a.required[name] {
			out = append(out, fmt.Sprintf("%s %s is now %s", what, name, strings.TrimPrefix(a.need(name), ", ")))
		}
	}
	if len(out) == 0 {
		out = append(out, fmt.Sprintf("%s schema %s → %s", what, orNone(before), orNone(after)))
	}
	return out
}

type schema struct {
	fields   map[string]string // name → canonical schema
	required map[string]bool
}

func (s schema) need(name string) string {
	if s.required[name] {
		return ", required"
	}
	return ", optional"
}

func readSchema(src json.RawMessage) schema {
	var raw struct {
		Properties map[string]any `json:"properties"`
		Required   []string       `json:"required"`
	}
	out := schema{fields: map[string]string{}, required: map[string]bool{}}
	if json.Unmarshal(src, &raw) != nil {
		return out
	}
	for name, v := range raw.Properties {
		if b, err := canon.JSON(v); err == nil {
			out.fields[name] = string(b)
		}
	}
	for _, name := range raw.Required {
		out.required[name] = true
	}
	return out
}

// kind is the type of a field, or its whole schema when it says no simple type.
func kind(field string) string {
	var raw struct {
		Type string `json:"type"`
	}
	if json.Unmarshal([]byte(field), &raw) == nil && raw.Type != "" {
		return raw.Type
	}
	return field
}

func orNone(b json.RawMessage) string {
	if len(b) == 0 {
		return "none"
	}
	return string(b)
}
