package model

import (
	"context"
	"errors"
	"time"

	"flywheel/internal/model/local"
	"flywheel/internal/model/openai"
	"flywheel/internal/platform/fault"
)

// chatLocal answers with a model file on this machine.
func (s *Service) chatLocal(ctx context.Context, name string, req Request, onDelta func(Delta)) (Response, error) {
	server, ability, err := s.localServer(name)
	if err != nil {
		return Response{}, err
	}
	out, err := s.useLocal(ctx, server, ability, req, onDelta)
	if fault.HasCode(err, CodeUnreachable) && ctx.Err() == nil {
		// The server died a moment ago and was not missed yet. It took no connection, so nothing happened.
		out, err = s.useLocal(ctx, server, ability, req, onDelta)
	}
	return out, localFault(ctx, req.Model, err)
}

func (s *Service) useLocal(ctx context.Context, server *local.Server, ability Ability, req Request, onDelta func(Delta)) (out Response, err error) {
	_, name, _ := splitRef(req.Model)
	compute, err := server.Use(ctx, func(c local.Conn) error {
		began := s.deps.Clock.Now()
		t := target{
			ref: req.Model, name: name, ability: ability, provider: localProvider,
			client: &openai.Client{Base: c.Base, Key: c.Key, Name: req.Model, HTTP: local.HTTP},
		}
		var err error
		out, err = s.complete(ctx, t, req, onDelta)
		out.Usage.Compute = s.deps.Clock.Now().Sub(began)
		if fault.HasCode(err, CodeUnreachable) || fault.HasCode(err, CodeInterrupted) {
			server.Suspect(c)
		}
		return err
	})
	if compute > 0 { // else the kernel does not say, and the time that the call took stands in for it
		out.Usage.Compute = compute
	}
	return out, err
}

var localProvider = &provider{name: providerLocal}

// localServer finds the server of a model, or says how to get one.
func (s *Service) localServer(name string) (*local.Server, Ability, error) {
	server, err := s.local.Server(name)
	switch {
	case errors.Is(err, local.ErrNoModel):
		e := s.unreachable("there is no model local/%s in %s", name, s.deps.CacheDir)
		var names []string
		for _, f := range s.local.Files() {
			names = append(names, f.Name)
		}
		if near := fault.Suggest(name, names); near != "" {
			e = e.WithHint("did you mean local/%s? Or %s", near, s.waysToGetOne())
		}
		return nil, Ability{}, e
	case errors.Is(err, local.ErrNoEngine):
		return nil, Ability{}, s.unreachable("the model local/%s is there, but no server to run it", name)
	case err != nil:
		return nil, Ability{}, fault.Wrap(err, fault.Unavailable, CodeUnreachable, "the local servers are stopped")
	}
	file, _ := s.local.Find(name)
	ability, err := s.localAbility(file)
	return server, ability, err
}

// localFault classifies what Use itself can end with.
func localFault(ctx context.Context, ref string, err error) error {
	var f *fault.Error
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.Wrap(err, fault.Timeout, CodeTimeout, "%s did not answer in time", ref)
	case ctx.Err() != nil:
		return fault.From(ctx.Err())
	}
	return fault.Wrap(err, fault.Unavailable, CodeUnreachable, "%s cannot be started", ref).WithHint("flywheel doctor shows the log of its server")
}

// warmTime bounds what Warm may take.
const warmTime = 3 * time.Minute

// Warm starts the server of a local model, so that the first call need not wait; other models need none.
func (s *Service) Warm(ctx context.Context, ref string) error {
	providerName, name, err := splitRef(ref)
	if err != nil || providerName != providerLocal {
		return err
	}
	server, _, err := s.localServer(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, warmTime)
	defer cancel()
	_, err = server.Use(ctx, func(local.Conn) error { return nil })
	return localFault(ctx, ref, err)
}
