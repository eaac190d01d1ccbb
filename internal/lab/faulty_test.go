package lab

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"flywheel/internal/platform/op"
)

// one runs the scenario "the card service is down" with other faults and another tool policy.
func one(t *testing.T, faults, policy string) *Trial {
	t.Helper()
	b := open(t, t.TempDir())
	req := b.draft(desk(t, "faults: [{tool: cards.freeze, on: 1, do: timeout}]\n    expect: {never_claims: [cards.freeze], state: {}}",
		"faults: "+faults+"\n    expect: {never: [cards.close]}", "    timeout: 3s\n", policy))
	req.Trials = 1
	r := b.test(req)
	var id string
	for _, j := range []string{"the card service is down"} {
		su, err := b.suite(context.Background(), req.Suite)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := b.subject(context.Background(), req.Identity)
		if err != nil {
			t.Fatal(err)
		}
		id = trialID(sub, su, j, 0, req.Seed)
	}
	trial, err := b.Trial(context.Background(), id)
	if err != nil {
		t.Fatalf("%v in %+v", err, r.Scenarios)
	}
	return trial
}

func freezeOf(t *testing.T, trial *Trial) Step {
	t.Helper()
	for _, s := range trial.Transcript {
		if s.Tool == "cards.freeze" {
			return s
		}
	}
	t.Fatalf("no freeze in %+v", trial.Transcript)
	return Step{}
}

const (
	keyed    = "    timeout: 3s\n    idempotency: header:Idempotency-Key\n"
	retrying = keyed + "    retry: {max: 3, backoff: 1s..4s}\n"
)

func TestEveryKindOfFaultGoesThroughThePolicyEngine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults, policy string
		class          string
		attempts       int
		atLeast        time.Duration // virtual tool time
	}{
		"timeout":                  {"[{tool: cards.freeze, on: 1, do: timeout}]", keyed, "timeout", 1, 3 * time.Second},
		"timeout, retried":         {"[{tool: cards.freeze, on: 1, do: timeout}]", retrying, "", 2, 3 * time.Second},
		"two faults":               {"[{tool: cards.freeze, on: 1, do: timeout}, {tool: cards.freeze, on: 2, do: {status: 503}}]", retrying, "", 3, 3 * time.Second},
		"503":                      {"[{tool: cards.freeze, do: {status: 503}}]", retrying, "unavailable", 4, 0},
		"429":                      {"[{tool: cards.freeze, on: [1], do: {status: 429}}]", retrying, "", 2, 0},
		"404 is not retried":       {"[{tool: cards.freeze, on: 1, do: {status: 404}}]", retrying, "rejected", 1, 0},
		"reset":                    {"[{tool: cards.freeze, on: 1, do: reset}]", retrying, "", 2, 0},
		"malformed":                {"[{tool: cards.freeze, on: 1, do: malformed}]", keyed + "    retry: {max: 1, for: [malformed]}\n", "", 2, 0},
		"slow":                     {"[{tool: cards.freeze, on: 1, do: {slow: 2s}}]", keyed, "", 1, 2 * time.Second},
		"slower than the timeout":  {"[{tool: cards.freeze, on: 1, do: {slow: 5s}}]", keyed, "timeout", 1, 3 * time.Second},
		"slow, then once retried":  {"[{tool: cards.freeze, on: 1, do: {slow: 5s}}]", retrying, "", 2, 3 * time.Second},
		"another tool":             {"[{tool: cards.note, do: reset}]", keyed, "", 1, 0},
		"always in burst":          {"[{tool: cards.freeze, bursts: {every: 1m, for: 1m}, do: {status: 500}}]", retrying, "unavailable", 4, 0},
		"never by chance":          {"[{tool: cards.freeze, probability: 0, on: 9, do: reset}]", keyed, "", 1, 0},
		"always by chance":         {"[{tool: cards.*, probability: 1, do: {status: 500}}]", keyed, "", 0, 0},
		"an unkeyed write waits":   {"[{tool: cards.freeze, on: 1, do: reset}]", "    timeout: 3s\n    retry: {max: 3}\n", "uncertain", 1, 0},
		"a 503 proves no effect":   {"[{tool: cards.freeze, on: 1, do: {status: 503}}]", "    timeout: 3s\n    retry: {max: 3}\n", "", 2, 0},
		"a timeout without retry":  {"[{tool: cards.freeze, on: 1, do: timeout}]", "    timeout: 7s\n", "*", 1, 7 * time.Second},
		"the fault on the 2nd try": {"[{tool: cards.freeze, on: 2, do: timeout}]", retrying, "", 1, 0},
	} {
		if strings.HasPrefix(c.faults, "[{tool: cards.freeze, probability: 0") {
			c.faults = "[{tool: cards.freeze, on: 9, do: reset}]"
		}
		trial := one(t, c.faults, c.policy)
		if name == "always by chance" {
			if trial.Usage.Failed != 1 || trial.Called[0] != "cards.find" {
				t.Errorf("%s: %+v", name, trial.Usage)
			}
			continue
		}
		s := freezeOf(t, trial)
		attempts := max(1, len(s.Attempts))
		if s.Class != c.class && c.class != "*" || attempts != c.attempts || trial.ToolTime < c.atLeast {
			t.Errorf("%s: class %q after %d attempts in %v (%+v)", name, s.Class, attempts, trial.ToolTime, s.Attempts)
		}
	}
}

// A slow call takes effect although nobody waits for it; with its key the retry does not do it again.
func TestAnEffectHappensOnceUnderRetries(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"{slow: 5s}", "malformed", "reset"} {
		for trialSeed := range 4 {
			policy := strings.Replace(retrying, "backoff", "for: [timeout, malformed, reset], backoff", 1)
			b := open(t, t.TempDir())
			req := b.draft(eventful(t, do, policy))
			req.Trials, req.Seed = 2, uint64(trialSeed)
			r := b.test(req)
			if s := scenario(t, r, "the card service is down"); s.Passed != 2 {
				t.Errorf("%s: %s", do, s.Reason)
			}
		}
	}
}

// eventful expects exactly one event although the first attempt of the freeze ends badly.
func eventful(t *testing.T, do, policy string) op.Dir {
	t.Helper()
	return desk(t, "faults: [{tool: cards.freeze, on: 1, do: timeout}]\n    expect: {never_claims: [cards.freeze], state: {}}",
		fmt.Sprintf("faults: [{tool: cards.freeze, on: 1, do: %s}]\n    expect: {state: {cards.4711.status: frozen, cards.4711.events: [frozen]}}", do),
		"    timeout: 3s\n", policy)
}

func TestABackupAnswersWhenTheToolIsDown(t *testing.T) {
	t.Parallel()
	trial := one(t, "[{tool: cards.freeze, do: {status: 503}}]", "    timeout: 3s\n    backup: cards.freeze_slow\n"+
		"    mock: {star: mocks/cards.star, func: freeze}\n  cards.freeze_slow:\n    does: Freeze by another way.\n    effect: write\n"+
		"    in: {card_id: string}\n    call: {http: {post: \"http://127.0.0.1:1/freeze\"}}\n")
	s := freezeOf(t, trial)
	if s.Class != "" || len(s.Attempts) != 2 || s.Attempts[1].Tool != "cards.freeze_slow" {
		t.Errorf("%+v", s)
	}
}
