package tool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	toolhttp "flywheel/internal/tool/http"
	"flywheel/internal/tool/mcp"
	"flywheel/internal/tool/wire"
	"flywheel/spec"
)

// caller makes attempts at the real tools of one package in one environment.
type caller struct {
	service *Service
	env     map[string]string
	pkg     *spec.Package
	pins    map[string]*mcp.Tool
}

// Attempt calls the tool once.
func (c *caller) Attempt(ctx context.Context, call Call) Attempt {
	a := c.attempt(ctx, call)
	out := Attempt{Tool: call.Name, Status: a.Status, Out: a.Out}
	if f := a.Failure; f != nil {
		out.Class, out.Message, out.Out, out.RetryAfter = Class(f.Class), f.Message, nil, f.RetryAfter
		if f.Status != 0 {
			out.Status = f.Status
		}
	}
	return out
}

func (c *caller) attempt(ctx context.Context, call Call) wire.Answer {
	way, keyName, _ := strings.Cut(call.Tool.Idempotency, ":")
	useKey := keyed(call)
	if useKey && way == "arg" {
		var err error
		if call.Args, err = withArg(call.Args, keyName, call.Key); err != nil {
			return wire.Answer{Failure: wire.Fail(wire.Rejected, "%v", err)}
		}
	}
	switch {
	case call.Tool.Call.HTTP != nil:
		r := toolhttp.Request{Call: call.Tool.Call.HTTP, Effect: call.Tool.Effect, Args: call.Args}
		if useKey && way == "header" {
			r.KeyHeader, r.Key = keyName, call.Key
		}
		var err error
		if r.Scope, err = wire.NewScope(c.env, call.Args); err != nil {
			return wire.Answer{Failure: wire.Fail(wire.Rejected, "%v", err)}
		}
		r.Scope.Secret = c.service.deps.Secret
		return c.service.http.Do(ctx, r)
	case call.Tool.Call.MCP != nil:
		target := call.Tool.Call.MCP
		server, err := c.server(target.Server)
		if err != nil {
			return wire.Answer{Failure: wire.Fail(wire.Rejected, "the MCP server %s: %v", target.Server, err)}
		}
		m := mcp.Call{Tool: target.Tool, Args: call.Args, Pin: c.pins[call.Name]}
		if useKey && way == "meta" {
			m.Meta = map[string]any{keyName: call.Key}
		}
		return c.service.mcp.Do(ctx, server, m)
	}
	return wire.Answer{Failure: wire.Fail(wire.Rejected, "the tool %s has no call: it exists as a mock only", call.Name)}
}

// server fills in what the package says about an MCP server.
func (c *caller) server(name string) (mcp.Server, error) {
	declared := c.pkg.Servers[name]
	if declared == nil {
		return mcp.Server{}, fmt.Errorf("it is not declared under mcp in a tool file")
	}
	s := mcp.Server{Name: name}
	scope := wire.Scope{Env: c.env, Secret: c.service.deps.Secret}
	var err error
	if s.Command, err = wire.Command(declared.Command, c.env); err != nil {
		return s, err
	}
	s.Secrets = c.secrets(s.Command)
	if s.URL, err = scope.Text(declared.URL); err != nil {
		return s, err
	}
	var secret []string
	if s.Headers, secret, err = filled(scope, declared.Headers); err != nil {
		return s, err
	}
	s.Secrets = append(s.Secrets, secret...)
	if len(s.Command) == 0 {
		if s.URL == "" {
			return s, fmt.Errorf("it has neither a command nor a url")
		}
		return s, nil
	}
	env, secret, err := filled(scope, declared.Env)
	if err != nil {
		return s, err
	}
	s.Secrets = append(s.Secrets, secret...)
	s.Env = slices.Clone(c.service.deps.Environ)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		s.Env = append(s.Env, k+"="+env[k])
	}
	return s, nil
}

// secrets are the values that messages must not show: all but those on the command line, which everybody
// on the machine can see, and which say what is wrong when a server does not start.
func (c *caller) secrets(command []string) []string {
	var out []string
	for _, v := range c.env {
		if !slices.ContainsFunc(command, func(word string) bool { return strings.Contains(word, v) }) {
			out = append(out, v)
		}
	}
	return out
}

func filled(scope wire.Scope, texts map[string]string) (out map[string]string, secrets []string, err error) {
	out = make(map[string]string, len(texts))
	for k, t := range texts {
		v, used, err := scope.Private(t)
		if err != nil {
			return nil, nil, err
		}
		out[k] = v
		secrets = append(secrets, used...)
	}
	return out, secrets, nil
}
