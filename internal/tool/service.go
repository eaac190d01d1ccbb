package tool

import (
	"context"
	"encoding/json"
	"log/slog"

	"flywheel/internal/platform/clock"
	"flywheel/internal/tool/world"
	"flywheel/spec"
)

// Deps is what the service needs.
type Deps struct {
	Clock clock.Clock
	Log   *slog.Logger
	// Environ is the base environment of tool servers (KEY=value); a server's own env comes on top.
	Environ []string
}

// Service reaches real tools.
type Service struct{ d Deps }

// New makes a service.
func New(d Deps) *Service { return &Service{d} }

// Close ends all tool servers.
func (s *Service) Close() error { return nil }

// Schema is a tool as its MCP server describes it.
type Schema struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema"`
	Digest      string          `json:"digest"`
}

// Caller calls the package's tools in an environment.
func (s *Service) Caller(env map[string]string, pkg *spec.Package) Caller { return nil }

// PinnedCaller is Caller that refuses tools whose schema differs from the pin.
func (s *Service) PinnedCaller(env map[string]string, pkg *spec.Package, pins map[string]Schema) Caller {
	return nil
}

// Schemas asks the servers.
func (s *Service) Schemas(ctx context.Context, env map[string]string, pkg *spec.Package) (map[string]Schema, error) {
	return nil, nil
}

// Mocks are the compiled mocks of a package.
type Mocks struct{}

// NewMocks compiles the mocks of a package; data holds its files, path to content.
func NewMocks(pkg *spec.Package, data map[string][]byte) (*Mocks, error) { return nil, nil }

// Caller answers from the mocks, acting on w.
func (m *Mocks) Caller(w *world.State, clk clock.Clock) Caller { return nil }

// Mocked is NewMocks and Caller in one.
func Mocked(pkg *spec.Package, data map[string][]byte, w *world.State, clk clock.Clock) Caller {
	return nil
}
