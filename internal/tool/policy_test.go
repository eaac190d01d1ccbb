package tool_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"flywheel/internal/platform/clock"
	"flywheel/internal/tool"
	"flywheel/spec"
)

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// script answers attempts from a list; the last entry is repeated.
type script struct {
	clock *clock.Virtual
	takes time.Duration
	plan  map[string][]tool.Attempt
	calls []tool.Call
	on    func(n int)
}

func (s *script) Attempt(_ context.Context, call tool.Call) tool.Attempt {
	s.calls = append(s.calls, call)
	s.clock.Advance(s.takes)
	plan := s.plan[call.Name]
	a := plan[0]
	if len(plan) > 1 {
		s.plan[call.Name] = plan[1:]
	}
	if s.on != nil {
		s.on(len(s.calls))
	}
	return a
}

func ok(out string) tool.Attempt { return tool.Attempt{Out: json.RawMessage(out)} }

func failed(class tool.Class, status int) tool.Attempt {
	return tool.Attempt{Class: class, Status: status, Message: string(class)}
}

func ms(n int) spec.Duration { return spec.Duration(time.Duration(n) * time.Millisecond) }

// do plays a call of the tool "t", whose backup is "b".
func do(t *testing.T, tools map[string]*spec.Tool, s *script, key string) tool.Result {
	t.Helper()
	for name, declared := range tools {
		declared.Name = name
	}
	s.clock = clock.NewVirtual(start)
	p := tool.Policy{Clock: s.clock, Tools: tools, Caller: s}
	return tool.Do(t.Context(), p, tool.Call{Tool: tools["t"], Name: "t", Args: json.RawMessage(`{}`), Key: key, Seed: 7})
}

func TestRetriesWaitWithSeededJitter(t *testing.T) {
	t.Parallel()
	backoff := spec.Backoff{From: ms(200), To: ms(1000)}
	tools := map[string]*spec.Tool{"t": {Effect: spec.EffectRead, Retry: &spec.Retry{Max: 5, Backoff: backoff}}}
	s := &script{takes: 10 * time.Millisecond, plan: map[string][]tool.Attempt{"t": {
		failed(tool.Unavailable, 503), failed(tool.Timeout, 0), failed(tool.Reset, 0), failed(tool.Malformed, 0), ok(`{"x":1}`),
	}}}
	r := do(t, tools, s, "")
	if r.Class != tool.OK || string(r.Out) != `{"x":1}` || len(r.Attempts) != 5 {
		t.Fatalf("result: %+v", r)
	}
	at := start
	var waits []time.Duration
	for i, a := range r.Attempts {
		at = at.Add(a.Waited)
		if !a.At.Equal(at) || a.For != 10*time.Millisecond {
			t.Errorf("attempt %d was at %s for %s, want %s", i, a.At, a.For, at)
		}
		at = at.Add(a.For)
		waits = append(waits, a.Waited)
	}
	// The exact waits of seed 7: they must never change, or recorded runs would replay differently.
	want := []time.Duration{0, 53905754, 247166102, 500873511, 803150891}
	if d := cmp.Diff(want, waits); d != "" {
		t.Error(d)
	}
}

func TestWaitIsBelowTheDoubledBase(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := spec.Backoff{From: spec.Duration(rapid.Int64Range(0, 1e10).Draw(t, "from")), To: spec.Duration(rapid.Int64Range(0, 1e11).Draw(t, "to"))}
		retry := rapid.IntRange(0, 100).Draw(t, "retry")
		seed := rapid.Uint64().Draw(t, "seed")
		limit := float64(b.From)
		for range retry {
			limit *= 2
		}
		limit = min(limit, float64(max(b.To, b.From)))
		got := tool.Wait(b, seed, retry)
		if got < 0 || float64(got) > limit || got != tool.Wait(b, seed, retry) {
			t.Fatalf("Wait(%+v, %d, %d) = %s, limit %s", b, seed, retry, got, time.Duration(limit))
		}
	})
}

func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		names []string
		first tool.Attempt
		again bool
	}{
		"default timeout":          {nil, failed(tool.Timeout, 0), true},
		"default malformed":        {nil, failed(tool.Malformed, 200), true},
		"default rejected":         {nil, failed(tool.Rejected, 404), false},
		"default drift":            {nil, failed(tool.Drift, 0), false},
		"5xx":                      {[]string{"5xx"}, failed(tool.Unavailable, 502), true},
		"5xx is not a timeout":     {[]string{"5xx"}, failed(tool.Timeout, 0), false},
		"429":                      {[]string{"429"}, failed(tool.Throttled, 0), true},
		"a status":                 {[]string{"409"}, failed(tool.Rejected, 409), true},
		"another status":           {[]string{"409"}, failed(tool.Rejected, 404), false},
		"reset":                    {[]string{"timeout", "reset"}, failed(tool.Reset, 0), true},
		"unavailable":              {[]string{"unavailable"}, failed(tool.Unavailable, 0), true},
		"malformed is not a reset": {[]string{"reset"}, failed(tool.Malformed, 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tools := map[string]*spec.Tool{"t": {Effect: spec.EffectRead, Retry: &spec.Retry{Max: 1, For: c.names}}}
			r := do(t, tools, &script{plan: map[string][]tool.Attempt{"t": {c.first, ok(`1`)}}}, "")
			if (r.Class == tool.OK) != c.again || (len(r.Attempts) == 2) != c.again {
				t.Errorf("result: %+v", r)
			}
			if !c.again && r.Class != c.first.Class {
				t.Errorf("class %s, want %s", r.Class, c.first.Class)
			}
		})
	}
}

