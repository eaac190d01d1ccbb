package tool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"flywheel/internal/platform/clock"
	"flywheel/spec"
)

// DefaultTimeout bounds one attempt of a tool that declares no timeout.
const DefaultTimeout = 30 * time.Second

// maxRetryAfter bounds how long a server's Retry-After is honoured.
const maxRetryAfter = 30 * time.Second

// TimeoutOf is the time that one attempt of t may take.
func TimeoutOf(t *spec.Tool) time.Duration { return t.Timeout.Or(DefaultTimeout) }

// Policy is what Do needs besides the call.
type Policy struct {
	Clock  clock.Clock
	Tools  map[string]*spec.Tool // of the package: where a backup is found
	Caller Caller
}

// Do makes a call as its tool declares: each attempt within the timeout, retries with backoff, then the
// backup. Every attempt is in the result.
//
// A write is never repeated silently. A tool whose effect is not read is attempted again only when the
// failure proves that nothing happened (the connection was refused, 429, 503 or 4xx before any work), or
// when it declares idempotency, so that the repetition carries the same key. Otherwise the call ends as
// Uncertain. The backup of a write follows the same rule: after an attempt that may have happened it is
// used only when both tools declare idempotency, which is the author's word that both lead to one ledger
// and that the key means the same there. A backup has its own timeout and retries but no backup.
func Do(ctx context.Context, p Policy, call Call) Result {
	if call.Tool == nil {
		call.Tool = p.Tools[call.Name]
	}
	if call.Tool == nil {
		return Result{Class: Rejected, Tool: call.Name, Message: fmt.Sprintf("there is no tool %s", call.Name)}
	}
	first := p.series(ctx, call)
	backup := p.backupFor(call, first)
	if backup == nil {
		return first.result(call)
	}
	second := call
	second.Tool, second.Name = backup, backup.Name
	second.Seed = call.Seed ^ 0x9e3779b97f4a7c15 // its own jitter
	then := p.series(ctx, second)
	r := then.result(second)
	r.Attempts = append(first.attempts, then.attempts...)
	if r.Class == OK || r.Class == Uncertain || r.Class == Canceled {
		return r
	}
	failed := first.result(call)
	r.Class, r.Tool = failed.Class, failed.Tool
	r.Message = fmt.Sprintf("%s; its backup %s: %s", failed.Message, backup.Name, r.Message)
	return r
}

// series is one tool's attempts.
type series struct {
	attempts []Attempt
	happened bool // some attempt may have had its effect
}

func (s *series) last() Attempt { return s.attempts[len(s.attempts)-1] }

// result is the end of a series without a backup.
func (s *series) result(call Call) Result {
	a := s.last()
	r := Result{Class: a.Class, Message: a.Message, Tool: call.Name, Attempts: s.attempts}
	if a.Class == OK {
		r.Out = a.Out
		return r
	}
	if r.Message == "" {
		r.Message = fmt.Sprintf("%s: %s", call.Name, a.Class)
	}
	if s.happened && !Repeatable(call) && a.Class != Canceled {
		r.Class = Uncertain
		r.Message += "; it may have happened all the same, so it was not repeated"
	}
	return r
}

// series makes the attempts of one tool.
func (p Policy) series(ctx context.Context, call Call) *series {
	s := &series{}
	var waited time.Duration
	for retry := 0; ; retry++ {
		a := p.attempt(ctx, call)
		a.Waited = waited
		s.attempts = append(s.attempts, a)
		if a.Class == OK {
			return s
		}
		s.happened = s.happened || mayHaveHappened(call.Tool, a)
		rule := call.Tool.Retry
		if rule == nil || retry >= rule.Max || !retried(rule.For, a) || (s.happened && !Repeatable(call)) {
			return s
		}
		waited = max(Wait(rule.Backoff, call.Seed, retry), min(a.RetryAfter, maxRetryAfter))
		if err := p.Clock.Sleep(ctx, waited); err != nil {
			end := p.canceled(call, err, waited)
			end.Message += " again after: " + a.Message
			s.attempts = append(s.attempts, end)
			return s
		}
	}
}

