package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the sessions and the one-time links.
var Migrations = db.Migrations{Domain: "identity", Files: files}

// Owner is the one actor of a home on one machine.
const Owner = "owner"

const (
	codeFor    = 10 * time.Minute
	sessionFor = 30 * 24 * time.Hour
)

// Deps is what the service needs.
type Deps struct {
	DB    *db.DB
	Clock clock.Clock
	Log   *slog.Logger
	// Home is the directory that holds the token file.
	Home string
	// BaseURL is the address of the running server, "" when none is listening.
	BaseURL func() string
}

// Service signs people and programs in.
type Service struct {
	deps   Deps
	token  string
	cookie string
}

// New reads the token of the home and creates it at the first time.
func New(d Deps) (*Service, error) {
	if d.Clock == nil {
		d.Clock = clock.Real()
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.BaseURL == nil {
		d.BaseURL = func() string { return "" }
	}
	token, err := ensureToken(d.Home)
	if err != nil {
		return nil, err
	}
	// Cookies do not know ports: two homes served on one machine need two names.
	return &Service{deps: d, token: token, cookie: "flywheel_" + hash(token)[:8]}, nil
}

// Token is the secret of the token file.
func (s *Service) Token() string { return s.token }

// Authenticate names the caller of a request by its bearer token or its session cookie.
func (s *Service) Authenticate(r *http.Request) (string, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, given, _ := strings.Cut(header, " ")
		given = strings.TrimSpace(given)
		if !strings.EqualFold(scheme, "Bearer") || given == "" {
			return "", fault.New(fault.Unauthenticated, "identity.scheme", "sign in with Authorization: Bearer TOKEN").
				WithHint("the token is in the file %q of the home", TokenFile)
		}
		return s.ofToken(given)
	}
	if c, err := r.Cookie(s.cookie); err == nil && c.Value != "" {
		return s.ofSession(r.Context(), c.Value)
	}
	return "", fault.New(fault.Unauthenticated, "identity.sign_in", "sign in first").
		WithHint("a browser: open the link of flywheel login; a program: send the token of the home as Authorization: Bearer TOKEN")
}

// ofToken is where named tokens join later: look the hash up instead of comparing with the one.
func (s *Service) ofToken(given string) (string, error) {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.token))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return "", fault.New(fault.Unauthenticated, "identity.token", "the token is not valid here").
			WithHint("use the token in the file %q of this server's home", TokenFile)
	}
	return Owner, nil
}

// Allow says whether an actor has a permission; the error is an unauthenticated or forbidden fault.
func (s *Service) Allow(_ context.Context, actor, permission string) error {
	switch {
	case actor == "":
		return fault.New(fault.Unauthenticated, "identity.sign_in", "sign in first")
	case actor != Owner || permission == "":
		return fault.New(fault.Forbidden, "identity.forbidden", "%s may not do this (%s)", actor, permission)
	}
	return nil
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
