package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/lab/check"
	"flywheel/internal/lab/faults"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/clock"
	"flywheel/internal/run"
	"flywheel/internal/tool/world"
	"flywheel/spec"
)

// The results of a trial.
const (
	Passed  = "passed"
	Failed  = "failed"
	Errored = "error" // it could not be judged
)

// Virtual time: trials begin at one moment; a model call and the user's next turn take a fixed time, so
// that outages in time pass by in the same way in every arm.
var trialStart = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

const (
	modelTakes = time.Second
	userTakes  = 5 * time.Second
)

// Trial is the result of one trial.
type Trial struct {
	ID         string         `json:"id"`
	Experiment string         `json:"experiment"` // that ran it
	Suite      blob.Digest    `json:"suite"`
	Identity   blob.Digest    `json:"identity"`
	Scenario   string         `json:"scenario"`
	Family     string         `json:"family"`
	Trial      int            `json:"trial"` // from 0
	Seed       uint64         `json:"seed,string"`
	Status     string         `json:"status"`
	Error      string         `json:"error,omitempty"` // why it could not be judged
	Failed     []check.Failed `json:"failed,omitempty"`
	Replies    []string       `json:"replies,omitempty"`
	Called     []string       `json:"called,omitempty"` // tools in the order of their calls
	Usage      Usage          `json:"usage"`
	ToolTime   time.Duration  `json:"tool_time"`  // virtual, nanoseconds
	ModelTime  time.Duration  `json:"model_time"` // real, nanoseconds
	Tools      []ToolTally    `json:"tools,omitempty"`
	At         time.Time      `json:"at"`
	Transcript []Step         `json:"transcript,omitempty"`

	cause error // of Error
}

// Latency is what a user would have waited.
func (t *Trial) Latency() time.Duration { return t.ToolTime + t.ModelTime }

// Step is a line of a transcript.
type Step struct {
	Turn     int              `json:"turn"` // from 1
	Kind     string           `json:"kind"` // user, model, tool, ask, reply, failure
	Node     string           `json:"node,omitempty"`
	Text     string           `json:"text,omitempty"`
	Asked    []model.ToolCall `json:"asked,omitempty"` // tool calls of a model's answer
	Tool     string           `json:"tool,omitempty"`
	Args     json.RawMessage  `json:"args,omitempty"`
	Out      json.RawMessage  `json:"out,omitempty"`
	Class    string           `json:"class,omitempty"`
	Attempts []AttemptedCall  `json:"attempts,omitempty"` // only when there was more than a good one
	At       time.Duration    `json:"at"`                 // virtual time since the trial began
}

// AttemptedCall is one try of a tool.
type AttemptedCall struct {
	Tool   string        `json:"tool"`
	Class  string        `json:"class,omitempty"`
	Status int           `json:"status,omitempty"`
	For    time.Duration `json:"for"`
	Waited time.Duration `json:"waited,omitempty"`
}

// maxStepText bounds texts and answers in transcripts.
const maxStepText = 4 << 10

// trialID names a trial by everything that decides it.
func trialID(sub *subject, su *suite, scenario string, trial int, seed uint64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%d\n%d", sub.key, su.digest, scenario, trial, seed))
	return "trial_" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
}

// job is one trial to do.
type job struct {
	sub      *subject
	su       *suite
	scenario *spec.Scenario
	trial    int
	seed     uint64 // of the experiment
	id       string
	arm      int  // of a comparison: 0 base, 1 candidate
	order    int  // of the scenario
	live     bool // ask models again instead of taking answers from the tape
}

// runTrial plays one scenario. The error is that of ctx; everything else is in the trial.
func (s *Service) runTrial(ctx context.Context, j job) (*Trial, error) {
	t := &Trial{
		ID: j.id, Suite: j.su.digest, Identity: j.sub.identity, Scenario: j.scenario.Name, Family: j.scenario.Family,
		Trial: j.trial, Seed: j.seed, At: s.deps.Clock.Now(),
	}
	base := j.su.worlds[j.scenario.World]
	if base == nil {
		base = world.Empty()
	}
	clk := clock.NewVirtual(trialStart)
	seed := faults.Seed(j.seed, j.scenario.Name, j.trial)
	e := newEffects(s, j, seed, base.Fork(), clk)
	var last run.Ended
	var history []run.Message
	for turn, says := range j.scenario.Says {
		if turn > 0 {
			clk.Advance(userTakes)
		}
		e.turn(turn+1, says)
		ended, err := e.drive(ctx, turn, says, history)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if broken := cmp.Or(err, e.broken); broken != nil {
			return e.unjudged(t, broken), nil
		}
		last = ended
		t.Usage.Steps += ended.Steps
		t.Replies = append(t.Replies, ended.Output.Reply)
		e.ended(ended)
		history = append(history, run.Message{Role: model.RoleUser, Content: says})
		if ended.Output.Reply != "" {
			history = append(history, run.Message{Role: model.RoleAssistant, Content: ended.Output.Reply})
		}
	}
	e.fill(t)
	t.Failed = check.Run(j.scenario.Expect, e.evidence(t, base, last))
	t.Status = Passed
	if len(t.Failed) > 0 {
		t.Status = Failed
	}
	return t, nil
}

// unjudged is a trial that says nothing about the agent, and why.
func (e *effects) unjudged(t *Trial, err error) *Trial {
	t.Status, t.Error, t.cause = Errored, err.Error(), err
	e.fill(t)
	return t
}

// evidence is what the checks look at.
func (e *effects) evidence(t *Trial, base *world.Base, last run.Ended) check.Evidence {
	ev := check.Evidence{
		World: e.world, Calls: e.calls, Steps: t.Usage.Steps, Cost: t.Usage.Cost, Time: t.Latency(),
		Claims: e.job.su.spec.Claims, Answer: last.Output.Reply,
	}
	if e.job.scenario.World != "" {
		ev.Base = base
	}
	if f := last.Failure; f != nil {
		ev.Failure = f.Class + ": " + f.Message
	}
	return ev
}

// reason is the first thing that is wrong with a trial.
func (t *Trial) reason() string {
	if t.Status == Errored {
		return t.Error
	}
	if len(t.Failed) > 0 {
		return t.Failed[0].Check + ": " + t.Failed[0].Reason
	}
	return ""
}
