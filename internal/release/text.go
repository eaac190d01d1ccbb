package release

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"flywheel/internal/agent"
	"flywheel/internal/platform/op"
)

func lockWord(l *agent.Lock, made bool) string {
	if made {
		return op.Count(len(l.Lines), "component") + " pinned"
	}
	return fmt.Sprintf("%s, as in %s", op.Count(len(l.Lines), "component"), agent.LockFile)
}

func printProgress(w io.Writer, p *Progress) {
	if p.Total == 0 {
		_, _ = fmt.Fprintf(w, "%-6s %s\n", p.Stage, p.Message)
		return
	}
	_, _ = fmt.Fprintf(w, "%-6s %s: %d of %d, %d passed", p.Stage, p.Message, p.Done, p.Total, p.Passed)
	if p.Left > 0 {
		_, _ = fmt.Fprintf(w, ", %s left", p.Left.Round(time.Second))
	}
	_, _ = fmt.Fprintln(w)
}

func printCreated(w io.Writer, out *createOut) {
	if out.Release == nil {
		return
	}
	printRelease(w, out.Release)
	_, _ = fmt.Fprintf(w, "\nflywheel deploy prod %d\n", out.Release.Number)
}

func printRelease(w io.Writer, r *Release) {
	_, _ = fmt.Fprintf(w, "%s  %s%s\n", r.Name(), r.Digest, mark(r.Forced))
	if r.Existing {
		_, _ = fmt.Fprintln(w, "  nothing has changed since it was released")
	}
	_, _ = fmt.Fprintf(w, "  package %s, by %s, %s\n", r.Identity.Short(), r.CreatedBy, r.CreatedAt.Local().Format(time.DateTime))
	if r.Notes != "" {
		_, _ = fmt.Fprintf(w, "  %s\n", r.Notes)
	}
	_, _ = fmt.Fprintf(w, "  gate %s\n", r.Gate.Word())
	_, _ = io.WriteString(w, gateLines(r.Gate))
	if r.Test != nil && r.Test.Scripted {
		_, _ = fmt.Fprintln(w, "  only a scripted model answered: this says nothing about a real one")
	}
}

func mark(forced bool) string {
	if forced {
		return "  FORCED: its gate had refused it"
	}
	return ""
}

func printReleases(w io.Writer, out *listOut) {
	if len(out.Releases) == 0 {
		_, _ = fmt.Fprintln(w, "no release yet: flywheel release")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "AGENT\tRELEASE\tDIGEST\tGATE\tAUDIT\tBY\tAT\tNOTES")
	for _, r := range out.Releases {
		audit := "-"
		if r.Test != nil {
			audit = fmt.Sprintf("%.3f (%.3f to %.3f)", r.Test.Rate(), r.Test.Low, r.Test.High)
		}
		_, _ = fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Agent, r.Number, r.Digest.Short(), r.Gate.Word(), audit,
			r.CreatedBy, r.CreatedAt.Local().Format(time.DateTime), r.Notes)
	}
	_ = t.Flush()
}

func printVerification(w io.Writer, v *Verification) {
	width := 0
	for _, c := range v.Checks {
		width = max(width, utf8.RuneCountInString(c.Name))
	}
	for _, c := range v.Checks {
		word := "ok  "
		if !c.OK {
			word = "FAIL"
		}
		_, _ = fmt.Fprintf(w, "%s  %-*s  %s\n", word, width, c.Name, c.Why)
	}
	_, _ = fmt.Fprintf(w, "%s release %d %s is what was signed%s\n", v.Agent, v.Number, v.Release, mark(v.Forced))
}

func printDifference(w io.Writer, d *Difference) {
	_, _ = fmt.Fprintf(w, "%s release %d → %d\n", d.Agent, d.From, d.To)
	agent.WriteDiff(w, d.Components)
}

func printExport(w io.Writer, out *exportOut) {
	_, _ = fmt.Fprintf(w, "%s, %d blobs, OCI image layout in %s\n", out.Release.Name(), out.Blobs, out.To)
}

func printKey(w io.Writer, out *keyOut) { _, _ = io.WriteString(w, out.Public) }

func printChannels(w io.Writer, out *channelsOut) {
	if len(out.Channels) == 0 {
		_, _ = fmt.Fprintln(w, "nothing is deployed: flywheel deploy prod")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "AGENT\tCHANNEL\tRELEASE\tCANARY\tMOVED")
	for _, c := range out.Channels {
		canary := "-"
		if c.Canary != "" {
			canary = fmt.Sprintf("release %d for %.4g%%%s", c.CanaryNumber, 100*c.Share, short(c.CanaryForced))
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d%s\t%s\t%s\n", c.Agent, c.Name, c.StableNumber, short(c.StableForced), canary, c.MovedAt.Local().Format(time.DateTime))
	}
	_ = t.Flush()
}

func short(forced bool) string {
	if forced {
		return " (forced)"
	}
	return ""
}

func printHistory(w io.Writer, out *historyOut) {
	if len(out.Moves) == 0 {
		_, _ = fmt.Fprintln(w, "no channel has moved yet: flywheel deploy prod")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "AT\tAGENT\tCHANNEL\tMOVE\tFROM\tTO\tGATE\tWHO\tWHY")
	for _, m := range out.Moves {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.At.Local().Format(time.DateTime), m.Agent, m.Channel, moveWord(m),
			numberWord(m.FromNumber), numberWord(m.ToNumber), m.Gate, m.Who, m.Why)
	}
	_ = t.Flush()
}

func moveWord(m *Move) string {
	if m.Share > 0 {
		return fmt.Sprintf("%s %.4g%%", m.Kind, 100*m.Share)
	}
	return m.Kind
}

func numberWord(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
