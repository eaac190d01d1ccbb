package evolve

import (
	"context"
	"errors"
	"fmt"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
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
		emit(Event{Stage: "note", Text: fmt.Sprintf("continuing %s, begun %s", c.ID, c.CreatedAt.Format("2006-01-02 15:04:05"))})
	} else if c, err = s.begin(ctx, base, req); err != nil {
		return nil, err
	}
	return c, s.drive(ctx, c, base, req, emit)
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
		err = s.drive(ctx, c, base, Request{By: c.By}, func(Event) {})
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
		Suite: base.Suite, State: CycleObserving, By: req.By, CreatedAt: now,
	}
	if base.Suite == "" {
		return nil, fault.New(fault.Invalid, "evolve.no_suite", "release %d of %s was made without a suite: nothing could be proven", base.Number, base.Agent).
			WithHint("add suites/NAME.suite.yaml and make a new release: flywheel release")
	}
	return c, s.deps.DB.Write(ctx, func(tx *db.Tx) error { return insertCycle(ctx, tx, c) })
}

func (s *Service) drive(ctx context.Context, c *Cycle, base BaseRelease, req Request, emit func(Event)) error {
	pack, err := agent.Load(ctx, s.deps.Blobs, base.Identity)
	if err != nil {
		return fmt.Errorf("load release %d: %w", base.Number, err)
	}
	if c.State == CycleObserving {
		if err := s.propose(ctx, c, base, pack, req, emit); err != nil {
			return err
		}
	}
	if c.Proposals, err = proposalsOf(ctx, s.deps.DB, c.ID); err != nil {
		return err
	}
	for _, p := range c.Proposals {
		if err := s.prove(ctx, c, p, req.Limit, emit); err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
	}
	return s.setState(ctx, c, CycleDone, "")
}

// propose asks every proposer and stores all drafts at once, so that a cycle is either still observing
// or has its whole list.
func (s *Service) propose(ctx context.Context, c *Cycle, base BaseRelease, pack *agent.Resolved, req Request, emit func(Event)) error {
	limit := req.Runs
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
	changed, problems := agent.Apply(pack, d.Changes)
	if err := agent.Fault(problems); err != nil {
		return nil, fmt.Errorf("proposer of %s made a broken package: %w", d.Kind, err)
	}
	if err := agent.Store(ctx, s.deps.Blobs, changed); err != nil {
		return nil, err
	}
	now := s.deps.Clock.Now()
	return &Proposal{
		ID: id.New("prop", now), Cycle: c.ID, Agent: c.Agent, Kind: d.Kind, State: Proposed, Base: c.Base,
		Candidate: changed.Identity, Draft: d, CreatedAt: now,
	}, nil
}

// prove carries a proposal from its state to ready or rejected.
func (s *Service) prove(ctx context.Context, c *Cycle, p *Proposal, limit int, emit func(Event)) error {
	if p.State == Proposed {
		e, err := s.compare(ctx, c, p, lab.SplitDev, limit, emit)
		if err != nil {
			return err
		}
		p.Dev = e
		if err := s.settle(ctx, p, e, DevTested, emit); err != nil {
			return err
		}
	}
	if p.State == DevTested {
		e, err := s.compare(ctx, c, p, lab.SplitAudit, limit, emit)
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

func (s *Service) compare(ctx context.Context, c *Cycle, p *Proposal, split string, limit int, emit func(Event)) (*Evidence, error) {
	look, bound, purpose := 0, float64(lab.DefaultEvidence), "evolve"
	if split == lab.SplitAudit {
		var err error
		if look, err = s.auditLook(ctx, p); err != nil {
			return nil, err
		}
		bound, purpose = Bound(look), lab.PurposeGate
	}
	req := lab.CompareRequest{
		Suite: c.Suite, Base: c.Identity, Candidate: p.Candidate, Split: split, Limit: limit,
		Requester: "evolve/" + p.ID, Purpose: purpose, Stop: lab.StopRule{Evidence: bound},
	}
	if p.Goal == GoalCheaper {
		req.Stop.Evidence = lab.DefaultEvidence
	}
	emit(Event{Stage: "testing", Proposal: p.ID, Text: fmt.Sprintf("%s: paired trials on %s", p.Title, split)})
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
