package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/cli"
	"flywheel/internal/deploy"
	"flywheel/internal/identity"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/op"
	"flywheel/internal/server"
	"flywheel/spec"
)

// Program is the whole of Flywheel behind its commands.
type Program struct{}

var _ cli.App = Program{}

// Version of the program.
func (Program) Version() string { return Version }

// Ops lists all operations without opening anything.
func (Program) Ops() []op.Op {
	h := &home{checker: agent.New(suiteKinds()...)}
	return append(h.ops(), h.doctorOp())
}

// Templates lists the packages that init can write.
func (Program) Templates() []cli.Template {
	var list []cli.Template
	for _, name := range agent.Templates() {
		list = append(list, cli.Template{Name: name, Summary: "a small agent with tools, mocks and a suite"})
	}
	return list
}

// Template is a new package.
func (Program) Template(template, name string) (op.Dir, error) { return agent.NewFrom(template, name) }

// Open opens the home in this process, for one command.
func (Program) Open(ctx context.Context, o cli.Options) (*cli.Home, error) {
	h, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	h.begin(ctx)
	s := h.server(o)
	return &cli.Home{Handler: s, Token: h.identity.Token(), Close: func(ctx context.Context) error {
		_ = h.runs.Close() // before the requests that wait for them: runs are left for the next start, not canceled
		if err := s.Close(ctx); err != nil {
			o.Log.Warn("requests cut short", slog.Any("error", err))
		}
		return h.close(ctx)
	}}, nil
}

// Serve opens the home, takes up what a crash interrupted, and serves until ctx ends.
func (Program) Serve(ctx context.Context, o cli.Options, listening func(cli.Listening)) error {
	h, err := open(ctx, o)
	if err != nil {
		return err
	}
	closing := func() error {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), server.Grace)
		defer cancel()
		return h.close(grace)
	}
	ln, err := server.Listen(ctx, o.Settings.Listen)
	if err != nil {
		_ = closing()
		return err
	}
	h.url = server.URL(ln)
	s := h.server(o)
	h.begin(ctx)
	link, _, err := h.identity.NewLink(ctx, identity.Owner)
	if err != nil {
		_ = closing()
		return err
	}
	work, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.takeUp(work)
	}()
	listening(cli.Listening{URL: h.url, Link: h.url + link})
	// Runs stop first: a request that follows one would cancel it when the server ends the request.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() {
		_ = h.runs.Close()
		end()
	})()
	err = s.Serve(serving, ln)
	stop()
	<-done
	if cerr := closing(); err == nil {
		err = cerr
	}
	return err
}

// takeUp continues what a crash interrupted: runs at once, then cycles, which begin where they were.
func (h *home) takeUp(ctx context.Context) {
	if err := h.lab.Recover(ctx); err != nil {
		h.log.Error("experiments not recovered", slog.Any("error", err))
	}
	n, err := h.runs.Resume(ctx)
	if err != nil {
		h.log.Error("runs not resumed", slog.Any("error", err))
	}
	if n > 0 {
		h.log.Info("runs resumed", slog.Int("runs", n))
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { h.runs.Watch(ctx) })
	beside.Go(func() { h.prune(ctx, clock.Real()) })
	if err := h.evolve.ResumeAll(ctx); err != nil && ctx.Err() == nil {
		h.log.Error("cycles not resumed", slog.Any("error", err))
	}
	<-ctx.Done()
}

// Old events are forgotten every pruneEvery, when every consumer has read them. Followers who were away
// for longer than keepEvents miss some; the journals have all.
const (
	pruneEvery = time.Hour
	keepEvents = 7 * 24 * time.Hour
)

func (h *home) prune(ctx context.Context, c clock.Clock) {
	for ctx.Err() == nil {
		n, err := h.bus.Prune(ctx, c.Now().Add(-keepEvents))
		if err != nil && ctx.Err() == nil {
			h.log.Error("events not pruned", slog.Any("error", err))
		}
		if n > 0 {
			h.log.Info("events pruned", slog.Int64("events", n))
		}
		_ = c.Sleep(ctx, pruneEvery) // the loop asks the context
	}
}

func (h *home) server(o cli.Options) *server.Server {
	return server.New(server.Deps{
		Ops: append(h.ops(), h.doctorOp()), Identity: h.identity, Bus: h.bus, Version: Version, Hosts: o.Settings.Hosts, Log: o.Log,
		Data: map[string]server.Data{"/v1/": {Handler: h.deploy.Handler(), Errors: deploy.WriteProblem}},
		Ready: func(ctx context.Context) error {
			var one int
			return h.db.QueryRow(ctx, "SELECT 1").Scan(&one)
		},
	})
}

func modelConfig(o cli.Options) model.Config {
	c := model.Config{Local: model.LocalConfig{Threads: o.Settings.Models.Threads, Context: o.Settings.Models.Context}}
	for name, p := range o.Settings.Providers {
		c.Providers = append(c.Providers, model.Provider{
			Name: name, BaseURL: p.BaseURL, Key: p.APIKey.Reveal(), KeyEnv: p.APIKeyEnv, Form: model.Form(p.Form),
		})
	}
	return c
}

// agentDeps give the package operations what the lock pins.
func (h *home) agentDeps() agent.Deps {
	return agent.Deps{
		Checker: h.checker, Models: pinner{h}, Tools: schemer{h},
		Env: func(name string) (string, bool) {
			if h.getenv == nil {
				return "", false
			}
			v := h.getenv(name)
			return v, v != ""
		},
	}
}

// locker pins what a package resolves to now.
type locker struct{ h *home }

// Lock asks models and tool servers.
func (l locker) Lock(ctx context.Context, r *agent.Resolved) (*agent.Lock, error) {
	env := map[string]string{}
	for name, declared := range r.Package.Env {
		if env[name] = l.h.getenv(name); env[name] == "" {
			env[name] = declared.Default
		}
	}
	return agent.MakeLock(ctx, r, agent.Pins{Models: pinner(l), Tools: schemer(l), Env: env})
}

// pinner pins models for locks.
type pinner struct{ h *home }

// Resolve chooses the first reachable model.
func (p pinner) Resolve(ctx context.Context, choice spec.ModelChoice) (string, error) {
	return p.h.models.Resolve(ctx, choice)
}

// Pin says what a reference stands for.
func (p pinner) Pin(ctx context.Context, ref string) (agent.ModelPin, error) {
	pin, err := p.h.models.Pin(ctx, ref)
	if err != nil {
		return agent.ModelPin{}, err
	}
	params := make(map[string]string, len(pin.Params))
	for k, v := range pin.Params {
		params[k] = fmt.Sprint(v)
	}
	return agent.ModelPin{Ref: pin.Ref, Digest: pin.Digest, Form: string(pin.Form), Reproducible: pin.Reproducible, Params: params}, nil
}

// schemer pins tool schemas for locks.
type schemer struct{ h *home }

// Schemas asks the servers of the package's tools.
func (s schemer) Schemas(ctx context.Context, env map[string]string, pkg *spec.Package) (map[string]string, error) {
	schemas, err := s.h.tools.Schemas(ctx, env, pkg)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(schemas))
	for name, schema := range schemas {
		// Kept under its digest, so that a later difference can be shown in words.
		if _, err := blob.PutBytes(ctx, s.h.blobs, schema.Canonical()); err != nil {
			return nil, err
		}
		out[name] = schema.Digest
	}
	return out, nil
}
