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
	Tool     string             `json:"tool"`
	Attempts int                `json:"attempts"` // observed
	Failures int                `json:"failures"` // transient ones
	Rate     float64            `json:"rate"`     // share of attempts that fail, with half an event of prior
	Recovery time.Duration      `json:"recovery"` // the likeliest, nanoseconds; 0: failures are independent
	Outages  float64            `json:"outages"`  // chance that failures come in outages
	Beliefs  []Belief           `json:"beliefs"`
	Curve    []RecoveryPoint    `json:"curve,omitempty"`
	Classes  map[tool.Class]int `json:"classes,omitempty"`
	P50      time.Duration      `json:"p50"` // latency of attempts that succeeded
	P99      time.Duration      `json:"p99"`
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
	p.Beliefs = beliefs(pairs, p.Rate)
	best := p.Beliefs[0]
	for _, b := range p.Beliefs {
		if b.Recovery > 0 {
			p.Outages += b.Weight
		}
		if b.Weight > best.Weight {
			best = b
		}
	}
	p.Recovery = best.Recovery
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

// Belief is a possible recovery time and how likely it is, given what was seen.
type Belief struct {
	Recovery time.Duration `json:"recovery"` // 0: failures are independent of each other
	Weight   float64       `json:"weight"`
}

// beliefs is the posterior over recovery times on a logarithmic grid from 50 ms to 10 minutes. Before
// anything is seen, independent failures and outages of unknown length are equally likely: a policy that
// is chosen on little data must work for both.
func beliefs(pairs []lagPair, rate float64) []Belief {
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
	all := []Belief{{Weight: logLikelihood(0)}}
	for s := 0.05; s < 600; s *= 1.3 {
		d := time.Duration(s * float64(time.Second))
		all = append(all, Belief{Recovery: d, Weight: logLikelihood(d)})
	}
	highest := math.Inf(-1)
	for _, b := range all {
		highest = max(highest, b.Weight)
	}
	total := 0.0
	for i := range all {
		prior := 0.5
		if i > 0 {
			prior = 0.5 / float64(len(all)-1)
		}
		all[i].Weight = prior * math.Exp(all[i].Weight-highest)
		total += all[i].Weight
	}
	for i := range all {
		all[i].Weight /= total
	}
	return all
}

// stillFailing is the chance that an attempt fails after one failed, when the wait between them is uniform
// between 0 and limit.
func (p Process) stillFailing(recovery, limit time.Duration) float64 {
	switch {
	case recovery == 0:
		return p.Rate
	case limit == 0:
		return 1
	}
	x := limit.Seconds() / recovery.Seconds()
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

// Forecast computes the success of a policy in closed form, averaged over what is believed: given a
// failure the chain is in its bad state, so the failures of the following attempts multiply.
func (p Process) Forecast(policy Policy, backupRate float64) Forecast {
	var out Forecast
	for _, b := range p.Beliefs {
		failing, attempts, wait := p.Rate, 1.0, 0.0
		limit := policy.From
		for range policy.Retries {
			attempts += failing
			wait += limit.Seconds() / 2 * failing / p.Rate
			failing *= p.stillFailing(b.Recovery, limit)
			limit = min(2*limit, policy.To)
		}
		if policy.Backup != "" {
			attempts += failing
			failing *= backupRate
		}
		out.Success += b.Weight * (1 - failing)
		out.Attempts += b.Weight * attempts
		out.Wait += time.Duration(b.Weight * wait * float64(time.Second))
	}
	return out
}

// longest is how long a call takes at worst.
func (p Policy) longest() time.Duration {
	total, limit := time.Duration(p.Retries+1)*p.Timeout, p.From
	for range p.Retries {
		total += limit
		limit = min(2*limit, p.To)
	}
	if p.Backup != "" {
		total += p.Timeout
	}
	return total
}

// tolerance is how much success is given up for fewer attempts and shorter waits.
const tolerance = 0.01

// impatience is how many attempts a second of waiting is worth: somebody waits for most calls.
const impatience = 0.5

// effort is what a policy costs when its success is as good as another's.
func (f Forecast) effort() float64 { return f.Attempts + impatience*f.Wait.Seconds() }

// Choose picks the policy with the highest expected success whose calls end within patience at worst,
// and among those within a point of it the one with the least effort.
func Choose(p Process, backup string, backupRate float64, patience time.Duration) (Policy, Forecast) {
	timeout := time.Duration(float64(p.P99) * 3).Round(100 * time.Millisecond)
	timeout = min(max(timeout, time.Second), 30*time.Second)
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
				if policy.longest() > patience && retries > 0 {
					continue
				}
				f := p.Forecast(policy, backupRate)
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
		if pick == nil || s.forecast.effort() < pick.forecast.effort()-1e-9 {
			pick = s
		}
	}
	return pick.policy, pick.forecast
}

// String says the policy in one line.
func (p Policy) String() string {
	s := fmt.Sprintf("timeout %s", p.Timeout)
	if p.Retries > 0 {
		s += ", 1 retry"
		if p.Retries > 1 {
			s = fmt.Sprintf("timeout %s, %d retries", p.Timeout, p.Retries)
		}
		if p.To > 0 {
			s += fmt.Sprintf(" after %s..%s", p.From, p.To)
		} else {
			s += " at once"
		}
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
