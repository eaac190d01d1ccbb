package run

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
	"flywheel/spec"
)

// Effects reach the world for a machine.
type Effects interface {
	// Model calls a model; onDelta may be nil.
	Model(ctx context.Context, req model.Request, onDelta func(model.Delta)) (model.Response, error)
	// Tool calls a tool with its whole policy: timeout, retries, backup.
	Tool(ctx context.Context, call tool.Call) tool.Result
}

// Mocker is an Effects that knows calls which never reach the world, because a mock or a tape answers.
// They need no intent, and their rows carry the label mock.
type Mocker interface {
	Mocked(call tool.Call) bool
}

// Recorder keeps a journal. A row is durable when the method returns; the error ErrLost says that
// another writer has taken its place. Rows come with Command and Answer; see Row.Encode.
type Recorder interface {
	// Intent is told before an effect that may not be repeated, and when a person is asked.
	Intent(ctx context.Context, r Row) error
	// Result is told what an effect gave, and the end of the run.
	Result(ctx context.Context, r Row) error
}

// ErrLost is returned to the second writer of a (run, seq): it must stop.
var ErrLost = errors.New("another process drives the run")

// DriveInput is what Drive needs. Only Machine and Effects are required.
type DriveInput struct {
	Run      ID
	Machine  *Machine
	Effects  Effects
	Recorder Recorder
	Clock    clock.Clock
	Limits   spec.Limits // narrow those of the machine
	// Secret keys the idempotency keys; without it calls carry none.
	Secret []byte
	// Seq is the last sequence number in the journal.
	Seq int
	// Intents are, by step, the intents without a result that a crash left.
	Intents map[int]Row
	OnDelta func(node string, d model.Delta)
	// OnRow is told each row after it is durable.
	OnRow func(Row)
}

// driver is one call of Drive.
type driver struct {
	DriveInput
	parent context.Context //nolint:containedctx // tells a cancelled run from one out of time
}

// Drive performs the commands of a machine until the run ends or waits for a person. An error means
// that the run could not be driven further, not that it failed; it stays as its journal says.
func Drive(ctx context.Context, in DriveInput) (Ended, error) {
	if in.Clock == nil {
		in.Clock = clock.Real()
	}
	if in.Recorder == nil {
		in.Recorder = discard{}
	}
	in.Machine.Narrow(in.Limits)
	limited, cancel := context.WithTimeout(ctx, in.Machine.TimeLeft())
	defer cancel()
	d := driver{DriveInput: in, parent: ctx}
	for {
		open := d.Machine.Next()
		if len(open) == 0 {
			return d.Machine.Ended(), nil
		}
		c := open[0]
		var err error
		switch c.Kind {
		case KindModel:
			err = d.model(limited, &c)
		case KindTool:
			var waits bool
			if waits, err = d.tool(limited, &c); waits && err == nil {
				return d.uncertain(&c), nil
			}
		case KindAsk:
			return d.Machine.Ended(), d.ask(ctx, &c)
		case KindFinish:
			err = d.finish(ctx, &c)
		}
		if err != nil {
			return d.Machine.Ended(), err
		}
	}
}

// now is the time as journals keep it.
func (d *driver) now() time.Time { return d.Clock.Now().Truncate(time.Microsecond) }

func (d *driver) row(kind string, c *Command, startedAt time.Time) Row {
	d.Seq++
	return Row{Run: d.Run, Seq: d.Seq, Step: c.Step, Kind: kind, Node: c.Node, StartedAt: startedAt, Command: c}
}

// record makes an answer durable, then gives it to the machine.
func (d *driver) record(ctx context.Context, r Row, a Answer) error {
	a.For = max(0, r.EndedAt.Sub(r.StartedAt))
	r.Answer = &a
	// What has happened is recorded even when the caller has gone away meanwhile.
	if err := d.Recorder.Result(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("record step %d: %w", r.Step, err)
	}
	if err := d.Machine.Apply(r.Step, a); err != nil {
		return err
	}
	if d.OnRow != nil {
		d.OnRow(r)
	}
	return nil
}

func (d *driver) model(ctx context.Context, c *Command) error {
	var onDelta func(model.Delta)
	if d.OnDelta != nil {
		node := c.Node
		onDelta = func(delta model.Delta) { d.OnDelta(node, delta) }
	}
	startedAt := d.now()
	response, err := d.Effects.Model(ctx, *c.Model, onDelta)
	if gone := d.parent.Err(); gone != nil && err != nil {
		return context.Cause(d.parent)
	}
	r := d.row(RowModel, c, startedAt)
	r.EndedAt, r.Attempt = d.now(), 1
	var a Answer
	if err != nil {
		a.Failure = d.failure(ctx, err, c.Node)
		r.Class = a.Failure.Class
	} else {
		a.Model = &response
		r.Usage = response.Usage
	}
	return d.record(ctx, r, a)
}

