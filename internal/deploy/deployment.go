package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/release"
	"flywheel/spec"
)

// Packages gives the package of a release.
type Packages interface {
	Package(ctx context.Context, identity blob.Digest) (*spec.Package, error)
}

// AgentPackages reads packages from their blobs.
type AgentPackages struct{ Blobs blob.Store }

// Package loads one.
func (p AgentPackages) Package(ctx context.Context, identity blob.Digest) (*spec.Package, error) {
	r, err := agent.Load(ctx, p.Blobs, identity)
	if err != nil {
		return nil, fmt.Errorf("load package %s: %w", identity.Short(), err)
	}
	return r.Package, nil
}

// Deployment is a channel that is served.
type Deployment struct {
	Agent   string           `json:"agent"`
	Channel string           `json:"channel"`
	Model   string           `json:"model"` // what clients call it
	State   *release.Channel `json:"state"`
	// Env are the names of the values that are set; the values may be secrets and stay inside.
	Env []string `json:"env,omitempty"`
}

// Request asks for a release on a channel.
type Request struct {
	release.MoveRequest
	// Env are values that replace those of the same name; the others stay.
	Env map[string]string
}

// Deploy moves the channel and keeps the environment. The package must get every value that it requires;
// code deploy.env when it does not.
func (s *Service) Deploy(ctx context.Context, req Request) (*Deployment, *release.Move, error) {
	r, err := s.deps.Releases.Get(ctx, req.Agent, req.Release)
	if err != nil {
		return nil, nil, err
	}
	env, err := s.env(ctx, r.Agent, req.Channel)
	if err != nil {
		return nil, nil, err
	}
	before := maps.Clone(env)
	maps.Copy(env, req.Env)
	req.Agent, req.Release = r.Agent, string(r.Digest)
	pkg, err := s.deps.Packages.Package(ctx, r.Identity)
	switch {
	case fault.HasCode(err, "blob.damaged"), fault.HasCode(err, "blob.missing"):
		// The move below verifies the release and says what is wrong with it.
	case err != nil:
		return nil, nil, err
	default:
		if err := s.checkEnv(pkg, env, req); err != nil {
			return nil, nil, err
		}
	}
	// The values go first, so that no request meets the new release without them.
	if len(req.Env) > 0 {
		if err := s.saveEnv(ctx, r.Agent, req.Channel, req.Who, env); err != nil {
			return nil, nil, fmt.Errorf("keep the environment: %w", err)
		}
	}
	c, m, err := s.deps.Releases.Deploy(ctx, req.MoveRequest)
	if err != nil {
		if len(req.Env) > 0 {
			err = errors.Join(err, s.saveEnv(context.WithoutCancel(ctx), r.Agent, req.Channel, req.Who, before))
		}
		return nil, nil, err
	}
	return deployment(c, env), m, nil
}

func (s *Service) checkEnv(pkg *spec.Package, env map[string]string, req Request) error {
	known := slices.Sorted(maps.Keys(pkg.Env))
	for name := range req.Env {
		if _, ok := pkg.Env[name]; !ok {
			f := fault.New(fault.Invalid, "deploy.env", "%s declares no value %s", pkg.Name, name)
			if near := fault.Suggest(name, known); near != "" {
				return f.WithHint("did you mean %s?", near)
			}
			return f.WithHint("flywheel.yaml declares: %s", strings.Join(known, ", "))
		}
	}
	var missing []string
	for _, name := range known {
		v := pkg.Env[name]
		inherited := s.deps.Getenv != nil && s.deps.Getenv(name) != ""
		if v.Required && v.Default == "" && env[name] == "" && !inherited {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fault.New(fault.Invalid, "deploy.env", "%s needs %s", pkg.Name, strings.Join(missing, ", ")).
			WithHint("flywheel deploy %s --env %s=VALUE", req.Channel, missing[0])
	}
	return nil
}

func deployment(c *release.Channel, env map[string]string) *Deployment {
	return &Deployment{
		Agent: c.Agent, Channel: c.Name, Model: ModelName(c.Agent, c.Name), State: c, Env: slices.Sorted(maps.Keys(env)),
	}
}

// List gives every channel that is served, of one agent or of all.
func (s *Service) List(ctx context.Context, agent string) ([]*Deployment, error) {
	channels, err := s.deps.Releases.Channels(ctx, agent)
	if err != nil {
		return nil, err
	}
	out := make([]*Deployment, 0, len(channels))
	for _, c := range channels {
		env, err := s.env(ctx, c.Agent, c.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, deployment(c, env))
	}
	return out, nil
}
