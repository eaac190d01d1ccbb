package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"flywheel/internal/platform/fault"
)

func TestKindsDecideStatusExitAndRetry(t *testing.T) {
	t.Parallel()
	exits := map[int]fault.Kind{}
	for _, k := range []fault.Kind{
		fault.Invalid, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Conflict,
		fault.Exhausted, fault.Unavailable, fault.Timeout, fault.Canceled, fault.Internal,
	} {
		if other, taken := exits[k.ExitCode()]; taken || k.ExitCode() == 0 {
			t.Errorf("%s has the exit code of %s", k, other)
		}
		exits[k.ExitCode()] = k
		if got := fault.KindOfStatus(k.HTTPStatus()); got != k {
			t.Errorf("status %d of %s is %s", k.HTTPStatus(), k, got)
		}
	}
	for status, want := range map[int]fault.Kind{400: fault.Invalid, 408: fault.Timeout, 413: fault.Invalid, 502: fault.Unavailable, 302: fault.Internal} {
		if got := fault.KindOfStatus(status); got != want {
			t.Errorf("status %d is %s, want %s", status, got, want)
		}
	}
	if fault.Kind("nonsense").ExitCode() != 1 || fault.Invalid.Retryable() || !fault.Unavailable.Retryable() {
		t.Error("facts of kinds")
	}
}

func TestFromClassifiesOnce(t *testing.T) {
	t.Parallel()
	f := fault.New(fault.NotFound, "run.not_found", "no run %d", 7).WithHint("flywheel %s", "runs")
	if got := fault.From(fmt.Errorf("show: %w", f)); got != f || got.Hint != "flywheel runs" || got.Message != "no run 7" {
		t.Errorf("%+v", got)
	}
	for err, want := range map[error]fault.Kind{
		context.Canceled: fault.Canceled, context.DeadlineExceeded: fault.Timeout, errors.New("x"): fault.Internal,
	} {
		if got := fault.KindOf(fmt.Errorf("a: %w", err)); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
	if fault.KindOf(nil) != "" || fault.From(nil) != nil {
		t.Error("nil is not an error")
	}
	secret := fault.From(errors.New("password=x"))
	if secret.Message != "internal error" {
		t.Errorf("the detail of an unknown error leaves: %q", secret.Message)
	}
}

func TestFaultsMatchByCode(t *testing.T) {
	t.Parallel()
	gone := fault.New(fault.NotFound, "x.gone", "gone")
	err := fmt.Errorf("a: %w", fault.Wrap(errors.New("disk"), fault.Unavailable, "x.gone", "other words"))
	if !errors.Is(err, gone) || !fault.HasCode(err, "x.gone") || fault.HasCode(err, "x.other") {
		t.Error("codes do not match")
	}
	if got := fault.From(err).Error(); got != "other words: disk" {
		t.Errorf("%q", got)
	}
	if g := gone.WithHint("h"); gone.Hint != "" || g.Hint != "h" {
		t.Error("WithHint changed the original")
	}
}

func TestSuggestFindsTheNearName(t *testing.T) {
	t.Parallel()
	known := []string{"tools", "models", "memory", "env"}
	for got, want := range map[string]string{"tols": "tools", "Modles": "models", "xyzzyx": "", "envv": "env", "": ""} {
		if s := fault.Suggest(got, known); s != want && got != "" {
			t.Errorf("Suggest(%q) = %q, want %q", got, s, want)
		}
	}
}
