package cli

import (
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mattn/go-isatty"
)

// Process is everything that a command may touch of the process it runs in.
type Process struct {
	// Args are the words after the name of the program.
	Args []string
	// Env is the environment as KEY=value.
	Env []string
	// Dir is the working directory.
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// StdinTTY, StdoutTTY and StderrTTY say which streams are a terminal.
	StdinTTY, StdoutTTY, StderrTTY bool
	// Signals asks to stop: the first politely, the second at once. It may be nil.
	Signals <-chan os.Signal
	// PID is what the lock of the home says to others.
	PID int
}

// System is the real process.
func System() Process {
	dir, err := os.Getwd()
	if err != nil {
		dir = "."
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	return Process{
		Args: os.Args[1:], Env: os.Environ(), Dir: dir, PID: os.Getpid(), Signals: signals,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		StdinTTY: isatty.IsTerminal(os.Stdin.Fd()), StdoutTTY: isatty.IsTerminal(os.Stdout.Fd()),
		StderrTTY: isatty.IsTerminal(os.Stderr.Fd()),
	}
}

// Getenv looks a variable up; the last one wins, as in a shell.
func (p Process) Getenv(name string) string {
	for i := len(p.Env) - 1; i >= 0; i-- {
		if key, value, ok := strings.Cut(p.Env[i], "="); ok && key == name {
			return value
		}
	}
	return ""
}
