package cli_test

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (go test ./internal/cli -update writes it):\n%s", name, d)
	}
}

func TestHelpShowsTheStagesInOrder(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"help.golden":       {"help"},
		"help-note.golden":  {"note", "--help"},
		"help-items.golden": {"items", "--help"},
		"help-up.golden":    {"help", "up"},
	} {
		r := newRun(t, newDesk())
		if code := r.do(args...); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, r.stderr.String())
		}
		golden(t, name, r.stdout.String())
		if r.app.opened.Load() != 0 {
			t.Errorf("%v opened the home", args)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nots", "x"}, 2, "error: there is no command \"flywheel nots\"\n  hint: did you mean flywheel note?\n"},
		{[]string{"items", "shew", "x"}, 2, "error: there is no command \"flywheel items shew\"\n  hint: did you mean flywheel items show?\n"},
		{[]string{"note"}, 2, "error: <text> is missing\n  hint: flywheel note example\n"},
		{[]string{"note", "x", "--lound"}, 2, "error: flywheel note has no flag --lound\n  hint: did you mean --loud?\n"},
		{[]string{"note", "x", "--times", "many"}, 2, "error: --times: \"many\" is not a whole number\n"},
		{[]string{"note", "x", "-n", "0"}, 2, "error: times expected number >= 1\n  hint: flywheel note --help\n"},
		{[]string{"items", "--kind", "green"}, 2, "error: kind expected value to be one of \"red, blue\"\n  hint: flywheel items --help\n"},
		{[]string{"note", "nothing"}, 6, "error: there is nothing to note\n  hint: flywheel note hello\n"},
		{[]string{"items", "show", "item_9"}, 5, "error: there is no item item_9\n  hint: flywheel items\n"},
		{[]string{"items", "show", "a", "b"}, 2, "error: \"b\" is one word too many\n  hint: flywheel items show --help\n"},
		{[]string{"login"}, 8, "error: no server is running for this home\n  hint: flywheel up\n"},
		{[]string{"completion", "tcsh"}, 2, "error: name one shell: bash, zsh or fish\n  hint: flywheel completion bash\n"},
	} {
		r := newRun(t, newDesk())
		if code := r.do(c.args...); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.args, code, c.code)
		}
		if d := cmp.Diff(c.want, r.stderr.String()); d != "" {
			t.Errorf("%v:\n%s", c.args, d)
		}
		if out := r.stdout.String(); out != "" {
			t.Errorf("%v printed %q", c.args, out)
		}
	}
}

