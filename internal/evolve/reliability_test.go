package evolve

import (
	"math/rand/v2"
	"testing"
	"time"

	"flywheel/internal/tool"
)

// outages makes one call every gap against a tool that is down for `down` of every `period`.
func outages(period, down, gap time.Duration, n int) []Observation {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var out []Observation
	for i := range n {
		at := time.Duration(i) * gap
		o := Observation{Tool: "t", At: start.Add(at), For: 20 * time.Millisecond}
		if at%period < down {
			o.Class = tool.Unavailable
		}
		out = append(out, o)
	}
	return out
}

func TestOutagesAreToldFromIndependentFailures(t *testing.T) {
	t.Parallel()
	bursty := FitProcess("t", outages(60*time.Second, 6*time.Second, 700*time.Millisecond, 600))
	if bursty.Recovery < time.Second || bursty.Recovery > 20*time.Second || bursty.Outages < 0.99 {
		t.Errorf("6 s outages: recovery %s, believed %.2f", bursty.Recovery, bursty.Outages)
	}

	rng := rand.New(rand.NewPCG(1, 2))
	var iid []Observation
	for i := range 600 {
		o := Observation{Tool: "t", At: time.Unix(int64(i), 0), For: 20 * time.Millisecond}
		if rng.Float64() < 0.1 {
			o.Class = tool.Timeout
		}
		iid = append(iid, o)
	}
	if p := FitProcess("t", iid); p.Recovery != 0 || p.Outages > 0.3 {
		t.Errorf("independent failures taken for outages: recovery %s, believed %.2f", p.Recovery, p.Outages)
	}
	if p := FitProcess("t", iid[:0]); p.Outages < 0.45 || p.Outages > 0.55 {
		t.Errorf("nothing seen, yet outages are believed at %.2f", p.Outages)
	}
}

func TestPolicyFitsTheProcess(t *testing.T) {
	t.Parallel()
	iid := Process{Rate: 0.1, P99: 100 * time.Millisecond, Beliefs: []Belief{{Weight: 1}}}
	policy, forecast := Choose(iid, "", 1, 10*time.Second)
	if policy.From != 0 || policy.Retries < 1 || policy.Retries > 2 {
		t.Errorf("independent failures want one or two immediate retries, got %s", policy)
	}
	if forecast.Success < 0.985 {
		t.Errorf("forecast %.4f", forecast.Success)
	}

	outage := Process{Rate: 0.1, P99: 100 * time.Millisecond, Beliefs: []Belief{{Recovery: 6 * time.Second, Weight: 1}}}
	policy, _ = Choose(outage, "", 1, 60*time.Second)
	if policy.From < 500*time.Millisecond || policy.Retries < 3 {
		t.Errorf("outages want patience, got %s", policy)
	}
	if immediate := outage.Forecast(Policy{Retries: 3}, 1); immediate.Success > 0.91 {
		t.Errorf("immediate retries do not help in an outage: forecast %.3f", immediate.Success)
	}

	unsure := Process{Rate: 0.2, P99: 100 * time.Millisecond, Beliefs: beliefs(nil, 0.2)}
	if policy, _ = Choose(unsure, "", 1, 60*time.Second); policy.From == 0 || policy.Retries < 2 {
		t.Errorf("a policy on little data must do for outages too, got %s", policy)
	}

	policy, forecast = Choose(outage, "mirror", 0.02, 60*time.Second)
	if policy.Backup != "mirror" || forecast.Success < 0.99 {
		t.Errorf("an independent backup is the best answer to outages, got %s (%.4f)", policy, forecast.Success)
	}
}