func TestAWriteIsNeverRepeatedSilently(t *testing.T) {
	t.Parallel()
	const key = "k1"
	for name, c := range map[string]struct {
		idempotency, key string
		first            tool.Attempt
		want             tool.Class
	}{
		"refused connection":            {"", key, failed(tool.Unavailable, 0), tool.OK},
		"503":                           {"", key, failed(tool.Unavailable, 503), tool.OK},
		"429":                           {"", key, failed(tool.Throttled, 429), tool.OK},
		"500 may have happened":         {"", key, failed(tool.Unavailable, 500), tool.Uncertain},
		"timeout may have happened":     {"", key, failed(tool.Timeout, 0), tool.Uncertain},
		"reset may have happened":       {"", key, failed(tool.Reset, 0), tool.Uncertain},
		"malformed may have happened":   {"", key, failed(tool.Malformed, 200), tool.Uncertain},
		"timeout with a key":            {"header:K", key, failed(tool.Timeout, 0), tool.OK},
		"reset with a key":              {"arg:k", key, failed(tool.Reset, 0), tool.OK},
		"twice is the same as once":     {"natural", "", failed(tool.Timeout, 0), tool.OK},
		"declared, but no key given":    {"header:K", "", failed(tool.Timeout, 0), tool.Uncertain},
		"declared for another protocol": {"meta:k", key, failed(tool.Timeout, 0), tool.Uncertain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tools := map[string]*spec.Tool{"t": {
				Effect: spec.EffectWrite, Idempotency: c.idempotency, Retry: &spec.Retry{Max: 2},
				Call: spec.ToolCall{HTTP: &spec.HTTPCall{}},
			}}
			s := &script{plan: map[string][]tool.Attempt{"t": {c.first, ok(`1`)}}}
			r := do(t, tools, s, c.key)
			if r.Class != c.want {
				t.Fatalf("class %q (%s), want %q", r.Class, r.Message, c.want)
			}
			if c.want == tool.Uncertain && (len(s.calls) != 1 || !strings.Contains(r.Message, "may have happened")) {
				t.Errorf("%d calls, message %q", len(s.calls), r.Message)
			}
			for _, call := range s.calls {
				if call.Key != c.key {
					t.Errorf("an attempt had the key %q", call.Key)
				}
			}
		})
	}
}

func TestAFailureThatProvesNothingStaysUncertain(t *testing.T) {
	t.Parallel()
	tools := map[string]*spec.Tool{"t": {Effect: spec.EffectWrite, Retry: &spec.Retry{Max: 5}}}
	s := &script{plan: map[string][]tool.Attempt{"t": {failed(tool.Unavailable, 503), failed(tool.Timeout, 0), ok(`1`)}}}
	r := do(t, tools, s, "")
	if r.Class != tool.Uncertain || len(r.Attempts) != 2 {
		t.Errorf("result: %+v", r)
	}
}

func TestTheBackupAnswersWhenItIsSafe(t *testing.T) {
	t.Parallel()
	const keyed = "arg:key"
	for name, c := range map[string]struct {
		effect       spec.Effect
		first, other string // idempotency
		failure      tool.Attempt
		used         bool
	}{
		"read":                         {spec.EffectRead, "", "", failed(tool.Timeout, 0), true},
		"write that was refused":       {spec.EffectWrite, "", "", failed(tool.Unavailable, 503), true},
		"write that may have happened": {spec.EffectWrite, "", "", failed(tool.Timeout, 0), false},
		"write that may have happened, one keyed": {spec.EffectWrite, keyed, "", failed(tool.Timeout, 0), false},
		"write under a shared key":                {spec.EffectWrite, keyed, keyed, failed(tool.Timeout, 0), true},
		"wrong arguments":                         {spec.EffectRead, "", "", failed(tool.Rejected, 404), false},
		"drift":                                   {spec.EffectRead, "", "", failed(tool.Drift, 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tools := map[string]*spec.Tool{
				"t": {Effect: c.effect, Idempotency: c.first, Backup: "b", Retry: &spec.Retry{Max: 1, For: []string{"429"}}},
				"b": {Effect: c.effect, Idempotency: c.other, Backup: "t", Retry: &spec.Retry{Max: 1}},
			}
			s := &script{plan: map[string][]tool.Attempt{"t": {c.failure}, "b": {failed(tool.Unavailable, 503), ok(`2`)}}}
			r := do(t, tools, s, "k1")
			if !c.used {
				if r.Class == tool.OK || len(r.Attempts) != 1 || r.Tool != "t" {
					t.Errorf("result: %+v", r)
				}
				return
			}
			if r.Class != tool.OK || r.Tool != "b" || len(r.Attempts) != 3 || r.Attempts[2].Tool != "b" {
				t.Errorf("result: %+v", r)
			}
			if got := s.calls[1].Key; got != "k1" {
				t.Errorf("the backup got the key %q", got)
			}
		})
	}
}

