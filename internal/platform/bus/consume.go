package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"flywheel/internal/platform/fault"
)

const (
	readAhead   = 256
	maxAttempts = 8
	firstWait   = 20 * time.Millisecond
	longestWait = 30 * time.Second
)

type consumer struct {
	name, topic string
	fn          func(context.Context, Event) error
	wake        chan struct{}
	asked       chan chan struct{} // Drain waits for an answer: caught up
}

// Handle registers a durable consumer. It gets every event of the topic at least once and in order,
// from where it was when the process last ended; fn must therefore bear repetition. An event that
// fails with an error that waiting cannot cure is parked after some attempts and logged.
func (b *Bus) Handle(name, topic string, fn func(context.Context, Event) error) {
	c := &consumer{name: name, topic: topic, fn: fn, wake: make(chan struct{}, 1), asked: make(chan chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, other := range b.consumers {
		if other.name == name {
			panic(fmt.Sprintf("bus: two consumers are called %q", name))
		}
	}
	b.consumers = append(b.consumers, c)
	if b.stop != nil {
		b.launch(c)
	}
}

// Start runs the durable consumers until Close.
func (b *Bus) Start(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil {
		return
	}
	b.running, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, c := range b.consumers {
		b.launch(c)
	}
}

func (b *Bus) launch(c *consumer) {
	ctx := b.running
	b.done.Go(func() { b.consume(ctx, c) })
}

// Close stops the consumers after the event that each is working on.
func (b *Bus) Close() {
	b.mu.Lock()
	stop := b.stop
	b.mu.Unlock()
	if stop != nil {
		stop()
		b.done.Wait()
	}
}

// Drain waits until every consumer has seen all events that were durable when it was called. A short
// command drains before it ends, so that the next one finds everything up to date.
func (b *Bus) Drain(ctx context.Context) error {
	b.mu.Lock()
	consumers, running := b.consumers, b.running
	b.mu.Unlock()
	if running == nil {
		return nil
	}
	for _, c := range consumers {
		answer := make(chan struct{})
		select {
		case c.asked <- answer:
		case <-running.Done():
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for consumer %s: %w", c.name, ctx.Err())
		}
		select {
		case <-answer:
		case <-running.Done():
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for consumer %s: %w", c.name, ctx.Err())
		}
	}
	return nil
}

func (b *Bus) wake(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.consumers {
		if c.topic != topic {
			continue
		}
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (b *Bus) consume(ctx context.Context, c *consumer) {
	seq, err := b.cursor(ctx, c.name)
	for wait := firstWait; err != nil; seq, err = b.cursor(ctx, c.name) {
		b.log.Error("cursor not read", slog.String("consumer", c.name), slog.Any("error", err))
		if b.clock.Sleep(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, longestWait)
	}
	for ctx.Err() == nil {
		// A Drain that asks from here on is answered only after a read that began later.
		next, more, err := b.consumeBatch(ctx, c, seq)
		seq = next
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			b.log.Error("events not read", slog.String("consumer", c.name), slog.Any("error", err))
			if b.clock.Sleep(ctx, firstWait) != nil {
				return
			}
			continue
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case answer := <-c.asked:
			seq = b.catchUp(ctx, c, seq)
			close(answer)
		}
	}
}

// catchUp reads until there is nothing left.
func (b *Bus) catchUp(ctx context.Context, c *consumer, seq int64) int64 {
	for {
		next, more, err := b.consumeBatch(ctx, c, seq)
		seq = next
		if err != nil || !more {
			return seq
		}
	}
}

func (b *Bus) consumeBatch(ctx context.Context, c *consumer, seq int64) (next int64, more bool, err error) {
	events, err := b.Since(ctx, c.topic, seq, readAhead)
	if err != nil || len(events) == 0 {
		return seq, false, err
	}
	saved := seq
	defer func() {
		if next > saved {
			err = errors.Join(err, b.saveCursor(context.WithoutCancel(ctx), c.name, next))
		}
	}()
	for _, e := range events {
		parked, err := b.handleOne(ctx, c, e)
		if err != nil {
			return seq, false, err
		}
		seq = e.Seq
		if parked {
			saved = seq
		}
	}
	return seq, len(events) == readAhead, nil
}

// handleOne repeats an event until it is taken or parked; the error is that of the ended context or
// of the store.
func (b *Bus) handleOne(ctx context.Context, c *consumer, e Event) (parked bool, err error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		err := b.attempt(ctx, c, e)
		if err == nil {
			return false, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		at := []any{slog.String("consumer", c.name), slog.String("topic", e.Topic), slog.Int64("seq", e.Seq), slog.Int("attempt", attempt), slog.Any("error", err)}
		b.log.Warn("event not taken", at...)
		if attempt >= maxAttempts && !fault.KindOf(err).Retryable() {
			b.log.Error("event parked", at...)
			return true, b.park(ctx, c.name, e.Seq, err)
		}
		if err := b.clock.Sleep(ctx, wait); err != nil {
			return false, err
		}
		wait = min(2*wait, longestWait)
	}
}

func (b *Bus) attempt(ctx context.Context, c *consumer, e Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in consumer %s: %v", c.name, p)
		}
	}()
	return c.fn(ctx, e)
}