// failure classifies the error of a model call.
func (d *driver) failure(ctx context.Context, err error, node string) *Failure {
	if ctx.Err() != nil {
		return &Failure{Class: ClassLimitTime, Message: deadlineExceededIn, Node: node}
	}
	f := fault.From(err)
	class := f.Code
	if f.Kind == fault.Internal && class == "internal" {
		class = "model.failed"
	}
	message := f.Error()
	if f.Hint != "" {
		message += " (" + f.Hint + ")"
	}
	return &Failure{Class: class, Message: message, Node: node}
}

// tool performs a call; waits says that nobody knows whether it happened before a crash.
func (d *driver) tool(ctx context.Context, c *Command) (waits bool, err error) {
	call := c.Tool
	call.Run = string(d.Run)
	startedAt := d.now()
	mocked := isMocked(d.Effects, *call)
	if !mocked && call.Tool.Effect != spec.EffectRead {
		if len(d.Secret) > 0 {
			call.Key = idempotencyKey(d.Secret, d.Run, c.Step, call)
		}
		intent, before := d.Intents[c.Step]
		if before {
			call.Key = recordedCall(&intent).Key // what the world may have seen
			if !tool.Repeatable(*call) {
				return true, d.askUncertain(ctx, c, intent)
			}
		} else if err := d.Recorder.Intent(ctx, d.row(RowIntent, c, startedAt)); err != nil {
			return false, fmt.Errorf("record the intent of step %d: %w", c.Step, err)
		}
	}
	result := d.Effects.Tool(ctx, *call)
	if d.parent.Err() != nil && result.Class != tool.OK {
		return false, context.Cause(d.parent) // no result: after a restart the intent decides
	}
	r := d.row(RowTool, c, startedAt)
	r.EndedAt, r.Attempt, r.Class = d.now(), max(1, len(result.Attempts)), string(result.Class)
	if mocked {
		r.Labels = map[string]string{"mock": "true"}
	}
	if ctx.Err() != nil && result.Class == tool.Canceled {
		// The time limit ended the call: what was left of it is used up.
		if used := startedAt.Add(d.Machine.TimeLeft()); used.After(r.EndedAt) {
			r.EndedAt = used
		}
	}
	return false, d.record(ctx, r, Answer{Tool: &result})
}

func isMocked(e Effects, call tool.Call) bool {
	m, ok := e.(Mocker)
	return ok && m.Mocked(call)
}

// idempotencyKey names a call: the same over retries and after a crash, and guessed by nobody.
func idempotencyKey(secret []byte, run ID, step int, call *tool.Call) string {
	h := hmac.New(sha256.New, secret)
	for _, part := range []string{string(run), strconv.Itoa(step), call.Name} {
		_, _ = h.Write([]byte(part))
		_, _ = h.Write([]byte{0})
	}
	_, _ = h.Write(call.Args)
	return hex.EncodeToString(h.Sum(nil))
}

// ask records the question of a human node, unless that was done before.
func (d *driver) ask(ctx context.Context, c *Command) error {
	if _, asked := d.Intents[c.Step]; asked {
		return nil
	}
	r := d.row(RowAsk, c, d.now())
	if err := d.Recorder.Intent(ctx, r); err != nil {
		return fmt.Errorf("record the question of step %d: %w", c.Step, err)
	}
	if d.OnRow != nil {
		d.OnRow(r)
	}
	return nil
}

// askUncertain asks a person whether a call happened.
func (d *driver) askUncertain(ctx context.Context, c *Command, intent Row) error {
	if intent.Kind == RowAsk {
		return nil
	}
	question := *c
	question.Tool, question.Kind, question.digest = nil, KindAsk, ""
	question.Ask = uncertainAsk(c)
	r := d.row(RowAsk, &question, d.now())
	r.Class = ClassUncertain
	if err := d.Recorder.Intent(ctx, r); err != nil {
		return fmt.Errorf("record the question of step %d: %w", c.Step, err)
	}
	return nil
}

func uncertainAsk(c *Command) *Ask {
	return &Ask{
		Question:  fmt.Sprintf("A crash hid whether %s happened. Approve if it did, deny if it did not.", c.Tool.Name),
		Uncertain: &Uncertain{Tool: c.Tool.Name, Args: c.Tool.Args},
	}
}

func (d *driver) uncertain(c *Command) Ended {
	e := d.Machine.Ended()
	e.Status, e.Ask = Waiting, uncertainAsk(c)
	return e
}

func (d *driver) finish(ctx context.Context, c *Command) error {
	at := d.now()
	r := d.row(RowFinish, c, at)
	r.EndedAt = at
	ended := d.Machine.Ended()
	r.Ended = &ended
	if ended.Failure != nil {
		r.Class = ended.Failure.Class
	}
	return d.record(ctx, r, Answer{})
}

// Tape is a recorder in memory: it keeps rows as they come, unencoded.
type Tape struct{ Rows []Row }

// Intent keeps r.
func (t *Tape) Intent(_ context.Context, r Row) error {
	t.Rows = append(t.Rows, r)
	return nil
}

// Result keeps r.
func (t *Tape) Result(_ context.Context, r Row) error {
	t.Rows = append(t.Rows, r)
	return nil
}

type discard struct{}

func (discard) Intent(context.Context, Row) error { return nil }
func (discard) Result(context.Context, Row) error { return nil }