func TestPanicOfAnOperationIsAnInternalError(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	if code := r.do("note", "boom"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if got := r.stderr.String(); !strings.Contains(got, "error: internal error\n") || !strings.Contains(got, "request: req_") {
		t.Errorf("stderr: %s", got)
	}
}

func TestCommandWorksWithoutAServer(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	if code := r.do("note", "hello", "world", "--loud", "-n", "2"); code != 0 || r.stdout.String() != "HELLO WORLD HELLO WORLD\n" {
		t.Errorf("%d %q %s", code, r.stdout.String(), r.stderr.String())
	}
	j := r.again()
	if code := j.do("note", "hello", "--json"); code != 0 || j.stdout.String() != "{\n  \"text\": \"hello\",\n  \"actor\": \"owner\"\n}\n" {
		t.Errorf("%d %q", code, j.stdout.String())
	}
	l := r.again()
	if code := l.do("items"); code != 0 || l.stdout.String() != "items\n  id       count  kind\n  item_1   12     red\n  item_22  3      blue\n" {
		t.Errorf("%d %q", code, l.stdout.String())
	}
	p := r.again()
	if code := p.do("items", "show", "a/b c", "--json"); code != 0 || !strings.Contains(p.stdout.String(), `"a/b c"`) {
		t.Errorf("%d %q %s", code, p.stdout.String(), p.stderr.String())
	}
}

func TestJSONErrorsGoToStdout(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	if code := r.do("items", "show", "item_9", "--json"); code != 5 {
		t.Errorf("exit code %d", code)
	}
	var got struct {
		Error struct{ Kind, Code, Message, Hint string }
	}
	if err := json.Unmarshal([]byte(r.stdout.String()), &got); err != nil || got.Error.Code != "item.not_found" || got.Error.Kind != "not_found" {
		t.Errorf("%v %s", err, r.stdout.String())
	}
}

func TestEventsStreamBeforeTheResult(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	if code := r.do("count", "2"); code != 0 || r.stdout.String() != "tick 1\ntick 2\nreached 2\n" {
		t.Errorf("%d %q %s", code, r.stdout.String(), r.stderr.String())
	}
}

func TestFirstInterruptLeavesAPartialResult(t *testing.T) {
	t.Parallel()
	for _, remote := range []bool{false, true} {
		r := newRun(t, newDesk())
		if remote {
			server := r.again()
			_, done := server.up(t)
			defer func() { server.signals <- syscall.SIGTERM; <-done }()
		}
		go func() {
			<-r.app.entered
			r.signals <- os.Interrupt
		}()
		if code := r.do("count", "9"); code != 130 {
			t.Errorf("remote %v: exit code %d", remote, code)
		}
		if got := r.stdout.String(); !strings.HasSuffix(got, "tick 5\nreached 5\n") {
			t.Errorf("remote %v: stdout %q", remote, got)
		}
		if got := r.stderr.String(); !strings.Contains(got, "error: stopped at 5") {
			t.Errorf("remote %v: stderr %q", remote, got)
		}
	}
}

func TestSecondInterruptEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	home, err := os.MkdirTemp("", "flywheel-test-") // a killed command still writes while t.TempDir would be removed
	if err != nil {
		t.Fatal(err)
	}
	r.home = home
	r.signals <- os.Interrupt
	r.signals <- os.Interrupt
	if code := r.do("count", "9"); code != 130 {
		t.Errorf("exit code %d", code)
	}
}

