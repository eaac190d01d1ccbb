package clock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"flywheel/internal/platform/clock"
)

func TestRealClockSleepsUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := clock.Real()
		began := c.Now()
		if err := c.Sleep(t.Context(), time.Hour); err != nil || c.Now().Sub(began) != time.Hour {
			t.Errorf("%v after %v", err, c.Now().Sub(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error: %v", err)
		}
		if err := c.Sleep(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a sleep of nothing hides the end of the context: %v", err)
		}
	})
}

func TestVirtualClockMovesOnlyWhenTold(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := clock.NewVirtual(start)
	c.Advance(-time.Hour)
	if !c.Now().Equal(start) {
		t.Error("time went back")
	}
	if err := c.Sleep(t.Context(), time.Hour); err != nil || c.Now().Sub(start) != time.Hour {
		t.Errorf("%v %v", err, c.Now())
	}
}
