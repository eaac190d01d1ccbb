package release

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
)

// minPrefix is how many hexadecimal digits name a release at least.
const minPrefix = 6

// Get finds one release by what people write: a number (3, or card-desk:3 where there are several
// agents), a digest or the beginning of one, AGENT@CHANNEL, or "latest". agent may be empty when the
// home has one agent only. Codes: release.unknown, release.ambiguous, release.no_agent.
func (s *Service) Get(ctx context.Context, agent, ref string) (*Release, error) {
	ref = strings.TrimPrefix(strings.TrimSpace(ref), "agent/")
	if name, channel, ok := strings.Cut(ref, "@"); ok {
		return s.onChannel(ctx, name, channel)
	}
	if name, number, ok := strings.Cut(ref, ":"); ok && name != "sha256" {
		agent, ref = name, number
	}
	if ref == "" || ref == "latest" {
		return s.newest(ctx, agent)
	}
	if n, err := strconv.Atoi(ref); err == nil && len(ref) < minPrefix {
		return s.numbered(ctx, agent, n)
	}
	return s.byDigest(ctx, agent, strings.TrimPrefix(ref, "sha256:"))
}

func (s *Service) onChannel(ctx context.Context, agent, channel string) (*Release, error) {
	c, err := s.Channel(ctx, agent, channel)
	if err != nil {
		return nil, err
	}
	return s.exact(ctx, c.Stable)
}

// exact gives a release by its whole digest.
func (s *Service) exact(ctx context.Context, d blob.Digest) (*Release, error) {
	list, err := s.query(ctx, `WHERE digest = $1`, d)
	if err == nil && len(list) == 0 {
		err = unknown("there is no release %s", d.Short())
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (s *Service) newest(ctx context.Context, agent string) (*Release, error) {
	agent, err := s.Agent(ctx, agent)
	if err != nil {
		return nil, err
	}
	list, err := s.query(ctx, `WHERE agent = $1 ORDER BY number DESC LIMIT 1`, agent)
	if err == nil && len(list) == 0 {
		err = unknown("%s has no release", agent)
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (s *Service) numbered(ctx context.Context, agent string, n int) (*Release, error) {
	agent, err := s.Agent(ctx, agent)
	if err != nil {
		return nil, err
	}
	list, err := s.query(ctx, `WHERE agent = $1 AND number = $2`, agent, n)
	if err == nil && len(list) == 0 {
		err = unknown("%s has no release %d", agent, n)
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (s *Service) byDigest(ctx context.Context, agent, prefix string) (*Release, error) {
	if len(prefix) < minPrefix || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, fault.New(fault.Invalid, "release.reference", "%q names no release", prefix).
			WithHint("a number, %d or more digits of a digest, AGENT:NUMBER or AGENT@CHANNEL; flywheel releases lists them", minPrefix)
	}
	list, err := s.query(ctx, `WHERE digest >= $1 AND digest < $2 AND ($3 = '' OR agent = $4) ORDER BY digest LIMIT 2`,
		"sha256:"+prefix, "sha256:"+prefix+"g", agent, agent)
	if err != nil {
		return nil, err
	}
	switch len(list) {
	case 0:
		return nil, unknown("there is no release %s", prefix)
	case 1:
		return list[0], nil
	}
	return nil, fault.New(fault.Invalid, "release.ambiguous", "several releases begin with %s", prefix).
		WithHint("write more of the digest")
}

func unknown(format string, args ...any) error {
	return fault.New(fault.NotFound, "release.unknown", format, args...).WithHint("flywheel releases")
}

// Agent gives the agent that is meant: the one that is named, or the only one that has a release.
func (s *Service) Agent(ctx context.Context, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	agents, err := s.Agents(ctx)
	if err != nil {
		return "", err
	}
	switch len(agents) {
	case 0:
		return "", fault.New(fault.NotFound, "release.unknown", "there is no release yet").WithHint("flywheel release")
	case 1:
		return agents[0], nil
	}
	return "", fault.New(fault.Invalid, "release.no_agent", "there are several agents: %s", strings.Join(agents, ", ")).
		WithHint("--agent NAME, or AGENT:NUMBER")
}

// Agents lists the agents that have a release, by name.
func (s *Service) Agents(ctx context.Context) ([]string, error) {
	rows, err := s.deps.DB.Query(ctx, `SELECT DISTINCT agent FROM releases ORDER BY agent`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, rows.Err()
}

// List gives the releases of an agent, or of all, newest first.
func (s *Service) List(ctx context.Context, agent string, limit int) ([]*Release, error) {
	if limit <= 0 {
		limit = 100
	}
	return s.query(ctx, `WHERE ($1 = '' OR agent = $2) ORDER BY created_at DESC, number DESC LIMIT $3`, agent, agent, limit)
}

// Find gives the release of a package, if it was released: the newest when several locks made several.
func (s *Service) Find(ctx context.Context, identity blob.Digest) (*Release, bool, error) {
	list, err := s.query(ctx, `WHERE identity = $1 ORDER BY number DESC LIMIT 1`, identity)
	if err != nil || len(list) == 0 {
		return nil, false, err
	}
	return list[0], true, nil
}

// Names maps release digests to their numbers, for lists that show many.
func (s *Service) Names(ctx context.Context) (map[blob.Digest]int, error) {
	list, err := s.query(ctx, `ORDER BY agent, number`)
	if err != nil {
		return nil, err
	}
	out := make(map[blob.Digest]int, len(list))
	for _, r := range list {
		out[r.Digest] = r.Number
	}
	return out, nil
}

// LockOf is the lock that a release was built with: what its models and tools were.
func (s *Service) LockOf(ctx context.Context, release blob.Digest) (*agent.Lock, error) {
	raw, err := blob.Bytes(ctx, s.deps.Blobs, release)
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", release.Short(), err)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("read release %s: %w", release.Short(), err)
	}
	if raw, err = blob.Bytes(ctx, s.deps.Blobs, m.Config.Digest); err != nil {
		return nil, fmt.Errorf("read the lock of %s: %w", release.Short(), err)
	}
	var config Config
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("read the lock of %s: %w", release.Short(), err)
	}
	var lock agent.Lock
	if err := json.Unmarshal(config.Lock, &lock); err != nil {
		return nil, fmt.Errorf("read the lock of %s: %w", release.Short(), err)
	}
	return &lock, nil
}
