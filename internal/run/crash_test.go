package run_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/platform/clock"
	"flywheel/internal/run"
	"flywheel/internal/tool"
)

// The tests here kill real processes: this test binary, which runs itself again as the child.
const childVariable = "FLYWHEEL_RUN_TEST_CHILD"

// childPlan is what a child does: where it stops to be killed, and with which tool.
type childPlan struct {
	Dir  string `json:"dir"`
	Tool string `json:"tool"`
	Stop string `json:"stop"` // model, before, after, second; soak: many runs until the end
	Runs int    `json:"runs"`
}

func TestMain(m *testing.M) {
	if plan := os.Getenv(childVariable); plan != "" {
		if err := child(plan); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// witness writes the effects of tools into a file outside the home, as the world would remember them.
type witness struct {
	mu   sync.Mutex
	file *os.File
}

func openWitness(dir string) (*witness, error) {
	f, err := os.OpenFile(filepath.Join(dir, "effects"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &witness{file: f}, err
}

func (w *witness) effect(c tool.Call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := fmt.Fprintf(w.file, "%s %s %s %s\n", c.Run, c.Name, c.Key, c.Args)
	return err
}

func readWitness(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "effects"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

// deskModel calls one tool three times, then answers.
func deskModel(name string) chat {
	args := `{"card_id":"%d"}`
	if name == "cards.find" {
		args = `{"name":"%d"}`
	}
	return script(call(name, fmt.Sprintf(args, 1)), call(name, fmt.Sprintf(args, 2)), say("done"))
}

func childService(dir string, c chat, tools attempts) (*run.Service, *home, error) {
	h, err := openStore(dir)
	if err != nil {
		return nil, nil, err
	}
	s := run.New(run.Deps{
		DB: h.db, Blobs: h.blobs, Bus: h.bus, Clock: clock.Real(), Models: c, Tools: tools, Secret: []byte("secret of this home"),
	})
	return s, h, nil
}

// child is the process that is killed.
func child(text string) error {
	var plan childPlan
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		return err
	}
	w, err := openWitness(plan.Dir)
	if err != nil {
		return err
	}
	p, err := run.CompilePackage(deskPackage(), "sha256:desk", nil)
	if err != nil {
		return err
	}
	stop := func(at string) {
		if plan.Stop == at {
			fmt.Println("STOP")
			select {}
		}
	}
	inner := deskModel(plan.Tool)
	c := chat(func(ctx context.Context, req model.Request) (model.Response, error) {
		if len(req.Messages) == 2 {
			stop("model")
		} else {
			stop("second")
		}
		return inner(ctx, req)
	})
	tools := attempts(func(_ context.Context, c tool.Call) tool.Attempt {
		stop("before")
		if err := w.effect(c); err != nil {
			return tool.Attempt{Class: tool.Rejected, Message: err.Error()}
		}
		stop("after")
		return tool.Attempt{Tool: c.Name, Out: json.RawMessage(`{"ok":true}`)}
	})
	s, _, err := childService(plan.Dir, c, tools)
	if err != nil {
		return err
	}
	s.Use(p)
	return drivePlan(s, p, plan)
}

// drivePlan resumes what is there, starts what is missing, and says each step once it is durable.
func drivePlan(s *run.Service, p *run.Program, plan childPlan) error {
	ctx := context.Background()
	if _, err := s.Resume(ctx); err != nil {
		return err
	}
	have, err := s.List(ctx, run.Filter{Limit: 1000})
	if err != nil {
		return err
	}
	var ids []run.ID
	for _, r := range have {
		ids = append(ids, r.ID)
	}
	var mu sync.Mutex
	for i := len(have); i < plan.Runs; i++ {
		id, _, err := s.Start(ctx, run.StartRequest{
			Identity: p.Identity, Source: run.SourceCLI, Input: run.Input{Message: fmt.Sprint(i)},
			OnStep: func(st run.Step) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Printf("ACK %s %d\n", st.Run, st.Seq)
			},
		})
		if err != nil {
			return err
		}
		mu.Lock()
		fmt.Printf("ACK %s 0\n", id)
		mu.Unlock()
		ids = append(ids, id)
	}
	for _, id := range ids {
		if _, err := s.Wait(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// kill starts a child, waits until it has stopped or when says so, and kills it; it gives the steps
// that the child acknowledged. done says that the child came to its end first.
func kill(t *testing.T, plan childPlan, after time.Duration) (acknowledged []string, done bool) {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if rest, ok := strings.CutPrefix(line, "ACK "); ok && err == nil {
			acknowledged = append(acknowledged, strings.TrimSpace(rest))
		}
		if strings.TrimSpace(line) == "STOP" {
			_ = cmd.Process.Kill()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err = cmd.Wait()
	if err != nil && stderr.Len() > 0 {
		t.Fatalf("child: %v: %s", err, stderr.String())
	}
	return acknowledged, err == nil
}

// checkAcknowledged says whether every step that was acknowledged is in the journal.
func checkAcknowledged(t *testing.T, s *run.Service, acknowledged []string) {
	t.Helper()
	for _, line := range acknowledged {
		var id string
		var seq int
		if _, err := fmt.Sscan(line, &id, &seq); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), run.ID(id)); err != nil {
			t.Errorf("the run %s was acknowledged and is lost: %v", id, err)
		}
		if rows, err := s.Journal(t.Context(), run.ID(id), seq-1, 1); seq > 0 && (err != nil || len(rows) != 1 || rows[0].Seq != seq) {
			t.Errorf("step %s was acknowledged and is lost: %v", line, err)
		}
	}
}

func TestKilledAtEveryPointNothingAcknowledgedIsLostAndNothingUnsafeRepeated(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		stop, tool string
		waits      bool
		effects    int // that the world has seen at the end, of 2 calls
	}{
		{"model", "cards.freeze", false, 2},
		{"second", "cards.freeze", false, 2},
		{"before", "cards.find", false, 2},
		{"after", "cards.find", false, 3},
		{"before", "cards.freeze", false, 2},
		{"after", "cards.freeze", false, 3},
		{"before", "cards.pay", true, 1},
		{"after", "cards.pay", true, 2},
		{"second", "cards.pay", false, 2},
	} {
		t.Run(test.stop+" "+test.tool, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			acknowledged, _ := kill(t, childPlan{Dir: dir, Tool: test.tool, Stop: test.stop, Runs: 1}, 0)
			w, err := openWitness(dir)
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := childService(dir, deskModel(test.tool), func(_ context.Context, c tool.Call) tool.Attempt {
				if err := w.effect(c); err != nil {
					t.Error(err)
				}
				return tool.Attempt{Tool: c.Name, Out: json.RawMessage(`{"ok":true}`)}
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			p, err := run.CompilePackage(deskPackage(), "sha256:desk", nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Use(p)
			checkAcknowledged(t, s, acknowledged)
			if n, err := s.Resume(t.Context()); n != 1 || err != nil {
				t.Fatalf("resumed %d, %v", n, err)
			}
			list, err := s.List(t.Context(), run.Filter{})
			if err != nil || len(list) != 1 {
				t.Fatalf("%d runs, %v", len(list), err)
			}
			r, err := s.Wait(t.Context(), list[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			if test.waits {
				r = settle(t, s, r, len(readWitness(t, dir)), dir)
			}
			if r.Status != run.Succeeded || r.Output.Reply != "done" {
				t.Errorf("run = %+v failure %+v", r, r.Failure)
			}
			effects := readWitness(t, dir)
			if len(effects) != test.effects {
				t.Errorf("effects:\n%s", strings.Join(effects, "\n"))
			}
			if test.tool == "cards.freeze" && distinct(effects) != 2 {
				t.Errorf("keys are not stable:\n%s", strings.Join(effects, "\n"))
			}
			if report, err := s.Replay(t.Context(), r.ID); err != nil || !report.Equal {
				t.Errorf("replay = %+v, %v", report, err)
			}
		})
	}
}

// settle answers the question about an uncertain call as a person who looked it up.
func settle(t *testing.T, s *run.Service, r *run.Run, happened int, dir string) *run.Run {
	t.Helper()
	if r.Status != run.Waiting || r.Failure == nil || r.Failure.Class != run.ClassUncertain || r.Ask.Uncertain == nil || string(r.Ask.Uncertain.Args) != `{"card_id":"1"}` {
		t.Fatalf("run = %+v ask %+v", r, r.Ask)
	}
	if n := len(readWitness(t, dir)); n != happened {
		t.Fatalf("an unkeyed write was repeated: %d effects", n)
	}
	_, wait, err := s.Answer(t.Context(), r.ID, run.Reply{Approve: happened == 1, Text: `{"looked":"up"}`, By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := s.Journal(t.Context(), r.ID, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if r.Failure != nil {
		t.Errorf("after the answer: %+v", r.Failure)
	}
	settled := rows[3]
	if settled.Kind != run.RowTool || settled.Labels["by"] != "ann" || (settled.Class == "uncertain") == (happened == 1) {
		t.Errorf("settled row = %+v", settled)
	}
	return r
}

func distinct(lines []string) int {
	seen := map[string]bool{}
	for _, l := range lines {
		seen[l] = true
	}
	return len(seen)
}

func TestKilledAtRandomManyTimes(t *testing.T) {
	t.Parallel()
	kills, runs := 12, 150
	if testing.Short() {
		kills, runs = 4, 10
	}
	dir := t.TempDir()
	plan := childPlan{Dir: dir, Tool: "cards.freeze", Stop: "soak", Runs: runs}
	var acknowledged []string
	finished := false
	for i := 0; i < kills && !finished; i++ {
		var more []string
		more, finished = kill(t, plan, 20*time.Millisecond+time.Duration(rand.IntN(60))*time.Millisecond)
		acknowledged = append(acknowledged, more...)
	}
	if _, finished = kill(t, plan, 0); !finished {
		t.Fatal("the last child did not come to its end")
	}
	s, _, err := childService(dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	checkAcknowledged(t, s, acknowledged)
	list, err := s.List(t.Context(), run.Filter{Limit: 1000})
	if err != nil || len(list) != runs {
		t.Fatalf("%d runs, %v", len(list), err)
	}
	for _, r := range list {
		if r.Status != run.Succeeded || r.ToolCalls != 2 {
			t.Errorf("run = %+v", r)
		}
	}
	effects := readWitness(t, dir)
	if distinct(effects) != 2*runs {
		t.Errorf("%d different effects, want %d", distinct(effects), 2*runs)
	}
	t.Logf("%d kills, %d acknowledged rows, %d calls for %d effects", kills, len(acknowledged), len(effects), distinct(effects))
}
