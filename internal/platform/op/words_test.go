package op_test

import (
	"testing"

	"flywheel/internal/platform/op"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"1 run": op.Count(1, "run"), "0 runs": op.Count(0, "run"), "2 steps": op.Count(int64(2), "step"),
		"$0": op.Money(0), "$0.000003": op.Money(3000), "$0.009999": op.Money(9_999_000), "$0.0100": op.Money(10_000_000), "$12.3457": op.Money(12_345_678_900),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
