package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// message is one line of traffic: what a customer writes, and what the bank later knows solved the case.
type message struct {
	Message  string `json:"message"`
	Card     string `json:"card"`
	Expected string `json:"expect_action"`
	Family   string `json:"family"`
}

func readTraffic(path string) ([]message, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []message
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.TrimSpace(s.Text()) == "" {
			continue
		}
		var m message
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, len(out)+1, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// send sends messages through the endpoint and reports each outcome as the bank's own systems would: it
// looks at what was really done, and says what solved the case in the end.
func (s *story) send(ctx context.Context, part []message, label string) error {
	for i, m := range part {
		session := fmt.Sprintf("%s-%03d", label, i)
		a, err := s.ask(ctx, s.name("prod"), session, m.Message)
		if err != nil {
			return err
		}
		ok, got, err := s.solved(ctx, a.Run, m)
		if err != nil {
			return err
		}
		verdict := "failure"
		if ok {
			verdict = "success"
		}
		body := map[string]any{
			"run": a.Run, "verdict": verdict, "source": "event", "who": "core banking", "key": session,
			"expected_action": m.Expected, "got": got,
		}
		if err := s.Call(ctx, "POST", "/api/v1/outcomes", body, nil); err != nil {
			return err
		}
		s.progress("%d/%d messages", i+1, len(part))
	}
	s.progressDone()
	return nil
}

// solved compares what the run did with what the case needed.
func (s *story) solved(ctx context.Context, run string, m message) (bool, string, error) {
	var out struct {
		Steps []struct {
			Kind  string `json:"kind"`
			Name  string `json:"name"`
			Class string `json:"class"`
		} `json:"steps"`
	}
	if err := s.Call(ctx, "GET", "/api/v1/runs/"+run, nil, &out); err != nil {
		return false, "", err
	}
	got, ok := "reply", m.Expected == "reply"
	for _, step := range out.Steps {
		if step.Kind == "tool" {
			got = step.Name
			ok = step.Name == m.Expected && step.Class == ""
		}
	}
	return ok, got, nil
}
