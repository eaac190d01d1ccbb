package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"flywheel/internal/model/local"
	"flywheel/internal/model/openai"
	"flywheel/internal/model/price"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
)

// Codes of the faults that calls end with.
const (
	CodeUnreachable = openai.CodeUnreachable
	CodeInterrupted = openai.CodeInterrupted
	CodeMalformed   = openai.CodeMalformed
	CodeRefused     = openai.CodeRefused
	CodeTimeout     = openai.CodeTimeout
	CodeUnknownTool = "model.unknown_tool"
	CodeBadRef      = "model.bad_ref"
)

// Why an answer ended, in Response.Finish.
const (
	FinishStop      = "stop"
	FinishToolCalls = "tool_calls"
	FinishLength    = "length"
)

// Deps is what a Service needs.
type Deps struct {
	Config   Config
	Clock    clock.Clock
	Log      *slog.Logger
	CacheDir string // empty: DefaultCacheDir(Getenv)
	Getenv   func(string) string
}

// Service routes requests to providers by the first part of the model's reference.
type Service struct {
	deps      Deps
	providers map[string]*provider
	local     *local.Supervisor
	fixed     sync.Map // references of models that refuse a temperature

	mu         sync.RWMutex
	registered map[string]Chatter
	abilities  map[string]Ability // by reference
}

// New makes a service. It calls nobody and starts nothing.
func New(d Deps) *Service {
	if d.Getenv == nil {
		d.Getenv = func(string) string { return "" }
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Clock == nil {
		d.Clock = clock.Real()
	}
	if d.CacheDir == "" {
		d.CacheDir = DefaultCacheDir(d.Getenv)
	}
	return &Service{
		deps:      d,
		providers: providers(d.Config, d.Getenv),
		local: local.New(local.Deps{
			CacheDir: d.CacheDir, Clock: d.Clock, Log: d.Log, Getenv: d.Getenv,
			Context: d.Config.Local.Context, Threads: d.Config.Local.Threads,
		}),
		registered: map[string]Chatter{},
		abilities:  map[string]Ability{},
	}
}

// DefaultCacheDir is FLYWHEEL_CACHE, or flywheel in the user's cache directory.
func DefaultCacheDir(getenv func(string) string) string {
	if dir := getenv("FLYWHEEL_CACHE"); dir != "" {
		return dir
	}
	if dir := getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "flywheel")
	}
	return filepath.Join(getenv("HOME"), ".cache", "flywheel")
}

// Close ends the local servers and waits until they are gone.
func (s *Service) Close() error { return s.local.Close() }

// Register makes ref, as in scripted/NAME, answered by c. It replaces what was there.
func (s *Service) Register(ref string, c Chatter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registered[ref] = c
}

func (s *Service) lookup(ref string) (Chatter, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, ok := s.registered[ref]
	return c, ok
}

// Chat answers a request by the provider that its model names. When an answer came but could not be used,
// the response beside the error still holds what it cost.
func (s *Service) Chat(ctx context.Context, req Request, onDelta func(Delta)) (Response, error) {
	if c, ok := s.lookup(req.Model); ok {
		return c.Chat(ctx, req, onDelta)
	}
	providerName, name, err := splitRef(req.Model)
	if err != nil {
		return Response{}, err
	}
	if err := ctx.Err(); err != nil {
		return Response{}, fault.From(err)
	}
	switch providerName {
	case providerScripted:
		return Response{}, fault.New(fault.NotFound, CodeUnreachable, "there is no script %s", req.Model).
			WithHint("put models/%s.script.yaml into the package, or choose a real model: %s", name, s.waysToGetOne())
	case providerLocal:
		return s.chatLocal(ctx, name, req, onDelta)
	}
	p, err := s.provider(providerName)
	if err != nil {
		return Response{}, err
	}
	if err := s.usable(p); err != nil {
		return Response{}, err
	}
	t := target{ref: req.Model, name: name, provider: p, client: &p.client}
	if t.ability, err = s.ability(ctx, p, req.Model, name); err != nil {
		return Response{}, s.hinted(p, err)
	}
	r, err := s.complete(ctx, t, req, onDelta)
	return r, s.hinted(p, err)
}

// target is a model on a server that is ready to be called.
type target struct {
	ref      string // provider/name
	name     string // as the server calls it
	provider *provider
	client   *openai.Client
	ability  Ability
}

