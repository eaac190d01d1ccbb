package evolve

import (
	"fmt"
	"math"
	"sort"
	"time"

	"flywheel/internal/tool"
)

// Observation is one attempt on a tool as production saw it.
type Observation struct {
	Tool  string
	At    time.Time
	For   time.Duration
	Class tool.Class
}

// Process is the error process of a tool, fitted to observations: a two-state chain of good times and
// outages (Gilbert 1960). After a failure, the chance that the tool still fails Delta later is
// Rate + (1-Rate)·exp(-Delta/Recovery).
type Process struct {
	Tool     string        `json:"tool"`
	Attempts int           `json:"attempts"` // observed
	Failures int           `json:"failures"` // transient ones
	Rate     float64       `json:"rate"`     // share of attempts that fail, with half an event of prior
	Recovery time.Duration `json:"recovery"` // nanoseconds; 0: failures are independent of each other
	// Burstiness is how much likelier a failure is right after a failure: 1 for independent failures.
	Burstiness float64            `json:"burstiness"`
	Curve      []RecoveryPoint    `json:"curve,omitempty"`
	Classes    map[tool.Class]int `json:"classes,omitempty"`
	P50        time.Duration      `json:"p50"` // latency of attempts that succeeded
	P99        time.Duration      `json:"p99"`
}

// RecoveryPoint is one bin of the recovery curve: of Pairs failures followed by another call about Lag
// later, Recovered of those calls succeeded.
type RecoveryPoint struct {
	Lag       time.Duration `json:"lag"`
	Pairs     int           `json:"pairs"`
	Recovered int           `json:"recovered"`
}

func transient(c tool.Class) bool {
	switch c {
	case tool.Timeout, tool.Unavailable, tool.Throttled, tool.Reset, tool.Malformed:
		return true
	}
	return false
}

var lagBins = []time.Duration{
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, 5 * time.Minute,
}

type lagPair struct {
	lag    time.Duration
	failed bool
}

// FitProcess estimates the error process of one tool. Each failure is paired with the next attempts of
// any run on that tool (passively: no traffic is made), up to the first success.
func FitProcess(name string, seen []Observation) Process {
	p := Process{Tool: name, Classes: map[tool.Class]int{}}
	var mine []Observation
	var latencies []time.Duration
	for _, o := range seen {
		if o.Tool != name {
			continue
		}
		mine = append(mine, o)
		if transient(o.Class) {
			p.Failures++
			p.Classes[o.Class]++
		} else if o.Class == tool.OK {
			latencies = append(latencies, o.For)
		}
	}
	sort.SliceStable(mine, func(i, j int) bool { return mine[i].At.Before(mine[j].At) })
	p.Attempts = len(mine)
	p.Rate = (float64(p.Failures) + 0.5) / (float64(p.Attempts) + 1)
	p.P50, p.P99 = quantile(latencies, 0.5), quantile(latencies, 0.99)

	pairs := followUps(mine)
	p.Curve = curve(pairs)
	p.Recovery = fitRecovery(pairs, p.Rate)
	p.Burstiness = 1
	if p.Recovery > 0 {
		p.Burstiness = p.stillFailing(0) / p.Rate
	}
	return p
}

func followUps(ordered []Observation) []lagPair {
	var pairs []lagPair
	for i, o := range ordered {
		if !transient(o.Class) {
			continue
		}
		ended := o.At.Add(o.For)
		for _, next := range ordered[i+1:] {
			if next.At.Before(ended) {
				continue
			}
			failed := transient(next.Class)
			pairs = append(pairs, lagPair{next.At.Sub(ended), failed})
			if !failed || next.At.Sub(ended) > lagBins[len(lagBins)-1] {
				break
			}
		}
	}
	return pairs
}

func curve(pairs []lagPair) []RecoveryPoint {
	points := make([]RecoveryPoint, len(lagBins))
	for i, lag := range lagBins {
		points[i].Lag = lag
	}
	for _, p := range pairs {
		i := sort.Search(len(lagBins), func(i int) bool { return lagBins[i] >= p.lag })
		if i == len(lagBins) {
			continue
		}
		points[i].Pairs++
		if !p.failed {
			points[i].Recovered++
		}
	}
	kept := points[:0]
	for _, p := range points {
		if p.Pairs > 0 {
			kept = append(kept, p)
		}
	}
	return kept
}