func TestPackageIsSentAndWritten(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	if code := r.do("check"); code != 2 || !strings.Contains(r.stderr.String(), "there is no flywheel.yaml") {
		t.Errorf("%d %s", code, r.stderr.String())
	}
	i := r.again()
	if code := i.do("init", "my-desk"); code != 0 || !strings.Contains(i.stdout.String(), "my-desk is ready: 2 files") {
		t.Fatalf("%d %s %s", code, i.stdout.String(), i.stderr.String())
	}
	pkg := filepath.Join(r.dir, "my-desk")
	for name, content := range map[string]string{".git/config": "secret", ".flywheel/layout/desk.json": "{}", "big.bin": strings.Repeat("x", 10<<20+1)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(pkg, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(pkg, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := r.again()
	c.dir = filepath.Join(pkg, "agents") // found upwards
	if code := c.do("check"); code != 0 || c.stdout.String() != "2 files\nwrote ../flywheel.lock\n" {
		t.Errorf("%d %q %s", code, c.stdout.String(), c.stderr.String())
	}
	if !strings.Contains(c.stderr.String(), "big.bin is left out") {
		t.Errorf("stderr: %s", c.stderr.String())
	}
	if got, err := os.ReadFile(filepath.Join(pkg, "flywheel.lock")); err != nil || string(got) != "locked\n" {
		t.Errorf("%q %v", got, err)
	}
	if r.app.opened.Load() != 0 {
		t.Error("a local operation opened the home")
	}
	again := r.again()
	if code := again.do("init", "my-desk"); code != 6 || !strings.Contains(again.stderr.String(), "is not empty") {
		t.Errorf("%d %s", code, again.stderr.String())
	}
	if err := os.WriteFile(filepath.Join(pkg, "bad.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := r.again()
	if code := bad.do("check", "--dir", "my-desk"); code != 2 {
		t.Errorf("exit code %d", code)
	}
	want := "error: the package has 2 errors\n  hint: mend them\n" +
		"bad.yaml:1:3: package.unknown_key there is no key \"tols\" (did you mean \"tools\"?)\nbad.yaml:9:1: package.yaml not YAML\n"
	if d := cmp.Diff(want, strings.TrimPrefix(bad.stderr.String(), "note: big.bin is left out: larger than 10 MB\n")); d != "" {
		t.Error(d)
	}
}

func TestCommandTalksToTheServerThatHoldsTheHome(t *testing.T) {
	t.Parallel()
	server := newRun(t, newDesk())
	url, done := server.up(t)
	r := server.again()
	if code := r.do("note", "hi"); code != 0 || r.stdout.String() != "hi\n" {
		t.Errorf("%d %q %s", code, r.stdout.String(), r.stderr.String())
	}
	if n := server.app.opened.Load(); n != 1 {
		t.Errorf("the home was opened %d times", n)
	}
	l := server.again()
	if code := l.do("login"); code != 0 || !strings.HasPrefix(l.stdout.String(), url+"/login?code=once_") {
		t.Errorf("%d %q %s", code, l.stdout.String(), l.stderr.String())
	}
	second := server.again()
	if code := second.do("up", "--listen", "127.0.0.1:0"); code != 6 {
		t.Errorf("second server: exit code %d", code)
	}
	want := "error: pid 777 (flywheel up) already serves the home " + server.home + " at " + url +
		"\n  hint: use that server, stop it, or give this one its own --home\n"
	if d := cmp.Diff(want, second.stderr.String()); d != "" {
		t.Error(d)
	}
	resp, err := http.Get(url + "/healthz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %v %v", resp, err)
	}
	server.signals <- os.Interrupt
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("up ended with %d: %s", code, server.stderr.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("up did not stop")
	}
	if _, err := os.Stat(filepath.Join(server.home, "server.json")); err == nil {
		t.Error("server.json was left")
	}
	after := server.again()
	if code := after.do("note", "alone"); code != 0 || after.stdout.String() != "alone\n" {
		t.Errorf("%d %q %s", code, after.stdout.String(), after.stderr.String())
	}
}

func TestShortCommandsWaitForEachOther(t *testing.T) {
	t.Parallel()
	first := newRun(t, newDesk())
	ended := make(chan int, 1)
	go func() { ended <- first.do("count", "9") }()
	<-first.app.entered // it holds the home now
	second := first.again()
	got := make(chan int, 1)
	go func() { got <- second.do("note", "hi") }()
	select {
	case code := <-got:
		t.Fatalf("the second command did not wait: %d %s", code, second.stderr.String())
	case <-time.After(150 * time.Millisecond):
	}
	first.signals <- os.Interrupt
	<-ended
	if code := <-got; code != 0 || second.stdout.String() != "hi\n" {
		t.Errorf("%d %q %s", code, second.stdout.String(), second.stderr.String())
	}
}

func TestLockLeftByAKilledServerDoesNotHold(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	for _, name := range []string{"lock", "server.json"} {
		if err := os.WriteFile(filepath.Join(r.home, name), []byte(`{"pid":1,"command":"flywheel up","serves":true,"url":"http://127.0.0.1:1"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code := r.do("note", "hi"); code != 0 || r.stdout.String() != "hi\n" {
		t.Errorf("%d %q %s", code, r.stdout.String(), r.stderr.String())
	}
}

func TestConfigExplainNamesTheOrigin(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	r.env = []string{"FLYWHEEL_LISTEN=127.0.0.1:9"}
	if code := r.do("config", "explain"); code != 0 || !strings.Contains(r.stdout.String(), "127.0.0.1:9") || !strings.Contains(r.stdout.String(), "FLYWHEEL_LISTEN") {
		t.Errorf("%d %s %s", code, r.stdout.String(), r.stderr.String())
	}
	if err := os.WriteFile(filepath.Join(r.home, "config.yaml"), []byte("lisen: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := r.again()
	if code := b.do("note", "x"); code != 2 || !strings.Contains(b.stderr.String(), `config.yaml:1:1: config.unknown_key`) {
		t.Errorf("%d %s", code, b.stderr.String())
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	if code := r.do("version"); code != 0 || !strings.HasPrefix(r.stdout.String(), "flywheel 1.2.3 ") {
		t.Errorf("%d %s", code, r.stdout.String())
	}
}