// attempt tries once and makes sure that time limits have their class, whatever the caller says.
func (p Policy) attempt(ctx context.Context, call Call) Attempt {
	limit := TimeoutOf(call.Tool)
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := p.Clock.Now()
	if err := ctx.Err(); err != nil {
		return p.canceled(call, err, 0)
	}
	a := p.Caller.Attempt(within, call)
	a.Tool, a.At, a.For = call.Name, start, p.Clock.Now().Sub(start)
	switch {
	case ctx.Err() != nil && a.Class != OK:
		a.Class = Canceled
	case within.Err() != nil && a.Class != OK:
		a.timeout(limit)
	case within.Err() == nil && a.For > limit: // simulated time: the context knows nothing of it
		a.timeout(limit)
	}
	if a.Class != OK {
		a.Out = nil
	}
	return a
}

func (a *Attempt) timeout(limit time.Duration) {
	a.Class, a.Message = Timeout, fmt.Sprintf("%s did not answer within %s", a.Tool, limit)
}

func (p Policy) canceled(call Call, err error, waited time.Duration) Attempt {
	message := "canceled before " + call.Name + " was called"
	if errors.Is(err, context.DeadlineExceeded) {
		message = "the time limit was reached before " + call.Name + " was called"
	}
	return Attempt{Tool: call.Name, Class: Canceled, Message: message, At: p.Clock.Now(), Waited: waited}
}

// Wait is the pause before a retry, counted from 0: a random part of From doubled each time, at most To
// (full jitter). The same seed gives the same waits. Without To the pause does not grow.
func Wait(b spec.Backoff, seed uint64, retry int) time.Duration {
	from, to := time.Duration(b.From), max(time.Duration(b.To), time.Duration(b.From))
	if from <= 0 {
		return 0
	}
	limit := to
	if retry < 62 && from <= to>>retry {
		limit = from << retry
	}
	r := rand.New(rand.NewPCG(seed, uint64(retry)))
	return time.Duration(r.Int64N(int64(limit) + 1))
}

// backupFor is the tool to call after the series has failed, or nil.
func (p Policy) backupFor(call Call, s *series) *spec.Tool {
	a := s.last()
	backup := p.Tools[call.Tool.Backup]
	if a.Class == OK || !Transient(a.Class) || backup == nil || backup.Name == call.Name {
		return nil
	}
	second := call
	second.Tool = backup
	if s.happened && backup.Effect != spec.EffectRead && (!keyed(call) || !keyed(second)) {
		return nil
	}
	return backup
}

// Transient says whether a failure of the class may go away by itself.
func Transient(c Class) bool {
	switch c {
	case Timeout, Unavailable, Throttled, Reset, Malformed:
		return true
	}
	return false
}

// retried says whether the tool's `for` names the failure. A status that is named is retried even when
// its class is not transient.
func retried(names []string, a Attempt) bool {
	if len(names) == 0 {
		return Transient(a.Class)
	}
	if a.Class == Drift || a.Class == Uncertain || a.Class == Canceled {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		if status, err := strconv.Atoi(name); err == nil {
			return a.Status == status || (status == 429 && a.Class == Throttled)
		}
		if name == "5xx" {
			return a.Status >= 500 || (a.Class == Unavailable && a.Status == 0)
		}
		return string(a.Class) == name
	})
}

// mayHaveHappened says whether a failed attempt can have had an effect that matters.
func mayHaveHappened(t *spec.Tool, a Attempt) bool {
	if t.Effect == spec.EffectRead {
		return false
	}
	switch a.Class {
	case OK, Rejected, Throttled, Drift:
		return false
	case Unavailable: // no status: it was not reached
		return a.Status != 0 && a.Status != 503
	case Canceled:
		return a.For > 0
	}
	return true
}

// Repeatable says whether the call may be made again although it may have happened: it only reads, its key
// reaches the tool, or its author says that doing it twice is the same as once.
func Repeatable(call Call) bool {
	return call.Tool.Effect == spec.EffectRead || call.Tool.Idempotency == "natural" || keyed(call)
}

// keyed says whether the idempotency key reaches the tool. The ways are header:NAME for HTTP,
// meta:NAME for MCP, arg:NAME for both; another way for a tool is as good as none.
func keyed(call Call) bool {
	way, name, ok := strings.Cut(call.Tool.Idempotency, ":")
	if !ok || name == "" || call.Key == "" {
		return false
	}
	c := call.Tool.Call
	switch way {
	case "header":
		return c.MCP == nil
	case "meta":
		return c.HTTP == nil
	}
	return way == "arg"
}
