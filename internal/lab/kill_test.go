package lab

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
)

// killEnv names the home of a test that is to be killed.
const killEnv = "LAB_TEST_KILL_HOME"

// TestKilledChild is not a test of its own: it is the process that TestKillInTestContinues kills.
func TestKilledChild(t *testing.T) {
	home := os.Getenv(killEnv)
	if home == "" {
		t.Skip("only as a child")
	}
	b := open(t, home)
	req := b.draft(desk(t))
	req.Trials, req.Parallel = 200, 2
	b.model.before = func(int64) error { // slow enough to be killed in the middle
		return clock.Real().Sleep(context.Background(), 2*time.Millisecond)
	}
	// Each durable count is told to the parent, which kills when it has heard enough.
	_, err := b.Test(context.Background(), req, func(p Progress) { _, _ = os.Stdout.WriteString("durable " + strconv.Itoa(p.Done) + "\n") })
	t.Fatalf("nobody killed me: %v", err)
}

func TestKillInTestContinues(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestKilledChild$", "-test.v")
	child.Env = append(os.Environ(), killEnv+"="+home)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	durable := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "durable "); ok {
			durable, _ = strconv.Atoi(n)
			if durable >= 40 {
				_ = child.Process.Signal(syscall.SIGKILL)
				break
			}
		}
	}
	_ = child.Wait()
	if durable < 40 {
		t.Fatalf("the child ended after %d trials", durable)
	}
	if _, err := os.Stat(filepath.Join(home, "home.db")); err != nil {
		t.Fatal(err)
	}
	b := open(t, home)
	running, err := b.List(context.Background(), ListFilter{})
	if err != nil || len(running) != 1 || running[0].Status != StatusRunning {
		t.Fatalf("%+v %v", running, err)
	}
	if err := b.Recover(context.Background()); err != nil {
		t.Fatal(err)
	}
	if list, err := b.List(context.Background(), ListFilter{}); err != nil || list[0].Status != StatusPartial {
		t.Fatalf("after recovery: %+v %v", list, err)
	}
	req := b.draft(desk(t))
	req.Trials, req.Parallel = 200, 2
	var last Progress
	r, err := b.Test(context.Background(), req, func(p Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if r.Experiment != running[0].ID || last.Reused < durable || last.Done != 1200 || r.Total.Passed != 1200 {
		t.Errorf("experiment %s after %s, %d of at least %d reused, %d done", r.Experiment, running[0].ID, last.Reused, durable, last.Done)
	}
	n, err := db.One(context.Background(), b.db, func(r db.Row) (n int, err error) { return n, r.Scan(&n) }, `SELECT COUNT(*) FROM lab_trials`)
	if err != nil || n != 1200 {
		t.Errorf("%d rows, %v", n, err)
	}
}
