package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// canaryMessages is how much of the traffic is kept for the second release.
const canaryMessages = 16

func (s *story) operate(ctx context.Context) error {
	s.stage("7 Operate")
	before := s.traffic[:len(s.traffic)-canaryMessages]
	if err := s.send(ctx, before, "op"); err != nil {
		return err
	}
	if err := s.showStats(ctx); err != nil {
		return err
	}
	var out struct {
		Findings []struct {
			Title string
			Count int
			Share float64
		}
	}
	if err := s.Call(ctx, "GET", "/api/v1/findings", nil, &out); err != nil {
		return err
	}
	s.say("findings:")
	for _, f := range out.Findings[:min(5, len(out.Findings))] {
		s.say("  %3d×  %s", f.Count, f.Title)
	}
	return nil
}

// showStats prints what each release did in production so far. The facts arrive a moment after the runs.
func (s *story) showStats(ctx context.Context) error {
	var out struct {
		Stats []struct {
			Release      string
			Number       int
			Runs         int
			Success      struct{ Value, Low, High float64 }
			TokensIn     int           `json:"tokens_in"`
			TokensOut    int           `json:"tokens_out"`
			Cost         int64         `json:"cost"`
			Compute      time.Duration `json:"compute"`
			ToolCalls    int           `json:"tool_calls"`
			ToolErrors   int           `json:"tool_errors"`
			ToolFailures int           `json:"tool_failures"`
			P50          time.Duration `json:"p50"`
		}
	}
	if err := s.Call(ctx, "GET", "/api/v1/stats", nil, &out); err != nil {
		return err
	}
	for _, r := range out.Stats {
		if r.Release == "" {
			continue
		}
		u := usage{In: r.TokensIn, Out: r.TokensOut, Cost: r.Cost, Compute: r.Compute}
		s.say("release %d: %d runs, success %s by business event", r.Number, r.Runs, rate{r.Success.Value, r.Success.Low, r.Success.High})
		s.say("           tools: %d calls, %d failed or were refused, %d attempts did; %s, %s; p50 %s", r.ToolCalls, r.ToolErrors, r.ToolFailures,
			u.tokens(), u.price(), r.P50.Round(time.Millisecond))
	}
	return nil
}

type proposal struct {
	ID, Kind, State, Title, Reason string
	Why, On                        []string
	Dev, Audit                     *evidence
}

type evidence struct {
	Split, Verdict string
	Lines          []line
	Comparison     comparison
}

type comparison struct {
	Scenarios, Better, Worse, Ties int
	Evidence, Against              float64
	Diff                           struct{ Diff, Low, High float64 }
	Base, Candidate                tally
}

func (s *story) retrain(ctx context.Context) error {
	s.stage("8 Retrain")
	var cycle struct {
		ID        string
		Proposals []proposal
	}
	err := s.Stream(ctx, "POST", "/api/v1/evolve", map[string]any{"agent": agentName + "@prod"}, &cycle, func(data json.RawMessage) error {
		var e struct {
			Stage, Text string
			Progress    *trialProgress
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		switch {
		case e.Progress != nil:
			s.progress("%d/%d trials, %s left", e.Progress.Done, e.Progress.Total, e.Progress.Left.Round(time.Second))
		case e.Stage == "observed", e.Stage == "testing":
			s.progressDone()
			s.say("%s", e.Text)
		}
		return nil
	})
	s.progressDone()
	if err != nil {
		return err
	}
	s.proposals = cycle.Proposals
	for i, p := range cycle.Proposals {
		fmt.Println()
		s.say("proposal %d, %s: %s", i+1, p.Kind, p.Title)
		if len(p.On) > 0 {
			s.say("  proven on top of the proposals before it")
		}
		for _, w := range p.Why {
			s.say("  saw    %s", w)
		}
		s.showEvidence(p.Dev)
		s.showEvidence(p.Audit)
		if p.Reason != "" {
			s.say("  %s: %s", p.State, p.Reason)
		} else {
			s.say("  %s", p.State)
		}
	}
	return nil
}

func (s *story) showEvidence(e *evidence) {
	if e == nil {
		return
	}
	c := e.Comparison
	s.say("  %-6s %s → %s, %+.0f points [%+.0f, %+.0f]; %d better, %d worse of %d; e-value %.3g for, %.3g against: %s", e.Split,
		c.Base.Rate, c.Candidate.Rate, 100*c.Diff.Diff, 100*c.Diff.Low, 100*c.Diff.High, c.Better, c.Worse, c.Scenarios, c.Evidence, c.Against, e.Verdict)
}
