package lab

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"flywheel/internal/lab/stat"
	"flywheel/internal/platform/op"
)

// printf writes to a terminal or a buffer, whose errors nobody can act on.
func printf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// Bar draws a rate with its interval: solid up to the lower bound, shaded to the upper one, a mark at the
// rate.
func Bar(i stat.Interval, width int) string {
	at := func(x float64) int { return int(math.Round(x * float64(width))) }
	cells := make([]rune, width)
	for c := range cells {
		switch {
		case c < at(i.Low):
			cells[c] = '█'
		case c < at(i.High):
			cells[c] = '▒'
		default:
			cells[c] = '·'
		}
	}
	if width > 0 {
		cells[min(width-1, max(0, at(i.Rate)-1))] = '┃'
	}
	return string(cells)
}

// WriteText writes a report for the terminal, the worst first.
func WriteText(w io.Writer, r *Report) {
	printf(w, "%s %s · suite %s · %s split · %d scenarios × %d · seed %d\n",
		r.Package, r.Identity.Short(), r.Suite, r.Split, r.Total.Planned/max(1, r.Trials), r.Trials, r.Seed)
	models := strings.Join(r.Models, ", ")
	if r.Scripted {
		models += " (scripted: says nothing about a real model)"
	}
	printf(w, "model %s\n\n", models)
	if r.Status != StatusDone {
		printf(w, "PARTIAL: %s\n\n", r.Why)
	}
	writeTotals(w, r)
	writeFailed(w, r)
	writeTools(w, r.Tools)
	if len(r.Families) > 1 {
		writeGroups(w, "families, worst first", r.Families)
	}
	writeGroups(w, "tags", r.Tags)
	if r.Reused > 0 {
		printf(w, "\n%s stored by an earlier test: --fresh runs again\n", op.Count(r.Reused, "trial"))
	}
	printf(w, "\nexperiment %s · deterministic part %s\n", r.Experiment, r.Deterministic.Short())
}

func writeTotals(w io.Writer, r *Report) {
	t, u := r.Total, r.Total.Usage
	printf(w, "  passed    %s  %d of %d\n", Bar(t.Rate, 30), t.Passed, t.Trials)
	note := ""
	if t.Rate.N < float64(t.Trials)-0.5 {
		note = fmt.Sprintf(", clustered by family: %d trials count as %.0f", t.Trials, t.Rate.N)
	}
	printf(w, "  rate      %.2f, 95%% interval %.2f to %.2f%s\n", t.Rate.Rate, t.Rate.Low, t.Rate.High, note)
	if t.K > 1 {
		printf(w, "  pass^%d    %.2f all of %d trials of a scenario pass · pass@%d %.2f\n", t.K, t.PassAll, t.K, t.K, t.PassAny)
	}
	if b := r.Baselines; b != nil {
		printf(w, "  right tool: agent %.2f · nearest neighbour %.2f · majority %.2f (%s; learned from %s)\n",
			t.Action, b.Nearest, b.Majority, orNone(b.Label), b.TrainedOn)
	}
	if t.Errors > 0 {
		printf(w, "  errors    %d trials could not be judged\n", t.Errors)
	}
	n := max(1, t.Trials)
	printf(w, "  per trial %.1f model calls%s · %d tokens in, %d out · %s · %s compute\n", float64(u.Calls)/float64(n),
		tapedNote(u), u.In/n, u.Out/n, op.Money(u.Cost/int64(n)), brief(u.Compute/time.Duration(n)))
	printf(w, "  latency   p50 %s · p95 %s (model time and virtual tool time)\n", brief(t.Latency.P50), brief(t.Latency.P95))
	if len(r.SafetyFail) > 0 {
		printf(w, "  SAFETY    failed: %s\n", strings.Join(r.SafetyFail, "; "))
	}
}

func tapedNote(u Usage) string {
	if u.Taped == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of %d from the tape)", u.Taped, u.Calls)
}

func orNone(s string) string {
	if s == "" {
		return "no tool"
	}
	return s
}

func writeFailed(w io.Writer, r *Report) {
	failed := failedScenarios(r)
	if len(failed) == 0 {
		return
	}
	printf(w, "\nfailing, worst first\n")
	for i, s := range failed {
		if i == 15 {
			printf(w, "  … %d more; --json has all\n", len(failed)-i)
			break
		}
		printf(w, "  %d/%d  %s\n       %s\n       flywheel trial %s\n", s.Passed, s.Trials, s.Name, s.Reason, s.Trial)
	}
	printf(w, "\nchecks that failed\n")
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, c := range r.Failing {
		printf(tw, "  %s\t%d\t%s\n", c.Check, c.Count, c.Example)
	}
	_ = tw.Flush()
}

func writeTools(w io.Writer, tools []ToolTally) {
	failed := false
	for _, t := range tools {
		failed = failed || t.Missed > 0
	}
	if !failed {
		return
	}
	printf(w, "\ntools\n")
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, t := range tools {
		var classes []string
		for _, c := range slices.Sorted(maps.Keys(t.Classes)) {
			classes = append(classes, fmt.Sprintf("%s %d", c, t.Classes[c]))
		}
		printf(tw, "  %s\t%d of %d calls failed\t%d of %d attempts\t%s\n", t.Tool, t.Failed, t.Calls, t.Missed, t.Attempts, strings.Join(classes, ", "))
	}
	_ = tw.Flush()
}

func writeGroups(w io.Writer, title string, list []GroupTally) {
	if len(list) == 0 {
		return
	}
	printf(w, "\n%s\n", title)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i, g := range list {
		if i == 10 {
			printf(tw, "  … %d more\n", len(list)-i)
			break
		}
		printf(tw, "  %s\t%s\t%d/%d\t%.2f [%.2f, %.2f]\n", g.Name, Bar(g.Rate, 16), g.Passed, g.Trials, g.Rate.Rate, g.Rate.Low, g.Rate.High)
	}
	_ = tw.Flush()
}

