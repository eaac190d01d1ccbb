package tool

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	toolhttp "flywheel/internal/tool/http"
	"flywheel/internal/tool/mcp"
	"flywheel/internal/tool/wire"
	"flywheel/spec"
)

// Deps is what the service needs.
type Deps struct {
	Clock clock.Clock
	Log   *slog.Logger
	// Environ is the base environment of tool servers (KEY=value); a server's own env comes on top.
	// Without it a server gets a PATH only: what Flywheel's own environment holds is not for tools.
	Environ []string
	// Secret gives the value of secret://NAME for headers and environments; nil: there are none.
	Secret func(name string) (string, error)
}

// Service reaches real tools. It holds their sessions and connections until it is closed.
type Service struct {
	deps Deps
	mcp  *mcp.Pool
	http *toolhttp.Client
}

// New makes a service. Servers start when they are first needed.
func New(d Deps) *Service {
	if d.Clock == nil {
		d.Clock = clock.Real()
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Environ == nil {
		d.Environ = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	return &Service{deps: d, mcp: mcp.NewPool(d.Log), http: toolhttp.New()}
}

// Close ends all tool servers and waits until they are gone.
func (s *Service) Close() error {
	s.http.Close()
	return s.mcp.Close()
}

// Schema is a tool as its MCP server describes it. A lock needs its digest alone; a blob of its Canonical
// bytes lets ReadSchema bring it back, so that a difference can be shown in words.
type Schema = mcp.Tool

// ReadSchema reads the canonical bytes of a schema.
func ReadSchema(canonical []byte) (Schema, error) { return mcp.ReadTool(canonical) }

// Difference says in words what has changed from one schema to another.
func Difference(before, after Schema) []string { return mcp.Difference(before, after) }

// Caller calls the package's tools in an environment; values that env does not have are the package's
// defaults.
func (s *Service) Caller(env map[string]string, pkg *spec.Package) Caller {
	return s.PinnedCaller(env, pkg, nil)
}

// PinnedCaller is Caller that refuses a tool whose schema is not the one in pins, by the package's tool
// name, with class Drift and a message that shows the difference. Tools without a pin are not compared;
// a pin that has a digest alone is compared, but its message can only show the digests.
func (s *Service) PinnedCaller(env map[string]string, pkg *spec.Package, pins map[string]Schema) Caller {
	c := &caller{service: s, env: environment(env, pkg), pkg: pkg, pins: map[string]*mcp.Tool{}}
	for name, pin := range pins {
		c.pins[name] = &pin
	}
	return c
}

// Schemas asks the package's MCP servers for the schemas of its tools, by the package's tool name. HTTP
// tools have none: what the package says of them is all there is.
//
// Errors: tool.unreachable when a server does not answer, tool.missing when it has no such tool.
func (s *Service) Schemas(ctx context.Context, env map[string]string, pkg *spec.Package) (map[string]Schema, error) {
	c := &caller{service: s, env: environment(env, pkg), pkg: pkg}
	out := map[string]Schema{}
	offers := map[string]map[string]Schema{}
	for _, name := range slices.Sorted(maps.Keys(pkg.Tools)) {
		target := pkg.Tools[name].Call.MCP
		if target == nil {
			continue
		}
		offer, ok := offers[target.Server]
		if !ok {
			var err error
			if offer, err = c.offer(ctx, target.Server); err != nil {
				return nil, err
			}
			offers[target.Server] = offer
		}
		schema, ok := offer[target.Tool]
		if !ok {
			return nil, missing(name, target, offer)
		}
		out[name] = schema
	}
	return out, nil
}

func (c *caller) offer(ctx context.Context, name string) (map[string]Schema, error) {
	server, err := c.server(name)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "tool.server", "the MCP server %s", name).
			WithHint("set the values under env in flywheel.yaml, or pass them with --env NAME=value")
	}
	offer, failure := c.service.mcp.Tools(ctx, server)
	if failure != nil {
		return nil, fault.New(kindOf(failure.Class), "tool.unreachable", "%s", failure.Message).
			WithHint("start the command of the MCP server %s by hand to see what it says", name)
	}
	return offer, nil
}

func missing(name string, target *spec.MCPCall, offer map[string]Schema) error {
	err := fault.New(fault.NotFound, "tool.missing", "%s: the MCP server %s has no tool %s", name, target.Server, target.Tool)
	known := slices.Sorted(maps.Keys(offer))
	if near := fault.Suggest(target.Tool, known); near != "" {
		return err.WithHint("did you mean %s/%s?", target.Server, near)
	}
	return err.WithHint("it has: %s", strings.Join(known, ", "))
}

func kindOf(class string) fault.Kind {
	switch class {
	case wire.Timeout:
		return fault.Timeout
	case wire.Canceled:
		return fault.Canceled
	}
	return fault.Unavailable
}

// Drifts compares pins with what the servers say now: one line per tool that differs, empty when none.
func Drifts(pins, now map[string]Schema) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(pins)) {
		is, ok := now[name]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s: the server has it no more", name))
		case is.Digest != pins[name].Digest:
			out = append(out, fmt.Sprintf("%s: %s", name, mcp.Changes(pins[name], is)))
		}
	}
	return out
}

// environment is env over the package's defaults; what is required and not given is not in it.
func environment(env map[string]string, pkg *spec.Package) map[string]string {
	out := make(map[string]string, len(env)+len(pkg.Env))
	for name, v := range pkg.Env {
		if v.Default != "" || !v.Required {
			out[name] = v.Default
		}
	}
	maps.Copy(out, env)
	return out
}

// withArg adds an argument to a JSON object.
func withArg(args json.RawMessage, name, value string) (json.RawMessage, error) {
	m := map[string]json.RawMessage{}
	if len(args) > 0 {
		if err := json.Unmarshal(args, &m); err != nil {
			return nil, fmt.Errorf("the arguments are not a JSON object: %w", err)
		}
	}
	v, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	m[name] = v
	return json.Marshal(m)
}
