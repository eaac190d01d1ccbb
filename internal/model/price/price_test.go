package price

import (
	"testing"
	"time"
)

func TestCost(t *testing.T) {
	t.Parallel()
	tests := []struct {
		ref             string
		in, cached, out int
		want            int64
		version         string
	}{
		{"openai/gpt-5-mini", 1_000_000, 0, 0, 250_000_000, Version()},
		{"openai/gpt-5-mini", 1000, 400, 10, 600*250 + 400*25 + 10*2000, Version()},
		{"openai/gpt-5-mini-2025-08-07", 1, 0, 1, 2250, Version()},
		{"anthropic/claude-sonnet-4-5-20250929", 2, 0, 3, 51_000, Version()},
		{"openai/gpt-5-mini", 10, 99, 0, 250, Version()}, // no more is cached than was sent
		{"openai/never-heard-of", 1000, 0, 1000, 0, Unknown},
		{"local/smollm2-135m-instruct", 1000, 0, 1000, 0, Local},
		{"scripted/desk", 1000, 0, 1000, 0, "scripted"},
	}
	for _, tt := range tests {
		if got, version := Cost(tt.ref, tt.in, tt.cached, tt.out); got != tt.want || version != tt.version {
			t.Errorf("Cost(%s, %d, %d, %d) = %d, %s; want %d, %s", tt.ref, tt.in, tt.cached, tt.out, got, version, tt.want, tt.version)
		}
	}
}

func TestEveryRowSaysWhereItComesFrom(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range Rows() {
		if _, err := time.Parse(time.DateOnly, r.Date); err != nil || r.Source == "" || r.In <= 0 || r.Out <= 0 || r.Cached <= 0 || r.Cached > r.In {
			t.Errorf("row %+v is not complete", r)
		}
		if seen[r.Model] {
			t.Errorf("%s is there twice", r.Model)
		}
		seen[r.Model] = true
	}
}
