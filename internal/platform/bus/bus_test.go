package bus_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

func open(t *testing.T, path string) (*bus.Bus, *db.DB) {
	t.Helper()
	d, err := db.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := db.Migrate(t.Context(), d, bus.Migrations); err != nil {
		t.Fatal(err)
	}
	b := bus.New(d)
	t.Cleanup(b.Close)
	return b, d
}

func emit(t *testing.T, b *bus.Bus, d *db.DB, topic, subject string) {
	t.Helper()
	if err := d.Write(t.Context(), func(tx *db.Tx) error {
		return b.Emit(t.Context(), tx, topic, subject, map[string]string{"of": subject})
	}); err != nil {
		t.Fatal(err)
	}
}

func drain(t *testing.T, b *bus.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// seen collects the subjects that a consumer got.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) handle(_ context.Context, e bus.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, e.Subject)
	return nil
}

func (s *seen) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.list...)
}

func TestConsumerContinuesAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	var first, second seen
	b, d := open(t, path)
	emit(t, b, d, "run.ended", "before") // a consumer gets what happened before it came, too
	b.Handle("facts", "run.ended", first.handle)
	b.Start(t.Context())
	emit(t, b, d, "run.ended", "a")
	emit(t, b, d, "run.started", "other")
	drain(t, b)
	b.Close()
	emit(t, b, d, "run.ended", "while it was away")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"before", "a"}, first.got()); diff != "" {
		t.Error(diff)
	}

	b, d = open(t, path)
	b.Handle("facts", "run.ended", second.handle)
	b.Start(t.Context())
	emit(t, b, d, "run.ended", "after")
	drain(t, b)
	if diff := cmp.Diff([]string{"while it was away", "after"}, second.got()); diff != "" {
		t.Error(diff)
	}
}

func TestConsumerRepeatsInOrderUntilTaken(t *testing.T) {
	t.Parallel()
	b, d := open(t, filepath.Join(t.TempDir(), "x.db"))
	var got seen
	failures := 2
	b.Handle("x", "t", func(ctx context.Context, e bus.Event) error {
		if e.Subject == "a" && failures > 0 {
			failures--
			if failures == 0 {
				panic("not yet")
			}
			return errors.New("not yet")
		}
		return got.handle(ctx, e)
	})
	b.Start(t.Context())
	emit(t, b, d, "t", "a")
	emit(t, b, d, "t", "b")
	drain(t, b)
	if diff := cmp.Diff([]string{"a", "b"}, got.got()); diff != "" {
		t.Error(diff)
	}
}

func TestEventThatCannotBeTakenIsParked(t *testing.T) {
	t.Parallel()
	b, d := open(t, filepath.Join(t.TempDir(), "x.db"))
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := clock.NewVirtual(began)
	b.WithClock(now)
	var got seen
	attempts := 0
	b.Handle("x", "t", func(ctx context.Context, e bus.Event) error {
		if e.Subject == "poison" {
			attempts++
			return fault.New(fault.Invalid, "x.poison", "cannot")
		}
		return got.handle(ctx, e)
	})
	b.Start(t.Context())
	emit(t, b, d, "t", "poison")
	emit(t, b, d, "t", "b")
	drain(t, b)
	if diff := cmp.Diff([]string{"b"}, got.got()); diff != "" {
		t.Error(diff)
	}
	var parked int
	if err := d.QueryRow(t.Context(), `SELECT COUNT(*) FROM parked_events WHERE consumer = 'x'`).Scan(&parked); err != nil || parked != 1 {
		t.Errorf("%d parked, %v", parked, err)
	}
	if waited := now.Now().Sub(began); attempts != 8 || waited != 2540*time.Millisecond {
		t.Errorf("%d attempts, %v between them", attempts, waited)
	}
}

