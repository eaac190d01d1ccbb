package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

func (s *story) again(ctx context.Context) error {
	s.stage("Again")
	var ready []string
	for _, p := range s.proposals {
		if p.State == "ready" {
			ready = append(ready, p.ID)
		}
	}
	if len(ready) == 0 {
		return errors.New("no proposal reached proof: release 2 is not better than release 1, because there is none")
	}
	var approved struct {
		Release string
		Number  int
	}
	err := s.Stream(ctx, "POST", "/api/v1/proposals/approve", map[string]any{"proposals": ready, "note": "approved in the demo"}, &approved, s.showApproval)
	s.progressDone()
	if err != nil {
		return err
	}
	if err := s.Call(ctx, "GET", fmt.Sprintf("/api/v1/releases/%d", approved.Number), nil, &s.second); err != nil {
		return err
	}
	s.say("%d proposals approved together", len(ready))
	if err := s.showRelease(ctx, s.second); err != nil {
		return err
	}
	if err := s.canary(ctx); err != nil {
		return err
	}
	if err := s.verdict(ctx); err != nil {
		return err
	}
	return s.backAndForth(ctx)
}

func (s *story) showApproval(data json.RawMessage) error {
	var e struct{ Progress *trialProgress }
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	if e.Progress != nil {
		s.progress("audit split: %d/%d trials, %s left", e.Progress.Done, e.Progress.Total, e.Progress.Left.Round(time.Second))
	}
	return nil
}

func (s *story) canary(ctx context.Context) error {
	if err := s.Call(ctx, "POST", "/api/v1/deployments", map[string]any{
		"channel": "prod", "release": fmt.Sprint(s.second.Number), "canary": "50%", "why": "proposals approved",
	}, nil); err != nil {
		return err
	}
	s.say("canary: release %d gets half of the sessions on prod", s.second.Number)
	if err := s.send(ctx, s.traffic[len(s.traffic)-canaryMessages:], "canary"); err != nil {
		return err
	}
	if err := s.showStats(ctx); err != nil {
		return err
	}
	if err := s.Call(ctx, "POST", "/api/v1/channels/prod/promote", map[string]any{"why": "canary without harm"}, nil); err != nil {
		return err
	}
	s.say("promoted: release %d serves all of prod", s.second.Number)
	return nil
}

// verdict prints the paired comparison of the two releases on the audit split, which the gate of release
// 2 has made, and fails when it is no proof.
func (s *story) verdict(ctx context.Context) error {
	if s.second.Comparison == nil {
		return errors.New("release 2 has no comparison with release 1")
	}
	var out struct{ Comparison comparison }
	if err := s.Call(ctx, "GET", "/api/v1/experiments/"+s.second.Comparison.Experiment, nil, &out); err != nil {
		return err
	}
	c := out.Comparison
	fmt.Println()
	s.say("audit split, %d scenarios of families that nothing was tuned on, same seeds and faults", c.Scenarios)
	s.say("%-22s %-22s %s", "", "release 1", "release 2")
	s.say("%-22s %-22s %s", "success", c.Base.Rate, c.Candidate.Rate)
	s.say("%-22s %-22s %s", "tool calls failed", fmt.Sprintf("%d of %d", c.Base.Usage.Failed, c.Base.Usage.Calls), fmt.Sprintf("%d of %d", c.Candidate.Usage.Failed, c.Candidate.Usage.Calls))
	s.say("%-22s %-22s %s", "tokens a run", perRun(c.Base), perRun(c.Candidate))
	s.say("%-22s %-22s %s", "cost", c.Base.price(), c.Candidate.price())
	s.say("difference %+.0f points [%+.0f, %+.0f] with 95%% confidence; %d better, %d worse, %d alike; e-value %.3g",
		100*c.Diff.Diff, 100*c.Diff.Low, 100*c.Diff.High, c.Better, c.Worse, c.Ties, c.Evidence)
	if c.Evidence < 20 || c.Diff.Low <= 0 {
		return fmt.Errorf("release 2 is not proven better than release 1 (e-value %.3g, difference at least %+.0f points)", c.Evidence, 100*c.Diff.Low)
	}
	return nil
}

func perRun(t tally) string {
	n := max(t.Trials, 1)
	return fmt.Sprintf("%d in, %d out", t.Usage.In/n, t.Usage.Out/n)
}

func (s *story) backAndForth(ctx context.Context) error {
	started := time.Now()
	if err := s.Call(ctx, "POST", "/api/v1/channels/prod/rollback", map[string]any{"why": "to show it"}, nil); err != nil {
		return err
	}
	back := time.Since(started)
	started = time.Now()
	if err := s.Call(ctx, "POST", "/api/v1/channels/prod/promote", map[string]any{"why": "and forward again"}, nil); err != nil {
		return err
	}
	s.say("rolled back in %s, forward again in %s", back.Round(time.Millisecond), time.Since(started).Round(time.Millisecond))
	return nil
}

func (s *story) end() error {
	s.stage("Look at it again")
	s.say("export FLYWHEEL_HOME=%s", s.home)
	s.say("bin/flywheel runs --failed        bin/flywheel findings        bin/flywheel proposals")
	s.say("bin/flywheel release diff 1 2     bin/flywheel history prod    bin/flywheel experiments")
	s.say("bin/flywheel up                   # the same server again, with the same channels")
	return nil
}
