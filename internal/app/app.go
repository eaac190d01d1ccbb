// Package app wires the program: it is the only package that may import every other one, and nothing
// imports it but the command.
package app

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"flywheel/internal/agent"
	"flywheel/internal/cli"
	"flywheel/internal/deploy"
	"flywheel/internal/evolve"
	"flywheel/internal/identity"
	"flywheel/internal/lab"
	"flywheel/internal/model"
	"flywheel/internal/observe"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/file"
	"flywheel/internal/platform/op"
	"flywheel/internal/release"
	"flywheel/internal/run"
	"flywheel/internal/tool"
)

// Version of the program, set when it is built.
var Version = "dev"

// home is an open home: everything that works on one data directory.
type home struct {
	db       *db.DB
	blobs    blob.Store
	bus      *bus.Bus
	identity *identity.Service
	models   *model.Service
	tools    *tool.Service
	checker  *agent.Checker
	observe  *observe.Service
	runs     *run.Service
	lab      *lab.Service
	releases *release.Service
	deploy   *deploy.Service
	evolve   *evolve.Service

	getenv func(string) string
	log    *slog.Logger
	url    string
}

var migrations = []db.Migrations{
	bus.Migrations, identity.Migrations, run.Migrations, lab.Migrations, release.Migrations, deploy.Migrations,
	observe.Migrations, evolve.Migrations,
}

// open builds the services in reading order. Nothing runs yet but the writer of the store.
func open(ctx context.Context, o cli.Options) (h *home, err error) {
	h = &home{log: o.Log, getenv: environment(o.Env), checker: agent.New(suiteKinds()...)}
	defer func() {
		if err != nil {
			_ = h.close(ctx)
		}
	}()
	if h.db, err = db.Open(ctx, filepath.Join(o.Home, "flywheel.db")); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err = db.Migrate(ctx, h.db, migrations...); err != nil {
		return nil, err
	}
	if h.blobs, err = blob.OpenFiles(filepath.Join(o.Home, "cas")); err != nil {
		return nil, fmt.Errorf("open the blobs: %w", err)
	}
	secret, err := homeSecret(filepath.Join(o.Home, "secret"))
	if err != nil {
		return nil, err
	}
	key, err := release.OpenKey(filepath.Join(o.Home, "signing.key"))
	if err != nil {
		return nil, err
	}
	h.bus = bus.New(h.db).WithLog(o.Log)
	if h.identity, err = identity.New(identity.Deps{DB: h.db, Log: o.Log, Home: o.Home, BaseURL: func() string { return h.url }}); err != nil {
		return nil, err
	}
	h.models = model.New(model.Deps{
		Config: modelConfig(o), Clock: clock.Real(), Log: o.Log, CacheDir: o.Settings.Models.Cache, Getenv: h.getenv,
	})
	h.tools = tool.New(tool.Deps{Log: o.Log, Environ: toolEnvironment(o.Env), Secret: secrets(o.Home, h.getenv)})
	return h, h.domains(secret, key)
}