func TestABackupThatFailsTooHasNoBackup(t *testing.T) {
	t.Parallel()
	tools := map[string]*spec.Tool{
		"t": {Effect: spec.EffectRead, Backup: "b"},
		"b": {Effect: spec.EffectRead, Backup: "t"},
	}
	s := &script{plan: map[string][]tool.Attempt{"t": {failed(tool.Reset, 0)}, "b": {failed(tool.Unavailable, 500)}}}
	r := do(t, tools, s, "")
	if r.Class != tool.Reset || r.Tool != "t" || len(r.Attempts) != 2 || r.Message != "reset; its backup b: unavailable" {
		t.Errorf("result: %+v", r)
	}
}

func TestABackupWhoseWriteMayHaveHappenedIsUncertain(t *testing.T) {
	t.Parallel()
	tools := map[string]*spec.Tool{"t": {Effect: spec.EffectWrite, Backup: "b"}, "b": {Effect: spec.EffectWrite}}
	s := &script{plan: map[string][]tool.Attempt{"t": {failed(tool.Unavailable, 503)}, "b": {failed(tool.Timeout, 0)}}}
	if r := do(t, tools, s, ""); r.Class != tool.Uncertain || r.Tool != "b" {
		t.Errorf("result: %+v", r)
	}
}

func TestASlowAnswerIsATimeoutInSimulatedTime(t *testing.T) {
	t.Parallel()
	tools := map[string]*spec.Tool{"t": {Effect: spec.EffectRead, Timeout: ms(2000)}}
	r := do(t, tools, &script{takes: 3 * time.Second, plan: map[string][]tool.Attempt{"t": {ok(`1`)}}}, "")
	if r.Class != tool.Timeout || r.Message != "t did not answer within 2s" || r.Out != nil {
		t.Errorf("result: %+v", r)
	}
	r = do(t, tools, &script{takes: 2 * time.Second, plan: map[string][]tool.Attempt{"t": {ok(`1`)}}}, "")
	if r.Class != tool.OK {
		t.Errorf("an answer in time: %+v", r)
	}
}

func TestTheServersRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	tools := map[string]*spec.Tool{"t": {Effect: spec.EffectRead, Retry: &spec.Retry{Max: 2, Backoff: spec.Backoff{From: ms(1), To: ms(2)}}}}
	wait, tooLong := failed(tool.Throttled, 429), failed(tool.Throttled, 429)
	wait.RetryAfter, tooLong.RetryAfter = 3*time.Second, time.Hour
	r := do(t, tools, &script{plan: map[string][]tool.Attempt{"t": {wait, tooLong, ok(`1`)}}}, "")
	if r.Class != tool.OK || r.Attempts[1].Waited != 3*time.Second || r.Attempts[2].Waited != 30*time.Second {
		t.Errorf("result: %+v", r)
	}
}

func TestACanceledCallStopsWaiting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	clk := clock.NewVirtual(start)
	declared := &spec.Tool{Name: "t", Effect: spec.EffectRead, Retry: &spec.Retry{Max: 9, Backoff: spec.Backoff{From: ms(50)}}}
	s := &script{clock: clk, plan: map[string][]tool.Attempt{"t": {failed(tool.Unavailable, 503)}}, on: func(n int) {
		if n == 2 {
			cancel()
		}
	}}
	r := tool.Do(ctx, tool.Policy{Clock: clk, Caller: s}, tool.Call{Tool: declared, Name: "t"})
	if r.Class != tool.Canceled || len(s.calls) != 2 {
		t.Errorf("after %d calls: %+v", len(s.calls), r)
	}
}

func TestAnUnknownToolIsRejected(t *testing.T) {
	t.Parallel()
	r := tool.Do(t.Context(), tool.Policy{Clock: clock.NewVirtual(start)}, tool.Call{Name: "nope"})
	if r.Class != tool.Rejected || r.Message != "there is no tool nope" {
		t.Errorf("result: %+v", r)
	}
}