// complete makes one call on the wire.
func (s *Service) complete(ctx context.Context, t target, req Request, onDelta func(Delta)) (Response, error) {
	x, err := translate(req, t, onDelta)
	if err != nil {
		return Response{}, err
	}
	if _, fixed := s.fixed.Load(t.ref); fixed {
		x.wire.Temperature = nil
	}
	c, err := t.client.Complete(ctx, x.wire, x.chunk)
	if x.wire.Temperature != nil && refusesTemperature(err) {
		s.fixed.Store(t.ref, true)
		x.wire.Temperature = nil
		c, err = t.client.Complete(ctx, x.wire, x.chunk)
	}
	if err != nil {
		return Response{Model: t.ref, Form: t.ability.Form}, err
	}
	out := Response{Model: c.Model, Form: t.ability.Form, Usage: Usage{In: c.Usage.In, Out: c.Usage.Out, Cached: c.Usage.Cached}}
	if out.Model == "" {
		out.Model = t.name
	}
	out.Usage.Cost, out.Usage.Prices = Price(t.ref, out.Usage)
	if !c.Usage.Known && out.Usage.Prices != price.Local {
		out.Usage.Prices = price.Unknown
	}
	out.Message, out.Finish, err = x.answer(c)
	return out, err
}

// refusesTemperature recognises a model that samples in one way only. Nothing has been answered then, and
// the same request without the temperature will be.
func refusesTemperature(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Code == CodeRefused && f.Kind == fault.Invalid && strings.Contains(f.Message, "temperature")
}

// Price is what a usage costs in nano-USD, and the version of the table that says so: "unknown" for a
// model that is not in it, "local" for models on this machine.
func Price(ref string, u Usage) (nanoUSD int64, version string) {
	return price.Cost(ref, u.In, u.Cached, u.Out)
}

// Price is the function of the same name.
func (s *Service) Price(ref string, u Usage) (nanoUSD int64, version string) { return Price(ref, u) }

func splitRef(ref string) (providerName, name string, err error) {
	providerName, name, ok := strings.Cut(ref, "/")
	if !ok || providerName == "" || name == "" {
		return "", "", fault.New(fault.Invalid, CodeBadRef, "%q names no model", ref).
			WithHint("write provider/name, as in local/smollm2-135m-instruct; flywheel models lists them")
	}
	return providerName, name, nil
}

func (s *Service) provider(name string) (*provider, error) {
	if p, ok := s.providers[name]; ok {
		return p, nil
	}
	e := fault.New(fault.Invalid, CodeBadRef, "there is no model provider %q", name)
	if near := fault.Suggest(name, s.providerNames()); near != "" {
		return nil, e.WithHint("did you mean %s? A server of your own is a provider in the configuration: name, base_url, key", near)
	}
	return nil, e.WithHint("the providers are %s; a server of your own is a provider in the configuration: name, base_url, key", strings.Join(s.providerNames(), ", "))
}

func (s *Service) providerNames() []string {
	names := []string{providerLocal, providerScripted}
	for n := range s.providers {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// unreachable is the fault of a model that nothing can answer for.
func (s *Service) unreachable(format string, args ...any) *fault.Error {
	return fault.New(fault.Unavailable, CodeUnreachable, "%s", fmt.Sprintf(format, args...)).WithHint("%s", s.waysToGetOne())
}

// waysToGetOne names every way to get a model.
func (s *Service) waysToGetOne() string {
	return "get a model in one of these ways: run make local-model (a small one on this machine, no key); " +
		"put llama-server on PATH and a model into " + filepath.Join(s.deps.CacheDir, "models") + "/NAME.gguf (local/NAME); " +
		"start Ollama (ollama/NAME; OLLAMA_HOST when it is elsewhere); " +
		"set OPENAI_API_KEY (openai/NAME); set ANTHROPIC_API_KEY (anthropic/NAME); " +
		"or add a provider to the configuration: name, base_url, key (NAME/MODEL). flywheel doctor shows what is there"
}

// hinted adds to an unreachable server what else could be done.
func (s *Service) hinted(p *provider, err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Hint != "" {
		return err
	}
	if f.Code == CodeUnreachable {
		return f.WithHint("%s%s", p.startHint, s.waysToGetOne())
	}
	return err
}