func TestEventOfAnUndoneChangeIsNotDelivered(t *testing.T) {
	t.Parallel()
	b, d := open(t, filepath.Join(t.TempDir(), "x.db"))
	live := b.Subscribe(t.Context(), "t")
	_ = d.Write(t.Context(), func(tx *db.Tx) error {
		_ = b.Emit(t.Context(), tx, "t", "undone", nil)
		return errors.New("no")
	})
	emit(t, b, d, "t", "done")
	if e := <-live; e.Subject != "done" || e.Seq == 0 || string(e.Payload) != `{"of":"done"}` {
		t.Errorf("%+v", e)
	}
	if events, err := b.Since(t.Context(), "", 0, 10); err != nil || len(events) != 1 {
		t.Errorf("%v %v", events, err)
	}
}

func TestSubscribersGetTheirTopicsUntilTheyLeave(t *testing.T) {
	t.Parallel()
	b, _ := open(t, filepath.Join(t.TempDir(), "x.db"))
	ctx, cancel := context.WithCancel(t.Context())
	runs, all := b.Subscribe(ctx, "run.*"), b.Subscribe(ctx)
	b.Publish("release.created", "r", nil)
	b.Publish("run.delta", "d", "text")
	if e := <-runs; e.Subject != "d" || e.Seq != 0 {
		t.Errorf("%+v", e)
	}
	if e := <-all; e.Subject != "r" {
		t.Errorf("%+v", e)
	}
	cancel()
	for range runs { // until it is closed
	}
}

func TestSlowSubscriberLosesOnlyEphemeralEvents(t *testing.T) {
	t.Parallel()
	b, d := open(t, filepath.Join(t.TempDir(), "x.db"))
	live := b.Subscribe(t.Context())
	for range 5000 {
		b.Publish("run.delta", "token", nil)
	}
	emit(t, b, d, "run.ended", "last")
	n := 0
	for e := range live {
		if n++; e.Subject == "last" {
			break
		}
	}
	if n >= 5000 {
		t.Errorf("%d events were kept for a reader that did not read", n)
	}
}

func TestPruneKeepsWhatConsumersNeed(t *testing.T) {
	t.Parallel()
	b, d := open(t, filepath.Join(t.TempDir(), "x.db"))
	var got seen
	b.Handle("x", "t", got.handle)
	b.Start(t.Context())
	for i := range 3 {
		emit(t, b, d, "t", fmt.Sprint(i))
	}
	drain(t, b)
	b.Close()
	emit(t, b, d, "t", "unread")
	emit(t, b, d, "t", "newest")
	if n, err := b.Prune(t.Context(), time.Now().Add(time.Hour)); err != nil || n != 3 {
		t.Errorf("pruned %d, %v", n, err)
	}
	if events, err := b.Since(t.Context(), "t", 0, 10); err != nil || len(events) != 2 || events[0].Subject != "unread" {
		t.Errorf("%v %v", events, err)
	}
}

// readEvents reads n events of a stream as "id topic subject".
func readEvents(t *testing.T, url, lastID string, n int) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", lastID)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var list []string
	var number, topic string
	for s := bufio.NewScanner(resp.Body); len(list) < n && s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "id":
			number = value
		case "event":
			topic = value
		case "data":
			var e bus.Event
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				t.Fatal(err)
			}
			list = append(list, number+" "+topic+" "+e.Subject)
		}
	}
	return list
}

func TestStreamResumesAfterTheLastEventID(t *testing.T) {
	t.Parallel()
	b, d := open(t, filepath.Join(t.TempDir(), "x.db"))
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	for i := range 600 { // more than one page
		topic := "run.ended"
		if i%2 == 1 {
			topic = "release.created"
		}
		emit(t, b, d, topic, fmt.Sprint(i))
	}
	got := readEvents(t, srv.URL+"?topic=run.*", "2", 299)
	if got[0] != "3 run.ended 2" || got[298] != "599 run.ended 598" {
		t.Errorf("%s … %s", got[0], got[len(got)-1])
	}
	go func() {
		for i := 0; ; i++ { // until the stream, which starts now, has one
			if t.Context().Err() != nil {
				return
			}
			b.Publish("run.delta", "live", nil)
			time.Sleep(time.Millisecond)
		}
	}()
	if got := readEvents(t, srv.URL, "", 1); got[0] != " run.delta live" {
		t.Errorf("%q", got)
	}
	resp, err := http.Get(srv.URL + "?after=x")
	if err != nil || resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("%v %v", resp, err)
	}
}