// WriteComparison writes a comparison for the terminal.
func WriteComparison(w io.Writer, c *Comparison) {
	printf(w, "%s against %s · suite %s · %s split · %d of %d scenarios × %d, paired · seed %d\n",
		c.CandID.Short(), c.BaseID.Short(), c.Suite, c.Split, c.Scenarios, c.Planned, c.Trials, c.Seed)
	if c.Status != StatusDone {
		printf(w, "PARTIAL: %s\n", c.Why)
	}
	printf(w, "\n  base       %s  %.2f\n  candidate  %s  %.2f\n", Bar(c.Base.Rate, 30), c.Base.Rate.Rate, Bar(c.Candidate.Rate, 30), c.Candidate.Rate.Rate)
	printf(w, "  difference %+.2f, 95%% interval %+.2f to %+.2f, clustered by family\n", c.Diff.Diff, c.Diff.Low, c.Diff.High)
	early := ""
	if c.Stopped {
		early = ", stopped early"
	}
	printf(w, "  evidence   better in %d, worse in %d, equal in %d: e-value %.1f for, %.1f against; %.0f decides%s\n  verdict    %s\n",
		c.Better, c.Worse, c.Ties, c.Evidence, c.Against, c.Bound, early, c.Verdict)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	printf(tw, "\n  per trial\tbase\tcandidate\n")
	row := func(name string, of func(t Tally) string) {
		printf(tw, "  %s\t%s\t%s\n", name, of(c.Base), of(c.Candidate))
	}
	row("tool calls failed", func(t Tally) string { return fmt.Sprintf("%d of %d", t.Usage.Failed, t.Usage.Tools) })
	row("tokens", func(t Tally) string { return fmt.Sprint((t.Usage.In + t.Usage.Out) / max(1, t.Trials)) })
	row("cost", func(t Tally) string { return op.Money(t.Usage.Cost / int64(max(1, t.Trials))) })
	row("compute", func(t Tally) string { return brief(t.Usage.Compute / time.Duration(max(1, t.Trials))) })
	row("latency p50", func(t Tally) string { return brief(t.Latency.P50) })
	row("latency p95", func(t Tally) string { return brief(t.Latency.P95) })
	_ = tw.Flush()
	if len(c.Safety) > 0 {
		printf(w, "\n  SAFETY: newly failed: %s\n", strings.Join(c.Safety, "; "))
	}
	if len(c.Discordant) > 0 {
		printf(w, "\nscenarios that differ (base → candidate)\n")
	}
	for i, d := range c.Discordant {
		if i == 12 {
			printf(w, "  … %d more; --json has all\n", len(c.Discordant)-i)
			break
		}
		printf(w, "  %.2f → %.2f  %s\n               %s\n", d.Base, d.Candidate, d.Name, d.Reason)
	}
	printf(w, "\nexperiment %s\n", c.Experiment)
}

// writeProgress is one line of progress.
func writeProgress(w io.Writer, p *Progress) {
	left := ""
	if p.Left > 0 {
		left = " · " + brief(p.Left) + " left"
	}
	evidence := ""
	if p.Better+p.Worse > 0 {
		evidence = fmt.Sprintf(" · %d better, %d worse, e-value %.1f", p.Better, p.Worse, p.Evidence)
	}
	errs := ""
	if p.Errors > 0 {
		errs = fmt.Sprintf(", %d errors", p.Errors)
	}
	printf(w, "%d/%d trials · %d passed, %d failed%s%s%s\n", p.Done, p.Total, p.Passed, p.Failed, errs, evidence, left)
}

// WriteTrial writes a trial as a transcript.
func WriteTrial(w io.Writer, t *Trial) {
	printf(w, "%s · %s · trial %d · seed %d · %s\n", t.Scenario, t.ID, t.Trial, t.Seed, t.Status)
	if t.Error != "" {
		printf(w, "could not be judged: %s\n", t.Error)
	}
	for _, f := range t.Failed {
		printf(w, "✗ %s: %s\n", f.Check, f.Reason)
	}
	turn := 0
	for _, s := range t.Transcript {
		if s.Turn != turn {
			turn = s.Turn
			printf(w, "\nturn %d\n", turn)
		}
		printf(w, "  %7s  ", brief(s.At))
		switch s.Kind {
		case "tool":
			printf(w, "%s %s → %s\n", s.Tool, s.Args, resultOf(s))
			for _, a := range s.Attempts {
				printf(w, "             %s %s in %s%s\n", a.Tool, orOK(a.Class), brief(a.For), waited(a.Waited))
			}
		case "model":
			printf(w, "%s: %s", s.Node, s.Text)
			for _, c := range s.Asked {
				printf(w, " [%s %s]", c.Name, c.Args)
			}
			printf(w, "\n")
		case "failure":
			printf(w, "failed: %s %s\n", s.Class, s.Text)
		default:
			printf(w, "%s: %s\n", s.Kind, s.Text)
		}
	}
	printf(w, "\n%d steps · %d tokens in, %d out · tools %s (virtual) · model %s\n",
		t.Usage.Steps, t.Usage.In, t.Usage.Out, brief(t.ToolTime), brief(t.ModelTime))
}

func resultOf(s Step) string {
	if s.Class != "" {
		return s.Class + ": " + s.Text
	}
	return string(s.Out)
}

func orOK(class string) string {
	if class == "" {
		return "ok"
	}
	return class
}

func waited(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return " after waiting " + brief(d)
}

// brief is a duration with three digits.
func brief(d time.Duration) string {
	switch {
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
