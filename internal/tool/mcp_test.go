package tool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool"
	"flywheel/spec"
)

var realClock = clock.Real()

// always is an outage that does not end.
func always(mode string) string { return "freeze_card:every=1h,for=1h,mode=" + mode }

func TestAnMCPToolAnswersWithItsStructuredContent(t *testing.T) {
	t.Parallel()
	b := newBank(t, "")
	r := b.do("cards.find", `{"card":"4711"}`, "")
	if r.Class != tool.OK || string(r.Out) != `{"card":"4711","holder":"Ada Byron","kind":"debit","message":"Card 4711 is active.","status":"active"}` {
		t.Fatalf("result: %+v %s", r, r.Out)
	}
	r = b.do("cards.find", `{"card":"9999"}`, "")
	if r.Class != tool.Rejected || r.Message != "There is no card 9999." || r.Attempts[0].Status != 404 {
		t.Errorf("unknown card: %+v", r)
	}
	r = b.do("cards.find", `{"number":1}`, "")
	if r.Class != tool.Rejected || !strings.Contains(r.Message, `["number"]`) {
		t.Errorf("wrong arguments: %+v", r)
	}
}

func TestTheSameKeyHasOneEffect(t *testing.T) {
	t.Parallel()
	b := newBank(t, "")
	var first json.RawMessage
	for i := range 3 {
		r := b.do("cards.freeze", `{"card":"4711"}`, "key-1")
		if r.Class != tool.OK {
			t.Fatalf("result: %+v", r)
		}
		if i == 0 {
			first = r.Out
		} else if string(r.Out) != string(first) {
			t.Errorf("another answer: %s", r.Out)
		}
	}
	want := []ledgerLine{{Tool: "freeze_card", Card: "4711", Key: "key-1", Repeats: 2}}
	if d := cmp.Diff(want, b.ledger()); d != "" {
		t.Error(d)
	}
	if r := b.do("cards.freeze", `{"card":"1234"}`, "key-1"); r.Class != tool.Rejected || r.Attempts[0].Status != 409 {
		t.Errorf("the key for another card: %+v", r)
	}
}

func TestAServerThatDiesInMidCallIsAResetAndStartsAgain(t *testing.T) {
	t.Parallel()
	b := newBank(t, always("die"))
	for range 2 { // the second call has a new process, and meets the same end
		r := b.do("cards.freeze", `{"card":"4711"}`, "key-1")
		if r.Class != tool.Reset || !strings.Contains(r.Message, "ended in the middle of the call") ||
			!strings.Contains(r.Message, "the process ends in the middle of freeze_card") {
			t.Fatalf("result: %+v", r)
		}
	}
	if r := b.do("cards.find", `{"card":"4711"}`, ""); r.Class != tool.OK {
		t.Errorf("after a restart: %+v", r)
	}
	if l := b.ledger(); len(l) != 0 {
		t.Errorf("ledger: %+v", l)
	}
}

func TestAWriteThatHappenedUnseenHappensOnce(t *testing.T) {
	t.Parallel()
	b := newBank(t, always("late"))
	freeze := b.pkg.Tools["cards.freeze"]
	freeze.Retry = &spec.Retry{Max: 2}
	freeze.Backup = "cards_mirror.freeze"
	r := b.do("cards.freeze", `{"card":"4711"}`, "key-1")
	if r.Class != tool.OK || r.Tool != "cards_mirror.freeze" || len(r.Attempts) != 4 {
		t.Fatalf("result: %+v", r)
	}
	want := []ledgerLine{{Tool: "freeze_card", Card: "4711", Key: "key-1", Repeats: 3}}
	if d := cmp.Diff(want, b.ledger()); d != "" {
		t.Error(d)
	}

	freeze.Idempotency = "" // without it nothing may be repeated
	if r := b.do("cards.freeze", `{"card":"1234"}`, "key-2"); r.Class != tool.Uncertain || len(r.Attempts) != 1 {
		t.Errorf("without idempotency: %+v", r)
	}
	if l := b.ledger(); len(l) != 2 || l[1].Repeats != 0 {
		t.Errorf("ledger: %+v", l)
	}
}

