package evolve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/id"
)

// Request asks for a cycle.
type Request struct {
	// Agent is NAME@CHANNEL: the release whose operations are looked at.
	Agent string
	By    string
	// Limit is how many scenarios a comparison looks at, at most; 0 means the whole split.
	Limit int
	// Runs is how many of the latest production runs are read; default 1000.
	Runs int
}

// Event is what a cycle tells while it works.
type Event struct {
	Stage    string        `json:"stage"` // observed, proposed, testing, verdict, note
	Text     string        `json:"text"`
	Proposal string        `json:"proposal,omitempty"`
	Progress *lab.Progress `json:"progress,omitempty"`
}

// Evolve runs one cycle to its end, or takes up the unfinished one of the same agent and release.
// Errors: evolve.nothing_seen (invalid) when production recorded no runs; evolve.running (conflict).
func (s *Service) Evolve(ctx context.Context, req Request, emit func(Event)) (*Cycle, error) {
	base, err := s.deps.Releases.Base(ctx, req.Agent)
	if err != nil {
		return nil, err
	}
	release, err := s.claim(base.Agent)
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := unfinishedCycle(ctx, s.deps.DB, base.Agent, base.Digest)
	if err != nil {
		return nil, err
	}
	if c != nil {
		c.Continued = true
		emit(Event{Stage: "note", Text: fmt.Sprintf("continuing %s, begun %s", c.ID, c.CreatedAt.Local().Format(time.DateTime))})
	} else if c, err = s.begin(ctx, base, req); err != nil {
		return nil, err
	}
	return c, s.drive(ctx, c, base, emit)
}

// ResumeAll takes up every cycle that a crash interrupted.
func (s *Service) ResumeAll(ctx context.Context) error {
	cycles, err := unfinishedCycles(ctx, s.deps.DB)
	if err != nil {
		return err
	}
	for _, c := range cycles {
		base, err := s.deps.Releases.Base(ctx, c.Base)
		if err != nil {
			return fmt.Errorf("resume %s: %w", c.ID, err)
		}
		release, err := s.claim(c.Agent)
		if err != nil {
			continue // somebody is already at it
		}
		err = s.drive(ctx, c, base, func(Event) {})
		release()
		if err != nil {
			return fmt.Errorf("resume %s: %w", c.ID, err)
		}
	}
	return nil
}

func (s *Service) claim(name string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[name] {
		return nil, fault.New(fault.Conflict, "evolve.running", "a cycle of %s is already running", name).WithHint("flywheel proposals")
	}
	s.running[name] = true
	return func() {
		s.mu.Lock()
		delete(s.running, name)
		s.mu.Unlock()
	}, nil
}

func (s *Service) begin(ctx context.Context, base BaseRelease, req Request) (*Cycle, error) {
	now := s.deps.Clock.Now()
	c := &Cycle{
		ID: id.New("cyc", now), Agent: base.Agent, Channel: req.Agent, Base: base.Digest, Identity: base.Identity,
		Suite: base.Suite, State: CycleObserving, By: req.By, Limit: req.Limit, Runs: req.Runs, CreatedAt: now,
	}
	if base.Suite == "" {
		return nil, fault.New(fault.Invalid, "evolve.no_suite", "release %d of %s was made without a suite: nothing could be proven", base.Number, base.Agent).
			WithHint("add suites/NAME.suite.yaml and make a new release: flywheel release")
	}
	return c, s.deps.DB.Write(ctx, func(tx *db.Tx) error { return insertCycle(ctx, tx, c) })
}

func (s *Service) drive(ctx context.Context, c *Cycle, base BaseRelease, emit func(Event)) error {
	pack, err := agent.Load(ctx, s.deps.Blobs, base.Identity)
	if err != nil {
		return fmt.Errorf("load release %d: %w", base.Number, err)
	}
	if c.State == CycleObserving {
		if err := s.propose(ctx, c, base, pack, emit); err != nil {
			return err
		}
	}
	if c.Proposals, err = proposalsOf(ctx, s.deps.DB, c.ID); err != nil {
		return err
	}
	for _, p := range c.Proposals {
		if err := s.prove(ctx, c, p, c.Limit, emit); err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
	}
	return s.setState(ctx, c, CycleDone, "")
}

