package run

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/op"
)

// textEvent writes what a person sees while a run goes on: the words as they come, and the tools.
func textEvent(w io.Writer, e *Event) {
	switch {
	case e.Delta != nil && e.Delta.Text != "":
		_, _ = io.WriteString(w, e.Delta.Text)
	case e.Step != nil && e.Step.Kind == RowModel && e.Step.Text != "":
		_, _ = io.WriteString(w, "\n")
	case e.Step != nil && e.Step.Kind == RowTool:
		outcome := "ok"
		if e.Step.Class != "" {
			outcome = e.Step.Class
		}
		if e.Step.Attempt > 1 {
			outcome += fmt.Sprintf(" after %d tries", e.Step.Attempt)
		}
		_, _ = fmt.Fprintf(w, "  · %s %s  %s  %s\n", e.Step.Name, e.Step.Text, outcome, took(e.Step.Took))
	}
}

// textEnd writes the end of a run that was watched: its words have been seen already.
func textEnd(w io.Writer, r *Run) {
	switch r.Status {
	case Failed, Canceled: // why is said by the error
		_, _ = fmt.Fprintf(w, "%s\n%s · %s\n", statusWords(r), r.ID, consumed(r))
		return
	case Waiting:
		_, _ = fmt.Fprintf(w, "waits for %s: %s\n", who(r.Ask), r.Ask.Question)
	case Succeeded:
		if !r.Streamed {
			_, _ = fmt.Fprintf(w, "%s\n", r.Output.Reply)
		}
	}
	_, _ = fmt.Fprintf(w, "%s · %s\n", r.ID, consumed(r))
	if r.Status == Waiting {
		_, _ = fmt.Fprintf(w, "next: flywheel answer %s --approve | --deny | --text \"…\"\n", r.ID)
		return
	}
	_, _ = fmt.Fprintf(w, "next: flywheel show %s\n", r.ID)
}

func textRun(w io.Writer, r *Run) {
	_, _ = fmt.Fprintf(w, "%s %s%s\n", r.ID, r.Status, failureWords(r.Failure))
}

func who(a *Ask) string {
	if a.Who != "" {
		return a.Who
	}
	return "a person"
}

func failureWords(f *Failure) string {
	if f == nil {
		return ""
	}
	where := ""
	if f.Node != "" {
		where = " at " + f.Node
	}
	return fmt.Sprintf("%s: %s: %s", where, f.Class, f.Message)
}

func textList(w io.Writer, p *Page) {
	if len(p.Runs) == 0 {
		_, _ = fmt.Fprintln(w, "no runs")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "RUN\tSTARTED\tAGENT\tRELEASE\tSTATUS\tOUTCOME\tSTEPS\tTOOLS\tTOKENS\tCOST\tTIME\tMESSAGE")
	for _, r := range p.Runs {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\n", r.ID, r.StartedAt.Local().Format("01-02 15:04:05"),
			r.Package, releaseWords(r), statusWords(r), outcomeWords(r), r.Steps, toolWords(r), r.Usage.In+r.Usage.Out,
			op.Money(r.Usage.Cost), took(r.Elapsed), short(r.Message, 40))
	}
	_ = t.Flush()
	if p.Next != "" {
		_, _ = fmt.Fprintf(w, "more: flywheel runs --before %s\n", p.Next)
	}
}

func releaseWords(r *Run) string {
	switch {
	case r.Release == "":
		return "draft " + r.Identity.Short()[:min(7, len(r.Identity.Short()))]
	case r.Channel != "":
		return short(strings.TrimPrefix(r.Release, "sha256:"), 12) + "@" + r.Channel
	}
	return short(strings.TrimPrefix(r.Release, "sha256:"), 12)
}

func statusWords(r *Run) string {
	if r.Failure != nil && r.Status != Canceled {
		return string(r.Status) + ": " + r.Failure.Class
	}
	return string(r.Status)
}

func outcomeWords(r *Run) string {
	if r.Outcome == nil {
		return "-"
	}
	return r.Outcome.Verdict
}

func toolWords(r *Run) string {
	if r.ToolErrors == 0 {
		return fmt.Sprint(r.ToolCalls)
	}
	return fmt.Sprintf("%d (%d failed)", r.ToolCalls, r.ToolErrors)
}

