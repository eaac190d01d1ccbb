package bus

import (
	"context"
	"embed"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the outbox, the cursors and the parked events.
var Migrations = db.Migrations{Domain: "bus", Files: files}

// Event is something that happened. Seq is 0 for ephemeral events.
type Event struct {
	Seq     int64           `json:"seq,omitempty"`
	At      time.Time       `json:"at"`
	Topic   string          `json:"topic"`
	Subject string          `json:"subject"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Bus is the outbox of one store with its subscribers and consumers.
type Bus struct {
	db    *db.DB
	clock clock.Clock
	log   *slog.Logger

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	consumers   []*consumer
	stop        context.CancelFunc // nil until Start
	running     context.Context    //nolint:containedctx // the life of the consumers
	done        sync.WaitGroup

	last   int64 // the newest sequence number; touched only by the store's writer
	loaded bool
}

// New makes the bus of a store. Events flow to durable consumers after Start.
func New(store *db.DB) *Bus {
	return &Bus{
		db: store, clock: clock.Real(), log: slog.New(slog.DiscardHandler),
		subscribers: map[*subscriber]struct{}{},
	}
}

// WithLog returns the bus after telling it where to log.
func (b *Bus) WithLog(log *slog.Logger) *Bus {
	b.log = log
	return b
}

// WithClock returns the bus after giving it the clock by which events are dated and retried.
func (b *Bus) WithClock(c clock.Clock) *Bus {
	b.clock = c
	return b
}

// Emit records an event in the transaction of the change that it tells about. It is delivered when,
// and only when, that transaction is durable.
func (b *Bus) Emit(ctx context.Context, tx *db.Tx, topic, subject string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	e := Event{At: b.clock.Now(), Topic: topic, Subject: subject, Payload: body}
	if err := b.append(ctx, tx, &e); err != nil {
		return err
	}
	tx.OnCommit(func() {
		b.deliver(e)
		b.wake(topic)
	})
	return nil
}

// Publish tells live subscribers something that may be lost.
func (b *Bus) Publish(topic, subject string, payload any) {
	body, err := json.Marshal(payload)
	if err != nil {
		b.log.Error("event not sent", slog.String("topic", topic), slog.Any("error", err))
		return
	}
	b.deliver(Event{At: b.clock.Now(), Topic: topic, Subject: subject, Payload: body})
}

func (b *Bus) deliver(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subscribers {
		s.offer(e)
	}
}
