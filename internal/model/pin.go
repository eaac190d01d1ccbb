package model

import (
	"context"
	"strings"
	"time"

	"flywheel/internal/model/local"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// Pin says exactly which model a reference means today: what a lock keeps.
type Pin struct {
	Ref          string         `json:"ref"`
	Digest       string         `json:"digest,omitempty"` // sha256:… of the weights; "" when the provider does not say
	Form         Form           `json:"form"`
	Reproducible bool           `json:"reproducible"` // the digest decides which weights answer
	Params       map[string]any `json:"params,omitempty"`
}

// Pinner is a Chatter that knows its own pin, as scripts do.
type Pinner interface {
	Pin() Pin
}

// Pin finds out what a reference means. It starts no server.
func (s *Service) Pin(ctx context.Context, ref string) (Pin, error) {
	if c, ok := s.lookup(ref); ok {
		if p, ok := c.(Pinner); ok {
			pin := p.Pin()
			pin.Ref = ref
			return pin, nil
		}
		return Pin{Ref: ref, Form: FormScripted}, nil
	}
	providerName, name, err := splitRef(ref)
	if err != nil {
		return Pin{}, err
	}
	switch providerName {
	case providerLocal:
		return s.pinLocal(ref, name)
	case providerScripted:
		return Pin{}, fault.New(fault.NotFound, CodeUnreachable, "there is no script %s", ref).
			WithHint("put models/%s.script.yaml into the package", name)
	}
	p, err := s.provider(providerName)
	if err != nil {
		return Pin{}, err
	}
	pin := Pin{Ref: ref, Form: p.form}
	if pin.Form == "" {
		a, err := s.ability(ctx, p, ref, name)
		if err != nil {
			return Pin{}, s.hinted(p, err)
		}
		pin.Form = a.Form
	}
	if providerName == providerOllama {
		pin.Digest, err = ollamaDigest(ctx, p, name)
		pin.Reproducible = pin.Digest != ""
	}
	return pin, s.hinted(p, err)
}

func (s *Service) pinLocal(ref, name string) (Pin, error) {
	file, ok := s.local.Find(name)
	if !ok {
		_, _, err := s.localServer(name)
		return Pin{}, err
	}
	a, err := s.localAbility(file)
	if err != nil {
		return Pin{}, err
	}
	digest, err := s.local.Digest(file.Path)
	if err != nil {
		return Pin{}, fault.Wrap(err, fault.Internal, "model.digest", "take the digest of %s", file.Path)
	}
	meta, err := local.ReadMeta(file.Path)
	if err != nil {
		return Pin{}, fault.Wrap(err, fault.Invalid, CodeUnreachable, "the model file of %s cannot be read", ref)
	}
	return Pin{
		Ref: ref, Digest: digest, Form: a.Form, Reproducible: true,
		Params: map[string]any{"context": s.local.ContextSize(meta)},
	}, nil
}

// ollamaDigest is the digest of a model in Ollama's own store.
func ollamaDigest(ctx context.Context, p *provider, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	models, err := ollamaModels(ctx, p)
	if err != nil {
		return "", err
	}
	for _, m := range models {
		if m.Name == name || m.Name == name+":latest" {
			return "sha256:" + strings.TrimPrefix(m.Digest, "sha256:"), nil
		}
	}
	return "", fault.New(fault.NotFound, CodeUnreachable, "Ollama has no model %s", name).WithHint("ollama pull %s", name)
}

type ollamaModel struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

func ollamaModels(ctx context.Context, p *provider) ([]ollamaModel, error) {
	root := p.client
	root.Base = strings.TrimSuffix(root.Base, "/v1")
	var tags struct {
		Models []ollamaModel `json:"models"`
	}
	err := root.Get(ctx, "/api/tags", &tags)
	return tags.Models, err
}

// resolveTime bounds the question whether a server is there.
const resolveTime = 2 * time.Second

// Resolve picks the model of a choice: the first one that can be called, by a look at files, keys and
// open doors, without asking a model anything.
func (s *Service) Resolve(ctx context.Context, c spec.ModelChoice) (string, error) {
	first := s.reachable(ctx, c.First)
	if first == nil {
		return c.First, nil
	}
	if c.Else == "" {
		return "", first
	}
	second := s.reachable(ctx, c.Else)
	if second == nil {
		return c.Else, nil
	}
	if err := ctx.Err(); err != nil {
		return "", fault.From(err)
	}
	return "", s.unreachable("neither %s nor %s can be reached: %s; %s", c.First, c.Else, first, second)
}

func (s *Service) reachable(ctx context.Context, ref string) error {
	if _, ok := s.lookup(ref); ok {
		return nil
	}
	providerName, name, err := splitRef(ref)
	if err != nil {
		return err
	}
	switch providerName {
	case providerLocal:
		_, _, err := s.localServer(name)
		return err
	case providerScripted:
		return fault.New(fault.NotFound, CodeUnreachable, "there is no script %s", ref).
			WithHint("put models/%s.script.yaml into the package", name)
	}
	p, err := s.provider(providerName)
	if err != nil {
		return err
	}
	if err := s.usable(p); err != nil {
		return err
	}
	if p.client.Key != "" { // who has a key means to use it; the call itself will tell
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	if providerName == providerOllama {
		_, err = ollamaDigest(ctx, p, name)
		return s.hinted(p, err)
	}
	_, err = p.client.Models(ctx)
	if fault.HasCode(err, CodeRefused) || fault.HasCode(err, CodeMalformed) { // somebody is there, without a list
		return nil
	}
	return s.hinted(p, err)
}