func (h *home) domains(secret []byte, key *release.Key) (err error) {
	finder := &runFinder{}
	h.observe = observe.New(observe.Deps{DB: h.db, Bus: h.bus, Runs: finder, Log: h.log})
	trials := &gate{}
	h.releases, err = release.New(release.Deps{DB: h.db, Blobs: h.blobs, Bus: h.bus, Signer: key, Gate: trials, Log: h.log})
	if err != nil {
		return err
	}
	found := packages{blobs: h.blobs, checker: h.checker, releases: h.releases}
	h.runs = run.New(run.Deps{
		DB: h.db, Blobs: h.blobs, Bus: h.bus, Log: h.log, Models: h.models, Packages: found,
		Tools:    &toolbox{tools: h.tools, releases: h.releases, blobs: h.blobs, log: h.log},
		Outcomes: verdicts{h.observe}, Secret: secret, Getenv: h.getenv,
	})
	finder.runs = h.runs
	h.lab = lab.New(lab.Deps{
		DB: h.db, Blobs: h.blobs, Bus: h.bus, Model: h.models, Log: h.log, Checker: h.checker,
		Pin: h.weights, Resolve: h.models.Resolve,
		Release: func(ctx context.Context, ref string) (lab.Released, error) {
			r, _, err := named(ctx, h.releases, ref)
			if err != nil {
				return lab.Released{}, err
			}
			return lab.Released{Identity: r.Identity, Suite: r.Suite, Name: r.Name()}, nil
		},
	})
	trials.LabGate, trials.suites = release.LabGate{Lab: h.lab, Blobs: h.blobs}, h.lab
	h.deploy = deploy.New(deploy.Deps{
		DB: h.db, Releases: h.releases, Packages: deploy.AgentPackages{Blobs: h.blobs}, Runs: deploy.Runs{Service: h.runs}, Log: h.log,
	})
	h.evolve = evolve.New(evolve.Deps{
		DB: h.db, Blobs: h.blobs, Bus: h.bus, Log: h.log, Lab: h.lab,
		Operations: operations{runs: h.runs, observe: h.observe},
		Releases:   releaser{releases: h.releases, blobs: h.blobs, locker: locker{h}},
	})
	h.bus.Handle("evolve.channels", "channel.moved", func(ctx context.Context, e bus.Event) error {
		var m evolve.ChannelMoved
		if err := json.Unmarshal(e.Payload, &m); err != nil {
			return err
		}
		return h.evolve.Follow(ctx, m)
	})
	return nil
}

// weights names what a model reference stands for, so that stored trials of other weights are not reused.
func (h *home) weights(ctx context.Context, ref string) (string, error) {
	pin, err := h.models.Pin(ctx, ref)
	return pin.Digest, err
}

// begin starts what works in the background: event consumers, and in a server also what a crash
// interrupted.
func (h *home) begin(ctx context.Context) { h.bus.Start(ctx) }

// close ends the work in the reverse order; what is durable goes on at the next start.
func (h *home) close(ctx context.Context) error {
	var errs []error
	if h.runs != nil {
		errs = append(errs, h.runs.Close())
	}
	if h.bus != nil {
		errs = append(errs, h.bus.Drain(ctx))
		h.bus.Close()
	}
	if h.tools != nil {
		errs = append(errs, h.tools.Close())
	}
	if h.models != nil {
		errs = append(errs, h.models.Close())
	}
	if h.db != nil {
		errs = append(errs, h.db.Close())
	}
	return errors.Join(errs...)
}

// ops are all operations. On a home that is not open they can be listed, not called.
func (h *home) ops() []op.Op {
	var all []op.Op
	all = append(all, h.agentDeps().Ops()...)
	all = append(all, h.runs.Ops()...)
	all = append(all, h.lab.Ops()...)
	all = append(all, h.releases.Ops(h.checker, locker{h})...)
	all = append(all, h.deploy.Ops()...)
	all = append(all, h.observe.Ops()...)
	all = append(all, h.evolve.Ops()...)
	all = append(all, h.models.Ops()...)
	all = append(all, h.identity.Ops()...)
	return all
}

const secretSize = 32 // bytes

// homeSecret keys idempotency keys; it is made once and stays with the home.
func homeSecret(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == secretSize:
		return b, nil
	case err == nil:
		return nil, fault.New(fault.Invalid, "home.secret", "%s is damaged: it has %d bytes, not %d", path, len(b), secretSize).
			WithHint("restore it from a backup; without it, calls that a crash interrupted cannot be told from new ones")
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the secret of the home: %w", err)
	}
	b = make([]byte, secretSize)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	return file.Create(path, b, 0o600)
}

func environment(env []string) func(string) string {
	values := make(map[string]string, len(env))
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			values[name] = value
		}
	}
	return func(name string) string { return values[name] }
}

// toolEnvironment is what tool servers get of the process's environment: enough to find programs and
// files, and none of its keys.
func toolEnvironment(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER":
			kept = append(kept, e)
		}
	}
	return kept
}
