package model

import (
	"context"
	"log/slog"

	"flywheel/internal/platform/clock"
	"flywheel/spec"
)

// Config names the providers beyond the built-in ones.
type Config struct {
	Providers []Provider `json:"providers,omitempty"`
}

// Provider is an OpenAI-compatible server that a person has configured.
type Provider struct {
	Name    string `json:"name"`
	BaseURL string `json:"base_url"`
	Key     string `json:"key,omitempty"`
	Form    Form   `json:"form,omitempty"`
}

// Deps is what a Service needs.
type Deps struct {
	Config   Config
	Clock    clock.Clock
	Log      *slog.Logger
	CacheDir string
	Getenv   func(string) string
}

// Service routes requests to providers.
type Service struct{}

// Pin says exactly which model a reference means.
type Pin struct {
	Ref          string         `json:"ref"`
	Digest       string         `json:"digest,omitempty"`
	Form         Form           `json:"form"`
	Reproducible bool           `json:"reproducible"`
	Params       map[string]any `json:"params,omitempty"`
}

// ProviderReport is what doctor says about a provider.
type ProviderReport struct {
	Name string `json:"name"`
}

// New makes a service.
func New(d Deps) *Service { return &Service{} }

// Chat answers a request.
func (s *Service) Chat(ctx context.Context, req Request, onDelta func(Delta)) (Response, error) {
	panic("stub")
}

// Resolve picks the model.
func (s *Service) Resolve(ctx context.Context, c spec.ModelChoice) (string, error) { panic("stub") }

// Pin pins a model.
func (s *Service) Pin(ctx context.Context, ref string) (Pin, error) { panic("stub") }

// Doctor reports.
func (s *Service) Doctor(ctx context.Context) []ProviderReport { panic("stub") }

// Register adds a chatter under a reference.
func (s *Service) Register(ref string, c Chatter) { panic("stub") }

// Price prices a usage.
func (s *Service) Price(ref string, u Usage) (int64, string) { panic("stub") }

// Close stops local servers.
func (s *Service) Close() error { return nil }

// Scripted makes a model from rules.
func Scripted(rules []byte) (Chatter, error) { panic("stub") }