// propose asks every proposer and stores all drafts at once, so that a cycle is either still observing
// or has its whole list.
func (s *Service) propose(ctx context.Context, c *Cycle, base BaseRelease, pack *agent.Resolved, emit func(Event)) error {
	limit := c.Runs
	if limit == 0 {
		limit = 1000
	}
	runs, err := s.deps.Operations.Observe(ctx, base.Digest, limit)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		err := fault.New(fault.Invalid, "evolve.nothing_seen", "no production runs of release %d yet", base.Number).
			WithHint("send it traffic: POST /v1/chat/completions with model agent/%s", c.Channel)
		return errors.Join(err, s.setState(ctx, c, CycleDone, err.Message))
	}
	verified, failed := 0, 0
	for _, r := range runs {
		if r.Verified() {
			verified++
		}
		if r.Verdict == "failure" {
			failed++
		}
	}
	emit(Event{Stage: "observed", Text: fmt.Sprintf("%d runs of release %d: %d verified successes, %d failures", len(runs), base.Number, verified, failed)})

	var proposals []*Proposal
	for _, proposer := range s.deps.Proposers {
		drafts, err := proposer.Propose(ctx, Situation{Base: base, Runs: runs, Pack: pack})
		if err != nil {
			return err
		}
		for _, d := range drafts {
			p, err := s.candidate(ctx, c, pack, d)
			if err != nil {
				return err
			}
			proposals = append(proposals, p)
			emit(Event{Stage: "proposed", Proposal: p.ID, Text: p.Title})
		}
	}
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		for i, p := range proposals {
			if err := insertProposal(ctx, tx, p, i); err != nil {
				return err
			}
			if err := insertTransition(ctx, tx, p.ID, Transition{To: Proposed, At: p.CreatedAt, By: "evolve", Note: p.Title}); err != nil {
				return err
			}
			if err := s.emit(ctx, tx, p); err != nil {
				return err
			}
		}
		c.State = CycleTesting
		_, err := tx.Exec(ctx, `UPDATE evolve_cycles SET state = $1 WHERE id = $2`, c.State, c.ID)
		return err
	})
}

func (s *Service) candidate(ctx context.Context, c *Cycle, pack *agent.Resolved, d Draft) (*Proposal, error) {
	changed, err := s.changed(ctx, pack, d.Changes)
	if err != nil {
		return nil, fmt.Errorf("proposer of %s made a broken package: %w", d.Kind, err)
	}
	now := s.deps.Clock.Now()
	return &Proposal{
		ID: id.New("prop", now), Cycle: c.ID, Agent: c.Agent, Kind: d.Kind, State: Proposed, Base: c.Base,
		Candidate: changed.Identity, Draft: d, CreatedAt: now,
	}, nil
}

// stand puts a proposal on top of those of its cycle that are ready, and returns the identity that it is
// compared with. A saving is compared with what runs now: it must not hide behind an improvement.
func (s *Service) stand(ctx context.Context, c *Cycle, p *Proposal) (blob.Digest, error) {
	if p.Goal != GoalBetter {
		return c.Identity, nil
	}
	pack, err := agent.Load(ctx, s.deps.Blobs, c.Identity)
	if err != nil {
		return "", err
	}
	on := []string{}
	for _, q := range c.Proposals {
		if q.ID == p.ID {
			break
		}
		if q.Goal == GoalBetter && q.State == Ready {
			on = append(on, q.ID)
			if pack, err = s.changed(ctx, pack, q.Changes); err != nil {
				return "", fmt.Errorf("put %s on %s: %w", p.ID, q.ID, err)
			}
		}
	}
	changed, err := s.changed(ctx, pack, p.Changes)
	if err != nil {
		return "", fmt.Errorf("%s does not fit on %v: %w", p.ID, on, err)
	}
	p.On, p.Candidate = on, changed.Identity
	return pack.Identity, nil
}

