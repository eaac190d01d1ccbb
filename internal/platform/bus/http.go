package bus

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
)

// ServeHTTP streams events as server-sent events: the event name is the topic, the data the whole
// Event. ?topic=run.* (repeated, or with commas) chooses topics. Last-Event-ID, or ?after=, resumes
// after a number; without one the stream starts now. Ephemeral events have no id.
func (b *Bus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var topics []string
	for _, t := range append(r.URL.Query()["topic"], r.URL.Query()["topics"]...) {
		topics = append(topics, strings.FieldsFunc(t, func(c rune) bool { return c == ',' })...)
	}
	after, err := lastEventID(r)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	live := b.Subscribe(r.Context(), topics...) // before the past is read, so that nothing falls between
	s := httpx.NewEventStream(w)
	defer s.Close()
	if s.Start() != nil {
		return
	}
	if after >= 0 {
		if after, err = b.sendPast(r, s, topics, after); err != nil {
			httpx.Note(r.Context(), err)
			return // the client comes back with the last number that it saw
		}
	}
	defer s.Heartbeat(httpx.HeartbeatEvery)()
	for e := range live {
		if e.Seq != 0 && e.Seq <= after {
			continue
		}
		if sendEvent(s, e) != nil {
			return
		}
	}
}

func lastEventID(r *http.Request) (int64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	if text == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Invalid, "bus.event_id", "%q is not the number of an event", text)
	}
	return n, nil
}

func (b *Bus) sendPast(r *http.Request, s *httpx.EventStream, topics []string, after int64) (int64, error) {
	for {
		events, err := b.Since(r.Context(), "", after, readAhead)
		if err != nil {
			return after, err
		}
		for _, e := range events {
			after = e.Seq
			if !wants(topics, e.Topic) {
				continue
			}
			if err := sendEvent(s, e); err != nil {
				return after, err
			}
		}
		if len(events) < readAhead {
			return after, nil
		}
	}
}

func sendEvent(s *httpx.EventStream, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.Send(e.Topic, e.Seq, body)
}
