package observe_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/observe"
	"flywheel/internal/platform/op"
)

func release(n int, digest string) map[string]any {
	return map[string]any{"digest": digest, "agent": "desk", "number": n, "created_at": start}
}

func TestFailuresAreGroupedByTheirFirstBadStep(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.emit("release.created", "sha256:r1", release(1, "sha256:r1"))
	h.emit("release.created", "sha256:r2", release(2, "sha256:r2"))
	second := func(f *observe.Facts) { f.Release = "sha256:r2" }
	h.record(
		facts(1, toolFails("timeout", "frozen")), facts(2, toolFails("timeout", "sorry")), facts(3, toolFails("timeout", "frozen"), second),
		facts(4, toolFails("rejected", "frozen"), second),
		facts(5), facts(6), facts(7, second), facts(8), facts(9),
		facts(10, func(f *observe.Facts) { f.Status, f.Class, f.Node = "failed", "limit.steps", "desk" }),
		facts(11, toolFails("timeout", "frozen"), func(f *observe.Facts) { f.Source = "fork" }),
	)
	wrong := observe.Given{Verdict: "failure", Who: "shop", Expected: "cards.replace"}
	for _, run := range []string{"run_0005", "run_0006", "run_0007"} {
		wrong.Run = run
		h.give(wrong)
	}
	// The business expected what was tried and failed: the tool is at fault, not the choice.
	h.give(observe.Given{Run: "run_0001", Verdict: "failure", Who: "shop", Expected: "cards.freeze"})

	type row struct {
		Class, What, Suspect, Name string
		Count, Since               int
		Runs                       []string
	}
	var got []row
	for _, f := range h.findings(observe.Filter{}) {
		r := row{Class: f.Class, What: f.What, Suspect: f.Suspect.Component, Name: f.Suspect.Name, Count: f.Count, Since: f.SinceNumber}
		for _, e := range f.Examples {
			r.Runs = append(r.Runs, e.Run)
		}
		got = append(got, r)
		if f.Runs != 10 || f.Node != "desk" || f.Title == "" || f.Path != "find_number > desk" {
			t.Errorf("finding %s: %+v", f.Fingerprint, f)
		}
	}
	want := map[string]row{
		"tool.timeout":  {"tool.timeout", "cards.freeze", "tool", "cards.freeze", 3, 1, []string{"run_0003", "run_0002", "run_0001"}},
		"wrong_action":  {"wrong_action", "cards.freeze", "prompt", "desk", 3, 1, []string{"run_0007", "run_0006", "run_0005"}},
		"tool.rejected": {"tool.rejected", "cards.freeze", "model", "desk", 1, 2, []string{"run_0004"}},
		"limit.steps":   {"limit.steps", "", "limits", "limit.steps", 1, 1, []string{"run_0010"}},
	}
	if len(got) != len(want) {
		t.Fatalf("%d findings, want %d: %+v", len(got), len(want), got)
	}
	for _, r := range got {
		if diff := cmp.Diff(want[r.Class], r); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Class, diff)
		}
	}
	if got[0].Count < got[3].Count {
		t.Errorf("the largest is not first: %+v", got)
	}
	if only := h.findings(observe.Filter{Release: "sha256:r2"}); len(only) != 3 || only[0].Runs != 3 {
		t.Errorf("under release 2: %+v", only)
	}
	if late := h.findings(observe.Filter{Since: start.Add(9500 * time.Millisecond)}); len(late) != 1 || late[0].Class != "limit.steps" {
		t.Errorf("since run 10: %+v", late)
	}
}

