package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxFailures is how many starts in a row may fail before the server stays down.
const maxFailures = 4

// Server is one supervised process for one model file.
type Server struct {
	deps    Deps
	file    File
	engines []Engine
	turn    chan struct{}

	mu       sync.Mutex
	state    state
	changed  chan struct{} // closed and replaced when the state changes
	conn     Conn
	process  *process // of conn
	engine   Engine   // that runs, or was tried last
	restarts int
	err      error // why the server is down
	cancel   context.CancelFunc
	done     chan struct{} // closed when the supervising goroutine has ended
}

type state int

const (
	stateIdle state = iota // nobody has called yet
	stateStarting
	stateHealthy
	stateDown // gave up; the next call tries again
	stateStopped
)

// Status says how a server is.
type Status struct {
	Name     string
	State    string // idle starting healthy down stopped
	Engine   string
	PID      int
	Base     string
	Restarts int
	LogPath  string
	Err      error
}

func newServer(d Deps, f File, engines []Engine) *Server {
	return &Server{deps: d, file: f, engines: engines, turn: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Status is a snapshot.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		Name:  s.file.Name,
		State: [...]string{"idle", "starting", "healthy", "down", "stopped"}[s.state],
		PID:   s.conn.PID, Base: s.conn.Base, Restarts: s.restarts, LogPath: s.logPath(), Err: s.err, Engine: s.engine.Kind,
	}
}

func (s *Server) logPath() string {
	return filepath.Join(s.deps.CacheDir, "logs", "local-"+s.file.Name+"-"+strconv.Itoa(os.Getpid())+".log")
}

// set changes the state and wakes who waits for it.
func (s *Server) set(to state, conn Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateStopped {
		return
	}
	s.state, s.conn, s.err = to, conn, err
	close(s.changed)
	s.changed = make(chan struct{})
}

// healthy starts the server when need be and waits until it answers.
func (s *Server) healthy(ctx context.Context) (Conn, error) {
	began := false
	for {
		s.mu.Lock()
		current, conn, err, changed := s.state, s.conn, s.err, s.changed
		if current == stateIdle || current == stateDown && !began {
			s.begin()
			current = stateStarting
		}
		began = true
		s.mu.Unlock()
		switch current {
		case stateHealthy:
			return conn, nil
		case stateDown:
			return Conn{}, err
		case stateStopped:
			return Conn{}, ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Conn{}, context.Cause(ctx)
		}
	}
}

// begin starts the supervising goroutine; the caller holds mu.
func (s *Server) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	s.state, s.cancel, s.done = stateStarting, cancel, make(chan struct{})
	go s.supervise(ctx, s.done)
}

