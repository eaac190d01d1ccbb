package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/file"
)

const (
	lockFile   = "lock"
	serverFile = "server.json"
	lockFor    = 10 * time.Second
	lockEvery  = 50 * time.Millisecond
)

// holder is who holds a home; it stands in the lock file, and in server.json once a server listens.
type holder struct {
	PID       int       `json:"pid"`
	Command   string    `json:"command"`
	StartedAt time.Time `json:"started_at"`
	Serves    bool      `json:"serves,omitempty"`
	URL       string    `json:"url,omitempty"`
	Version   string    `json:"version,omitempty"`
}

// lock is the hold on a home. The kernel releases it when the process dies, however it dies.
type lock struct {
	file *os.File
	home string
	mine holder
}

// tryLock takes the home, or says who holds it.
func tryLock(home string, mine holder) (*lock, holder, error) {
	file, err := os.OpenFile(filepath.Join(home, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, holder{}, fmt.Errorf("open the lock of the home: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		_ = file.Close()
		return nil, readHolder(filepath.Join(home, lockFile)), nil
	}
	if err != nil {
		_ = file.Close()
		return nil, holder{}, fmt.Errorf("lock the home: %w", err)
	}
	l := &lock{file: file, home: home, mine: mine}
	_ = os.Remove(filepath.Join(home, serverFile)) // of a server that was killed
	body, err := json.Marshal(mine)
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(append(body, '\n'), 0)
	}
	if err != nil {
		l.release()
		return nil, holder{}, fmt.Errorf("write the lock of the home: %w", err)
	}
	return l, holder{}, nil
}

// serving tells other commands where to find this server.
func (l *lock) serving(url, version string) error {
	h := l.mine
	h.URL, h.Version = url, version
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return file.Replace(filepath.Join(l.home, serverFile), append(body, '\n'), 0o600)
}

func (l *lock) release() {
	if l.mine.Serves {
		_ = os.Remove(filepath.Join(l.home, serverFile))
	}
	_ = l.file.Truncate(0)
	_ = l.file.Close()
}

func readHolder(name string) holder {
	var h holder
	if body, err := os.ReadFile(name); err == nil {
		_ = json.Unmarshal(body, &h)
	}
	return h
}

// findServer is the running server of a home whose lock that holder has; false while it starts.
func findServer(home string, h holder) (holder, bool) {
	running := readHolder(filepath.Join(home, serverFile))
	return running, running.URL != "" && running.PID == h.PID
}

// takeHome waits until it has the lock, or, for a short command, until there is a server to talk to.
func (s *shell) takeHome(ctx context.Context, home string, serve bool) (*lock, holder, error) {
	now := clock.Real()
	mine := holder{PID: s.PID, Command: s.commandLine(), StartedAt: now.Now(), Serves: serve}
	deadline := now.Now().Add(lockFor)
	for said := false; ; {
		l, other, err := tryLock(home, mine)
		if l != nil || err != nil {
			return l, holder{}, err
		}
		if serve && other.Serves {
			running, _ := findServer(home, other)
			return nil, other, serverRuns(home, other, running.URL)
		}
		if running, ok := findServer(home, other); ok && !serve {
			return nil, running, nil
		}
		if now.Now().After(deadline) {
			return nil, other, fault.New(fault.Unavailable, "cli.home_busy", "the home is held by pid %d (%s)", other.PID, other.Command).
				WithHint("wait until it ends, or run flywheel up once and let all commands share the home")
		}
		if !said && s.StderrTTY {
			s.note(fmt.Sprintf("waiting for pid %d (%s)", other.PID, other.Command))
			said = true
		}
		if err := now.Sleep(ctx, lockEvery); err != nil {
			return nil, other, err
		}
	}
}

func serverRuns(home string, other holder, url string) error {
	at := ""
	if url != "" {
		at = " at " + url
	}
	return fault.New(fault.Conflict, "cli.home_in_use", "pid %d (%s) already serves the home %s%s", other.PID, other.Command, home, at).
		WithHint("use that server, stop it, or give this one its own --home")
}

// commandLine is what others see of this command: its words without what a person said.
func (s *shell) commandLine() string {
	words := []string{"flywheel"}
	for _, a := range s.Args {
		if strings.HasPrefix(a, "-") || len(words) > 2 || strings.ContainsAny(a, " \n\"") {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
