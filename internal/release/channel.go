package release

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

// The kinds of moves.
const (
	MoveRelease  = "release"  // a release takes the whole channel
	MoveCanary   = "canary"   // a release takes a share of the sessions
	MovePromote  = "promote"  // the canary, or the release that was rolled back, takes the channel
	MoveRollback = "rollback" // the canary goes, or the stable release before this one comes back
)

// Channel is a moving name for a release. Canary is empty when there is none.
type Channel struct {
	Agent        string      `json:"agent"`
	Name         string      `json:"name"`
	Stable       blob.Digest `json:"stable"`
	StableNumber int         `json:"stable_number"`
	StableForced bool        `json:"stable_forced,omitempty"`
	Canary       blob.Digest `json:"canary,omitempty"`
	CanaryNumber int         `json:"canary_number,omitempty"`
	CanaryForced bool        `json:"canary_forced,omitempty"`
	Share        float64     `json:"share,omitempty"` // of the sessions that the canary serves, 0 to 1
	MovedAt      time.Time   `json:"moved_at"`
}

// Move is one step of a channel. From and To are releases; OnCanary says that the step concerns the
// canary and left the stable release as it was.
type Move struct {
	Agent      string      `json:"agent"`
	Channel    string      `json:"channel"`
	Seq        int         `json:"seq"` // of the channel, from 1
	Kind       string      `json:"kind"`
	From       blob.Digest `json:"from,omitempty"`
	FromNumber int         `json:"from_number,omitempty"`
	To         blob.Digest `json:"to,omitempty"`
	ToNumber   int         `json:"to_number,omitempty"`
	OnCanary   bool        `json:"on_canary,omitempty"`
	Share      float64     `json:"share,omitempty"`
	Who        string      `json:"who"`
	Why        string      `json:"why,omitempty"`
	Gate       string      `json:"gate"` // passed or forced: of the release that came
	At         time.Time   `json:"at"`
}

// MoveRequest asks for a move.
type MoveRequest struct {
	Agent   string // may be empty when there is one agent only
	Channel string
	Release string  // reference; for Deploy default the latest, for Promote the canary
	Share   float64 // for Deploy: 0 takes the whole channel, otherwise a canary with this share
	Who     string
	Why     string
}

