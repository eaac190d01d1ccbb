package lab

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sort"

	"flywheel/internal/lab/faults"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool/world"
	"flywheel/spec"
)

// suite is a resolved suite made ready for trials.
type suite struct {
	spec   *spec.Suite
	digest blob.Digest
	worlds map[string]*world.Base
}

// StoreSuite keeps a resolved suite as a blob; the digest names it in requests.
func (s *Service) StoreSuite(ctx context.Context, su *spec.Suite) (blob.Digest, error) {
	b, err := Canonical(su)
	if err != nil {
		return "", err
	}
	return blob.PutBytes(ctx, s.deps.Blobs, b)
}

// LoadSuite reads a resolved suite.
func (s *Service) LoadSuite(ctx context.Context, d blob.Digest) (*spec.Suite, error) {
	su, err := s.suite(ctx, d)
	if err != nil {
		return nil, err
	}
	return su.spec, nil
}

func (s *Service) suite(ctx context.Context, d blob.Digest) (*suite, error) {
	s.mu.Lock()
	su := s.suites[d]
	s.mu.Unlock()
	if su != nil {
		return su, nil
	}
	b, err := blob.Bytes(ctx, s.deps.Blobs, d)
	if err != nil {
		return nil, err
	}
	su = &suite{spec: &spec.Suite{}, digest: d, worlds: map[string]*world.Base{}}
	if err := json.Unmarshal(b, su.spec); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "lab.suite", "%s is not a resolved suite", d.Short())
	}
	for name, raw := range su.spec.Worlds {
		if su.worlds[name], err = world.Parse(raw); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "lab.suite", "the world %s cannot be read", name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.suites) >= 32 {
		clear(s.suites)
	}
	s.suites[d] = su
	return su, nil
}

// choose picks the scenarios of a split in the order in which they are tried: shuffled by the seed, the
// families taking turns, so that any beginning is a fair sample.
func (su *suite) choose(split string, limit int, seed uint64) []*spec.Scenario {
	byFamily := map[string][]*spec.Scenario{}
	for i := range su.spec.Scenarios {
		sc := &su.spec.Scenarios[i]
		if split == SplitAll || sideOf(su.spec.Split, sc.Family) == split {
			byFamily[sc.Family] = append(byFamily[sc.Family], sc)
		}
	}
	families := slices.Sorted(maps.Keys(byFamily))
	sort.SliceStable(families, func(i, j int) bool {
		return faults.Order(seed, "family "+families[i]) < faults.Order(seed, "family "+families[j])
	})
	for _, list := range byFamily {
		sort.SliceStable(list, func(i, j int) bool { return faults.Order(seed, list[i].Name) < faults.Order(seed, list[j].Name) })
	}
	var out []*spec.Scenario
	for turn := 0; ; turn++ {
		added := false
		for _, f := range families {
			if turn < len(byFamily[f]) {
				out, added = append(out, byFamily[f][turn]), true
			}
		}
		if !added {
			break
		}
	}
	if limit > 0 && limit < len(out) {
		out = out[:limit]
	}
	return out
}

func matchTool(pattern, name string) bool { return faults.Match(pattern, name) }

// share places a family between 0 and 1, the same in every suite and version.
func share(family string) float64 {
	return float64(faults.Order(0x73706c6974, family)>>11) / (1 << 53)
}
