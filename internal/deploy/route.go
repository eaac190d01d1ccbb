package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strings"

	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/id"
	"flywheel/internal/release"
)

// The sides of a channel.
const (
	SideStable = "stable"
	SideCanary = "canary"
)

// Target is where a request goes.
type Target struct {
	Agent    string
	Channel  string
	Side     string
	Release  blob.Digest
	Number   int
	Identity blob.Digest
	Env      map[string]string
}

// Route chooses the release for a session of a channel.
func (s *Service) Route(ctx context.Context, agent, channel, session string) (*Target, error) {
	c, err := s.deps.Releases.Channel(ctx, agent, channel)
	if err != nil {
		return nil, err
	}
	t := &Target{Agent: agent, Channel: channel, Side: SideStable, Release: c.Stable, Number: c.StableNumber}
	if onCanary(c, session) {
		t.Side, t.Release, t.Number = SideCanary, c.Canary, c.CanaryNumber
	}
	r, err := s.deps.Releases.Get(ctx, agent, string(t.Release))
	if err != nil {
		return nil, err
	}
	t.Identity = r.Identity
	if t.Env, err = s.env(ctx, agent, channel); err != nil {
		return nil, err
	}
	return t, nil
}

// onCanary puts every session at a fixed point between 0 and 1 that the share either covers or not. The
// canary's digest is part of the hash, so that it is not always the same people who go first.
func onCanary(c *release.Channel, session string) bool {
	return c.Canary != "" && point(c.Agent, c.Name, c.Canary, session) < c.Share
}

func point(agent, channel string, canary blob.Digest, session string) float64 {
	if m := ownSession.FindStringSubmatch(session); m != nil {
		session = m[1]
	}
	h := sha256.Sum256([]byte(strings.Join([]string{agent, channel, string(canary), session}, "\x00")))
	return float64(binary.BigEndian.Uint64(h[:8])>>11) / (1 << 53)
}

// ModelName is the name under which a channel is called.
func ModelName(agent, channel string) string { return "agent/" + agent + "@" + channel }

// parseModel reads agent/NAME@CHANNEL; code deploy.no_model.
func parseModel(name string) (agent, channel string, err error) {
	agent, channel, ok := strings.Cut(strings.TrimPrefix(name, "agent/"), "@")
	if !ok || agent == "" || channel == "" {
		return "", "", fault.New(fault.NotFound, "deploy.no_model", "there is no model %q; agents are called agent/NAME@CHANNEL", name).
			WithHint("GET /v1/models lists them")
	}
	return agent, channel, nil
}

var ownSession = regexp.MustCompile(`^ses_[0-9a-z]{26}-([0-9a-f]{16})$`)

// newSession names the session of a request that names none. Clients that repeat the whole conversation
// in each request get a new session every time, and yet must not change sides in the middle: so the side
// hangs on how the conversation began, and the name carries that.
func (s *Service) newSession(text string, history []model.Message) string {
	for _, m := range history {
		if m.Role == model.RoleUser {
			text = m.Content
			break
		}
	}
	h := sha256.Sum256([]byte(text))
	return id.New("ses", s.deps.Clock.Now()) + "-" + hex.EncodeToString(h[:8])
}
