package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flywheel/client"
)

// desk is the running system: Flywheel's server, and the bank's card service behind it.
type desk struct {
	*client.Client
	url, token, home string
	cmd              *exec.Cmd
}

// outage is how the bank's freeze service fails during the demo: a few seconds out of every twenty, it
// answers 503, hangs, or breaks off.
const outage = "freeze_card:every=20s,for=6s,mode=mixed"

// start runs `flywheel up` on a fresh home.
func start(ctx context.Context, home string) (*desk, error) {
	if err := os.RemoveAll(home); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(home, 0o750); err != nil {
		return nil, err
	}
	binary, err := filepath.Abs("bin/flywheel")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(home, "server.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "up", "--home", home, "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), environment(home)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &desk{home: home, cmd: cmd}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if d.ready(ctx) {
			d.Client = client.New(client.Options{URL: d.url, Token: d.token})
			return d, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = cmd.Process.Kill()
	return nil, fmt.Errorf("flywheel up did not become ready; see %s", log.Name())
}

// environment is what the package declares: where the card service is, and its data and outages.
func environment(home string) []string {
	server, _ := filepath.Abs("bin/cards-server")
	data, _ := filepath.Abs(filepath.Join(home, "cards.db"))
	return []string{"CARDS_SERVER=" + server, "CARDS_DATA=" + data, "CARDS_OUTAGE=" + outage}
}

func (d *desk) ready(ctx context.Context) bool {
	b, err := os.ReadFile(filepath.Join(d.home, "server.json"))
	if err != nil {
		return false
	}
	var server struct {
		URL string `json:"url"`
	}
	if json.Unmarshal(b, &server) != nil || server.URL == "" {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	token, err := os.ReadFile(filepath.Join(d.home, "token"))
	if err != nil || resp.StatusCode != http.StatusOK {
		return false
	}
	d.url, d.token = server.URL, strings.TrimSpace(string(token))
	return true
}

func (d *desk) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}

// answer is what the OpenAI-compatible endpoint gave.
type answer struct {
	Text, Run, Release string
	Failed             bool
}

// ask sends one message as any OpenAI client would.
func (d *desk) ask(ctx context.Context, model, session, message string) (answer, error) {
	body, err := json.Marshal(map[string]any{
		"model": model, "messages": []map[string]string{{"role": "user", "content": message}},
	})
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Flywheel-Session", session)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var out struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
		Error *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return answer{}, fmt.Errorf("read the completion: %w", err)
	}
	a := answer{Run: resp.Header.Get("X-Flywheel-Run"), Release: resp.Header.Get("X-Flywheel-Release")}
	switch {
	case out.Error != nil && a.Run == "":
		return a, fmt.Errorf("%s: %s", resp.Status, out.Error.Message)
	case out.Error != nil:
		a.Failed, a.Text = true, out.Error.Message
	case len(out.Choices) > 0:
		a.Text = out.Choices[0].Message.Content
	}
	return a, nil
}
