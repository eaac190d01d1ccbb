package httpx

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// HeartbeatEvery is how often an idle event stream says that it is alive.
const HeartbeatEvery = 15 * time.Second

// EventStream writes server-sent events. Nothing is sent before the first event or heartbeat, so that
// an early error can still be an ordinary answer. It is safe for concurrent use.
type EventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu      sync.Mutex
	started bool
	closed  bool
	err     error
}

// NewEventStream makes the stream of a response.
func NewEventStream(w http.ResponseWriter) *EventStream {
	return &EventStream{w: w, control: http.NewResponseController(w)}
}

// Start sends the headers.
func (s *EventStream) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(nil)
}

// Started says whether something was sent.
func (s *EventStream) Started() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// Send writes one event and flushes it. id is left out when it is 0. data is one JSON text.
func (s *EventStream) Send(event string, id int64, data []byte) error {
	var b bytes.Buffer
	if id != 0 {
		b.WriteString("id: " + strconv.FormatInt(id, 10) + "\n")
	}
	b.WriteString("event: " + event + "\n")
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		b.WriteString("data: ")
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(b.Bytes())
}

// Heartbeat sends comments until stop is called; it keeps proxies and clients from giving up.
func (s *EventStream) Heartbeat(every time.Duration) (stop func()) {
	return Beat(every, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = s.write([]byte(Alive))
	})
}

// Alive is a comment in an event stream, which readers skip.
const Alive = ": alive\n\n"

// Beat calls a function again and again until stop is called, which waits for a call under way.
func Beat(every time.Duration, beat func()) (stop func()) {
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				beat()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wait.Wait()
	}
}

// Close ends the stream: later events are dropped, since the response belongs to its handler alone.
func (s *EventStream) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// write sends bytes as one piece; after an error everything else is dropped.
func (s *EventStream) write(b []byte) error {
	if s.err != nil || s.closed {
		return s.err
	}
	if !s.started {
		s.started = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
	}
	if len(b) > 0 {
		if _, s.err = s.w.Write(b); s.err != nil {
			return s.err
		}
	}
	s.err = s.control.Flush()
	return s.err
}
