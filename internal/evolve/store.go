package evolve

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
)

const cycleColumns = `id, agent, channel, base, identity, suite, state, note, requested_by, created_at, ended_at, scenario_limit, run_limit`

func scanCycle(r db.Row) (*Cycle, error) {
	var c Cycle
	var identity, suite, created, ended string
	if err := r.Scan(&c.ID, &c.Agent, &c.Channel, &c.Base, &identity, &suite, &c.State, &c.Note, &c.By, &created, &ended, &c.Limit, &c.Runs); err != nil {
		return nil, err
	}
	c.Identity, c.Suite = blob.Digest(identity), blob.Digest(suite)
	var err error
	if c.CreatedAt, err = db.ParseTime(created); err != nil {
		return nil, err
	}
	c.EndedAt, err = db.ParseTime(ended)
	return &c, err
}

func insertCycle(ctx context.Context, tx *db.Tx, c *Cycle) error {
	_, err := tx.Exec(ctx, `INSERT INTO evolve_cycles (`+cycleColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13)`,
		c.ID, c.Agent, c.Channel, c.Base, string(c.Identity), string(c.Suite), c.State, c.Note, c.By,
		db.FormatTime(c.CreatedAt), "", c.Limit, c.Runs)
	return err
}

// unfinishedCycle is the cycle of an agent on a base release that has not ended, or nil.
func unfinishedCycle(ctx context.Context, q db.Querier, agent, base string) (*Cycle, error) {
	c, err := db.One(ctx, q, scanCycle, `SELECT `+cycleColumns+` FROM evolve_cycles
		WHERE agent = $1 AND base = $2 AND ended_at = '' ORDER BY created_at DESC LIMIT 1`, agent, base)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return c, err
}

func unfinishedCycles(ctx context.Context, q db.Querier) ([]*Cycle, error) {
	return db.All(ctx, q, scanCycle, `SELECT `+cycleColumns+` FROM evolve_cycles WHERE ended_at = '' ORDER BY created_at`)
}

const proposalColumns = `id, cycle, agent, kind, state, candidate, release, body, created_at`

func scanProposal(r db.Row) (*Proposal, error) {
	var id, cycle, agent, kind, state, candidate, release, body, created string
	if err := r.Scan(&id, &cycle, &agent, &kind, &state, &candidate, &release, &body, &created); err != nil {
		return nil, err
	}
	var p Proposal
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		return nil, fmt.Errorf("proposal %s: %w", id, err)
	}
	p.ID, p.Cycle, p.Agent, p.Kind, p.State, p.Candidate, p.Release = id, cycle, agent, Kind(kind), State(state), blob.Digest(candidate), release
	var err error
	p.CreatedAt, err = db.ParseTime(created)
	return &p, err
}

func insertProposal(ctx context.Context, tx *db.Tx, p *Proposal, position int) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO evolve_proposals (id, cycle, position, agent, kind, state, candidate, release, body, created_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)`,
		p.ID, p.Cycle, position, p.Agent, string(p.Kind), string(p.State), string(p.Candidate), p.Release, string(body), db.FormatTime(p.CreatedAt))
	return err
}

func proposalsOf(ctx context.Context, q db.Querier, cycle string) ([]*Proposal, error) {
	return db.All(ctx, q, scanProposal, `SELECT `+proposalColumns+` FROM evolve_proposals WHERE cycle = $1 ORDER BY position`, cycle)
}

func proposalsReleasedAs(ctx context.Context, q db.Querier, release string) ([]*Proposal, error) {
	return db.All(ctx, q, scanProposal, `SELECT `+proposalColumns+` FROM evolve_proposals WHERE release = $1`, release)
}

// move makes one transition: the state, the body and the transition row in one transaction, with its event.
// It fails with evolve.moved when somebody else moved the proposal in between.
func (s *Service) move(ctx context.Context, p *Proposal, to State, by, note string) error {
	from := p.State
	now := s.deps.Clock.Now()
	next := *p
	next.State, next.Transitions = to, nil
	body, err := json.Marshal(next)
	if err != nil {
		return err
	}
	err = s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE evolve_proposals SET state = $1, release = $2, candidate = $3, body = $4 WHERE id = $5 AND state = $6`,
			string(to), p.Release, string(p.Candidate), string(body), p.ID, string(from))
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.Conflict, "evolve.moved", "proposal %s is no longer %s", p.ID, from).WithHint("flywheel proposal %s", p.ID)
		}
		if err := insertTransition(ctx, tx, p.ID, Transition{From: from, To: to, At: now, By: by, Note: note}); err != nil {
			return err
		}
		return s.emit(ctx, tx, &next)
	})
	if err == nil {
		p.State = to
	}
	return err
}

func insertTransition(ctx context.Context, tx *db.Tx, proposal string, t Transition) error {
	_, err := tx.Exec(ctx, `INSERT INTO evolve_transitions (proposal, seq, from_state, to_state, at, by_whom, note)
		SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5, $6 FROM evolve_transitions WHERE proposal = $1`,
		proposal, string(t.From), string(t.To), db.FormatTime(t.At), t.By, t.Note)
	return err
}

func (s *Service) emit(ctx context.Context, tx *db.Tx, p *Proposal) error {
	if s.deps.Bus == nil {
		return nil
	}
	return s.deps.Bus.Emit(ctx, tx, "proposal.changed", p.ID, map[string]any{
		"id": p.ID, "agent": p.Agent, "kind": p.Kind, "state": p.State, "title": p.Title, "release": p.Release,
	})
}

func transitionsOf(ctx context.Context, q db.Querier, proposal string) ([]Transition, error) {
	return db.All(ctx, q, func(r db.Row) (Transition, error) {
		var from, to, at string
		var t Transition
		if err := r.Scan(&from, &to, &at, &t.By, &t.Note); err != nil {
			return t, err
		}
		t.From, t.To = State(from), State(to)
		var err error
		t.At, err = db.ParseTime(at)
		return t, err
	}, `SELECT from_state, to_state, at, by_whom, note FROM evolve_transitions WHERE proposal = $1 ORDER BY seq`, proposal)
}

// auditLook is the number of this proposal among the candidates of its agent that reached the audit
// split; taken once and kept, so that a resumed cycle spends nothing twice.
func (s *Service) auditLook(ctx context.Context, p *Proposal) (int, error) {
	var look int
	err := s.deps.DB.Write(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, `SELECT look FROM evolve_audits WHERE proposal = $1`, p.ID).Scan(&look)
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(look), 0) + 1 FROM evolve_audits WHERE agent = $1`, p.Agent).Scan(&look); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO evolve_audits (agent, look, proposal, bound, at) VALUES ($1,$2,$3,$4,$5)`,
			p.Agent, look, p.ID, strconv.FormatFloat(Bound(look), 'g', 6, 64), db.FormatTime(s.deps.Clock.Now()))
		return err
	})
	return look, err
}
