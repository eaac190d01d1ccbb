package evolve

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/op"
)

func writeEvent(w io.Writer, e *Event) {
	if e.Progress != nil {
		p := e.Progress
		left := ""
		if p.Left > 0 {
			left = ", " + p.Left.Round(time.Second).String() + " left"
		}
		_, _ = fmt.Fprintf(w, "\r  %d/%d trials%s: %d better, %d worse, e-value %s   ", p.Done, p.Total, left, p.Better, p.Worse, FormatE(p.Evidence))
		if p.Done >= p.Total {
			_, _ = fmt.Fprintln(w)
		}
		return
	}
	_, _ = fmt.Fprintf(w, "%-9s %s\n", e.Stage, e.Text)
}

func writeCycle(w io.Writer, c *Cycle) {
	_, _ = fmt.Fprintf(w, "\n%s: %s from release %s\n\n", c.ID, op.Count(len(c.Proposals), "proposal"), blob.Digest(c.Base).Short())
	writeTable(w, c.Proposals)
	for _, p := range c.Proposals {
		if p.State == Ready {
			_, _ = fmt.Fprintf(w, "\nnext: flywheel proposal %s, then flywheel approve %s\n", p.ID, strings.Join(readyIDs(c.Proposals), " "))
			return
		}
	}
	if c.Note != "" {
		_, _ = fmt.Fprintln(w, c.Note)
	}
}

func readyIDs(all []*Proposal) []string {
	var ids []string
	for _, p := range all {
		if p.State == Ready {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func writeList(w io.Writer, out *listOut) {
	if len(out.Proposals) == 0 {
		_, _ = fmt.Fprintln(w, "no proposals: flywheel evolve makes them from what production recorded")
		return
	}
	writeTable(w, out.Proposals)
}

func writeTable(w io.Writer, all []*Proposal) {
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "PROPOSAL\tSTATE\tDEV\tAUDIT\tCHANGE")
	for _, p := range all {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.ID, p.State, short(p.Dev), short(p.Audit), p.Title)
	}
	_ = t.Flush()
}

func short(e *Evidence) string {
	if e == nil || e.Comparison == nil {
		return "-"
	}
	return fmt.Sprintf("%+.0f points, e %s", 100*e.Comparison.Diff.Diff, FormatE(e.Comparison.Evidence))
}

func writeProposal(w io.Writer, p *Proposal) {
	_, _ = fmt.Fprintf(w, "%s  %s  %s\n%s\n", p.ID, p.Kind, p.State, p.Title)
	if p.Reason != "" {
		_, _ = fmt.Fprintf(w, "rejected: %s\n", p.Reason)
	}
	_, _ = fmt.Fprintf(w, "from release %s, candidate package %s\n\nwhat was seen\n", blob.Digest(p.Base).Short(), p.Candidate.Short())
	for _, line := range p.Why {
		_, _ = fmt.Fprintf(w, "  - %s\n", line)
	}
	_, _ = fmt.Fprintln(w, "\nwhat changes")
	for _, c := range p.Changes {
		switch {
		case len(c.Content) > 0:
			_, _ = fmt.Fprintf(w, "  %s: %d lines\n", c.File, strings.Count(string(c.Content), "\n"))
		case c.Value == nil:
			_, _ = fmt.Fprintf(w, "  %s: %s removed\n", c.File, strings.Join(c.Path, "."))
		default:
			_, _ = fmt.Fprintf(w, "  %s: %s = %s\n", c.File, strings.Join(c.Path, "."), valueText(c.Value))
		}
	}
	writeEvidence(w, p.Dev)
	writeEvidence(w, p.Audit)
	if len(p.Transitions) > 0 {
		_, _ = fmt.Fprintln(w, "\nhistory")
	}
	for _, t := range p.Transitions {
		_, _ = fmt.Fprintf(w, "  %s  %-11s %-8s %s\n", t.At.Local().Format(time.DateTime), t.To, t.By, t.Note)
	}
}

func writeEvidence(w io.Writer, e *Evidence) {
	if e == nil {
		return
	}
	_, _ = fmt.Fprintf(w, "\nevidence on %s: %s\n", e.Split, e.Verdict)
	if c := e.Comparison; c != nil {
		_, _ = fmt.Fprintf(w, "  success %.0f%% → %.0f%% on %d scenarios (%+.0f points [%+.0f, %+.0f]); tool calls failed %d → %d\n",
			100*c.Base.Rate.Rate, 100*c.Candidate.Rate.Rate, c.Scenarios, 100*c.Diff.Diff, 100*c.Diff.Low, 100*c.Diff.High,
			c.Base.Usage.Failed, c.Candidate.Usage.Failed)
	}
	for _, l := range e.Lines {
		mark := "ok  "
		if !l.OK {
			mark = "FAIL"
		}
		_, _ = fmt.Fprintf(w, "  %s  %-16s %s (want %s)\n", mark, l.Rule, l.Got, l.Want)
	}
}

func writeApproved(w io.Writer, out *ApproveOut) {
	_, _ = fmt.Fprintf(w, "release %d of %s: %s\nnext: flywheel deploy prod %d --canary 20%%\n", out.Number, out.Agent, blob.Digest(out.Release).Short(), out.Number)
}

func writeRejected(w io.Writer, out *rejectOut) {
	_, _ = fmt.Fprintf(w, "rejected %s\n", strings.Join(out.Proposals, ", "))
}

func writeApplied(w io.Writer, out *applyOut) {
	_, _ = fmt.Fprintf(w, "changes of %s written; look at them with git diff, then: flywheel check\n", out.Proposal)
}

// valueText is a changed value as it would stand in a file.
func valueText(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
