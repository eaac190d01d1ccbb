package id_test

import (
	"sort"
	"strings"
	"testing"
	"time"

	"flywheel/internal/platform/id"
)

func TestIDsSortByTimeAndAreUnique(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	var all []string
	seen := map[string]bool{}
	for i := range 2000 {
		x := id.New("run", at.Add(time.Duration(i/500)*time.Millisecond))
		if seen[x] || len(x) != len("run_")+26 || !id.HasPrefix(x, "run") || strings.ToLower(x) != x {
			t.Fatalf("%q", x)
		}
		seen[x] = true
		all = append(all, x)
	}
	// Other tests may make ids between these, so order is asked between milliseconds only.
	firsts := []string{all[0], all[500], all[1000], all[1500]}
	if !sort.StringsAreSorted(firsts) {
		t.Errorf("not sorted: %v", firsts)
	}
	if old := id.New("run", at.Add(-time.Hour)); old > all[0] {
		t.Errorf("%s is older and sorts after %s", old, all[0])
	}
}

func TestIDsOfOneMillisecondRise(t *testing.T) { //nolint:paralleltest // no other test may make ids meanwhile
	at := time.UnixMilli(1_800_000_000_000)
	last := ""
	for range 10_000 {
		x := id.New("x", at)
		if x <= last {
			t.Fatalf("%s after %s", x, last)
		}
		last = x
	}
}
