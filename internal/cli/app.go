package cli

import (
	"context"
	"log/slog"
	"net/http"

	"flywheel/internal/platform/config"
	"flywheel/internal/platform/op"
)

// App is the program behind the commands.
type App interface {
	// Version of the program.
	Version() string
	// Ops lists all operations without opening anything. The functions of operations with Meta.Local
	// must work; the others are not called.
	Ops() []op.Op
	// Open opens the home in this process. The CLI holds the lock of the home.
	Open(ctx context.Context, o Options) (*Home, error)
	// Serve opens the home and serves it until ctx ends. The CLI holds the lock of the home.
	Serve(ctx context.Context, o Options, listening func(Listening)) error
	// Templates lists the packages that init can write.
	Templates() []Template
	// Template is a new package called name.
	Template(template, name string) (op.Dir, error)
}

// Options say which home to open and how.
type Options struct {
	// Home is the absolute path of an existing directory.
	Home string
	// Dir is the working directory of the person.
	Dir      string
	Settings *config.Settings
	Env      []string
	Log      *slog.Logger
}

// Home is an open home.
type Home struct {
	// Handler serves the API.
	Handler http.Handler
	// Token signs in at Handler.
	Token string
	// Close ends the work that is still running, waits for what must not be lost, and closes the home.
	Close func(ctx context.Context) error
}

// Listening is what a server tells when it is ready.
type Listening struct {
	// URL is the address, as in http://127.0.0.1:7700.
	URL string
	// Link signs a browser in, once.
	Link string
}

// Template is a package that init can write.
type Template struct{ Name, Summary string }
