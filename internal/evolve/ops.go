package evolve

import (
	"context"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/lab"
	"flywheel/internal/platform/op"
)

type startIn struct {
	Agent string `json:"agent,omitempty" cli:"arg" doc:"agent and channel to learn from, as in card-desk@prod; default: the only deployment"`
	Limit int    `json:"limit,omitempty" doc:"scenarios that a comparison looks at, at most"`
	Runs  int    `json:"runs,omitempty" doc:"latest production runs to read (default 1000)"`
}

type listIn struct {
	Agent string `query:"agent" json:"agent,omitempty" doc:"only of this agent"`
	State string `query:"state" json:"state,omitempty" doc:"only in this state, as in ready"`
	Limit int    `query:"limit" json:"limit,omitempty" doc:"at most so many (default 100)"`
}

type listOut struct {
	Proposals []*Proposal `json:"proposals"`
}

type getIn struct {
	Proposal string `path:"proposal" json:"proposal" cli:"arg" doc:"proposal id"`
}

type decideIn struct {
	Proposals []string `json:"proposals" cli:"rest" doc:"proposal ids"`
	Note      string   `json:"note,omitempty" doc:"why"`
	Force     bool     `json:"force,omitempty" doc:"approve without proof; recorded"`
}

type rejectIn struct {
	Proposals []string `json:"proposals" cli:"rest" doc:"proposal ids"`
	Reason    string   `json:"reason,omitempty" doc:"why not"`
}

// ApproveOut is the release that an approval made.
type ApproveOut struct {
	Release   string   `json:"release"` // digest
	Number    int      `json:"number"`
	Agent     string   `json:"agent"`
	Proposals []string `json:"proposals"`
}

type rejectOut struct {
	Proposals []string `json:"proposals"`
}

type applyIn struct {
	Proposal string `path:"proposal" json:"proposal" cli:"arg" doc:"proposal id"`
	Dir      op.Dir `json:"dir" cli:"dir" doc:"package directory"`
}

type applyOut struct {
	Proposal string `json:"proposal"`
	Files    op.Dir `json:"files" write:"true"`
}

// Ops are the operations of this domain.
func (s *Service) Ops() []op.Op {
	return []op.Op{
		startOp(s), listOp(s), getOp(s), approveOp(s), rejectOp(s), applyOp(s),
	}
}

func startOp(s *Service) op.Op {
	o := op.Stream(op.Meta{
		ID: "evolve.start", Path: "/api/v1/evolve", Stage: 8, CLI: "evolve", Permission: "evolve.write", Audit: "start evolve",
		Summary: "Turn operations into proposals, each proven by paired trials",
		Example: "flywheel evolve card-desk@prod",
	}, func(ctx context.Context, in *startIn, emit func(Event)) (*Cycle, error) {
		return s.Evolve(ctx, Request{Agent: in.Agent, By: op.Actor(ctx), Limit: in.Limit, Runs: in.Runs}, throttled(emit))
	})
	return op.WithEventText(op.WithText(o, writeCycle), writeEvent)
}

// throttled lets at most four progress events a second through, and all others.
func throttled(emit func(Event)) func(Event) {
	var last time.Time
	return func(e Event) {
		if e.Progress != nil {
			if now := time.Now(); now.Sub(last) < 250*time.Millisecond && e.Progress.Done < e.Progress.Total {
				return
			} else {
				last = now
			}
		}
		emit(e)
	}
}

func listOp(s *Service) op.Op {
	o := op.New(op.Meta{
		ID: "proposal.list", Method: "GET", Path: "/api/v1/proposals", Stage: 8, CLI: "proposals", Permission: "evolve.read",
		Summary: "List proposals with their evidence", Example: "flywheel proposals --state ready",
	}, func(ctx context.Context, in *listIn) (*listOut, error) {
		list, err := s.List(ctx, in.Agent, State(in.State), in.Limit)
		return &listOut{Proposals: list}, err
	})
	return op.WithText(o, writeList)
}

func getOp(s *Service) op.Op {
	o := op.New(op.Meta{
		ID: "proposal.get", Method: "GET", Path: "/api/v1/proposals/{proposal}", Stage: 8, CLI: "proposal", Permission: "evolve.read",
		Summary: "Show one proposal: the change, what was seen, the evidence, every transition",
		Example: "flywheel proposal prop_01…",
	}, func(ctx context.Context, in *getIn) (*Proposal, error) { return s.Get(ctx, in.Proposal) })
	return op.WithText(o, writeProposal)
}

func approveOp(s *Service) op.Op {
	o := op.Stream(op.Meta{
		ID: "proposal.approve", Path: "/api/v1/proposals/approve", Stage: 8, CLI: "approve", Permission: "evolve.approve", Audit: "approve proposal",
		Summary: "Make one release of the named proposals; the release gate looks at them together",
		Example: "flywheel approve prop_01… prop_02… --note 'looks right'",
	}, func(ctx context.Context, in *decideIn, emit func(Event)) (*ApproveOut, error) {
		emit = throttled(emit)
		made, err := s.Approve(ctx, Decision{
			Proposals: in.Proposals, By: op.Actor(ctx), Note: in.Note, Force: in.Force,
			Progress: func(p lab.Progress) { emit(Event{Stage: "testing", Progress: &p}) },
		})
		if err != nil {
			return nil, err
		}
		return &ApproveOut{Release: made.Digest, Number: made.Number, Agent: made.Agent, Proposals: in.Proposals}, nil
	})
	return op.WithEventText(op.WithText(o, writeApproved), writeEvent)
}

func rejectOp(s *Service) op.Op {
	o := op.New(op.Meta{
		ID: "proposal.reject", Path: "/api/v1/proposals/reject", Stage: 8, CLI: "reject", Permission: "evolve.approve", Audit: "reject proposal",
		Summary: "Close proposals with a reason", Example: "flywheel reject prop_01… --reason 'too slow'",
	}, func(ctx context.Context, in *rejectIn) (*rejectOut, error) {
		return &rejectOut{in.Proposals}, s.Reject(ctx, Decision{Proposals: in.Proposals, By: op.Actor(ctx), Note: in.Reason})
	})
	return op.WithText(o, writeRejected)
}

func applyOp(s *Service) op.Op {
	o := op.New(op.Meta{
		ID: "proposal.apply", Path: "/api/v1/proposals/{proposal}/apply", Stage: 8, CLI: "apply", Permission: "evolve.read",
		Summary: "Write a proposal's changes into the package's files; comments and order stay",
		Example: "flywheel apply prop_01…",
	}, func(ctx context.Context, in *applyIn) (*applyOut, error) {
		p, err := s.Get(ctx, in.Proposal)
		if err != nil {
			return nil, err
		}
		changed, problems := agent.Patch(in.Dir, p.Changes)
		return &applyOut{Proposal: p.ID, Files: changed}, agent.Fault(problems)
	})
	return op.WithText(o, writeApplied)
}
