package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/model"
	"flywheel/internal/platform/fault"
	"flywheel/internal/run"
	"flywheel/internal/tool"
	"flywheel/spec"
)

func TestRunIsJournaledAndTold(t *testing.T) {
	t.Parallel()
	var l ledger
	h := openHome(t, t.TempDir(), script(call("cards.freeze", `{"card_id":"4711"}`), say("Frozen.")), attempts(l.attempt), nil)
	events := h.bus.Subscribe(t.Context(), run.TopicStarted, run.TopicStep, run.TopicEnded, run.TopicDelta)
	p := h.use(compile(t, deskPackage(), nil))
	req := message(p, "freeze 4711")
	req.Release, req.Channel, req.Session = "sha256:abc", "prod", "s1"
	r := h.start(t, req)
	if r.Status != run.Succeeded || r.Output.Reply != "Frozen." || r.Usage.Cost != 2000 || r.ToolCalls != 1 || r.Turn != 1 {
		t.Fatalf("run = %+v", r)
	}
	rows, err := h.Journal(t.Context(), r.ID, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range rows {
		got = append(got, fmt.Sprintf("%d %d %s %s", row.Seq, row.Step, row.Kind, row.Class))
	}
	want := []string{"1 0 model ", "2 1 intent ", "3 1 tool ", "4 2 model ", "5 3 finish "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	var in run.ToolInput
	if err := json.Unmarshal(rows[1].Input, &in); err != nil || in.Key == "" || in.Key != l.calls[0].Key || string(in.Args) != `{"card_id":"4711"}` {
		t.Errorf("intent = %s, called with key %q", rows[1].Input, l.calls[0].Key)
	}
	var topics []string
	var facts run.Facts
	for e := range events {
		topics = append(topics, e.Topic)
		if e.Topic == run.TopicEnded {
			if err := json.Unmarshal(e.Payload, &facts); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if first := topics[0]; first != run.TopicStarted || !strings.Contains(strings.Join(topics, " "), "run.step") {
		t.Errorf("topics = %v", topics)
	}
	if facts.Release != "sha256:abc" || facts.Channel != "prod" || facts.Status != run.Succeeded || facts.ToolAttempts != 1 || facts.Calls[0].Tool != "cards.freeze" {
		t.Errorf("facts = %+v", facts)
	}
}

func TestSessionGivesEarlierTurnsToTheModel(t *testing.T) {
	t.Parallel()
	var heard []string
	c := chat(func(_ context.Context, req model.Request) (model.Response, error) {
		heard = nil
		for _, m := range req.Messages {
			heard = append(heard, m.Role+" "+m.Content)
		}
		return say(fmt.Sprintf("answer %d", len(req.Messages))), nil
	})
	h := openHome(t, t.TempDir(), c, nil, func(d *run.Deps) { d.HistoryTurns = 2 })
	p := h.use(compile(t, deskPackage(), nil))
	var last *run.Run
	for i := range 4 {
		req := message(p, fmt.Sprintf("message %d", i))
		req.Session = "s1"
		last = h.start(t, req)
	}
	other := message(p, "stranger")
	other.Session = "s2"
	want := []string{
		"system You help with bank cards.", "user message 1", "assistant answer 4", "user message 2", "assistant answer 6", "user message 3",
	}
	if diff := cmp.Diff(want, heard); diff != "" || last.Turn != 4 {
		t.Errorf("turn %d heard (-want +got):\n%s", last.Turn, diff)
	}
	h.start(t, other)
	if len(heard) != 2 {
		t.Errorf("another session heard %v", heard)
	}
	elsewhere := deskPackage()
	elsewhere.Name = "other-desk"
	foreign := message(h.use(compile(t, elsewhere, nil)), "the same person at another desk")
	foreign.Session = "s1"
	if r := h.start(t, foreign); len(heard) != 2 || r.Turn != 1 {
		t.Errorf("another agent heard of the same session, in turn %d: %v", r.Turn, heard)
	}
}

func TestReplayIsEqualAndNamesTheFirstDifferenceOfAChangedPackage(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	answers := script(call("cards.find", `{"name":"<Ann & Bob>"}`), call("cards.freeze", `{"card_id":"1"}`), say("Done <b>."))
	counting := chat(func(ctx context.Context, req model.Request) (model.Response, error) {
		calls.Add(1)
		return answers(ctx, req)
	})
	h := openHome(t, t.TempDir(), counting, attempts((&ledger{}).attempt), nil)
	p := h.use(compile(t, deskPackage(), nil))
	r := h.start(t, message(p, "x"))
	called := calls.Load()
	report, err := h.Replay(t.Context(), r.ID)
	if err != nil || !report.Equal || report.Steps != 6 {
		t.Fatalf("report = %+v, %v", report, err)
	}
	changed := deskPackage()
	changed.Agents["desk"].Prompt = "You help with bank cards. Be kind."
	q := h.use(compile(t, changed, nil))
	report, err = h.ReplayOn(t.Context(), r.ID, q.Identity)
	if err != nil || report.Equal || report.First.Step != 0 || report.First.What != "message 1 (system) is another" {
		t.Fatalf("report = %+v, %v", report.First, err)
	}
	if !strings.Contains(string(report.First.Now.Body), "Be kind") || strings.Contains(string(report.First.Recorded.Body), "Be kind") {
		t.Errorf("sides = %s / %s", report.First.Recorded.Body, report.First.Now.Body)
	}
	bound := deskPackage()
	bound.Agents["desk"].AfterTools = spec.AfterToolsStop
	b := h.use(compile(t, bound, nil))
	report, err = h.ReplayOn(t.Context(), r.ID, b.Identity)
	if err != nil || report.First == nil || report.First.Step != 2 || report.First.What != "the command was model and is finish" {
		t.Errorf("report = %+v, %v", report.First, err)
	}
	if calls.Load() != called {
		t.Errorf("a replay has called a model")
	}
}

func TestForkSharesAPrefixAndDoesNotWrite(t *testing.T) {
	t.Parallel()
	var l ledger
	second := say("Frozen.")
	h := openHome(t, t.TempDir(), chat(func(ctx context.Context, req model.Request) (model.Response, error) {
		return script(call("cards.find", `{"name":"Ann"}`), call("cards.freeze", `{"card_id":"1"}`, "cards.pay", `{"card_id":"9"}`), second)(ctx, req)
	}), attempts(l.attempt), nil)
	pkg := deskPackage()
	pkg.Tools["cards.pay"].Mock, pkg.Tools["cards.pay"].Call.HTTP = &spec.Mock{Out: map[string]any{"mock": true}}, &spec.HTTPCall{}
	p := h.use(compile(t, pkg, nil))
	parent := h.start(t, message(p, "x"))
	before := l.names()

	fork := func(req run.ForkRequest) *run.Run {
		t.Helper()
		_, wait, err := h.Fork(t.Context(), parent.ID, req)
		if err != nil {
			t.Fatalf("fork: %v", err)
		}
		r, err := wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	second = say("Forked.")
	r := fork(run.ForkRequest{At: 3})
	if r.Output.Reply != "Forked." || r.Parent != parent.ID || r.ParentAt != 3 || l.names() != before {
		t.Errorf("fork = %+v, tools called: %s", r, l.names())
	}
	rows, _ := h.Journal(t.Context(), r.ID, 0, 0)
	first, _ := h.Journal(t.Context(), parent.ID, 0, 0)
	if diff := cmp.Diff(first[0].Output, rows[0].Output); diff != "" {
		t.Errorf("shared row differs:\n%s", diff)
	}
	report, err := h.Replay(t.Context(), r.ID)
	if err != nil || !report.Equal {
		t.Errorf("a fork replays: %+v, %v", report, err)
	}

	// Another package: the tool's answer comes from the mock, as the tape has no such call.
	changed := deskPackage()
	changed.Tools["cards.pay"].Mock, changed.Tools["cards.pay"].Call.HTTP = &spec.Mock{Out: map[string]any{"mock": true}}, &spec.HTTPCall{}
	changed.Agents["desk"].Tools = []spec.ToolUse{{Tool: "cards.*"}, {Tool: "cards.pay", With: map[string]string{"reason": "fork"}}}
	q := h.use(compile(t, changed, nil))
	r = fork(run.ForkRequest{At: 2, Identity: q.Identity})
	rows, _ = h.Journal(t.Context(), r.ID, 0, 0)
	if r.Status != run.Succeeded || l.names() != before {
		t.Errorf("fork = %+v failure %+v, tools %s", r, r.Failure, l.names())
	}
	if text := string(rows[4].Output); !strings.Contains(text, `"mock":true`) {
		t.Errorf("row = %s", text)
	}
	if fork(run.ForkRequest{At: 2, AllowWrites: true}); l.names() != before+" cards.freeze cards.pay" {
		t.Errorf("with writes allowed the tools are %s", l.names())
	}
	if _, _, err := h.Fork(t.Context(), parent.ID, run.ForkRequest{At: 99}); !fault.HasCode(err, "run.fork_at") {
		t.Errorf("fork beyond the end: %v", err)
	}
}

func TestPersonAnswersOnce(t *testing.T) {
	t.Parallel()
	var l ledger
	h := openHome(t, t.TempDir(), script(call("cards.pay", `{"card_id":"4711"}`), say("Paid.")), attempts(l.attempt), nil)
	p := h.use(compile(t, refundPackage(), nil))
	r := h.start(t, message(p, "pay 4711"))
	if r.Status != run.Waiting || r.Ask == nil || r.Ask.Question != "Pay for cards.find?" {
		t.Fatalf("run = %+v", r)
	}
	_, wait, err := h.Answer(t.Context(), r.ID, run.Reply{Approve: true, By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Answer(t.Context(), r.ID, run.Reply{By: "bob"}); !fault.HasCode(err, "run.not_waiting") {
		t.Errorf("second answer: %v", err)
	}
	if r, err = wait(t.Context()); err != nil || r.Status != run.Succeeded || r.Output.Reply != "Paid." {
		t.Errorf("run = %+v, %v", r, err)
	}
	if report, err := h.Replay(t.Context(), r.ID); err != nil || !report.Equal {
		t.Errorf("replay = %+v, %v", report.First, err)
	}
	shown, err := h.Show(t.Context(), r.ID)
	if err != nil || shown.Steps[1].By != "ann" || shown.Steps[1].Message != "approved" {
		t.Errorf("shown = %+v, %v", shown, err)
	}
}

func TestWaitingEndsByItselfAfterItsTime(t *testing.T) {
	t.Parallel()
	pkg := refundPackage()
	pkg.Flows["refund"].Nodes["approve"].Human.Timeout = spec.Duration(time.Hour)
	h := openHome(t, t.TempDir(), script(), attempts((&ledger{}).attempt), nil)
	p := h.use(compile(t, pkg, nil))
	r := h.start(t, message(p, "pay 4711"))
	if err := h.Due(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, _ = h.Get(t.Context(), r.ID); r.Status != run.Waiting || !r.WakeAt.Equal(h.clock.Now().Add(time.Hour).Truncate(time.Microsecond)) {
		t.Fatalf("run = %+v", r)
	}
	h.clock.Advance(2 * time.Hour)
	if err := h.Due(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := h.Wait(t.Context(), r.ID); err != nil || r.Output.Reply != "Which card?" {
		t.Errorf("run = %+v, %v", r, err)
	}
}

func TestCancelEndsAModelCallAndAWait(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	h := openHome(t, t.TempDir(), chat(func(ctx context.Context, _ model.Request) (model.Response, error) {
		close(began)
		<-ctx.Done()
		return model.Response{}, ctx.Err()
	}), attempts((&ledger{}).attempt), nil)
	p := h.use(compile(t, deskPackage(), nil))
	id, wait, err := h.Start(t.Context(), message(p, "x"))
	if err != nil {
		t.Fatal(err)
	}
	<-began
	if _, err := h.Cancel(t.Context(), id, "ann"); err != nil {
		t.Fatal(err)
	}
	r, err := wait(t.Context())
	if err != nil || r.Status != run.Canceled || r.Failure.Message != "canceled by ann" || r.Failure.Node != "desk" {
		t.Errorf("run = %+v, %v", r, err)
	}
	if _, err := h.Cancel(t.Context(), id, ""); !fault.HasCode(err, "run.ended") {
		t.Errorf("second cancel: %v", err)
	}
	q := h.use(compile(t, refundPackage(), nil))
	w := h.start(t, message(q, "pay 4711"))
	if w, err = h.Cancel(t.Context(), w.ID, ""); err != nil || w.Status != run.Canceled || w.Ask != nil {
		t.Errorf("run = %+v, %v", w, err)
	}
	if report, err := h.Replay(t.Context(), w.ID); err != nil || !report.Equal {
		t.Errorf("replay of a canceled run = %+v, %v", report, err)
	}
}

func TestSecondWriterLosesAndStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entered, goOn := make(chan struct{}), make(chan struct{})
	h := openHome(t, dir, chat(func(context.Context, model.Request) (model.Response, error) {
		close(entered)
		<-goOn
		return say("too late"), nil
	}), nil, nil)
	p := h.use(compile(t, deskPackage(), nil))
	id, wait, err := h.Start(t.Context(), message(p, "x"))
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	// A zombie: another service drives the same run meanwhile.
	other := run.New(run.Deps{DB: h.db, Blobs: h.blobs, Clock: h.clock, Models: script(say("first"))})
	defer func() { _ = other.Close() }()
	other.Use(p)
	if n, err := other.Resume(t.Context()); n != 1 || err != nil {
		t.Fatalf("resumed %d, %v", n, err)
	}
	if r, err := other.Wait(t.Context(), id); err != nil || r.Output.Reply != "first" {
		t.Fatalf("run = %+v, %v", r, err)
	}
	close(goOn)
	r, err := wait(t.Context())
	if err != nil || r.Output.Reply != "first" {
		t.Errorf("run = %+v, %v", r, err)
	}
	rows, _ := h.Journal(t.Context(), id, 0, 0)
	if len(rows) != 2 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestLongBodiesAreBlobs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long <answer> ", 100_000)
	h := openHome(t, t.TempDir(), script(call("cards.find", `{"name":"a"}`), say(long)), attempts(func(context.Context, tool.Call) tool.Attempt {
		b, _ := json.Marshal(long)
		return tool.Attempt{Out: b}
	}), nil)
	p := h.use(compile(t, deskPackage(), nil))
	r := h.start(t, message(p, long))
	if r.Output.Reply != long {
		t.Errorf("reply has %d bytes", len(r.Output.Reply))
	}
	var inline int
	if err := h.db.QueryRow(t.Context(), `SELECT MAX(LENGTH(input) + LENGTH(output)) FROM journal`).Scan(&inline); err != nil || inline > 2*64<<10 {
		t.Errorf("a row has %d bytes, %v", inline, err)
	}
	if report, err := h.Replay(t.Context(), r.ID); err != nil || !report.Equal {
		t.Errorf("replay = %+v, %v", report, err)
	}
}

func TestRowsOfTheJournalComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	h := openHome(t, t.TempDir(), script(call("cards.find", `{"name":"<ä>&"}`), say("ok")), attempts(func(context.Context, tool.Call) tool.Attempt {
		return tool.Attempt{Class: tool.Timeout, Message: "slow"}
	}), nil)
	p := h.use(compile(t, deskPackage(), nil))
	var live []run.Row
	req := message(p, "x")
	req.OnStep = func(run.Step) {}
	r := h.start(t, req)
	rows, err := h.Journal(t.Context(), r.ID, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		part, err := h.Journal(t.Context(), r.ID, i, 1)
		if err != nil || len(part) != 1 {
			t.Fatalf("page %d: %v", i, err)
		}
		live = append(live, part[0])
	}
	if diff := cmp.Diff(rows, live, cmp.AllowUnexported(run.Row{})); diff != "" {
		t.Errorf("paged (-all +paged):\n%s", diff)
	}
	a, ok, err := rows[1].Decode()
	if err != nil || !ok || a.Tool.Class != tool.Timeout || a.Tool.Message != "slow" || rows[1].Class != "timeout" {
		t.Errorf("row = %+v, %v", rows[1], err)
	}
}
