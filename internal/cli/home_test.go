package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flywheel/internal/cli"
	"flywheel/internal/identity"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/internal/server"
)

// desk is a program with a few operations over a real home: store, sign-in, server.
type desk struct {
	opened  atomic.Int64
	entered chan struct{} // a slow operation has begun
}

func newDesk() *desk { return &desk{entered: make(chan struct{}, 8)} }

func (d *desk) Version() string { return "1.2.3" }

func (d *desk) Templates() []cli.Template {
	return []cli.Template{{Name: "help-desk", Summary: "A help desk"}}
}

func (d *desk) Template(template, name string) (op.Dir, error) {
	if template != "help-desk" {
		return nil, fault.New(fault.NotFound, "test.template", "no template")
	}
	return op.Dir{"flywheel.yaml": []byte("agent: " + name + "\n"), "agents/desk.agent.md": []byte("Help.\n")}, nil
}

func (d *desk) open(ctx context.Context, o cli.Options, base func() string) (*server.Server, *identity.Service, func(context.Context) error, error) {
	d.opened.Add(1)
	store, err := db.Open(ctx, filepath.Join(o.Home, "flywheel.db"))
	if err != nil {
		return nil, nil, nil, err
	}
	if err := db.Migrate(ctx, store, bus.Migrations, identity.Migrations); err != nil {
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	who, err := identity.New(identity.Deps{DB: store, Home: o.Home, Log: o.Log, BaseURL: base})
	if err != nil {
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	events := bus.New(store)
	events.Start(ctx)
	srv := server.New(server.Deps{
		Ops: append(d.Ops()[:len(d.Ops())-3], who.Ops()...), Identity: who, Bus: events, Version: d.Version(), Log: o.Log,
	})
	return srv, who, func(ctx context.Context) error {
		err := errors.Join(srv.Close(ctx), events.Drain(ctx))
		events.Close()
		return errors.Join(err, store.Close())
	}, nil
}

func (d *desk) Open(ctx context.Context, o cli.Options) (*cli.Home, error) {
	srv, who, closeHome, err := d.open(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	return &cli.Home{Handler: srv, Token: who.Token(), Close: closeHome}, nil
}

func (d *desk) Serve(ctx context.Context, o cli.Options, listening func(cli.Listening)) error {
	ln, err := server.Listen(ctx, o.Settings.Listen)
	if err != nil {
		return err
	}
	url := server.URL(ln)
	srv, who, closeHome, err := d.open(ctx, o, func() string { return url })
	if err != nil {
		return err
	}
	link, _, err := who.NewLink(ctx, identity.Owner)
	if err != nil {
		return err
	}
	listening(cli.Listening{URL: url, Link: url + link})
	err = srv.Serve(ctx, ln)
	return errors.Join(err, closeHome(context.WithoutCancel(ctx)))
}

type noteIn struct {
	Text  string `json:"text" cli:"rest" doc:"What to note"`
	Times int    `json:"times,omitempty" short:"n" default:"1" minimum:"1" doc:"How often"`
	Loud  bool   `json:"loud,omitempty" doc:"In capitals"`
}

type noteOut struct {
	Text  string `json:"text"`
	Actor string `json:"actor"`
}

type listIn struct {
	Kind   string `query:"kind" enum:"red,blue" doc:"Only this kind"`
	Failed bool   `query:"failed" doc:"Only failed ones"`
}

type item struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

type listOut struct {
	Items []item `json:"items"`
}

type showIn struct {
	Item string `path:"item" cli:"arg" doc:"The item"`
}

type checkIn struct {
	Files op.Dir `json:"files" cli:"dir"`
}

type checkOut struct {
	Count int    `json:"count"`
	Files op.Dir `json:"files" write:"true"`
}

type countIn struct {
	To int `json:"to" cli:"arg" default:"3"`
}

type tick struct {
	N int `json:"n"`
}

type countOut struct {
	Reached int  `json:"reached"`
	Partial bool `json:"partial"`
}

// Failure says that a partial count is not a whole one.
func (c *countOut) Failure() error {
	if c.Partial {
		return fault.New(fault.Canceled, "test.partial", "stopped at %d", c.Reached)
	}
	return nil
}

func (d *desk) Ops() []op.Op {
	meta := func(id, cli string, stage int) op.Meta {
		return op.Meta{
			ID: id, Path: "/api/v1/test/" + strings.ReplaceAll(id, ".", "/"), CLI: cli, Stage: stage, Permission: "test." + id,
			Summary: "Do " + id + " well", Example: "flywheel " + cli + " example",
		}
	}
	list := meta("item.list", "items", 7)
	list.Method = "GET"
	show := meta("item.show", "items show", 7)
	show.Method, show.Path = "GET", "/api/v1/items/{item}"
	check := meta("package.check", "check", 1)
	check.Local = true
	start := meta("run.start", "run", 3)
	return append([]op.Op{
		op.WithEventText(op.Stream(start, answer), func(w io.Writer, e *word) { fmt.Fprint(w, e.Text) }),
		op.WithText(op.New(check, checkPackage), func(w io.Writer, out *checkOut) { fmt.Fprintf(w, "%d files\n", out.Count) }),
		op.WithText(op.New(meta("note.add", "note", 3), addNote), func(w io.Writer, out *noteOut) { fmt.Fprintln(w, out.Text) }),
		op.New(list, listItems),
		op.New(show, showItem),
		op.WithEventText(op.WithText(op.Stream(meta("count.run", "count", 4), d.count),
			func(w io.Writer, out *countOut) { fmt.Fprintf(w, "reached %d\n", out.Reached) }),
			func(w io.Writer, e *tick) { fmt.Fprintf(w, "tick %d\n", e.N) }),
	}, (*identity.Service)(nil).Ops()...)
}

func addNote(ctx context.Context, in *noteIn) (*noteOut, error) {
	if in.Text == "nothing" {
		return nil, fault.New(fault.Conflict, "note.empty", "there is nothing to note").WithHint("flywheel note hello")
	}
	if in.Text == "boom" {
		panic("the note exploded")
	}
	text := strings.TrimSuffix(strings.Repeat(in.Text+" ", in.Times), " ")
	if in.Loud {
		text = strings.ToUpper(text)
	}
	return &noteOut{Text: text, Actor: op.Actor(ctx)}, nil
}

func listItems(_ context.Context, in *listIn) (*listOut, error) {
	out := &listOut{}
	for _, x := range []item{{"item_1", "red", 12}, {"item_22", "blue", 3}} {
		if in.Kind == "" || in.Kind == x.Kind {
			out.Items = append(out.Items, x)
		}
	}
	return out, nil
}

func showItem(_ context.Context, in *showIn) (*item, error) {
	if in.Item == "a/b c" {
		return &item{ID: in.Item, Kind: "odd"}, nil
	}
	return nil, fault.New(fault.NotFound, "item.not_found", "there is no item %s", in.Item).WithHint("flywheel items")
}

func checkPackage(_ context.Context, in *checkIn) (*checkOut, error) {
	if _, bad := in.Files["bad.yaml"]; bad {
		return nil, fault.New(fault.Invalid, "package.invalid", "the package has 2 errors").WithHint("mend them").WithFields(
			fault.Field{Path: "bad.yaml:1:3", Code: "package.unknown_key", Message: `there is no key "tols"`, Hint: `did you mean "tools"?`},
			fault.Field{Path: "bad.yaml:9:1", Code: "package.yaml", Message: "not YAML"})
	}
	return &checkOut{Count: len(in.Files), Files: op.Dir{"flywheel.lock": []byte("locked\n")}}, nil
}

type messageIn struct {
	Message string `json:"message" cli:"rest"`
	Session string `json:"session,omitempty"`
	Source  string `json:"source,omitempty" cli:"-"`
	Agent   string `json:"agent,omitempty" doc:"A released agent"`
	Dir     op.Dir `json:"dir,omitempty" cli:"dir"`
}

type word struct {
	Text string `json:"text"`
}

type runOut struct {
	ID       string            `json:"id"`
	Status   string            `json:"status"`
	Streamed bool              `json:"streamed,omitempty"`
	Output   map[string]string `json:"output"`
}

// answer streams what begins with a capital, and answers everything else at the end.
func answer(_ context.Context, in *messageIn, emit func(word)) (*runOut, error) {
	text := fmt.Sprintf("%s %s %s %d\n", in.Message, in.Source, in.Session[:4], len(in.Dir))
	switch {
	case in.Message == "fail":
		return nil, fault.New(fault.Unavailable, "model.none", "no model is reachable").WithHint("flywheel doctor")
	case in.Message == strings.ToLower(in.Message):
		return &runOut{ID: "run_1", Status: "succeeded", Output: map[string]string{"reply": strings.TrimSpace(text)}}, nil
	}
	for _, part := range strings.SplitAfter(text, " ") {
		emit(word{part})
	}
	return &runOut{ID: "run_1", Status: "succeeded", Streamed: true}, nil
}

func (d *desk) count(ctx context.Context, in *countIn, emit func(tick)) (*countOut, error) {
	for i := 1; i <= min(in.To, 5); i++ {
		emit(tick{i})
	}
	if in.To > 5 { // until it is asked to stop; it still answers with what it has
		d.entered <- struct{}{}
		<-ctx.Done()
		return &countOut{Reached: 5, Partial: true}, nil
	}
	return &countOut{Reached: in.To}, nil
}

// run runs one command line in process.
type run struct {
	app     *desk
	home    string
	dir     string
	env     []string
	signals chan os.Signal
	stdin   string
	tty     bool
	stdout  syncBuffer
	stderr  syncBuffer
}

func newRun(t *testing.T, app *desk) *run {
	t.Helper()
	return &run{app: app, home: t.TempDir(), dir: t.TempDir(), signals: make(chan os.Signal, 2)}
}

func (r *run) again() *run {
	return &run{app: r.app, home: r.home, dir: r.dir, env: r.env, signals: make(chan os.Signal, 2)}
}

func (r *run) do(args ...string) int {
	return cli.Main(context.Background(), cli.Process{
		Args: args, Env: append([]string{"FLYWHEEL_HOME=" + r.home}, r.env...), Dir: r.dir, PID: 4242,
		StdinTTY: r.tty, StdoutTTY: r.tty, StderrTTY: r.tty, Stdin: strings.NewReader(r.stdin), Stdout: &r.stdout, Stderr: &r.stderr, Signals: r.signals,
	}, r.app)
}

// syncBuffer is written by a command while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// up starts a server and waits until it prints its address.
func (r *run) up(t *testing.T) (url string, done chan int) {
	t.Helper()
	read, write := io.Pipe()
	done = make(chan int, 1)
	go func() {
		code := cli.Main(context.Background(), cli.Process{
			Args: []string{"up", "--listen", "127.0.0.1:0"}, Env: []string{"FLYWHEEL_HOME=" + r.home}, Dir: r.dir, PID: 777,
			Stdin: strings.NewReader(""), Stdout: io.MultiWriter(&r.stdout, write), Stderr: &r.stderr, Signals: r.signals,
		}, r.app)
		_ = write.Close()
		done <- code
	}()
	timer := time.AfterFunc(10*time.Second, func() { _ = write.CloseWithError(errors.New("no address in time")) })
	defer timer.Stop()
	var text string
	buf := make([]byte, 4096)
	for !strings.Contains(text, "Ctrl-C") {
		n, err := read.Read(buf)
		if text += string(buf[:n]); err != nil {
			t.Fatalf("up: %v: %s %s", err, text, r.stderr.String())
		}
	}
	go func() { _, _ = io.Copy(io.Discard, read) }()
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, "http://") && !strings.Contains(word, "login") {
			return word, done
		}
	}
	t.Fatalf("no address in %q", text)
	return "", nil
}
