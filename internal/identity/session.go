package identity

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
)

// LoginPath is where one-time links point.
const LoginPath = "/login"

// NewLink makes a one-time link for a browser: the path with its code, to be put after the address of
// the server, and the moment when it stops to work.
func (s *Service) NewLink(ctx context.Context, actor string) (path string, expires time.Time, err error) {
	code := newSecret("once_")
	now := s.deps.Clock.Now()
	expires = now.Add(codeFor)
	if err := s.addCode(ctx, hash(code), actor, now, expires); err != nil {
		return "", time.Time{}, err
	}
	return LoginPath + "?code=" + code, expires, nil
}

// Login serves the one-time link: it spends the code, opens a session and goes on to the first page.
func (s *Service) Login(w http.ResponseWriter, r *http.Request) {
	code := r.URL.Query().Get("code")
	if r.Method != http.MethodGet || code == "" { // a HEAD of a curious program must not spend it
		httpx.WriteError(w, r, fault.New(fault.Invalid, "identity.link", "the link has no code").WithHint("flywheel login"))
		return
	}
	secret := newSecret("")
	now := s.deps.Clock.Now()
	actor, err := s.spend(r.Context(), hash(code), hash(secret), now)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	s.deps.Log.InfoContext(r.Context(), "signed in", slog.String("actor", actor), slog.String("request_id", httpx.RequestID(r.Context())))
	http.SetCookie(w, &http.Cookie{
		Name: s.cookie, Value: secret, Path: "/", Expires: now.Add(sessionFor), MaxAge: int(sessionFor / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	// A page that moves on, not a redirect: a strict cookie is not sent on a redirect that began elsewhere.
	_, _ = w.Write([]byte(`<!doctype html><html lang="en"><title>Signed in</title>` +
		`<meta http-equiv="refresh" content="0;url=/"><p>Signed in. <a href="/">Go on</a></p></html>`))
}

func (s *Service) ofSession(ctx context.Context, secret string) (string, error) {
	actor, err := s.session(ctx, hash(secret), s.deps.Clock.Now())
	if err != nil {
		return "", err
	}
	if actor == "" {
		return "", fault.New(fault.Unauthenticated, "identity.session", "the session is over").WithHint("flywheel login")
	}
	return actor, nil
}
