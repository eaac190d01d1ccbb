package identity

import (
	"context"
	"fmt"
	"io"
	"time"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

type none struct{}

type linkOut struct {
	URL       string    `json:"url" doc:"The one-time link"`
	ExpiresAt time.Time `json:"expires_at"`
}

type whoOut struct {
	Actor string `json:"actor"`
}

type logoutOut struct {
	Ended int64 `json:"ended" doc:"How many browser sessions were ended"`
}

// Ops are the operations of the domain. s may be nil when they are only listed.
func (s *Service) Ops() []op.Op {
	return []op.Op{
		op.WithText(op.New(op.Meta{
			ID: "identity.link", Path: "/api/v1/login-links", Permission: "identity.link", Audit: "create",
			Summary: "Make a one-time link that signs a browser in", CLI: "login", Example: "flywheel login",
		}, s.linkOp), func(w io.Writer, out *linkOut) {
			_, _ = fmt.Fprintf(w, "%s\n\nOpen it in a browser; it works once, until %s.\n", out.URL, out.ExpiresAt.Local().Format("15:04"))
		}),
		op.WithText(op.New(op.Meta{
			ID: "identity.whoami", Method: "GET", Path: "/api/v1/whoami", Permission: "identity.whoami",
			Summary: "Say who is signed in", CLI: "whoami", Example: "flywheel whoami",
		}, func(ctx context.Context, _ *none) (*whoOut, error) { return &whoOut{Actor: op.Actor(ctx)}, nil }),
			func(w io.Writer, out *whoOut) { _, _ = fmt.Fprintln(w, out.Actor) }),
		op.WithText(op.New(op.Meta{
			ID: "identity.logout", Path: "/api/v1/logout", Permission: "identity.logout", Audit: "delete",
			Summary: "End all browser sessions", CLI: "logout", Example: "flywheel logout",
		}, func(ctx context.Context, _ *none) (*logoutOut, error) {
			n, err := s.endSessions(ctx, op.Actor(ctx))
			return &logoutOut{Ended: n}, err
		}), func(w io.Writer, out *logoutOut) {
			_, _ = fmt.Fprintf(w, "%s ended\n", op.Count(out.Ended, "browser session"))
		}),
	}
}

func (s *Service) linkOp(ctx context.Context, _ *none) (*linkOut, error) {
	base := s.deps.BaseURL()
	if base == "" {
		return nil, fault.New(fault.Unavailable, "identity.no_server", "no server is running for this home").WithHint("flywheel up")
	}
	path, expires, err := s.NewLink(ctx, op.Actor(ctx))
	if err != nil {
		return nil, err
	}
	return &linkOut{URL: base + path, ExpiresAt: expires}, nil
}
