package observe

import (
	"context"
	"net/http"
	"time"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// Permissions of this domain.
const (
	PermissionRead  = "observe.read"
	PermissionJudge = "observe.judge" // say whether a run solved its task
)

// Ops are the operations.
func (s *Service) Ops() []op.Op {
	return []op.Op{s.outcomeCreate(), s.outcomePerson(), s.outcomeList(), s.findingList(), s.findingShow(), s.stats(), s.timeline()}
}

type outcomeIn struct {
	Run      string `json:"run" cli:"-" doc:"The run; or else session"`
	Session  string `json:"session" cli:"-" doc:"The session whose newest run is meant"`
	Verdict  string `json:"verdict" cli:"-" required:"true" enum:"success,failure" doc:"Did the run solve its task?"`
	Source   string `json:"source" cli:"-" default:"event" enum:"event,person,check,judge" doc:"Who or what says so"`
	Who      string `json:"who" cli:"-" doc:"Name of the source; default: the caller"`
	Note     string `json:"note" cli:"-" doc:"What was wrong or right"`
	Expected string `json:"expected_action" cli:"-" doc:"The action that would have been right"`
	Got      string `json:"got" cli:"-" doc:"The action that was taken; default: the last tool of the run"`
	// Confidence 0 is taken as 1.
	Confidence float64 `json:"confidence" cli:"-" minimum:"0" maximum:"1" doc:"How sure the source is; default 1"`
	Key        string  `json:"key" cli:"-" doc:"Idempotency key: the same key again is the same outcome"`
}

func (s *Service) outcomeCreate() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "outcome.create", Path: "/api/v1/outcomes", Summary: "Report whether a run solved its task, as the business sees it",
		Permission: PermissionJudge, Audit: "outcome.given", Stage: 7, MCP: true,
	}, func(ctx context.Context, in *outcomeIn) (*Outcome, error) {
		who := in.Who
		if who == "" {
			who = op.Actor(ctx)
		}
		return s.Give(ctx, Given{
			Run: in.Run, Session: in.Session, Verdict: in.Verdict, Source: in.Source, Who: who, Note: in.Note,
			Expected: in.Expected, Got: in.Got, Confidence: in.Confidence, Key: in.Key,
		})
	}), printOutcome)
}

type personIn struct {
	Run      string `path:"run" cli:"arg" doc:"The run"`
	Success  bool   `json:"success" doc:"It solved its task"`
	Failure  bool   `json:"failure" doc:"It did not"`
	Note     string `json:"note" short:"n" doc:"What was wrong or right"`
	Expected string `json:"expected_action" doc:"The action that would have been right"`
}

func (s *Service) outcomePerson() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "outcome.judge", Path: "/api/v1/runs/{run}/outcome", Summary: "Say as a person whether a run solved its task",
		Permission: PermissionJudge, Audit: "outcome.given", Stage: 7, CLI: "outcome",
		Example: `flywheel outcome run_01jd3k7v0q --failure --note "froze the wrong card"`,
	}, func(ctx context.Context, in *personIn) (*Outcome, error) {
		verdict := Success
		if in.Failure {
			verdict = Failure
		}
		if in.Success == in.Failure {
			return nil, fault.New(fault.Invalid, "observe.outcome", "say either success or failure").
				WithHint("flywheel outcome %s --success", in.Run)
		}
		return s.Give(ctx, Given{
			Run: in.Run, Verdict: verdict, Source: SourcePerson, Who: op.Actor(ctx), Note: in.Note, Expected: in.Expected,
		})
	}), printOutcome)
}

type outcomesIn struct {
	Run string `path:"run" cli:"arg" doc:"The run"`
}

type outcomesOut struct {
	Counts   *Outcome  `json:"counts,omitempty"` // the one that counts
	Outcomes []Outcome `json:"outcomes"`
}

