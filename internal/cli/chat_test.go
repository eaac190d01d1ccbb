package cli_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChatIsOneSessionOfSeveralMessages(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	r.stdin = "Hello there\n\nagain\n"
	if code := r.do("chat", "--agent", "desk@prod"); code != 0 {
		t.Errorf("exit code %d: %s", code, r.stderr.String())
	}
	if d := cmp.Diff("Hello there chat ses_ 0\nagain chat ses_ 0\n", r.stdout.String()); d != "" {
		t.Error(d)
	}
	if n := r.app.opened.Load(); n != 1 {
		t.Errorf("the home was opened %d times", n)
	}
}

func TestChatGoesOnAfterAnErrorOnlyWithAPerson(t *testing.T) {
	t.Parallel()
	script := newRun(t, newDesk())
	script.stdin = "fail\nnever\n"
	if code := script.do("chat", "--agent", "a"); code != 8 || strings.Contains(script.stdout.String(), "never") {
		t.Errorf("%d %q", code, script.stdout.String())
	}
	person := newRun(t, newDesk())
	person.stdin, person.tty, person.env = "fail\nstill here\n", true, []string{"NO_COLOR=1"}
	if code := person.do("chat", "--agent", "a"); code != 0 || !strings.Contains(person.stdout.String(), "still here") {
		t.Errorf("%d %q", code, person.stdout.String())
	}
	if !strings.Contains(person.stderr.String(), "error: no model is reachable\n  hint: flywheel doctor\n") {
		t.Errorf("%q", person.stderr.String())
	}
	none := newRun(t, newDesk())
	if code := none.do("chat"); code != 2 || !strings.Contains(none.stderr.String(), "there is no flywheel.yaml") {
		t.Errorf("%d %s", code, none.stderr.String())
	}
}

func TestTerminalGetsNoControlCharacters(t *testing.T) {
	t.Parallel()
	r := newRun(t, newDesk())
	r.tty = true
	if code := r.do("note", "evil\x1b]0;title\x07\u009b2Jtext"); code != 0 || r.stdout.String() != "evil]0;title2Jtext\n" {
		t.Errorf("%d %q", code, r.stdout.String())
	}
	e := r.again()
	e.tty = true
	if e.do("items", "show", "x"); !strings.HasPrefix(e.stderr.String(), "\x1b[1;31merror:\x1b[0m ") {
		t.Errorf("no colour at a terminal: %q", e.stderr.String())
	}
	plain := r.again()
	plain.tty = true
	if plain.do("items", "show", "x", "--no-color"); !strings.HasPrefix(plain.stderr.String(), "error: ") {
		t.Errorf("colour: %q", plain.stderr.String())
	}
}
