package release_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/bus"
	"flywheel/internal/release"
)

func (h *home) deploy(ref string) *release.Channel {
	h.t.Helper()
	c, _, err := h.svc.Deploy(context.Background(), release.MoveRequest{Channel: "prod", Release: ref, Who: "ann"})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func TestAChannelMovesByReleaseCanaryPromoteAndRollback(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	h.mustCreate(desk(t))
	h.mustCreate(desk(t, warmer))
	req := release.MoveRequest{Channel: "prod", Who: "ann", Why: "test"}
	canary := req
	canary.Release, canary.Share = "2", 0.2
	_, _, err := h.svc.Deploy(ctx, canary)
	wantCode(t, err, "release.no_stable")

	steps := []struct {
		what   string
		do     func() (*release.Channel, *release.Move, error)
		stable int
		canary int
	}{
		{"release 1", func() (*release.Channel, *release.Move, error) {
			return h.svc.Deploy(ctx, release.MoveRequest{Channel: "prod", Release: "1", Who: "ann"})
		}, 1, 0},
		{"canary 2", func() (*release.Channel, *release.Move, error) { return h.svc.Deploy(ctx, canary) }, 1, 2},
		{"rollback of the canary", func() (*release.Channel, *release.Move, error) { return h.svc.Rollback(ctx, req) }, 1, 0},
		{"forward again", func() (*release.Channel, *release.Move, error) { return h.svc.Promote(ctx, req) }, 2, 0},
		{"rollback", func() (*release.Channel, *release.Move, error) { return h.svc.Rollback(ctx, req) }, 1, 0},
		{"forward again", func() (*release.Channel, *release.Move, error) { return h.svc.Promote(ctx, req) }, 2, 0},
		{"rollback", func() (*release.Channel, *release.Move, error) { return h.svc.Rollback(ctx, req) }, 1, 0},
		{"canary 2", func() (*release.Channel, *release.Move, error) { return h.svc.Deploy(ctx, canary) }, 1, 2},
		{"promote", func() (*release.Channel, *release.Move, error) { return h.svc.Promote(ctx, req) }, 2, 0},
		{"rollback", func() (*release.Channel, *release.Move, error) { return h.svc.Rollback(ctx, req) }, 1, 0},
	}
	for i, s := range steps {
		h.clock.Advance(time.Minute)
		began := time.Now()
		c, m, err := s.do()
		if err != nil || m == nil {
			t.Fatalf("step %d, %s: %+v, %v", i, s.what, m, err)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("%s took %v", s.what, took)
		}
		if c.StableNumber != s.stable || c.CanaryNumber != s.canary {
			t.Errorf("step %d, %s: stable %d, canary %d", i, s.what, c.StableNumber, c.CanaryNumber)
		}
		if m.Seq != i+1 || m.Who != "ann" || m.At.IsZero() || m.Gate != "passed" {
			t.Errorf("step %d: row %+v", i, m)
		}
	}
	_, _, err = h.svc.Rollback(ctx, req)
	wantCode(t, err, "release.nothing_before")

	moves, err := h.svc.History(ctx, "desk", "prod", 0)
	if err != nil || len(moves) != len(steps) {
		t.Fatalf("%d moves, %v", len(moves), err)
	}
	var kinds []string
	for _, m := range moves {
		kinds = append([]string{m.Kind}, kinds...)
	}
	if got := strings.Join(kinds, " "); got != "release canary rollback promote rollback promote rollback canary promote rollback" {
		t.Errorf("moves: %s", got)
	}
	if m := moves[0]; m.FromNumber != 2 || m.ToNumber != 1 || m.Why != "test" {
		t.Errorf("the last move: %+v", m)
	}
}

func TestDeployingWhatRunsMovesNothing(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	h.mustCreate(desk(t))
	h.deploy("1")
	_, m, err := h.svc.Deploy(ctx, release.MoveRequest{Channel: "prod", Release: "1"})
	if err != nil || m != nil {
		t.Errorf("%+v, %v", m, err)
	}
	_, _, err = h.svc.Promote(ctx, release.MoveRequest{Channel: "prod"})
	wantCode(t, err, "release.nothing_to_promote")
	_, _, err = h.svc.Promote(ctx, release.MoveRequest{Channel: "staging"})
	wantCode(t, err, "release.no_channel")
	for _, name := range []string{"", "Prod", "a b", "../x"} {
		_, _, err := h.svc.Deploy(ctx, release.MoveRequest{Channel: name, Release: "1"})
		wantCode(t, err, "release.channel_name")
	}
}

// Whatever people do, the channel serves what the log says, and rollback brings back what was stable
// before.
func TestAnyMovesKeepTheLogAndTheChannelTogether(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	const n = 4
	for i := range n {
		h.mustCreate(desk(t, sized(i)))
	}
	channel := 0
	rapid.Check(t, func(rt *rapid.T) {
		channel++
		name := "c" + strings.Repeat("x", channel%50) + string(blob.Of([]byte{byte(channel), byte(channel >> 8)}))[7:13]
		var stack []int
		canary := 0
		for range rapid.IntRange(1, 12).Draw(rt, "moves") {
			req := release.MoveRequest{Channel: name, Who: "x", Agent: "desk"}
			pick := rapid.IntRange(1, n).Draw(rt, "release")
			req.Release = string(rune('0' + pick))
			top := 0
			if len(stack) > 0 {
				top = stack[len(stack)-1]
			}
			switch rapid.SampledFrom([]string{"deploy", "canary", "promote", "rollback"}).Draw(rt, "kind") {
			case "deploy":
				_, m, err := h.svc.Deploy(ctx, req)
				if err != nil {
					rt.Fatal(err)
				}
				if m != nil {
					stack, canary = append(stack, pick), 0
				}
			case "canary":
				req.Share = 0.5
				if _, _, err := h.svc.Deploy(ctx, req); err == nil {
					canary = pick
				} else if top != 0 && top != pick {
					rt.Fatal(err)
				}
			case "promote":
				req.Release = ""
				if _, m, err := h.svc.Promote(ctx, req); err == nil && m != nil {
					stack, canary = append(stack, m.ToNumber), 0
				} else if canary != 0 {
					rt.Fatalf("a canary could not be promoted: %v", err)
				}
			case "rollback":
				req.Release = ""
				_, _, err := h.svc.Rollback(ctx, req)
				switch {
				case canary != 0 && err == nil:
					canary = 0
				case canary == 0 && len(stack) > 1 && err == nil:
					stack = stack[:len(stack)-1]
				case canary != 0 || len(stack) > 1 || err == nil:
					rt.Fatalf("rollback with canary %d and %v: %v", canary, stack, err)
				}
			}
			if len(stack) == 0 {
				continue
			}
			c, err := h.svc.Channel(ctx, "desk", name)
			if err != nil || c.StableNumber != stack[len(stack)-1] || c.CanaryNumber != canary {
				rt.Fatalf("channel %+v, want stable %v canary %d (%v)", c, stack, canary, err)
			}
		}
	})
}

func TestATamperedReleaseReachesNoChannel(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	h.mustCreate(desk(t))
	h.deploy("1")
	two := h.mustCreate(desk(t, warmer))
	h.spoil(two.Digest)
	req := release.MoveRequest{Channel: "prod", Release: "2", Who: "mallory"}
	_, _, err := h.svc.Deploy(ctx, req)
	f := wantCode(t, err, "release.tampered")
	if len(f.Fields) == 0 {
		t.Error("the refusal names no check")
	}
	req.Share = 0.1
	_, _, err = h.svc.Deploy(ctx, req)
	wantCode(t, err, "release.tampered")
	_, _, err = h.svc.Promote(ctx, req)
	wantCode(t, err, "release.tampered")
	if c, err := h.svc.Channel(ctx, "desk", "prod"); err != nil || c.StableNumber != 1 || c.Canary != "" {
		t.Errorf("the channel moved: %+v, %v", c, err)
	}
}

// path is the file of a blob.
func (h *home) path(d blob.Digest) string {
	hexa := strings.TrimPrefix(string(d), "sha256:")
	return filepath.Join(h.dir, "cas", "sha256", hexa[:2], hexa[2:4], hexa)
}

// spoil changes one byte of a blob on disk.
func (h *home) spoil(d blob.Digest) {
	h.t.Helper()
	b, err := os.ReadFile(h.path(d))
	if err != nil {
		h.t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(h.path(d), b, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func TestReleasesAndMovesAreEvents(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	events := bus.New(h.db)
	svc, err := release.New(release.Deps{DB: h.db, Blobs: h.blobs, Bus: events, Clock: h.clock, Signer: h.key, Gate: h.gate})
	if err != nil {
		t.Fatal(err)
	}
	h.svc = svc
	var mu sync.Mutex
	var got []string
	for _, topic := range []string{release.TopicCreated, release.TopicMoved} {
		events.Handle("test."+topic, topic, func(_ context.Context, e bus.Event) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e.Topic+" "+e.Subject)
			return nil
		})
	}
	r := h.mustCreate(desk(t))
	h.deploy("1")
	events.Start(ctx)
	if err := events.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	events.Close()
	slices.Sort(got)
	want := []string{"channel.moved desk@prod", "release.created " + string(r.Digest)}
	if !slices.Equal(got, want) {
		t.Errorf("events: %v", got)
	}
}
