package bus

import (
	"context"
	"strings"
)

// maxQueued is how many events a slow subscriber may owe: from there on ephemeral ones are dropped,
// and at eight times that its channel is closed, after which it reads on from its last number.
const maxQueued = 1024

type subscriber struct {
	topics []string
	queue  []Event
	ended  bool // too slow, or its context is over; guarded by Bus.mu
	wake   chan struct{}
}

// Subscribe gives the events of some topics from now on until ctx ends; no topic means all, and a
// topic that ends in ".*" means all that start so. The channel is closed when ctx ends, or when the
// reader is so slow that durable events would be lost.
func (b *Bus) Subscribe(ctx context.Context, topics ...string) <-chan Event {
	s := &subscriber{topics: topics, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	b.subscribers[s] = struct{}{}
	b.mu.Unlock()
	out := make(chan Event, 16)
	go b.pump(ctx, s, out)
	return out
}

func (b *Bus) pump(ctx context.Context, s *subscriber, out chan<- Event) {
	defer close(out)
	defer func() {
		b.mu.Lock()
		delete(b.subscribers, s)
		b.mu.Unlock()
	}()
	for {
		b.mu.Lock()
		batch, ended := s.queue, s.ended
		s.queue = nil
		b.mu.Unlock()
		for _, e := range batch {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		if ended {
			return
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// offer queues an event without waiting. The caller holds the lock of the bus.
func (s *subscriber) offer(e Event) {
	if s.ended || !wants(s.topics, e.Topic) {
		return
	}
	if len(s.queue) >= maxQueued && e.Seq == 0 {
		return
	}
	if len(s.queue) >= 8*maxQueued {
		s.ended = true
	} else {
		s.queue = append(s.queue, e)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func wants(topics []string, topic string) bool {
	if len(topics) == 0 {
		return true
	}
	for _, t := range topics {
		if t == topic {
			return true
		}
		if prefix, ok := strings.CutSuffix(t, "*"); ok && strings.HasPrefix(topic, prefix) {
			return true
		}
	}
	return false
}
