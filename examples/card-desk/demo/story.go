package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// story is one telling of the loop.
type story struct {
	*desk
	files   map[string][]byte
	traffic []message
	model   string
	started time.Time

	first, second releaseInfo
	proposals     []proposal
}

const agentName = "card-desk"

func (s *story) name(channel string) string { return "agent/" + agentName + "@" + channel }

func (s *story) stage(title string) {
	fmt.Printf("\n── %s %s %s\n", title, strings.Repeat("─", max(2, 70-len(title))), time.Since(s.started).Round(time.Second))
}

func (s *story) say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// progress overwrites one line on a terminal; elsewhere it is silent.
func (s *story) progress(format string, args ...any) {
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Printf("\r   "+format+"   ", args...)
	}
}

func (s *story) progressDone() { s.progress("%-60s\r", "") }

func (s *story) code(ctx context.Context) error {
	s.stage("1 Prompt, 2 Code")
	var out struct {
		Identity string   `json:"identity"`
		Files    int      `json:"files"`
		Suites   []string `json:"suites"`
	}
	if err := s.Call(ctx, "POST", "/api/v1/packages/check", map[string]any{"files": s.files}, &out); err != nil {
		return err
	}
	s.say("package %s is sound: %d files, suite %s", agentName, out.Files, strings.Join(out.Suites, ", "))
	s.say("identity %s", out.Identity)
	return nil
}

func (s *story) converse(ctx context.Context) error {
	s.stage("3 Agent")
	m := s.traffic[0]
	s.say("customer: %s", m.Message)
	var run struct {
		ID     string `json:"id"`
		Output struct {
			Reply string `json:"reply"`
		} `json:"output"`
		Usage usage `json:"usage"`
	}
	err := s.Stream(ctx, "POST", "/api/v1/runs", map[string]any{"message": m.Message, "dir": s.files, "source": "demo"}, &run,
		func(data json.RawMessage) error {
			var e struct {
				Delta *struct {
					Text string `json:"text"`
					Tool string `json:"tool"`
				} `json:"delta"`
				Step *struct {
					Kind, Name, Text, Class string
					Took                    time.Duration
				} `json:"step"`
			}
			if err := json.Unmarshal(data, &e); err != nil {
				return err
			}
			switch {
			case e.Delta != nil && e.Delta.Tool != "":
				s.say("model:    calls %s", e.Delta.Tool)
			case e.Delta != nil:
				fmt.Print(e.Delta.Text)
			case e.Step != nil && e.Step.Kind == "tool":
				s.say("tool:     %s %s (%s) %s", e.Step.Name, e.Step.Text, e.Step.Took.Round(time.Millisecond), e.Step.Class)
			}
			return nil
		})
	if err != nil {
		return err
	}
	s.say("agent:    %s", run.Output.Reply)
	s.say("%s: %s, %s", s.model, run.Usage.tokens(), run.Usage.price())
	s.say("flywheel show %s", run.ID)
	return nil
}

// usage is what calls consumed.
type usage struct {
	In      int           `json:"in"`
	Out     int           `json:"out"`
	Cost    int64         `json:"cost"`
	Compute time.Duration `json:"compute"`
}

func (u usage) tokens() string { return fmt.Sprintf("%d tokens in, %d out", u.In, u.Out) }

func (u usage) price() string {
	if u.Cost > 0 {
		return fmt.Sprintf("$%.5f", float64(u.Cost)/1e9)
	}
	return fmt.Sprintf("no money, %.1f s of CPU", u.Compute.Seconds())
}

// tally is a sum of trials.
type tally struct {
	Trials int  `json:"trials"`
	Passed int  `json:"passed"`
	Rate   rate `json:"rate"`
	Action float64
	Usage  struct {
		In, Out int
		Cost    int64
		Compute time.Duration
		Calls   int `json:"tool_calls"`
		Failed  int `json:"tool_calls_failed"`
		Missed  int `json:"attempts_failed"`
	} `json:"usage"`
	Latency struct {
		P50 time.Duration `json:"p50"`
	} `json:"latency"`
}

