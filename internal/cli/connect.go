package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"flywheel/client"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
	"flywheel/internal/platform/op"
)

// inProcessURL is the address that a home in this process is called by.
const inProcessURL = "http://localhost"

// connection is a way to the API, and what must be closed after it.
type connection struct {
	*client.Client
	close func() error
}

// connect reaches the home: through the server that holds it, or by opening it here.
func (s *shell) connect(ctx context.Context) (*connection, error) {
	home, err := s.homeDir()
	if err != nil {
		return nil, err
	}
	l, server, err := s.takeHome(ctx, home, false)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return s.connectServer(home, server)
	}
	o, err := s.options(home, nil, true)
	if err != nil {
		l.release()
		return nil, err
	}
	h, err := s.app.Open(ctx, o)
	if err != nil {
		l.release()
		return nil, err
	}
	return &connection{
		Client: client.New(client.Options{URL: inProcessURL, Token: h.Token, Transport: client.Handler(h.Handler)}),
		close: func() error {
			defer l.release()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
			defer cancel()
			if err := h.Close(ctx); err != nil {
				return fmt.Errorf("close the home: %w", err)
			}
			return nil
		},
	}, nil
}

func (s *shell) connectServer(home string, server holder) (*connection, error) {
	name := filepath.Join(home, "token")
	token, err := os.ReadFile(name)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unauthenticated, "cli.token", "the token of the running server cannot be read").
			WithHint("run the command as the user who started pid %d", server.PID)
	}
	if v := s.app.Version(); server.Version != v {
		s.note(fmt.Sprintf("the server (pid %d) is version %s, this command is %s", server.PID, server.Version, v))
	}
	return &connection{
		Client: client.New(client.Options{URL: server.URL, Token: strings.TrimSpace(string(token))}),
		close:  func() error { return nil },
	}, nil
}

// local serves one operation that needs no home.
func (s *shell) local(o op.Op) *connection {
	router := op.NewRouter(op.RouterOptions{Guard: func(context.Context, string) error { return nil }})
	mux := http.NewServeMux()
	router.Mount(mux, append(router.Ops(), o)...)
	handler := httpx.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(op.WithActor(r.Context(), "owner")))
	}), httpx.Options{})
	return &connection{
		Client: client.New(client.Options{URL: inProcessURL, Transport: client.Handler(handler)}),
		close: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), closeFor)
			defer cancel()
			return router.Close(ctx)
		},
	}
}

// with runs fn with a connection and closes it; the error of fn goes before that of the closing.
func (c *connection) with(fn func(*client.Client) error) (err error) {
	defer func() {
		if cerr := c.close(); err == nil && cerr != nil && !errors.Is(cerr, context.Canceled) {
			err = cerr
		}
	}()
	return fn(c.Client)
}
