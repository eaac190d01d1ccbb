package observe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"flywheel/internal/platform/interval"
	"flywheel/internal/platform/op"
)

func printOutcome(w io.Writer, o *Outcome) {
	_, _ = fmt.Fprintf(w, "%s: %s, by %s %s\n", orElse(o.Run, "session "+o.Session), o.Verdict, o.Source, o.Who)
}

func printOutcomes(w io.Writer, out *outcomesOut) {
	if len(out.Outcomes) == 0 {
		_, _ = fmt.Fprintln(w, "nobody has said whether this run solved its task")
		return
	}
	t := newTable(w)
	for _, o := range out.Outcomes {
		mark := ""
		if out.Counts != nil && o.ID == out.Counts.ID {
			mark = "counts"
		}
		t.row(o.At.Local().Format(time.DateTime), o.Verdict, o.Source, o.Who, o.Note, mark)
	}
	t.flush()
}

func printFindings(w io.Writer, out *findingsOut) {
	if len(out.Findings) == 0 {
		_, _ = fmt.Fprintln(w, "no failures that anybody knows of")
		return
	}
	t := newTable(w)
	t.row("FINDING", "RUNS", "SHARE", "SINCE", "SUSPECT", "TITLE")
	for _, f := range out.Findings {
		t.row(f.Fingerprint, fmt.Sprint(f.Count), percent(f.Share), releaseName(f.SinceNumber),
			strings.TrimSpace(f.Suspect.Component+" "+f.Suspect.Name), f.Title)
	}
	t.flush()
	_, _ = fmt.Fprintf(w, "\nflywheel finding %s shows its runs; flywheel evolve proposes changes\n", out.Findings[0].Fingerprint)
}

func printFinding(w io.Writer, f *Finding) {
	_, _ = fmt.Fprintf(w, "%s  %s\n", f.Fingerprint, f.Title)
	_, _ = fmt.Fprintf(w, "  %d of %s of %s (%s), since %s, last %s\n", f.Count, op.Count(f.Runs, "run"), f.Agent, percent(f.Share),
		releaseName(f.SinceNumber), f.LastAt.Local().Format(time.DateTime))
	_, _ = fmt.Fprintf(w, "  suspect: %s %s: %s\n", f.Suspect.Component, f.Suspect.Name, f.Suspect.Why)
	if f.Expected != "" {
		_, _ = fmt.Fprintf(w, "  expected: %s, got: %s\n", f.Expected, orElse(f.What, "nothing"))
	}
	_, _ = fmt.Fprintf(w, "  path: %s\n\n", f.Path)
	t := newTable(w)
	for _, r := range f.Releases {
		t.row("  "+releaseName(r.Number), fmt.Sprintf("%d of %s", r.Count, op.Count(r.Runs, "run")), percent(r.Share))
	}
	t.flush()
	_, _ = fmt.Fprintln(w)
	for _, e := range f.Examples {
		_, _ = fmt.Fprintf(w, "  %s  %s\n    user:  %s\n    reply: %s\n", e.Run, e.At.Local().Format(time.DateTime), oneLine(e.User), oneLine(e.Reply))
	}
	if len(f.Examples) > 0 {
		_, _ = fmt.Fprintf(w, "\nflywheel show %s\n", f.Examples[0].Run)
	}
}

func printStats(w io.Writer, out *statsOut) {
	if len(out.Stats) == 0 {
		_, _ = fmt.Fprintln(w, "no runs yet: flywheel run \"…\"")
		return
	}
	t := newTable(w)
	t.row("AGENT", "RELEASE", "RUNS", "SUCCESS", "UNKNOWN", "TOOL FAILURES", "TOKENS", "COST", "CPU", "P50", "P95")
	for _, s := range out.Stats {
		name := releaseName(s.Number)
		if s.Forced {
			name += " (forced)"
		}
		t.row(s.Agent, name, fmt.Sprint(s.Runs), rate(s.Success), fmt.Sprint(s.Unknown),
			fmt.Sprintf("%d of %d", s.ToolErrors, s.ToolCalls), fmt.Sprint(s.TokensIn+s.TokensOut), op.Money(s.Cost),
			s.Compute.Round(time.Millisecond).String(), s.P50.Round(time.Millisecond).String(), s.P95.Round(time.Millisecond).String())
	}
	t.flush()
}

func printTimeline(w io.Writer, out *timelineOut) {
	if len(out.Marks) == 0 {
		_, _ = fmt.Fprintln(w, "nothing was released yet: flywheel release")
		return
	}
	t := newTable(w)
	for _, m := range out.Marks {
		var what string
		switch {
		case m.Kind == "created":
			what = fmt.Sprintf("release %d", m.To)
		case m.From == 0 && m.Share == 0:
			what = fmt.Sprintf("%s: %s", m.Kind, releaseName(m.To))
		case m.Share > 0:
			what = fmt.Sprintf("%s: %s for %s", m.Kind, releaseName(m.To), percent(m.Share))
		default:
			what = fmt.Sprintf("%s: %s → %s", m.Kind, releaseName(m.From), releaseName(m.To))
		}
		t.row(m.At.Local().Format(time.DateTime), m.Agent, m.Channel, what, m.Who, m.Why)
	}
	t.flush()
}

// table aligns columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)} }

func (t table) row(cells ...string) { _, _ = fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t table) flush() { _ = t.w.Flush() }

func rate(r interval.Rate) string {
	if r.Trials == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s to %s, %d of %d)", percent(r.Value), percent(r.Low), percent(r.High), r.Successes, r.Trials)
}

func percent(p float64) string { return fmt.Sprintf("%.1f%%", 100*p) }

func releaseName(number int) string {
	if number == 0 {
		return "unreleased"
	}
	return fmt.Sprintf("release %d", number)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}