// fitRecovery is the maximum-likelihood recovery time on a logarithmic grid, or 0 when independent
// failures explain the pairs as well (by the likelihood ratio at the 5 % level, one degree of freedom).
func fitRecovery(pairs []lagPair, rate float64) time.Duration {
	if len(pairs) < 3 {
		return 0
	}
	logLikelihood := func(recovery time.Duration) float64 {
		sum := 0.0
		for _, p := range pairs {
			q := rate
			if recovery > 0 {
				q = rate + (1-rate)*math.Exp(-p.lag.Seconds()/recovery.Seconds())
			}
			q = min(max(q, 1e-6), 1-1e-6)
			if p.failed {
				sum += math.Log(q)
			} else {
				sum += math.Log(1 - q)
			}
		}
		return sum
	}
	best, bestLL := time.Duration(0), logLikelihood(0)
	independent := bestLL
	for s := 0.05; s < 600; s *= 1.15 {
		d := time.Duration(s * float64(time.Second))
		if ll := logLikelihood(d); ll > bestLL {
			best, bestLL = d, ll
		}
	}
	if 2*(bestLL-independent) < 3.84 {
		return 0
	}
	return best
}

// stillFailing is the chance that an attempt fails when one failed a moment lag ago.
func (p Process) stillFailing(lag time.Duration) float64 {
	if p.Recovery == 0 {
		return p.Rate
	}
	return p.Rate + (1-p.Rate)*math.Exp(-lag.Seconds()/p.Recovery.Seconds())
}

// stillFailingJittered is stillFailing averaged over a wait that is uniform between 0 and limit.
func (p Process) stillFailingJittered(limit time.Duration) float64 {
	if p.Recovery == 0 || limit == 0 {
		return p.stillFailing(0)
	}
	x := limit.Seconds() / p.Recovery.Seconds()
	return p.Rate + (1-p.Rate)*(1-math.Exp(-x))/x
}

// Policy is a candidate reliability policy of a tool.
type Policy struct {
	Timeout  time.Duration `json:"timeout"`
	Retries  int           `json:"retries"`
	From, To time.Duration `json:"-"`
	Backup   string        `json:"backup,omitempty"`
}

// Forecast is what a policy is expected to do under a process.
type Forecast struct {
	Success  float64       `json:"success"`
	Attempts float64       `json:"attempts"` // mean per call
	Wait     time.Duration `json:"wait"`     // mean backoff per call that fails at first
}

// Forecast computes the success of a policy in closed form: given a failure the chain is in its bad
// state, so the failures of the following attempts multiply.
func (p Process) Forecast(policy Policy, backupRate float64) Forecast {
	failing := p.Rate
	out := Forecast{Attempts: 1}
	limit := policy.From
	for range policy.Retries {
		out.Attempts += failing
		out.Wait += time.Duration(float64(limit/2) * failing / p.Rate)
		failing *= p.stillFailingJittered(limit)
		limit = min(2*limit, policy.To)
	}
	if policy.Backup != "" {
		out.Attempts += failing
		failing *= backupRate
	}
	out.Success = 1 - failing
	return out
}

// tolerance is how much success is given up for fewer attempts and shorter waits.
const tolerance = 0.005

// Choose picks the policy with the highest expected success whose mean wait after a failure stays
// within patience, and among those within half a point of it the one with the fewest attempts, then
// the shortest wait.
func Choose(p Process, backup string, backupRate float64, patience time.Duration) (Policy, Forecast) {
	timeout := time.Duration(float64(p.P99) * 1.5).Round(100 * time.Millisecond)
	timeout = min(max(timeout, 500*time.Millisecond), 30*time.Second)
	type scored struct {
		policy   Policy
		forecast Forecast
	}
	var all []scored
	best := 0.0
	backups := []string{""}
	if backup != "" {
		backups = append(backups, backup)
	}
	for _, b := range backups {
		for retries := range 6 {
			for _, from := range []time.Duration{0, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second} {
				if retries == 0 && from > 0 {
					continue
				}
				policy := Policy{Timeout: timeout, Retries: retries, From: from, To: min(from<<4, 16*time.Second), Backup: b}
				f := p.Forecast(policy, backupRate)
				if f.Wait > patience {
					continue
				}
				all = append(all, scored{policy, f})
				best = max(best, f.Success)
			}
		}
	}
	var pick *scored
	for i := range all {
		s := &all[i]
		if s.forecast.Success < best-tolerance {
			continue
		}
		if pick == nil || s.forecast.Attempts < pick.forecast.Attempts-1e-9 ||
			math.Abs(s.forecast.Attempts-pick.forecast.Attempts) < 1e-9 && s.forecast.Wait < pick.forecast.Wait {
			pick = s
		}
	}
	return pick.policy, pick.forecast
}

// String says the policy in one line.
func (p Policy) String() string {
	s := fmt.Sprintf("timeout %s", p.Timeout)
	if p.Retries > 0 {
		s += fmt.Sprintf(", %d retries after %s..%s", p.Retries, p.From, p.To)
	}
	if p.Backup != "" {
		s += ", backup " + p.Backup
	}
	return s
}

func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := append([]time.Duration(nil), values...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	return sorted[int(math.Ceil(q*float64(len(sorted))))-1]
}
