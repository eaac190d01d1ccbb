package deploy_test

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"flywheel/internal/deploy"
	"flywheel/internal/platform/blob"
	"flywheel/internal/release"
	"flywheel/spec"
)

func channel(share float64) *release.Channel {
	return &release.Channel{Agent: "desk", Name: "prod", Stable: blob.Of([]byte("1")), Canary: blob.Of([]byte("2")), Share: share}
}

// A session stays on its side, and when the share grows sessions only move to the canary.
func TestTheCanaryIsStickyAndMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		session := rapid.String().Draw(t, "session")
		small := rapid.Float64Range(0.0001, 1).Draw(t, "small")
		large := rapid.Float64Range(small, 1).Draw(t, "large")
		before := deploy.OnCanary(channel(small), session)
		if before != deploy.OnCanary(channel(small), session) {
			t.Fatal("the same session is on two sides")
		}
		if before && !deploy.OnCanary(channel(large), session) {
			t.Fatalf("%q left the canary when its share grew from %g to %g", session, small, large)
		}
		if !deploy.OnCanary(channel(1), session) || deploy.OnCanary(&release.Channel{}, session) {
			t.Fatal("all or nothing is not kept")
		}
	})
}

func TestTheShareIsMet(t *testing.T) {
	t.Parallel()
	const n = 20_000
	for _, share := range []float64{0.01, 0.2, 0.5, 0.9} {
		on := 0
		for i := range n {
			if deploy.OnCanary(channel(share), fmt.Sprintf("session-%d", i)) {
				on++
			}
		}
		if got := float64(on) / n; math.Abs(got-share) > 4*math.Sqrt(share*(1-share)/n) {
			t.Errorf("share %g: %g of the sessions", share, got)
		}
	}
}

func TestAnotherCanaryAsksOtherPeople(t *testing.T) {
	t.Parallel()
	a, b := channel(0.5), channel(0.5)
	b.Canary = blob.Of([]byte("3"))
	same := 0
	for i := range 2000 {
		s := fmt.Sprintf("session-%d", i)
		if deploy.OnCanary(a, s) == deploy.OnCanary(b, s) {
			same++
		}
	}
	if same < 800 || same > 1200 {
		t.Errorf("%d of 2000 sessions are on the same side of both canaries", same)
	}
}

func TestOnlyWhatIsTheReplyIsStreamed(t *testing.T) {
	t.Parallel()
	agents := map[string]*spec.Agent{"desk": {}, "label": {Output: []byte(`{}`)}}
	pkg := &spec.Package{Entry: "agents/desk", Agents: agents}
	if !deploy.Speakers(pkg)("desk") {
		t.Error("an agent alone does not speak")
	}
	pkg.Entry = "agents/label"
	if deploy.Speakers(pkg)("label") {
		t.Error("an agent that gives data speaks")
	}
	pkg = &spec.Package{Entry: "flows/main", Agents: agents, Flows: map[string]*spec.Flow{"main": {Nodes: map[string]*spec.Node{
		"triage":  {Kind: spec.NodeAgent, Agent: "label", Next: []spec.Edge{{To: "work"}}},
		"work":    {Kind: spec.NodeAgent, Agent: "desk", Next: []spec.Edge{{To: "done"}}},
		"draft":   {Kind: spec.NodeAgent, Agent: "desk", Next: []spec.Edge{{To: "wrapped"}}},
		"last":    {Kind: spec.NodeAgent, Agent: "desk", Next: []spec.Edge{{To: "end"}}},
		"maybe":   {Kind: spec.NodeAgent, Agent: "desk", Next: []spec.Edge{{When: "out.ok", To: "end"}, {To: "work"}}},
		"done":    {Kind: spec.NodeEnd, End: map[string]string{"reply": "${work.out.text}"}},
		"wrapped": {Kind: spec.NodeEnd, End: map[string]string{"reply": "Dear customer, ${draft.out.text}"}},
	}}}}
	speaks := deploy.Speakers(pkg)
	for node, want := range map[string]bool{"triage": false, "work": true, "draft": false, "last": true, "maybe": false, "done": false} {
		if speaks(node) != want {
			t.Errorf("%s speaks: %v", node, !want)
		}
	}
}
