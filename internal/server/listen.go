package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"flywheel/internal/platform/fault"
)

// Grace is how long a stopping server waits for what it is doing.
const Grace = 10 * time.Second

// Listen opens the address of the server.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var c net.ListenConfig
	ln, err := c.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.Wrap(err, fault.Conflict, "server.address_in_use", "another program listens on %s", address).
			WithHint("flywheel up --listen 127.0.0.1:0 takes a free port")
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "server.address", "cannot listen on %q", address).
			WithHint("an address is host:port, as in 127.0.0.1:7700")
	}
	return ln, nil
}

// URL is the address of a listener as a browser on this machine writes it.
func URL(ln net.Listener) string {
	host, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return "http://" + ln.Addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Serve serves until ctx ends, then stops: no new connections, running operations are cancelled and
// answer with what they have, and after Grace the rest is cut.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base := context.WithoutCancel(ctx)
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	grace, done := context.WithTimeout(base, Grace)
	defer done()
	stopped := make(chan error, 1)
	go func() { stopped <- h.Shutdown(grace) }()
	if err := errors.Join(s.Close(grace), <-stopped); err != nil {
		s.deps.Log.Warn("stopped with work undone", slog.Any("error", err))
		return h.Close()
	}
	return nil
}