// changed is a package with changes, stored so that trials and releases find it by its identity.
func (s *Service) changed(ctx context.Context, pack *agent.Resolved, changes []agent.Change) (*agent.Resolved, error) {
	out, problems := agent.Apply(pack, changes)
	if err := agent.Fault(problems); err != nil {
		return nil, err
	}
	return out, agent.Store(ctx, s.deps.Blobs, out)
}

// prove carries a proposal from its state to ready or rejected.
func (s *Service) prove(ctx context.Context, c *Cycle, p *Proposal, limit int, emit func(Event)) error {
	if p.State != Proposed && p.State != DevTested {
		return nil
	}
	basis, err := s.stand(ctx, c, p)
	if err != nil {
		return err
	}
	if p.State == Proposed {
		e, err := s.compare(ctx, c, p, trial{basis, lab.SplitDev, limit}, emit)
		if err != nil {
			return err
		}
		p.Dev = e
		if err := s.settle(ctx, p, e, DevTested, emit); err != nil {
			return err
		}
	}
	if p.State == DevTested {
		e, err := s.compare(ctx, c, p, trial{basis, lab.SplitAudit, limit}, emit)
		if err != nil {
			return err
		}
		p.Audit = e
		return s.settle(ctx, p, e, Ready, emit)
	}
	return nil
}

func (s *Service) settle(ctx context.Context, p *Proposal, e *Evidence, passed State, emit func(Event)) error {
	to, note := passed, fmt.Sprintf("passed the gate on %s", e.Split)
	if e.Verdict != "pass" {
		to, note = Rejected, e.reason()
		p.Reason = note
	}
	emit(Event{Stage: "verdict", Proposal: p.ID, Text: note})
	return s.move(ctx, p, to, "gate", note)
}

// trial says what a proposal is compared with, and on which scenarios.
type trial struct {
	basis blob.Digest
	split string
	limit int
}

func (s *Service) compare(ctx context.Context, c *Cycle, p *Proposal, t trial, emit func(Event)) (*Evidence, error) {
	look, bound, purpose := 0, float64(lab.DefaultEvidence), "evolve"
	if t.split == lab.SplitAudit {
		var err error
		if look, err = s.auditLook(ctx, p); err != nil {
			return nil, err
		}
		bound, purpose = Bound(look), lab.PurposeGate
	}
	req := lab.CompareRequest{
		Suite: c.Suite, Base: t.basis, Candidate: p.Candidate, Split: t.split, Limit: t.limit,
		Requester: "evolve/" + p.ID, Purpose: purpose, Stop: lab.StopRule{Evidence: bound},
	}
	if p.Goal == GoalCheaper {
		req.Stop.Evidence = lab.DefaultEvidence
	}
	emit(Event{Stage: "testing", Proposal: p.ID, Text: fmt.Sprintf("%s: paired trials on %s", p.Title, t.split)})
	comparison, err := s.deps.Lab.Compare(ctx, req, func(pr lab.Progress) {
		emit(Event{Stage: "testing", Proposal: p.ID, Progress: &pr})
	})
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err // interrupted: the trials are kept and the next evolve continues
	}
	return judge(p.Goal, comparison, bound, look), nil
}

func (s *Service) setState(ctx context.Context, c *Cycle, state, note string) error {
	c.State, c.Note = state, note
	c.EndedAt = s.deps.Clock.Now()
	return s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE evolve_cycles SET state = $1, note = $2, ended_at = $3 WHERE id = $4`,
			state, note, db.FormatTime(c.EndedAt), c.ID)
		return err
	})
}