func TestTheFingerprintIsStableAndTellsCausesApart(t *testing.T) {
	t.Parallel()
	a, b := newHome(t), newHome(t)
	repeated := func(f *observe.Facts) { f.Path = []string{"find_number", "find_number", "desk", "desk", "answer"} }
	a.record(facts(1, toolFails("timeout", "x")))
	b.record(facts(2, toolFails("timeout", "another answer"), repeated))
	fa, fb := a.findings(observe.Filter{}), b.findings(observe.Filter{})
	if fa[0].Fingerprint != fb[0].Fingerprint {
		t.Errorf("the same failure in two homes has two fingerprints: %+v and %+v", fa[0], fb[0])
	}
	b.record(facts(3, toolFails("reset", "x")), facts(4, toolFails("timeout", "x"), func(f *observe.Facts) { f.Path = []string{"other", "desk"} }))
	if n := len(b.findings(observe.Filter{})); n != 3 {
		t.Errorf("%d findings for three ways to fail", n)
	}
}

func TestStatsPerRelease(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.emit("release.created", "sha256:r1", release(1, "sha256:r1"))
	for n := 1; n <= 100; n++ {
		f := facts(n)
		if n%10 == 0 {
			f = facts(n, toolFails("timeout", "frozen"))
		}
		h.record(f)
		if n%10 != 0 && n <= 50 {
			h.give(observe.Given{Run: f.Run, Verdict: "success", Who: "shop"})
		}
	}
	list, err := h.svc.Stats(context.Background(), observe.Filter{Agent: "desk"})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	s := list[0]
	if s.Number != 1 || s.Runs != 100 || s.Success.Successes != 45 || s.Success.Trials != 55 || s.Unknown != 45 {
		t.Errorf("counts: %+v", s)
	}
	if s.Success.Low > 45.0/55 || s.Success.High < 45.0/55 || s.Success.Low < 0.6 {
		t.Errorf("interval: %+v", s.Success)
	}
	if diff := cmp.Diff(map[string]int{"event": 45, "heuristic": 10}, s.Sources); diff != "" {
		t.Error(diff)
	}
	want := []observe.ToolStats{{Tool: "cards.freeze", Calls: 100, Errors: 10, Attempts: 110, Failures: 20}}
	if diff := cmp.Diff(want, s.Tools); diff != "" {
		t.Error(diff)
	}
	if s.TokensIn != 10_000 || s.Compute != 2*time.Second || s.P50 != 50*time.Millisecond || s.P95 != 95*time.Millisecond {
		t.Errorf("sums: %+v", s)
	}
}

func TestTheTimelineShowsReleasesAndMoves(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.emit("release.created", "sha256:r1", release(1, "sha256:r1"))
	move := map[string]any{"agent": "desk", "channel": "prod", "seq": 1, "kind": "release", "to": "sha256:r1", "who": "ann", "at": start.Add(time.Minute)}
	h.emit("channel.moved", "desk@prod", move)
	h.emit("channel.moved", "desk@prod", move)
	h.drain()
	got, err := h.svc.Timeline(context.Background(), "desk")
	want := []observe.Mark{
		{At: start, Agent: "desk", Kind: "created", To: 1},
		{At: start.Add(time.Minute), Agent: "desk", Kind: "release", Channel: "prod", To: 1, Who: "ann"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestOperationsHavePermissionsAndText(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.record(facts(1, toolFails("timeout", "frozen")))
	for _, o := range h.svc.Ops() {
		if o.Meta().Permission == "" || o.Meta().Stage != 7 {
			t.Errorf("%+v", o.Meta())
		}
	}
	out := render(t, h.svc.Ops(), "finding.list", `{"findings":[{"fingerprint":"fnd_1","title":"cards.freeze: no answer in time","count":3,"share":0.3,"since_number":1,"suspect":{"component":"tool","name":"cards.freeze"}}]}`)
	for _, want := range []string{"fnd_1", "30.0%", "release 1", "tool cards.freeze", "no answer in time"} {
		if !strings.Contains(out, want) {
			t.Errorf("text lacks %q:\n%s", want, out)
		}
	}
}

func render(t *testing.T, ops []op.Op, id, body string) string {
	t.Helper()
	for _, o := range ops {
		if o.Meta().ID == id {
			var b bytes.Buffer
			if ok, err := o.RenderResult(&b, []byte(body)); !ok || err != nil {
				t.Fatalf("%s has no text: %v", id, err)
			}
			return b.String()
		}
	}
	t.Fatalf("no operation %s", id)
	return ""
}
