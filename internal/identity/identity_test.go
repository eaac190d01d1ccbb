package identity_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"flywheel/internal/identity"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

type home struct {
	*identity.Service
	dir   string
	clock *clock.Virtual
	db    *db.DB
}

func open(t *testing.T) home {
	t.Helper()
	h := home{dir: t.TempDir(), clock: clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	var err error
	if h.db, err = db.Open(t.Context(), filepath.Join(h.dir, "x.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close() })
	if err := db.Migrate(t.Context(), h.db, identity.Migrations); err != nil {
		t.Fatal(err)
	}
	if h.Service, err = identity.New(identity.Deps{DB: h.db, Clock: h.clock, Home: h.dir}); err != nil {
		t.Fatal(err)
	}
	return h
}

func request(t *testing.T, header, value string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if header != "" {
		r.Header.Set(header, value)
	}
	return r
}

func TestTokenFileIsMadeOnceAndPrivate(t *testing.T) {
	t.Parallel()
	h := open(t)
	if !regexp.MustCompile(`^fw_[0-9A-Za-z]{43}$`).MatchString(h.Token()) {
		t.Errorf("token %q", h.Token())
	}
	name := filepath.Join(h.dir, identity.TokenFile)
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	again, err := identity.New(identity.Deps{DB: h.db, Home: h.dir})
	if err != nil || again.Token() != h.Token() {
		t.Errorf("another token, %v", err)
	}
	if got, err := identity.ReadToken(h.dir); err != nil || got != h.Token() {
		t.Errorf("%q %v", got, err)
	}
	if err := os.Chmod(name, 0o644); err != nil { //nolint:gosec // the mistake under test
		t.Fatal(err)
	}
	if _, err := identity.New(identity.Deps{DB: h.db, Home: h.dir}); !fault.HasCode(err, "identity.token_open") {
		t.Errorf("error: %v", err)
	}
	if err := os.WriteFile(name, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.New(identity.Deps{DB: h.db, Home: h.dir}); !fault.HasCode(err, "identity.token_file") {
		t.Errorf("error: %v", err)
	}
}

func TestOnlyTheTokenSignsIn(t *testing.T) {
	t.Parallel()
	h := open(t)
	if actor, err := h.Authenticate(request(t, "Authorization", "bearer "+h.Token())); actor != identity.Owner || err != nil {
		t.Errorf("%q %v", actor, err)
	}
	for _, value := range []string{"", "Bearer", "Bearer ", "Bearer x", "Bearer " + h.Token() + "x", "Bearer " + h.Token()[:45], "Basic " + h.Token(), h.Token()} {
		if actor, err := h.Authenticate(request(t, "Authorization", value)); fault.KindOf(err) != fault.Unauthenticated || actor != "" {
			t.Errorf("%q: %q %v", value, actor, err)
		}
	}
	if err := h.Allow(t.Context(), "", "x"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("nobody: %v", err)
	}
	if err := h.Allow(t.Context(), "stranger", "x"); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a stranger: %v", err)
	}
	if err := h.Allow(t.Context(), identity.Owner, ""); err == nil {
		t.Error("no permission is not any permission")
	}
}

func login(t *testing.T, h home, method, link string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.Login(w, httptest.NewRequestWithContext(t.Context(), method, link, nil))
	return w
}

func TestLinkWorksOnceForTenMinutes(t *testing.T) {
	t.Parallel()
	h := open(t)
	link, expires, err := h.NewLink(t.Context(), identity.Owner)
	if err != nil || !expires.Equal(h.clock.Now().Add(10*time.Minute)) {
		t.Fatalf("%v %v", expires, err)
	}
	if w := login(t, h, http.MethodHead, link); w.Code == 200 {
		t.Error("a HEAD spent the link")
	}
	w := login(t, h, http.MethodGet, link)
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Path != "/" {
		t.Fatalf("%d %v", w.Code, cookies)
	}
	with := request(t, "Cookie", cookies[0].Name+"="+cookies[0].Value)
	if actor, err := h.Authenticate(with); actor != identity.Owner || err != nil {
		t.Errorf("%q %v", actor, err)
	}
	if w := login(t, h, http.MethodGet, link); w.Code != 401 || len(w.Result().Cookies()) != 0 || !strings.Contains(w.Body.String(), "identity.link_used") {
		t.Errorf("second use: %d %s", w.Code, w.Body)
	}
	var stored string
	if err := h.db.QueryRow(t.Context(), `SELECT hash FROM sessions`).Scan(&stored); err != nil || strings.Contains(stored, cookies[0].Value) {
		t.Errorf("stored %q, %v", stored, err)
	}
	late, _, err := h.NewLink(t.Context(), identity.Owner)
	if err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(10 * time.Minute)
	if w := login(t, h, http.MethodGet, late); w.Code != 401 {
		t.Errorf("late use: %d", w.Code)
	}
	h.clock.Advance(31 * 24 * time.Hour)
	if _, err := h.Authenticate(with); !fault.HasCode(err, "identity.session") {
		t.Errorf("old session: %v", err)
	}
	for _, bad := range []string{"/login", "/login?code=", "/login?code=once_x"} {
		if w := login(t, h, http.MethodGet, bad); w.Code < 400 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

func TestLinkUsedTwiceAtOnceOpensOneSession(t *testing.T) {
	t.Parallel()
	h := open(t)
	link, _, err := h.NewLink(t.Context(), identity.Owner)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	codes := make([]int, 8)
	for i := range codes {
		wg.Go(func() { codes[i] = login(t, h, http.MethodGet, link).Code })
	}
	wg.Wait()
	good := 0
	for _, c := range codes {
		if c == 200 {
			good++
		}
	}
	if good != 1 {
		t.Errorf("answers: %v", codes)
	}
}