func (s *Server) stop() {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.state = stateStopped
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// Suspect tells that a call to c broke. A server that does not answer its health check then has just died
// and is not missed yet, or hangs: it is ended and started anew, and the next call waits for that.
func (s *Server) Suspect(c Conn) {
	if status(context.Background(), strings.TrimSuffix(c.Base, "/v1")+"/health", "") == http.StatusOK {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateHealthy && s.conn == c {
		s.state, s.conn = stateStarting, Conn{}
		s.process.end()
	}
}

// supervise keeps one process alive until ctx ends or it cannot be started.
func (s *Server) supervise(ctx context.Context, done chan struct{}) {
	defer close(done)
	meta, err := ReadMeta(s.file.Path)
	if err != nil {
		s.set(stateDown, Conn{}, err)
		return
	}
	failures, engine := 0, 0
	for {
		began := s.deps.Clock.Now()
		s.mu.Lock()
		s.engine = s.engines[engine]
		s.mu.Unlock()
		healthy, err := s.run(ctx, s.engines[engine], contextSize(s.deps, meta))
		if ctx.Err() != nil {
			return
		}
		s.deps.Log.Warn("local model server ended", slog.String("model", s.file.Name),
			slog.String("engine", s.engines[engine].Kind), slog.Any("error", err), slog.String("log", s.logPath()))
		if healthy {
			failures = 1
			if s.deps.Clock.Now().Sub(began) > time.Minute {
				failures = 0
			}
		} else {
			failures++
			if engine+1 < len(s.engines) { // perhaps another engine can read this file
				engine++
				failures = 0
			}
		}
		if failures > maxFailures {
			s.set(stateDown, Conn{}, fmt.Errorf("%w; its log is %s", err, s.logPath()))
			return
		}
		s.set(stateStarting, Conn{}, nil)
		s.mu.Lock()
		s.restarts++
		s.mu.Unlock()
		if s.deps.Clock.Sleep(ctx, backoff(failures)) != nil {
			return
		}
	}
}

func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(100*time.Millisecond<<failures, 10*time.Second)
}

// run starts a process, waits until it answers, and returns when it has ended.
func (s *Server) run(ctx context.Context, e Engine, size int) (healthy bool, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return false, err
	}
	key := newKey()
	log, err := s.openLog()
	if err != nil {
		return false, err
	}
	defer func() { _ = log.Close() }()
	cmd, config, err := s.command(ctx, e, port, key, size)
	if err != nil {
		return false, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	p, err := start(cmd)
	if err != nil {
		return false, fmt.Errorf("start %s: %w", e.Path, err)
	}
	stopped := context.AfterFunc(ctx, p.end)
	defer stopped()
	defer p.end()
	if _, err := p.stdin.Write(config); err != nil {
		return false, fmt.Errorf("configure %s: %w", e.Kind, err)
	}
	conn := Conn{Base: "http://127.0.0.1:" + strconv.Itoa(port) + "/v1", Key: key, PID: cmd.Process.Pid}
	if err := s.await(ctx, conn, p.exited); err != nil {
		p.end()
		<-p.exited
		return false, fmt.Errorf("%w%s", err, s.logTail())
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	s.set(stateHealthy, conn, nil)
	s.deps.Log.Info("local model server is up", slog.String("model", s.file.Name), slog.String("engine", e.Kind),
		slog.Int("pid", conn.PID), slog.String("base", conn.Base))
	<-p.exited
	return true, fmt.Errorf("%s ended: %w", e.Kind, p.result())
}

// command is the process for an engine and what it reads first.
func (s *Server) command(ctx context.Context, e Engine, port int, key string, size int) (*exec.Cmd, []byte, error) {
	ctx = context.WithoutCancel(ctx) // the process is stopped in order, not killed
	env := s.environment()
	threads := strconv.Itoa(s.deps.Threads)
	if e.Kind == "llama-server" {
		cmd := exec.CommandContext(ctx, e.Path, "--model", s.file.Path, "--alias", s.file.Name, "--host", "127.0.0.1",
			"--port", strconv.Itoa(port), "--ctx-size", strconv.Itoa(size), "--parallel", "1",
			"--threads", threads, "--threads-batch", threads, "--jinja")
		cmd.Env = append(env, "LLAMA_API_KEY="+key) // not an argument: those can be seen by everybody
		return cmd, nil, nil
	}
	config, err := json.Marshal(map[string]any{
		"model": s.file.Path, "alias": s.file.Name, "port": port, "key": key, "context": size, "threads": s.deps.Threads,
	})
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, e.Path, "-u", "-c", runner)
	cmd.Env = append(env, "PYTHONNOUSERSITE=1", "PYTHONDONTWRITEBYTECODE=1")
	if e.site != "" {
		cmd.Env = append(cmd.Env, "PYTHONPATH="+e.site)
	}
	return cmd, append(config, '\n'), nil
}

// environment is what the server inherits: no keys.
func (s *Server) environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"} {
		if v := s.deps.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// maxLog is the size at which the log of the last process is put aside.
const maxLog = 8 << 20

func (s *Server) openLog() (*os.File, error) {
	path := s.logPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	s.dropOldLogs()
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		_ = os.Rename(path, path+".1") // else it only grows on
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// dropOldLogs keeps the logs of a week.
func (s *Server) dropOldLogs() {
	old, _ := filepath.Glob(filepath.Join(s.deps.CacheDir, "logs", "local-*.log*"))
	for _, p := range old {
		if info, err := os.Stat(p); err == nil && time.Since(info.ModTime()) > 7*24*time.Hour {
			_ = os.Remove(p)
		}
	}
}

// logTail is the last line of the log, which often says why a start failed.
func (s *Server) logTail() string {
	b, err := os.ReadFile(s.logPath())
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b[max(0, len(b)-2000):])), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return ": " + last
	}
	return ""
}

// await polls until the server with our key answers. A stranger on the port would not know the key.
func (s *Server) await(ctx context.Context, c Conn, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, s.deps.Startup)
	defer cancel()
	root := strings.TrimSuffix(c.Base, "/v1")
	for {
		if status(ctx, root+"/health", "") == http.StatusOK && status(ctx, root+"/props", c.Key) == http.StatusOK {
			if status(ctx, root+"/props", "") == http.StatusOK {
				return errors.New("another server answers on the port")
			}
			return nil
		}
		select {
		case <-exited:
			return errors.New("the server ended before it was healthy")
		case <-ctx.Done():
			return fmt.Errorf("the server was not healthy in %s", s.deps.Startup)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

func status(ctx context.Context, url, key string) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := direct.Do(req)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode
}

// direct never uses a proxy and keeps no connection to a server that may be gone.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func freePort(ctx context.Context) (int, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func newKey() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return hex.EncodeToString(b)
}

// process is a started command with the thread that owns it.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	exited chan struct{}
	err    error
	once   sync.Once
}

// start runs the command on a thread of its own: the kernel ends the process with the thread that
// started it (PR_SET_PDEATHSIG), and Go may end threads at any time.
func start(cmd *exec.Cmd) (*process, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	attach(cmd)
	p := &process{cmd: cmd, stdin: stdin, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, stdin.Close())
	}
	return p, nil
}

// end closes the standard input and ends the process group at once: a model server keeps nothing.
func (p *process) end() {
	p.once.Do(func() {
		_ = p.stdin.Close()
		kill(p.cmd)
	})
}

func (p *process) result() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("exit status 0")
}

// HTTP is the client for servers of this package: it ignores proxies, and a connection is kept while its
// server lives.
var HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}}