func TestAServerThatHangsIsATimeoutAndStaysUsable(t *testing.T) {
	t.Parallel()
	b := newBank(t, always("hang"))
	if r := b.do("cards.find", `{"card":"4711"}`, ""); r.Class != tool.OK { // it has started
		t.Fatalf("result: %+v", r)
	}
	b.pkg.Tools["cards.freeze"].Timeout = ms(150)
	r := b.do("cards.freeze", `{"card":"4711"}`, "key-1")
	if r.Class != tool.Timeout || r.Message != "cards.freeze did not answer within 150ms" {
		t.Fatalf("result: %+v", r)
	}
	if took := r.Attempts[0].For; took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if r := b.do("cards.find", `{"card":"4711"}`, ""); r.Class != tool.OK {
		t.Errorf("after a timeout: %+v", r)
	}
}

func TestAnOutageOfMixedKindsIsSurvivedByPolicy(t *testing.T) {
	t.Parallel()
	b := newBank(t, always("mixed"))
	freeze := b.pkg.Tools["cards.freeze"]
	freeze.Timeout, freeze.Backup, freeze.Retry = ms(1500), "cards_mirror.freeze", &spec.Retry{Max: 3}
	r := b.do("cards.freeze", `{"card":"4711"}`, "key-1")
	var classes []tool.Class
	for _, a := range r.Attempts {
		classes = append(classes, a.Class)
	}
	want := []tool.Class{tool.Unavailable, tool.Timeout, tool.Reset, tool.Reset, tool.OK}
	if d := cmp.Diff(want, classes); d != "" || r.Class != tool.OK {
		t.Errorf("%s %+v", d, r)
	}
	if l := b.ledger(); len(l) != 1 || l[0].Repeats != 1 {
		t.Errorf("ledger: %+v", l)
	}
}

func TestASchemaThatHasChangedIsShown(t *testing.T) {
	t.Parallel()
	b := newBank(t, "")
	pins, err := b.service.Schemas(t.Context(), b.env, b.pkg)
	if err != nil {
		t.Fatal(err)
	}
	if len(pins) != 4 || pins["cards.freeze"].Name != "freeze_card" || !strings.HasPrefix(pins["cards.freeze"].Digest, "sha256:") {
		t.Fatalf("schemas: %+v", pins)
	}
	pinned := func() tool.Result {
		b.caller = b.service.PinnedCaller(b.env, b.pkg, pins)
		return b.do("cards.find", `{"card":"4711"}`, "")
	}
	if r := pinned(); r.Class != tool.OK {
		t.Fatalf("the schema as it is: %+v", r)
	}
	again, err := tool.ReadSchema(pins["cards.find"].Canonical())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(pins["cards.find"], again); d != "" {
		t.Errorf("read again: %s", d)
	}
	pins["cards.find"] = tool.Schema{Digest: "sha256:other"}
	if r := pinned(); r.Class != tool.Drift || !strings.Contains(r.Message, "locked sha256:other, now "+again.Digest) {
		t.Errorf("a digest alone: %+v", r)
	}
	before := again
	before.Digest = "sha256:other"
	before.Description = "Find a card."
	before.Schema = json.RawMessage(`{"type":"object","required":["branch"],"properties":{"card":{"type":"integer"},"branch":{"type":"string"}}}`)
	pins["cards.find"] = before
	r := pinned()
	if r.Class != tool.Drift || len(r.Attempts) != 1 {
		t.Fatalf("result: %+v", r)
	}
	for _, want := range []string{
		"the tool find_card of the MCP server cards is not the one that was locked",
		`description "Find a card." → "Find a card by its last four digits and say how it is."`,
		"argument branch removed", `argument card changed: {"type":"integer"} → {`, "argument card is now required",
	} {
		if !strings.Contains(r.Message, want) {
			t.Errorf("%q is not in: %s", want, r.Message)
		}
	}
	now, err := b.service.Schemas(t.Context(), b.env, b.pkg)
	if err != nil {
		t.Fatal(err)
	}
	if d := tool.Drifts(pins, now); len(d) != 1 || !strings.HasPrefix(d[0], "cards.find: ") {
		t.Errorf("drifts: %q", d)
	}
}

func TestSchemasSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := newBank(t, "")
	b.pkg.Tools["cards.freeze"].Call.MCP.Tool = "freeze_cart"
	_, err := b.service.Schemas(t.Context(), b.env, b.pkg)
	if !fault.HasCode(err, "tool.missing") || fault.From(err).Hint != "did you mean cards/freeze_card?" {
		t.Errorf("a tool that is not there: %v", err)
	}
	_, err = b.service.Schemas(t.Context(), nil, b.pkg)
	if !fault.HasCode(err, "tool.server") || !strings.Contains(err.Error(), "the environment value SERVER is not set") {
		t.Errorf("an environment value that is missing: %v", err)
	}
	_, err = b.service.Schemas(t.Context(), map[string]string{"SERVER": "/no/such/program", "DATA": "x"}, b.pkg)
	if !fault.HasCode(err, "tool.unreachable") || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("a program that is not there: %v", err)
	}
	_, err = b.service.Schemas(t.Context(), map[string]string{"SERVER": cardsServer, "DATA": "x", "OUTAGE": "freeze_card:"}, b.pkg)
	if !fault.HasCode(err, "tool.unreachable") || !strings.Contains(err.Error(), "every=, for= or mode= is expected") {
		t.Errorf("a server that refuses to start: %v", err)
	}
}

func TestOneServerServesConcurrentCalls(t *testing.T) {
	t.Parallel()
	b := newBank(t, "")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if r := b.do("cards.find", `{"card":"4711"}`, ""); r.Class != tool.OK {
				t.Errorf("result: %+v", r)
			}
		})
	}
	wg.Wait()
	if n := len(children(t, os.Getpid(), b.env["DATA"])); runtime.GOOS == "linux" && n != 1 {
		t.Errorf("%d processes", n)
	}
	if err := b.service.Close(); err != nil {
		t.Fatal(err)
	}
	if left := children(t, os.Getpid(), b.env["DATA"]); len(left) != 0 {
		t.Errorf("processes that outlive the service: %v", left)
	}
	if r := b.do("cards.find", `{"card":"4711"}`, ""); r.Class != tool.Unavailable {
		t.Errorf("after close: %+v", r)
	}
}

func TestAToolServerDiesWithAKilledParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs a parent-death signal")
	}
	data := filepath.Join(t.TempDir(), "bank.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "TOOL_TEST_PARENT="+data, "TOOL_TEST_SERVER="+cardsServer)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 3)
	if _, err := stdout.Read(line); err != nil || string(line) != "up\n" {
		t.Fatalf("the parent says %q: %v", line, err)
	}
	pids := children(t, cmd.Process.Pid, data)
	if len(pids) != 1 {
		t.Fatalf("tool servers: %v", pids)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitGone(t, pids[0])
}

// waitGone waits until a process that is not our child has ended.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for alive(pid) {
		if err := realClock.Sleep(ctx, 10*time.Millisecond); err != nil {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z ")) && syscall.Kill(pid, 0) == nil
}

// children are the processes started by pid whose command line mentions a file.
func children(t *testing.T, pid int, file string) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended
		}
		for _, field := range strings.Fields(string(b)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err != nil {
				t.Fatal(err)
			}
			if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child)); err == nil && bytes.Contains(line, []byte(file)) {
				out = append(out, child)
			}
		}
	}
	return out
}

// parent runs in a process of its own, starts a tool server, and waits to be killed.
func parent(data string) {
	pkg := bankPackage("")
	s := tool.New(tool.Deps{})
	c := s.Caller(map[string]string{"SERVER": os.Getenv("TOOL_TEST_SERVER"), "DATA": data}, pkg)
	a := c.Attempt(context.Background(), tool.Call{Tool: pkg.Tools["cards.find"], Name: "cards.find", Args: json.RawMessage(`{"card":"4711"}`)})
	if a.Class != tool.OK {
		fmt.Println(a.Message)
		return
	}
	fmt.Println("up")
	select {}
}