func (s *Service) outcomeList() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "outcome.list", Method: http.MethodGet, Path: "/api/v1/runs/{run}/outcomes", Summary: "Show every verdict on a run and which one counts",
		Permission: PermissionRead, Stage: 7, CLI: "outcomes", Example: "flywheel outcomes run_01jd3k7v0q",
	}, func(ctx context.Context, in *outcomesIn) (*outcomesOut, error) {
		list, err := s.All(ctx, in.Run)
		if err != nil {
			return nil, err
		}
		out := &outcomesOut{Outcomes: list}
		if o, ok := effective(list); ok {
			out.Counts = &o
		}
		return out, nil
	}), printOutcomes)
}

type filterIn struct {
	Agent   string `query:"agent" doc:"Only runs of this agent"`
	Release string `query:"release" doc:"Only runs of this release (digest)"`
	Channel string `query:"channel" doc:"Only runs of this channel"`
	Since   string `query:"since" doc:"Only runs that began after this: a duration such as 24h, or a time"`
}

func (s *Service) filter(in filterIn) (Filter, error) {
	f := Filter{Agent: in.Agent, Release: in.Release, Channel: in.Channel}
	if in.Since == "" {
		return f, nil
	}
	if d, err := time.ParseDuration(in.Since); err == nil {
		f.Since = s.deps.Clock.Now().Add(-d)
		return f, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, in.Since); err == nil {
			f.Since = at
			return f, nil
		}
	}
	return f, fault.New(fault.Invalid, "observe.since", "%q is neither a duration nor a time", in.Since).WithHint("--since 24h, or --since 2026-01-31")
}

type findingsOut struct {
	Findings []*Finding `json:"findings"`
}

func (s *Service) findingList() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "finding.list", Method: http.MethodGet, Path: "/api/v1/findings", Summary: "Group failed runs by how they failed",
		Permission: PermissionRead, Stage: 7, CLI: "findings", Example: "flywheel findings --since 24h", MCP: true,
	}, func(ctx context.Context, in *filterIn) (*findingsOut, error) {
		f, err := s.filter(*in)
		if err != nil {
			return nil, err
		}
		list, err := s.Findings(ctx, f)
		return &findingsOut{Findings: list}, err
	}), printFindings)
}

type findingIn struct {
	Finding string `path:"finding" cli:"arg" doc:"The finding's fingerprint"`
}

func (s *Service) findingShow() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "finding.show", Method: http.MethodGet, Path: "/api/v1/findings/{finding}", Summary: "Show one finding with runs to look at",
		Permission: PermissionRead, Stage: 7, CLI: "finding", Example: "flywheel finding fnd_0a1b2c3d4e5f", MCP: true,
	}, func(ctx context.Context, in *findingIn) (*Finding, error) {
		return s.Finding(ctx, in.Finding)
	}), printFinding)
}

type statsOut struct {
	Stats []*Stats `json:"stats"`
}

func (s *Service) stats() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "stats.show", Method: http.MethodGet, Path: "/api/v1/stats", Summary: "Show success, tokens, cost, tool failures and latency per agent and release",
		Permission: PermissionRead, Stage: 7, CLI: "stats", Example: "flywheel stats --agent card-desk", MCP: true,
	}, func(ctx context.Context, in *filterIn) (*statsOut, error) {
		f, err := s.filter(*in)
		if err != nil {
			return nil, err
		}
		list, err := s.Stats(ctx, f)
		return &statsOut{Stats: list}, err
	}), printStats)
}

type timelineIn struct {
	Agent string `query:"agent" doc:"Only this agent"`
}

type timelineOut struct {
	Marks []Mark `json:"marks"`
}

func (s *Service) timeline() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "timeline.show", Method: http.MethodGet, Path: "/api/v1/timeline", Summary: "Show releases and channel moves in time",
		Permission: PermissionRead, Stage: 7, CLI: "timeline", Example: "flywheel timeline --agent card-desk",
	}, func(ctx context.Context, in *timelineIn) (*timelineOut, error) {
		list, err := s.Timeline(ctx, in.Agent)
		return &timelineOut{Marks: list}, err
	}), printTimeline)
}
