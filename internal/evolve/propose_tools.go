package evolve

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// ToolPolicyProposer fits timeout, retry, backoff and backup of a tool to the errors that production
// saw. It says nothing about tools that seldom fail, and never makes a write repeatable that is not.
type ToolPolicyProposer struct{}

// minFailures is how many transient failures make a process worth fitting.
const minFailures = 3

// Fit is the analysis behind a tool policy.
type Fit struct {
	Process  Process  `json:"process"`
	Policy   Policy   `json:"policy"`
	Forecast Forecast `json:"forecast"`
	Today    Forecast `json:"today"` // of the policy that runs now
	// Later is the check on time: the process was fitted to the earlier part, and met the later one.
	Later Holdout `json:"later"`
}

// Holdout compares the rate of failing attempts that was fitted with the one that came afterwards.
type Holdout struct {
	Attempts int     `json:"attempts"`
	Fitted   float64 `json:"fitted"`
	Seen     float64 `json:"seen"`
}

// Propose makes one draft for all tools that fail often enough.
func (ToolPolicyProposer) Propose(_ context.Context, s Situation) ([]Draft, error) {
	var seen []Observation
	for _, r := range s.Runs {
		seen = append(seen, r.Attempts...)
	}
	names := map[string]int{}
	for _, o := range seen {
		if transient(o.Class) {
			names[o.Tool]++
		}
	}
	failing := make([]string, 0, len(names))
	for n, k := range names {
		if k >= minFailures && s.Pack.Package.Tools[n] != nil {
			failing = append(failing, n)
		}
	}
	sort.Strings(failing)
	var drafts []Draft
	for _, name := range failing {
		d, err := proposePolicy(s, name, seen)
		if err != nil {
			return nil, err
		}
		if d != nil {
			drafts = append(drafts, *d)
		}
	}
	return drafts, nil
}

func proposePolicy(s Situation, name string, seen []Observation) (*Draft, error) {
	declared := s.Pack.Package.Tools[name]
	file, err := toolFile(s.Pack, name)
	if err != nil || file == "" {
		return nil, err
	}
	process := FitProcess(name, seen)
	backup, backupRate := "", 1.0
	if b := twin(s.Pack.Package, declared); b != nil {
		backup = b.Name
		backupRate = rateOfBackup(b.Name, seen)
	}
	policy, forecast := Choose(process, backup, backupRate, patience(s.Pack.Package))
	if !repeatable(declared) {
		policy, forecast = Policy{Timeout: policy.Timeout}, process.Forecast(Policy{}, 1)
	}
	today := process.Forecast(policyOf(declared), backupRateIfDeclared(declared, seen))
	if forecast.Success <= today.Success+tolerance {
		return nil, nil
	}
	path := []string{"tools", name}
	changes := []agent.Change{{File: file, Path: append(path, "timeout"), Value: policy.Timeout.String()}}
	if policy.Retries > 0 {
		retry := map[string]any{"max": int64(policy.Retries)}
		if policy.From > 0 {
			retry["backoff"] = fmt.Sprintf("%s..%s", policy.From, policy.To)
		}
		changes = append(changes, agent.Change{File: file, Path: append(path[:2:2], "retry"), Value: retry})
	}
	if policy.Backup != "" {
		changes = append(changes, agent.Change{File: file, Path: append(path[:2:2], "backup"), Value: policy.Backup})
	}
	return &Draft{
		Kind: KindToolPolicy, Goal: GoalBetter, Title: fmt.Sprintf("%s: %s", name, policy),
		Why: why(process, forecast, today, policy.Backup, backupRate), Changes: changes,
		Fit: Fit{Process: process, Policy: policy, Forecast: forecast, Today: today, Later: holdOut(name, seen)},
	}, nil
}

func why(p Process, forecast, today Forecast, backup string, backupRate float64) []string {
	var classes []string
	for c, n := range p.Classes {
		classes = append(classes, fmt.Sprintf("%d %s", n, c))
	}
	sort.Strings(classes)
	out := []string{fmt.Sprintf("%d of %d attempts failed (%s)", p.Failures, p.Attempts, strings.Join(classes, ", "))}
	switch {
	case p.Outages > 0.9:
		out = append(out, fmt.Sprintf("failures come in outages, over in about %s: a retry at once meets the same outage", p.Recovery.Round(100*time.Millisecond)))
	case p.Outages < 0.1:
		out = append(out, "failures are independent of each other: a retry at once is enough")
	default:
		out = append(out, fmt.Sprintf("outages or independent failures: %.0f%% to %.0f%%; the policy must do for both", 100*p.Outages, 100*(1-p.Outages)))
	}
	out = append(out, fmt.Sprintf("expected success of a call: %.1f%% today, %.1f%% then, with %.2f attempts a call", 100*today.Success, 100*forecast.Success, forecast.Attempts))
	if backup != "" {
		out = append(out, fmt.Sprintf("%s takes the same arguments and has the same effect, and shares the idempotency key; it is taken to fail %.0f%% of the time", backup, 100*backupRate))
	}
	return out
}

// twin is another tool with the same effect, arguments and last name, such as cards_mirror.freeze for
// cards.freeze: what its author offered as a second way.
func twin(p *spec.Package, t *spec.Tool) *spec.Tool {
	last := t.Name[strings.LastIndex(t.Name, ".")+1:]
	var names []string
	for n := range p.Tools {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		o := p.Tools[n]
		if n != t.Name && n[strings.LastIndex(n, ".")+1:] == last && o.Effect == t.Effect && string(o.In) == string(t.In) {
			return o
		}
	}
	return nil
}

// repeatable says whether a call may be made again after a failure that hides whether it happened.
func repeatable(t *spec.Tool) bool { return t.Effect == spec.EffectRead || t.Idempotency != "" }

// patience is how long a call may take at worst: two thirds of what a run is allowed.
func patience(p *spec.Package) time.Duration { return p.Limits.Time.Or(60*time.Second) * 2 / 3 }

func policyOf(t *spec.Tool) Policy {
	p := Policy{Timeout: t.Timeout.Or(10 * time.Second), Backup: t.Backup}
	if t.Retry != nil {
		p.Retries, p.From, p.To = t.Retry.Max, time.Duration(t.Retry.Backoff.From), time.Duration(t.Retry.Backoff.To)
	}
	return p
}

func backupRateIfDeclared(t *spec.Tool, seen []Observation) float64 {
	if t.Backup == "" {
		return 1
	}
	return rateOfBackup(t.Backup, seen)
}

// A backup that was seldom called is assumed to fail every tenth time; the canary will tell.
const (
	assumedRate = 0.1
	seldom      = 10
)

func rateOfBackup(name string, seen []Observation) float64 {
	p := FitProcess(name, seen)
	if p.Attempts < seldom {
		return max(p.Rate*float64(p.Attempts)/seldom, assumedRate)
	}
	return p.Rate
}

func holdOut(name string, seen []Observation) Holdout {
	var mine []Observation
	for _, o := range seen {
		if o.Tool == name {
			mine = append(mine, o)
		}
	}
	sort.SliceStable(mine, func(i, j int) bool { return mine[i].At.Before(mine[j].At) })
	cut := len(mine) * 6 / 10
	early, late := mine[:cut], mine[cut:]
	failed := 0
	for _, o := range late {
		if o.Class != tool.OK {
			failed++
		}
	}
	return Holdout{Attempts: len(late), Fitted: FitProcess(name, early).Rate, Seen: float64(failed) / float64(max(len(late), 1))}
}
