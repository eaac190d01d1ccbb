package lab

import (
	"context"
	"strconv"
	"time"

	"flywheel/internal/lab/faults"
	"flywheel/internal/platform/clock"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// faulty is a Caller that misbehaves as planned. It sits below the policy engine, so that retries, backoff
// and backups meet its faults as they would meet real ones.
type faulty struct {
	inner    tool.Caller
	schedule *faults.Schedule
	clock    *clock.Virtual
	counts   map[string]int          // attempts by tool
	answered map[string]tool.Attempt // by idempotency key: what a tool that knows keys answers again
	noMock   func(tool string)       // told of a tool that cannot be played
}

// Attempt makes one attempt.
func (f *faulty) Attempt(ctx context.Context, call tool.Call) tool.Attempt {
	f.counts[call.Name]++
	began := f.clock.Now()
	hit, ok := f.schedule.At(call.Name, f.counts[call.Name], began.Sub(trialStart))
	a := tool.Attempt{Tool: call.Name, At: began}
	if !ok {
		a = f.reach(ctx, call)
	} else {
		a = f.misbehave(ctx, call, hit, a)
	}
	a.For = f.clock.Now().Sub(began)
	return a
}

func (f *faulty) misbehave(ctx context.Context, call tool.Call, hit faults.Hit, a tool.Attempt) tool.Attempt {
	timeout := tool.DefaultTimeout
	if call.Tool != nil {
		timeout = tool.TimeoutOf(call.Tool)
	}
	switch hit.Do.Kind {
	case faults.Timeout:
		f.clock.Advance(timeout)
		a.Class, a.Message = tool.Timeout, "no answer within "+timeout.String()
		return a
	case faults.Slow:
		delay := slowBy(hit.Do, timeout)
		if delay < timeout {
			f.clock.Advance(delay)
			return f.reach(ctx, call)
		}
		f.reach(ctx, call) // it happens, but nobody waits for the answer
		f.clock.Advance(timeout)
		a.Class, a.Message = tool.Timeout, "no answer within "+timeout.String()
		return a
	}
	if hit.Reaches {
		f.reach(ctx, call)
	}
	switch hit.Do.Kind {
	case faults.Malformed:
		a.Class, a.Message = tool.Malformed, "the answer is cut off and cannot be read"
	case faults.Reset:
		a.Class, a.Message = tool.Reset, "the connection was reset"
	default:
		a.Status = hit.Do.Status
		a.Class, a.Message = classOfStatus(a.Status), "status "+strconv.Itoa(a.Status)
	}
	return a
}

// slowBy is the delay of a slow answer: as the rule says, or almost the whole timeout.
func slowBy(k spec.FaultKind, timeout time.Duration) time.Duration {
	return k.For.Or(timeout * 9 / 10)
}

// reach lets the call take effect: once per idempotency key where the tool knows them.
func (f *faulty) reach(ctx context.Context, call tool.Call) tool.Attempt {
	if call.Tool == nil || call.Tool.Mock == nil {
		f.noMock(call.Name)
		return tool.Attempt{Tool: call.Name, At: f.clock.Now(), Class: tool.Rejected, Message: "the tool has no mock"}
	}
	keyed := call.Key != "" && call.Tool.Idempotency != ""
	if keyed {
		if a, ok := f.answered[call.Key]; ok {
			return a
		}
	}
	a := f.inner.Attempt(ctx, call)
	if keyed && a.Class == tool.OK {
		f.answered[call.Key] = a
	}
	return a
}

func classOfStatus(status int) tool.Class {
	switch {
	case status == 429:
		return tool.Throttled
	case status >= 500:
		return tool.Unavailable
	case status == 408:
		return tool.Timeout
	}
	return tool.Rejected
}
