package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"flywheel/client"
	"flywheel/internal/platform/config"
	"flywheel/internal/platform/fault"
)

// closeFor bounds how long a command waits for its home to close.
const closeFor = 15 * time.Second

// shell is one run of the command line.
type shell struct {
	Process
	app App

	// The global flags.
	home     string
	dir      string
	json     bool
	noColor  bool
	logLevel string

	mu     sync.Mutex
	polite func() // what the first signal does; nil cancels the command
}

// Main runs one command line and returns the exit code.
func Main(ctx context.Context, p Process, app App) int {
	s := &shell{Process: p, app: app}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.root().ExecuteContext(ctx) }()
	for stops := 0; ; {
		select {
		case err := <-done:
			return s.exit(err)
		case <-p.Signals:
			stops++
			if stops > 1 {
				return fault.Canceled.ExitCode()
			}
			s.interrupt(cancel)
		}
	}
}

// interrupt asks the running command to stop.
func (s *shell) interrupt(cancel func()) {
	s.mu.Lock()
	polite := s.polite
	s.mu.Unlock()
	if polite == nil {
		cancel()
		return
	}
	s.note("stopping; Ctrl-C again ends it at once")
	go polite()
}

// onInterrupt says what the first signal does until the returned function is called.
func (s *shell) onInterrupt(polite func()) (reset func()) {
	s.mu.Lock()
	s.polite = polite
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.polite = nil
		s.mu.Unlock()
	}
}

// exit prints the error of a command and turns it into the exit code.
func (s *shell) exit(err error) int {
	if err == nil {
		return 0
	}
	f := asFault(err)
	if errors.As(err, new(printed)) {
		return f.fault.Kind.ExitCode()
	}
	if s.json || slices.Contains(s.Args, "--json") { // also when the flags were not read
		s.printJSONError(f)
	} else {
		s.printError(f)
	}
	return f.fault.Kind.ExitCode()
}

// failure is an error with the request it came from.
type failure struct {
	fault     *fault.Error
	requestID string
}

func asFault(err error) failure {
	var c *client.Error
	if !errors.As(err, &c) {
		return failure{fault: withDetail(err)}
	}
	f := &fault.Error{Kind: fault.Kind(c.Kind), Code: c.Code, Message: c.Message, Hint: c.Hint}
	for _, x := range c.Fields {
		f.Fields = append(f.Fields, fault.Field{Path: x.Path, Code: x.Code, Message: x.Message, Hint: x.Hint})
	}
	return failure{fault: f, requestID: c.RequestID}
}

// withDetail shows the cause of an unclassified error of this process, where there is no log to look at.
func withDetail(err error) *fault.Error {
	f := fault.From(err)
	if f.Code == "internal" && f.Err != nil {
		c := *f
		c.Message = f.Err.Error()
		return &c
	}
	return f
}

// settings reads config.yaml of the home, the environment and the flags.
func (s *shell) settings(home string, flags map[string]string) (*config.Settings, *config.Config, error) {
	settings := config.Default()
	if flags == nil {
		flags = map[string]string{}
	}
	if s.logLevel != "" {
		flags["log.level"] = s.logLevel
	}
	c, err := config.Load(config.Source{File: filepath.Join(home, config.FileName), Env: s.Env, Flags: flags},
		config.Section{Into: settings})
	return settings, c, err
}

// options prepare to open the home. Short commands log only what is wrong, unless a person asks.
func (s *shell) options(home string, flags map[string]string, short bool) (Options, error) {
	settings, c, err := s.settings(home, flags)
	if err != nil {
		return Options{}, err
	}
	level := settings.Log.Level
	for _, x := range c.Explain() {
		if x.Path == "log.level" && x.Origin == "default" && short {
			level = slog.LevelWarn
		}
	}
	var handler slog.Handler
	if o := (&slog.HandlerOptions{Level: level}); settings.Log.Format == "json" {
		handler = slog.NewJSONHandler(s.Stderr, o)
	} else {
		handler = slog.NewTextHandler(s.Stderr, o)
	}
	return Options{Home: home, Dir: s.workDir(), Settings: settings, Env: s.Env, Log: slog.New(handler)}, nil
}

// homeDir is the directory of the home, made when it is not there.
func (s *shell) homeDir() (string, error) {
	home := s.homePath()
	if home == "" {
		return "", fault.New(fault.Invalid, "cli.no_home", "there is no home directory to keep data in").
			WithHint("give one with --home DIR or FLYWHEEL_HOME")
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", fault.Wrap(err, fault.Invalid, "cli.home", "the home %s cannot be made", home).
			WithHint("give another one with --home DIR or FLYWHEEL_HOME")
	}
	return home, nil
}

func (s *shell) homePath() string {
	home := s.home
	if home == "" {
		home = s.Getenv("FLYWHEEL_HOME")
	}
	if home == "" {
		user := s.Getenv("HOME")
		if user == "" {
			return ""
		}
		home = filepath.Join(user, ".local", "share", "flywheel")
	}
	return s.abs(home)
}

// workDir is where the person works: --dir, or the working directory.
func (s *shell) workDir() string { return s.abs(s.dir) }

func (s *shell) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.Dir, path)
}

func usage(cmd *cobra.Command, format string, args ...any) error {
	return fault.New(fault.Invalid, "cli.usage", format, args...).WithHint("%s --help", cmd.CommandPath())
}