// textShow writes the timeline of a run.
func textShow(w io.Writer, s *Shown) {
	r := s.Run
	_, _ = fmt.Fprintf(w, "%s  %s  %s  %s\n", r.ID, r.Package, releaseWords(r), statusWords(r))
	about := []string{r.StartedAt.Local().Format(time.DateTime), "from " + r.Source}
	if r.Session != "" {
		about = append(about, fmt.Sprintf("session %s turn %d", r.Session, r.Turn))
	}
	if r.Parent != "" {
		about = append(about, fmt.Sprintf("fork of %s at step %d", r.Parent, r.ParentAt))
	}
	if r.Outcome != nil {
		about = append(about, fmt.Sprintf("outcome %s (%s)", r.Outcome.Verdict, r.Outcome.Source))
	}
	_, _ = fmt.Fprintf(w, "%s\n\n  user   %s\n", strings.Join(about, " · "), indent(r.Message, "         "))
	for i := range s.Steps {
		textStep(w, &s.Steps[i])
	}
	switch {
	case r.Status == Waiting:
		_, _ = fmt.Fprintf(w, "\n  waits for %s: %s\n", who(r.Ask), r.Ask.Question)
	case r.Failure != nil:
		_, _ = fmt.Fprintf(w, "\n  %s%s\n", r.Status, failureWords(r.Failure))
	case r.Output.Reply != "":
		_, _ = fmt.Fprintf(w, "\n  reply  %s\n", indent(r.Output.Reply, "         "))
	}
	_, _ = fmt.Fprintf(w, "\n%s\n", consumed(r))
	if r.Status == Waiting {
		_, _ = fmt.Fprintf(w, "next: flywheel answer %s --approve | --deny | --text \"…\"\n", r.ID)
	} else if len(s.Steps) > 0 {
		_, _ = fmt.Fprintf(w, "next: flywheel replay %s · flywheel fork %s --at %d\n", r.ID, r.ID, s.Steps[len(s.Steps)-1].Step)
	}
}

func textStep(w io.Writer, st *ShownStep) {
	name := st.Name
	if st.Kind == KindAsk {
		name = "person"
	}
	facts := []string{}
	if st.Open {
		facts = append(facts, "no answer yet")
	} else {
		facts = append(facts, took(st.Took))
	}
	if st.Usage != (model.Usage{}) {
		facts = append(facts, fmt.Sprintf("%d→%d tokens", st.Usage.In, st.Usage.Out))
		if st.Usage.Cost > 0 {
			facts = append(facts, op.Money(st.Usage.Cost))
		}
	}
	if st.Mock {
		facts = append(facts, "mock")
	}
	if st.Class != "" {
		facts = append(facts, st.Class)
	}
	_, _ = fmt.Fprintf(w, "%5d  %-10s %-5s  %-24s %s\n", st.Step, st.Node, st.Kind, name, strings.Join(facts, "  "))
	detail := func(mark, text string) {
		if text != "" {
			_, _ = fmt.Fprintf(w, "         %s %s\n", mark, indent(short(text, 400), "           "))
		}
	}
	if st.Kind != KindTool {
		detail("“", st.Text)
	}
	for _, c := range st.Calls {
		detail("→", c.Name+" "+string(c.Args))
	}
	if st.Kind == KindTool {
		detail("→", string(st.Args))
		for i, try := range st.Tries {
			outcome := string(try.Class)
			if outcome == "" {
				outcome = "ok"
			}
			detail("·", fmt.Sprintf("try %d: %s %s %s", i+1, outcome, took(try.For), try.Message))
		}
		detail("←", string(st.Out))
	}
	switch {
	case st.By != "":
		detail("=", strings.TrimSpace(st.Message+" (by "+st.By+")"))
	case len(st.Tries) == 0: // tries have said it
		detail("=", st.Message)
	}
}

func textReplay(w io.Writer, r *ReplayReport) {
	if r.Equal {
		_, _ = fmt.Fprintf(w, "%s: the same %s\n", r.Run, op.Count(r.Steps, "command"))
		return
	}
	d := r.First
	_, _ = fmt.Fprintf(w, "%s: %d steps are the same, then step %d at %s differs: %s\n", r.Run, r.Steps, d.Step, d.Node, d.What)
	side := func(name string, s *Side) {
		if s == nil {
			_, _ = fmt.Fprintf(w, "  %-9s (none)\n", name)
			return
		}
		_, _ = fmt.Fprintf(w, "  %-9s %s at %s\n            %s\n", name, s.Kind, s.Node, indent(short(string(s.Body), 2000), "            "))
	}
	side("recorded", d.Recorded)
	side("now", d.Now)
}

func consumed(r *Run) string {
	parts := []string{op.Count(r.Steps, "step")}
	if r.ToolCalls > 0 {
		calls := op.Count(r.ToolCalls, "tool call")
		if r.ToolErrors > 0 {
			calls += fmt.Sprintf(" (%d failed)", r.ToolErrors)
		}
		parts = append(parts, calls)
	}
	parts = append(parts, fmt.Sprintf("%d tokens in, %d out", r.Usage.In, r.Usage.Out))
	if r.Usage.Cost > 0 {
		parts = append(parts, op.Money(r.Usage.Cost))
	}
	if r.Usage.Compute > 0 {
		parts = append(parts, fmt.Sprintf("%.1f CPU s", r.Usage.Compute.Seconds()))
	}
	if r.Elapsed > 0 {
		parts = append(parts, took(r.Elapsed))
	}
	return strings.Join(parts, " · ")
}

func took(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%d µs", d.Microseconds())
}

// short cuts a text to n characters in one line.
func short(s string, n int) string {
	runes := []rune(s)
	if len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}

func indent(s, by string) string { return strings.ReplaceAll(s, "\n", "\n"+by) }
