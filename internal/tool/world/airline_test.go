package world

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/corpus"
)

const seats = "flights.HAT001.dates.2024-05-16.available_seats.economy"

// TestManyForksOfAnAirline takes the airline database of tau-bench (300 flights, 2,000 reservations, 500
// users): thousands of forks change the same places, and none sees another.
func TestManyForksOfAnAirline(t *testing.T) {
	t.Parallel()
	base := mustParse(t, string(corpus.Airline(t)))
	before, ok := base.Fork().Get(seats)
	if !ok {
		t.Fatalf("there is no %s", seats)
	}
	forks := make([]*State, 3000)
	for i := range forks {
		forks[i] = base.Fork()
		if i%3 == 2 { // a fork of a fork that has changed
			forks[i] = forks[i-1].Fork()
		}
		for path, v := range map[string]any{seats: int64(i), "reservations.4WQ150.cabin": "economy"} {
			if err := forks[i].Set(path, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, s := range forks {
		want := map[string][2]any{seats: {before, int64(i)}, "reservations.4WQ150.cabin": {"business", "economy"}}
		if before == int64(i) {
			delete(want, seats)
		}
		if d := cmp.Diff(want, s.Diff(base)); d != "" {
			t.Fatalf("fork %d:\n%s", i, d)
		}
	}
	if now, _ := base.Fork().Get(seats); now != before || len(base.Fork().Diff(base)) != 0 {
		t.Errorf("the base has changed: %v, was %v", now, before)
	}
	last := mustParse(t, mustJSON(t, forks[2999]))
	if d := cmp.Diff(slices.Sorted(maps.Keys(forks[2999].Diff(base))), slices.Sorted(maps.Keys(last.Fork().Diff(base)))); d != "" {
		t.Errorf("written and read again:\n%s", d)
	}
}

// BenchmarkAirline compares what a trial costs on the airline database with a copy of it.
func BenchmarkAirline(b *testing.B) {
	src := corpus.Airline(b)
	base := mustParse(b, string(src))
	b.Run("fork, write, diff", func(b *testing.B) {
		for b.Loop() {
			s := base.Fork()
			if err := s.Set(seats, int64(1)); err != nil || len(s.Diff(base)) != 1 {
				b.Fatal(err)
			}
		}
	})
	var v any
	if err := json.Unmarshal(src, &v); err != nil {
		b.Fatal(err)
	}
	b.Run("deep copy", func(b *testing.B) {
		for b.Loop() {
			deepCopy(v)
		}
	})
}
