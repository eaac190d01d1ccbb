package release_test

import (
	"context"
	"testing"

	"flywheel/internal/release"
)

// BenchmarkRollbackAndForward is one rollback and one promotion, each with the whole verification.
func BenchmarkRollbackAndForward(b *testing.B) {
	h := newHome(b)
	ctx := context.Background()
	h.mustCreate(desk(b))
	h.mustCreate(desk(b, warmer))
	h.deploy("1")
	h.deploy("2")
	req := release.MoveRequest{Channel: "prod", Who: "bench"}
	for b.Loop() {
		if _, _, err := h.svc.Rollback(ctx, req); err != nil {
			b.Fatal(err)
		}
		if _, _, err := h.svc.Promote(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}