type rate struct {
	Rate float64 `json:"rate"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

func (r rate) String() string {
	return fmt.Sprintf("%.0f%% [%.0f, %.0f]", 100*r.Rate, 100*r.Low, 100*r.High)
}

func (t tally) price() string {
	n := max(t.Trials, 1)
	if t.Usage.Cost > 0 {
		return fmt.Sprintf("$%.5f a run", float64(t.Usage.Cost)/1e9/float64(n))
	}
	return fmt.Sprintf("%.2f s of CPU a run", t.Usage.Compute.Seconds()/float64(n))
}

type trialProgress struct {
	Done, Total, Passed int
	Left                time.Duration
}

func (s *story) test(ctx context.Context) error {
	s.stage("4 Test")
	var out struct {
		Report struct {
			Experiment string
			Total      tally
			Baselines  *struct {
				Majority, Nearest float64
				Label             string
				Examples          int
			}
			Failing []struct {
				Check, Example string
				Count          int
			}
		}
	}
	err := s.Stream(ctx, "POST", "/api/v1/tests", map[string]any{"files": s.files, "split": "dev"}, &out, func(data json.RawMessage) error {
		var p trialProgress
		if err := json.Unmarshal(data, &p); err != nil {
			return err
		}
		s.progress("%d/%d trials, %d passed, %s left", p.Done, p.Total, p.Passed, p.Left.Round(time.Second))
		return nil
	})
	s.progressDone()
	if err != nil {
		return err
	}
	r := out.Report
	s.say("dev split: %d of %d passed: %s", r.Total.Passed, r.Total.Trials, r.Total.Rate)
	s.say("tools: %d calls, %d failed or were refused (outages and wrong choices are part of it)", r.Total.Usage.Calls, r.Total.Usage.Failed)
	if b := r.Baselines; b != nil {
		if b.Label == "" {
			b.Label = "no tool"
		}
		s.say("choice of tool alone: the model %.0f%%; without a model: always %s %.0f%%, nearest of %d examples %.0f%%",
			100*r.Total.Action, b.Label, 100*b.Majority, b.Examples, 100*b.Nearest)
	}
	for _, f := range r.Failing[:min(2, len(r.Failing))] {
		s.say("fails %d times on %s: %s", f.Count, f.Check, f.Example)
	}
	s.say("flywheel experiments show %s", r.Experiment)
	return nil
}

type releaseInfo struct {
	Digest string `json:"digest"`
	Number int    `json:"number"`
	Gate   struct {
		OK    bool
		Lines []line
	} `json:"gate"`
	Test *struct {
		Trials, Passed int
		Low, High      float64
	} `json:"test"`
	Comparison *struct {
		Better, Worse, Scenarios int
		Evidence                 float64
		Experiment               string
	} `json:"comparison"`
}

type line struct {
	Rule, Got, Want string
	OK              bool
}

func (s *story) release(ctx context.Context) error {
	s.stage("5 Release")
	var out struct {
		Release releaseInfo `json:"release"`
	}
	err := s.Stream(ctx, "POST", "/api/v1/releases", map[string]any{"files": s.files, "notes": "first release"}, &out, s.showTrials)
	s.progressDone()
	if err != nil {
		return err
	}
	s.first = out.Release
	return s.showRelease(ctx, s.first)
}

func (s *story) showTrials(data json.RawMessage) error {
	var p trialProgress
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	if p.Total > 0 {
		s.progress("audit split: %d/%d trials, %s left", p.Done, p.Total, p.Left.Round(time.Second))
	}
	return nil
}

func (s *story) showRelease(ctx context.Context, r releaseInfo) error {
	s.say("release %d  %s", r.Number, r.Digest)
	for _, l := range r.Gate.Lines {
		mark := "ok  "
		if !l.OK {
			mark = "FAIL"
		}
		s.say("%s %-9s %s (want %s)", mark, l.Rule, l.Got, l.Want)
	}
	var v struct {
		OK     bool
		Checks []struct {
			Name string
			OK   bool
		}
	}
	if err := s.Call(ctx, "GET", fmt.Sprintf("/api/v1/verify?release=%d", r.Number), nil, &v); err != nil {
		return err
	}
	s.say("verified: %v, %d checks of bytes, signature and attestations", v.OK, len(v.Checks))
	return nil
}

func (s *story) deploy(ctx context.Context) error {
	s.stage("6 Deploy")
	if err := s.Call(ctx, "POST", "/api/v1/deployments", map[string]any{"channel": "prod", "release": fmt.Sprint(s.first.Number), "why": "first release"}, nil); err != nil {
		return err
	}
	s.say("release %d serves channel prod as model %s", s.first.Number, s.name("prod"))
	s.say("curl %s/v1/chat/completions -H 'Authorization: Bearer …' -d '{\"model\":\"%s\",\"messages\":[…]}'", s.url, s.name("prod"))
	return nil
}
