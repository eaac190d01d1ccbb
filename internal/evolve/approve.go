package evolve

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

// Get is one proposal with its transitions; an unambiguous beginning of the id is enough.
func (s *Service) Get(ctx context.Context, id string) (*Proposal, error) {
	p, err := db.One(ctx, s.deps.DB, scanProposal, `SELECT `+proposalColumns+` FROM evolve_proposals WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "evolve.proposal_missing", "there is no proposal %s", id).WithHint("flywheel proposals")
	}
	if err != nil {
		return nil, err
	}
	p.Transitions, err = transitionsOf(ctx, s.deps.DB, p.ID)
	return p, err
}

// List is the latest proposals, newest cycle first; agent and state filter when they are not empty.
func (s *Service) List(ctx context.Context, agentName string, state State, limit int) ([]*Proposal, error) {
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	return db.All(ctx, s.deps.DB, scanProposal, `SELECT `+proposalColumns+` FROM evolve_proposals
		WHERE ($1 = '' OR agent = $1) AND ($2 = '' OR state = $2) ORDER BY created_at DESC, position LIMIT $3`,
		agentName, string(state), limit)
}

// Decision is a person's word on proposals.
type Decision struct {
	Proposals []string
	By, Note  string
	// Force approves what the gate did not, and releases past a failing gate; both are recorded.
	Force    bool
	Progress func(lab.Progress)
}

// Approve makes one release of the proposals: their changes together, gated again as one candidate.
// Errors: evolve.not_ready, evolve.clash (two proposals change the same place), evolve.mixed, and those
// of the release gate.
func (s *Service) Approve(ctx context.Context, d Decision) (BaseRelease, error) {
	if len(d.Proposals) == 0 {
		return BaseRelease{}, fault.New(fault.Invalid, "evolve.none", "name the proposals to approve").WithHint("flywheel proposals")
	}
	var all []*Proposal
	for _, id := range d.Proposals {
		p, err := s.Get(ctx, id)
		if err != nil {
			return BaseRelease{}, err
		}
		if err := approvable(p, d.Force); err != nil {
			return BaseRelease{}, err
		}
		if len(all) > 0 && all[0].Base != p.Base {
			return BaseRelease{}, fault.New(fault.Conflict, "evolve.mixed", "%s and %s start from different releases", all[0].ID, p.ID).
				WithHint("approve them one after the other, each with its own cycle")
		}
		all = append(all, p)
	}
	if err := complete(all, d.Force); err != nil {
		return BaseRelease{}, err
	}
	changes, err := together(all)
	if err != nil {
		return BaseRelease{}, err
	}
	base, err := s.deps.Releases.Base(ctx, all[0].Base)
	if err != nil {
		return BaseRelease{}, err
	}
	pack, err := agent.Load(ctx, s.deps.Blobs, base.Identity)
	if err != nil {
		return BaseRelease{}, err
	}
	changed, err := s.changed(ctx, pack, changes)
	if err != nil {
		return BaseRelease{}, fmt.Errorf("the proposals together make a broken package: %w", err)
	}
	for _, p := range all {
		if p.State == Approved {
			continue // an earlier attempt was interrupted
		}
		if err := s.move(ctx, p, Approved, d.By, d.Note); err != nil {
			return BaseRelease{}, err
		}
	}
	made, err := s.deps.Releases.Make(ctx, MakeRequest{
		Identity: changed.Identity, Base: base, By: d.By, Note: noteOf(all, d.Note), Force: d.Force, Progress: d.Progress,
	})
	if err != nil {
		return BaseRelease{}, err
	}
	for _, p := range all {
		p.Release = made.Digest
		if err := s.move(ctx, p, Released, d.By, fmt.Sprintf("release %d", made.Number)); err != nil {
			return BaseRelease{}, err
		}
	}
	return made, nil
}

func approvable(p *Proposal, force bool) error {
	switch p.State {
	case Ready, Approved:
		return nil
	case Rejected, Proposed, DevTested:
		if force {
			return nil
		}
		why := p.Reason
		if why == "" {
			why = "its trials have not ended"
		}
		return fault.New(fault.Conflict, "evolve.not_ready", "proposal %s is %s: %s", p.ID, p.State, why).
			WithHint("flywheel proposal %s", p.ID)
	}
	return fault.New(fault.Conflict, "evolve.decided", "proposal %s is already %s", p.ID, p.State).WithHint("flywheel proposal %s", p.ID)
}

// complete says whether every proposal has those with it that it was proven on.
func complete(all []*Proposal, force bool) error {
	for _, p := range all {
		for _, needed := range p.On {
			if !force && !slices.ContainsFunc(all, func(q *Proposal) bool { return q.ID == needed }) {
				return fault.New(fault.Conflict, "evolve.incomplete", "%s was proven on top of %s, which is not approved with it", p.ID, needed).
					WithHint("flywheel approve %s %s", needed, p.ID)
			}
		}
	}
	return nil
}

// together joins the changes of proposals. Two that want the same of one place agree; two that want
// different things clash.
func together(all []*Proposal) ([]agent.Change, error) {
	type claim struct {
		by     string
		change agent.Change
	}
	var changes []agent.Change
	claims := map[string]claim{}
	for _, p := range all {
		for _, c := range p.Changes {
			place := c.File + "#" + strings.Join(c.Path, "/")
			other, taken := claims[place]
			switch {
			case !taken:
				claims[place] = claim{p.ID, c}
			case reflect.DeepEqual(other.change, c):
				continue
			case other.by != p.ID:
				return nil, fault.New(fault.Conflict, "evolve.clash", "%s and %s both change %s", other.by, p.ID, place).
					WithHint("approve one of them, then run: flywheel evolve")
			}
			changes = append(changes, c)
		}
	}
	return changes, nil
}

func noteOf(all []*Proposal, note string) string {
	titles := make([]string, len(all))
	for i, p := range all {
		titles[i] = p.Title
	}
	if note != "" {
		titles = append(titles, note)
	}
	return strings.Join(titles, "; ")
}

// Reject closes proposals with a reason.
func (s *Service) Reject(ctx context.Context, d Decision) error {
	for _, id := range d.Proposals {
		p, err := s.Get(ctx, id)
		if err != nil {
			return err
		}
		if !slices.Contains([]State{Proposed, DevTested, Ready, Approved}, p.State) {
			return fault.New(fault.Conflict, "evolve.decided", "proposal %s is already %s", p.ID, p.State).WithHint("flywheel proposal %s", p.ID)
		}
		p.Reason = d.Note
		if err := s.move(ctx, p, Rejected, d.By, d.Note); err != nil {
			return err
		}
	}
	return nil
}

// ChannelMoved follows what happens to the release of a proposal, told by the event channel.moved.
type ChannelMoved struct {
	Kind  string  `json:"kind"` // release, canary, promote, rollback
	From  string  `json:"from"`
	To    string  `json:"to"`
	Who   string  `json:"who"`
	Why   string  `json:"why"`
	Share float64 `json:"share"` // of the sessions, 0 to 1, of a canary
}

// Follow moves proposals along with their release.
func (s *Service) Follow(ctx context.Context, m ChannelMoved) error {
	target, state := m.To, Promoted
	switch m.Kind {
	case "canary":
		state = Canary
	case "rollback":
		target, state = m.From, RolledBack
	}
	if target == "" {
		return nil
	}
	proposals, err := proposalsReleasedAs(ctx, s.deps.DB, target)
	if err != nil {
		return err
	}
	for _, p := range proposals {
		if p.State == state {
			continue
		}
		if err := s.move(ctx, p, state, m.Who, m.note()); err != nil && !fault.HasCode(err, "evolve.moved") {
			return err
		}
	}
	return nil
}

func (m ChannelMoved) note() string {
	what := m.Kind
	if m.Kind == "canary" && m.Share > 0 {
		what = fmt.Sprintf("canary %.0f%%", 100*m.Share)
	}
	if m.Why != "" {
		what += ": " + m.Why
	}
	return what
}