// channelName begins with a letter: `flywheel deploy 1` means a release, not a channel.
var channelName = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,62}$`)

// Deploy puts a release on a channel: on all of it, or as a canary on a share of the sessions. The
// release is verified first; a tampered one is refused with code release.tampered. Deploying what the
// channel serves already changes nothing and gives no move.
func (s *Service) Deploy(ctx context.Context, req MoveRequest) (*Channel, *Move, error) {
	if !channelName.MatchString(req.Channel) {
		return nil, nil, fault.New(fault.Invalid, "release.channel_name", "%q is not a channel name", req.Channel).
			WithHint("a channel is a word such as prod or staging, and stands before the release: flywheel deploy prod 2")
	}
	if req.Share < 0 || req.Share > 1 {
		return nil, nil, fault.New(fault.Invalid, "release.share", "a canary share of %g is not between 0 and 1", req.Share).WithHint("--canary 20%%")
	}
	r, err := s.Get(ctx, req.Agent, req.Release)
	if err != nil {
		return nil, nil, err
	}
	if req.Share > 0 && req.Share < 1 {
		return s.move(ctx, req, r, func(c *Channel, m *Move) error { return toCanary(c, m, req.Share) })
	}
	return s.move(ctx, req, r, toStable(MoveRelease))
}

func toCanary(c *Channel, m *Move, share float64) error {
	switch {
	case c.Stable == "":
		return fault.New(fault.Conflict, "release.no_stable", "%s@%s has no release yet that a canary could be compared with", c.Agent, c.Name).
			WithHint("flywheel deploy %s %d, without --canary", c.Name, m.ToNumber)
	case c.Stable == m.To:
		return fault.New(fault.Conflict, "release.same", "release %d is all of %s@%s already", m.ToNumber, c.Agent, c.Name).
			WithHint("flywheel history %s", c.Name)
	case c.Canary == m.To && c.Share == share:
		return errNoMove
	}
	m.Kind, m.OnCanary, m.Share, m.From = MoveCanary, true, share, c.Canary
	if m.From == "" {
		m.From = c.Stable
	}
	c.Canary, c.Share = m.To, share
	return nil
}

func toStable(kind string) func(c *Channel, m *Move) error {
	return func(c *Channel, m *Move) error {
		if c.Stable == m.To && c.Canary == "" {
			return errNoMove
		}
		m.Kind, m.From = kind, c.Stable
		c.Stable, c.Canary, c.Share = m.To, "", 0
		return nil
	}
}

// Promote gives the channel to its canary; without one, to the named release, or to the one that the
// last rollback took away.
func (s *Service) Promote(ctx context.Context, req MoveRequest) (*Channel, *Move, error) {
	c, err := s.resolveChannel(ctx, &req)
	if err != nil {
		return nil, nil, err
	}
	target := c.Canary
	if req.Release != "" {
		r, err := s.Get(ctx, req.Agent, req.Release)
		if err != nil {
			return nil, nil, err
		}
		target = r.Digest
	} else if target == "" {
		if target, err = s.rolledBack(ctx, c); err != nil {
			return nil, nil, err
		}
	}
	if target == "" {
		return nil, nil, fault.New(fault.Conflict, "release.nothing_to_promote", "%s@%s has no canary and nothing was rolled back", c.Agent, c.Name).
			WithHint("flywheel promote %s RELEASE, or flywheel deploy %s RELEASE --canary 20%%", c.Name, c.Name)
	}
	r, err := s.exact(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	return s.move(ctx, req, r, toStable(MovePromote))
}

// Rollback takes the canary away; without one it brings back the stable release before this one.
func (s *Service) Rollback(ctx context.Context, req MoveRequest) (*Channel, *Move, error) {
	c, err := s.resolveChannel(ctx, &req)
	if err != nil {
		return nil, nil, err
	}
	target := c.Stable
	if c.Canary == "" {
		if target, err = s.before(ctx, c); err != nil {
			return nil, nil, err
		}
	}
	r, err := s.exact(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	seen := *c
	return s.move(ctx, req, r, func(now *Channel, m *Move) error {
		if now.Stable != seen.Stable || now.Canary != seen.Canary {
			return moved(now)
		}
		m.Kind = MoveRollback
		if now.Canary != "" {
			m.From, m.OnCanary = now.Canary, true
			now.Canary, now.Share = "", 0
			return nil
		}
		m.From, now.Stable = now.Stable, m.To
		return nil
	})
}

func moved(c *Channel) error {
	return fault.New(fault.Conflict, "release.moved", "%s@%s was moved by somebody else meanwhile", c.Agent, c.Name).
		WithHint("flywheel history %s", c.Name)
}

var errNoMove = errors.New("no move")

// move verifies the release that comes and changes the channel in one transaction with its row and event.
func (s *Service) move(ctx context.Context, req MoveRequest, r *Release, change func(*Channel, *Move) error) (*Channel, *Move, error) {
	if err := s.trustworthy(ctx, r); err != nil {
		return nil, nil, err
	}
	c := &Channel{}
	m := &Move{Agent: r.Agent, Channel: req.Channel, To: r.Digest, ToNumber: r.Number, Who: req.Who, Why: req.Why, Gate: r.Gate.Word()}
	err := s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		now, err := db.One(ctx, tx, scanChannel, `SELECT `+channelColumns+` FROM channels WHERE agent = $1 AND name = $2`, r.Agent, req.Channel)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			now = &Channel{Agent: r.Agent, Name: req.Channel}
		case err != nil:
			return err
		}
		c = now
		if err := change(c, m); err != nil {
			return err
		}
		m.At = s.deps.Clock.Now().UTC().Truncate(time.Microsecond)
		c.MovedAt = m.At
		if m.From != "" {
			if err := tx.QueryRow(ctx, `SELECT number FROM releases WHERE digest = $1`, m.From).Scan(&m.FromNumber); err != nil {
				return err
			}
		}
		return s.writeMove(ctx, tx, m, c)
	})
	if errors.Is(err, errNoMove) {
		m, err = nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return c, m, s.number(ctx, c)
}

// trustworthy verifies a release and turns what is wrong into a fault.
func (s *Service) trustworthy(ctx context.Context, r *Release) error {
	v, err := s.Verify(ctx, r)
	if err != nil {
		return err
	}
	if v.OK {
		return nil
	}
	return tampered(r, v)
}

// tampered is the fault of a release that does not verify, one field per failed check.
func tampered(r *Release, v *Verification) error {
	var fields []fault.Field
	for _, c := range v.Checks {
		if !c.OK {
			fields = append(fields, fault.Field{Path: c.Name, Message: c.Why})
		}
	}
	return fault.New(fault.Forbidden, "release.tampered", "%s is not what was signed", r.Name()).
		WithHint("flywheel verify %d shows what differs; flywheel release makes a new one from the package", r.Number).WithFields(fields...)
}

// resolveChannel fills in the agent and reads the channel.
func (s *Service) resolveChannel(ctx context.Context, req *MoveRequest) (*Channel, error) {
	if name, channel, ok := strings.Cut(strings.TrimPrefix(req.Channel, "agent/"), "@"); ok {
		req.Agent, req.Channel = name, channel
	}
	agent, err := s.Agent(ctx, req.Agent)
	if err != nil {
		return nil, err
	}
	req.Agent = agent
	return s.Channel(ctx, agent, req.Channel)
}

// Channel reads one channel; code release.no_channel when nothing was ever deployed to it.
func (s *Service) Channel(ctx context.Context, agent, name string) (*Channel, error) {
	c, err := db.One(ctx, s.deps.DB, scanChannel, `SELECT `+channelColumns+` FROM channels WHERE agent = $1 AND name = $2`, agent, name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "release.no_channel", "%s has no channel %s", agent, name).
			WithHint("flywheel deploy %s", name)
	}
	if err != nil {
		return nil, err
	}
	return c, s.number(ctx, c)
}

// Channels lists the channels of an agent, or of all.
func (s *Service) Channels(ctx context.Context, agent string) ([]*Channel, error) {
	list, err := db.All(ctx, s.deps.DB, scanChannel,
		`SELECT `+channelColumns+` FROM channels WHERE ($1 = '' OR agent = $2) ORDER BY agent, name`, agent, agent)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if err := s.number(ctx, c); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// number fills in what people call the releases of a channel.
func (s *Service) number(ctx context.Context, c *Channel) error {
	if c.Stable != "" {
		if err := s.facts(ctx, c.Stable, &c.StableNumber, &c.StableForced); err != nil {
			return err
		}
	}
	if c.Canary != "" {
		return s.facts(ctx, c.Canary, &c.CanaryNumber, &c.CanaryForced)
	}
	return nil
}

func (s *Service) facts(ctx context.Context, d blob.Digest, number *int, forced *bool) error {
	var f int64
	if err := s.deps.DB.QueryRow(ctx, `SELECT number, forced FROM releases WHERE digest = $1`, d).Scan(number, &f); err != nil {
		return fmt.Errorf("read release %s: %w", d.Short(), err)
	}
	*forced = f != 0
	return nil
}

// History gives the moves of a channel, newest first.
func (s *Service) History(ctx context.Context, agent, channel string, limit int) ([]*Move, error) {
	if limit <= 0 {
		limit = 100
	}
	list, err := db.All(ctx, s.deps.DB, scanMove, `SELECT `+moveColumns+` FROM channel_moves
		WHERE ($1 = '' OR agent = $2) AND ($3 = '' OR channel = $4) ORDER BY at DESC, seq DESC LIMIT $5`,
		agent, agent, channel, channel, limit)
	if err != nil {
		return nil, err
	}
	names, err := s.Names(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		m.FromNumber, m.ToNumber = names[m.From], names[m.To]
	}
	return list, nil
}

// before is the stable release that a rollback brings back: the log is a stack on which each release or
// promotion lies and from which each rollback takes one.
func (s *Service) before(ctx context.Context, c *Channel) (blob.Digest, error) {
	stack, _, err := s.replayMoves(ctx, c)
	if err != nil {
		return "", err
	}
	if len(stack) < 2 {
		return "", fault.New(fault.Conflict, "release.nothing_before", "%s@%s had no release before %d", c.Agent, c.Name, c.StableNumber).
			WithHint("flywheel history %s", c.Name)
	}
	return stack[len(stack)-2], nil
}

// rolledBack is the release that the last move took away, if that was a rollback.
func (s *Service) rolledBack(ctx context.Context, c *Channel) (blob.Digest, error) {
	_, taken, err := s.replayMoves(ctx, c)
	return taken, err
}

func (s *Service) replayMoves(ctx context.Context, c *Channel) (stack []blob.Digest, taken blob.Digest, err error) {
	list, err := db.All(ctx, s.deps.DB, scanMove, `SELECT `+moveColumns+` FROM channel_moves
		WHERE agent = $1 AND channel = $2 ORDER BY seq`, c.Agent, c.Name)
	if err != nil {
		return nil, "", err
	}
	for _, m := range list {
		taken = ""
		switch {
		case m.Kind == MoveRollback:
			taken = m.From
			if !m.OnCanary && len(stack) > 0 {
				stack = stack[:len(stack)-1]
			}
		case m.OnCanary:
		default:
			stack = append(stack, m.To)
		}
	}
	return stack, taken, nil
}
