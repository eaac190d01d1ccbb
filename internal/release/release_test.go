package release_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/bus"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/internal/release"
	"flywheel/spec"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type home struct {
	t     testing.TB
	dir   string
	db    *db.DB
	blobs *blob.Files
	clock *clock.Virtual
	key   *release.Key
	gate  *fakeGate
	svc   *release.Service
}

func newHome(tb testing.TB) *home {
	tb.Helper()
	ctx := context.Background()
	h := &home{t: tb, dir: tb.TempDir(), clock: clock.NewVirtual(start), gate: &fakeGate{}}
	var err error
	if h.db, err = db.Open(ctx, filepath.Join(h.dir, "home.db")); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.db.Close() })
	if err := db.Migrate(ctx, h.db, bus.Migrations, release.Migrations); err != nil {
		tb.Fatal(err)
	}
	if h.blobs, err = blob.OpenFiles(filepath.Join(h.dir, "cas")); err != nil {
		tb.Fatal(err)
	}
	if h.key, err = release.OpenKey(filepath.Join(h.dir, "keys", "release.pem")); err != nil {
		tb.Fatal(err)
	}
	h.svc = h.service(h.key)
	return h
}

func (h *home) service(key *release.Key) *release.Service {
	h.t.Helper()
	svc, err := release.New(release.Deps{DB: h.db, Blobs: h.blobs, Bus: bus.New(h.db), Clock: h.clock, Signer: key, Gate: h.gate})
	if err != nil {
		h.t.Fatal(err)
	}
	return svc
}

// desk is a small package; edit changes its files.
func desk(tb testing.TB, edit ...func(op.Dir)) *agent.Resolved {
	tb.Helper()
	files := op.Dir{
		"flywheel.yaml":           []byte("flywheel: 1\nname: desk\ngoal: Help people with their cards.\nentry: agents/desk\nmodels:\n  fast: scripted/desk\n"),
		"agents/desk.agent.md":    []byte("---\nmodel: fast\nexamples: data/examples.jsonl\n---\nYou help people with cards.\n\n{{> tone}}\n"),
		"prompts/tone.prompt.md":  []byte("Be short and kind.\n"),
		"data/examples.jsonl":     []byte(`{"user":"hello","reply":"Hello."}` + "\n"),
		"models/desk.script.yaml": []byte("rules:\n  - reply: Hello.\n"),
	}
	for _, e := range edit {
		e(files)
	}
	r, problems := agent.New().Check(files)
	if err := agent.Fault(problems); err != nil {
		tb.Fatalf("%v: %+v", err, fault.From(err).Fields)
	}
	return r
}

func warmer(files op.Dir) {
	files["prompts/tone.prompt.md"] = []byte("Be short and very kind.\n")
}

func sized(n int) func(op.Dir) {
	return func(files op.Dir) {
		files["prompts/tone.prompt.md"] = []byte(fmt.Sprintf("Be short and kind, variant %d.\n", n))
	}
}

func lockFor(tb testing.TB, r *agent.Resolved) json.RawMessage {
	tb.Helper()
	l, err := agent.MakeLock(context.Background(), r, agent.Pins{})
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := release.LockJSON(l)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// fakeGate gives results instead of running trials.
type fakeGate struct {
	none     bool
	test     release.Test
	against  *release.Against
	gate     spec.Gate
	suite    string
	tests    int
	compared []blob.Digest
}

func (g *fakeGate) Suite(context.Context, *agent.Resolved, string) (release.Suite, bool, error) {
	gate := g.gate
	if gate == (spec.Gate{}) {
		gate = spec.Gate{Pass: 0.5}
	}
	return release.Suite{Name: "smoke", Digest: blob.Of([]byte("suite" + g.suite)), Gate: gate}, !g.none, nil
}

func (g *fakeGate) Test(_ context.Context, req release.GateRequest, progress func(release.Progress)) (*release.Test, error) {
	g.tests++
	progress(release.Progress{Stage: "gate", Done: 60, Total: 60})
	t := g.test
	if t.Trials == 0 {
		t = passing()
	}
	t.Suite = req.Suite.Digest
	return &t, nil
}

func (g *fakeGate) Compare(_ context.Context, req release.GateRequest, _ func(release.Progress)) (*release.Against, error) {
	g.compared = append(g.compared, req.Base)
	if g.against != nil {
		a := *g.against
		return &a, nil
	}
	return &release.Against{Scenarios: 60, Better: 9, Evidence: 102.3, Contrary: 0.01}, nil
}

func passing() release.Test {
	return release.Test{Split: "audit", Scenarios: 60, Trials: 60, Passed: 50, Report: blob.Of([]byte("report")), SuiteName: "smoke"}
}

func (h *home) create(r *agent.Resolved, change ...func(*release.CreateRequest)) (*release.Release, error) {
	h.t.Helper()
	req := release.CreateRequest{Package: r, Lock: lockFor(h.t, r), By: "ann", Notes: "first"}
	for _, c := range change {
		c(&req)
	}
	return h.svc.Create(context.Background(), req, nil)
}

func (h *home) mustCreate(r *agent.Resolved, change ...func(*release.CreateRequest)) *release.Release {
	h.t.Helper()
	out, err := h.create(r, change...)
	if err != nil {
		h.t.Fatalf("%v %+v", err, fault.From(err).Fields)
	}
	return out
}

func force(r *release.CreateRequest) { r.Force = true }

func wantCode(tb testing.TB, err error, code string) *fault.Error {
	tb.Helper()
	if !fault.HasCode(err, code) {
		tb.Fatalf("got %v, want code %s", err, code)
	}
	return fault.From(err)
}

func TestTheDigestIsTheSameOnEveryMachine(t *testing.T) {
	t.Parallel()
	a, b := newHome(t), newHome(t)
	b.clock.Advance(1000 * time.Hour)
	ra := a.mustCreate(desk(t))
	rb := b.mustCreate(desk(t, func(files op.Dir) { // other comments, order and layout
		files["flywheel.yaml"] = []byte("# the desk\nentry: agents/desk\nname: desk\nflywheel: 1\nmodels: {fast: scripted/desk}\ngoal: \"Help people with their cards.\"\n")
		files["README.md"] = []byte("hello")
	}), force, func(r *release.CreateRequest) { r.By, r.Notes = "bob", "another" })
	if ra.Digest != rb.Digest {
		t.Errorf("two machines made %s and %s of the same package", ra.Digest, rb.Digest)
	}
	if rp := inAnotherProcess(t); rp != string(ra.Digest) {
		t.Errorf("another process made %s, this one %s", rp, ra.Digest)
	}
	if rc := a.mustCreate(desk(t, warmer)); rc.Digest == ra.Digest || rc.Number != 2 {
		t.Errorf("another prompt gave release %d with digest %s", rc.Number, rc.Digest)
	}
}

const childMark = "FLYWHEEL_TEST_DIGEST_CHILD"

// inAnotherProcess runs this test binary again and reads the digest that it makes.
func inAnotherProcess(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDigestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childMark+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`child (sha256:[0-9a-f]{64})`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no digest in:\n%s", out)
	}
	return string(m[1])
}

func TestDigestChild(t *testing.T) {
	if os.Getenv(childMark) == "" {
		t.Skip("runs as a child of TestTheDigestIsTheSameOnEveryMachine")
	}
	t.Logf("child %s", newHome(t).mustCreate(desk(t)).Digest)
}

// The manifest is a format that others hold digests of: a change here changes every release ever made.
func TestTheManifestFormatStays(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	canonical := []byte(`{"files":{},"flywheel":1}`)
	r, err := h.svc.Build(context.Background(), release.BuildRequest{Force: true, Source: release.Source{
		Name: "desk", Goal: "Help <people> & co.", Identity: blob.Of(canonical), Canonical: canonical,
		Lock:       json.RawMessage(`{ "lines": [], "identity": "x" }`),
		Components: []release.Component{{Kind: "prompt", Name: "agents/desk", Content: []byte(`{"body":"hi"}`)}, {Kind: "model", Name: "fast", Content: []byte(`{"first":"a/b"}`)}},
		Data:       map[string][]byte{"data/x.jsonl": []byte("{}\n")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := blob.Bytes(context.Background(), h.blobs, r.Digest)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "manifest.golden.json")
	want, err := os.ReadFile(golden)
	if err != nil || string(raw) != strings.TrimSpace(string(want)) {
		t.Errorf("%v\ngot  %s\nwant %s", err, raw, want)
	}
}

func TestAnotherLockIsAnotherRelease(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := desk(t)
	first := h.mustCreate(r)
	l, err := agent.MakeLock(context.Background(), r, agent.Pins{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Lines {
		if l.Lines[i].Kind == agent.KindModel {
			l.Lines[i].Digest = string(blob.Of([]byte("other weights")))
		}
	}
	raw, err := release.LockJSON(l)
	if err != nil {
		t.Fatal(err)
	}
	second := h.mustCreate(r, func(c *release.CreateRequest) { c.Lock = raw })
	if second.Digest == first.Digest || second.Identity != first.Identity {
		t.Errorf("other weights: %+v", second)
	}
}

func TestEqualContentKeepsItsNumberAndIsNotTestedAgain(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	first := h.mustCreate(desk(t))
	again := h.mustCreate(desk(t), func(r *release.CreateRequest) { r.Notes = "again" })
	if again.Number != 1 || !again.Existing || again.Notes != "first" || first.Existing {
		t.Errorf("the second time: %+v", again)
	}
	if h.gate.tests != 1 {
		t.Errorf("the audit split was looked at %d times for one release", h.gate.tests)
	}
	h.gate.suite = "changed"
	if r := h.mustCreate(desk(t)); r.Number != 1 || h.gate.tests != 2 {
		t.Errorf("after the suite changed: release %d, %d tests", r.Number, h.gate.tests)
	}
	v, err := h.svc.Verify(context.Background(), first)
	if err == nil && v.OK {
		t.Error("a record as it was before the newer test still verifies")
	}
	now, err := h.svc.Get(context.Background(), "", "1")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := h.svc.Verify(context.Background(), now); err != nil || !v.OK {
		t.Errorf("after two tests: %+v, %v", v, err)
	}
}

func TestAFailedGateRefusesUnlessForcedAndThatIsSeenEverywhere(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	h.gate.test = release.Test{Split: "audit", Scenarios: 60, Trials: 60, Passed: 20}
	_, err := h.create(desk(t))
	f := wantCode(t, err, "release.gate")
	if len(f.Fields) != 1 || f.Fields[0].Path != "pass" || !strings.Contains(f.Fields[0].Message, "lower bound >= 0.5") || f.Hint == "" {
		t.Errorf("the refusal does not say why: %+v", f)
	}
	if list, _ := h.svc.List(ctx, "", 0); len(list) != 0 {
		t.Fatal("a refused release exists")
	}
	r := h.mustCreate(desk(t), force)
	if !r.Forced || !r.Gate.Forced || r.Gate.OK {
		t.Errorf("forced: %+v", r.Gate)
	}
	v, err := h.svc.Verify(ctx, r)
	if err != nil || !v.OK || !v.Forced {
		t.Errorf("verification of a forced release: %+v, %v", v, err)
	}
	c, m, err := h.svc.Deploy(ctx, release.MoveRequest{Channel: "prod", Who: "ann"})
	if err != nil || !c.StableForced || m.Gate != "forced" {
		t.Errorf("channel: %+v, move: %+v, %v", c, m, err)
	}
	var text strings.Builder
	body, _ := json.Marshal(map[string]any{"releases": []*release.Release{r}})
	for _, o := range h.svc.Ops(agent.New(), nil) {
		if o.Meta().ID == "release.list" {
			if _, err := o.RenderResult(&text, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !strings.Contains(text.String(), "forced") {
		t.Errorf("the list does not say forced:\n%s", text.String())
	}
	h.gate.test = passing()
	if r := h.mustCreate(desk(t)); r.Forced || r.Number != 1 {
		t.Errorf("the gate passes now: %+v", r)
	}
}

func TestWithoutASuiteOnlyAForcedReleaseIsMade(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.gate.none = true
	_, err := h.create(desk(t))
	wantCode(t, err, "release.no_suite")
	if r := h.mustCreate(desk(t), force); !r.Forced || r.Test != nil {
		t.Errorf("%+v", r)
	}
}

func TestTheGateComparesWithWhatTheChannelServes(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	first := h.mustCreate(desk(t))
	if len(h.gate.compared) != 0 {
		t.Fatal("the first release was compared with nothing")
	}
	h.deploy("1")
	second := h.mustCreate(desk(t, warmer))
	if len(h.gate.compared) != 1 || h.gate.compared[0] != first.Identity {
		t.Fatalf("compared with %v", h.gate.compared)
	}
	if a := second.Against; a == nil || a.Base != first.Digest || a.BaseNumber != 1 || a.Channel != "prod" {
		t.Errorf("comparison: %+v", second.Against)
	}
}

func TestReleasesAreFoundByWhatPeopleWrite(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	one, two := h.mustCreate(desk(t)), h.mustCreate(desk(t, warmer))
	h.deploy("1")
	for ref, want := range map[string]blob.Digest{
		"1": one.Digest, "2": two.Digest, "latest": two.Digest, "": two.Digest, "desk:1": one.Digest,
		string(one.Digest): one.Digest, two.Digest.Short(): two.Digest, "desk@prod": one.Digest, "agent/desk@prod": one.Digest,
	} {
		if r, err := h.svc.Get(ctx, "", ref); err != nil || r.Digest != want {
			t.Errorf("%q: got %+v, %v", ref, r, err)
		}
	}
	for ref, code := range map[string]string{
		"3": "release.unknown", "abcdefabcdef": "release.unknown", "what?": "release.reference",
		"desk@test": "release.no_channel", "12345678901": "release.unknown",
	} {
		_, err := h.svc.Get(ctx, "", ref)
		wantCode(t, err, code)
	}
	h.mustCreate(desk(t, func(files op.Dir) {
		files["flywheel.yaml"] = []byte(strings.Replace(string(files["flywheel.yaml"]), "name: desk", "name: other", 1))
	}))
	_, err := h.svc.Get(ctx, "", "1")
	wantCode(t, err, "release.no_agent")
	if r, err := h.svc.Get(ctx, "other", "1"); err != nil || r.Agent != "other" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, found, err := h.svc.Find(ctx, one.Identity); err != nil || !found || r.Number != 1 {
		t.Errorf("by identity: %+v, %v", r, err)
	}
}

func TestDiffShowsWordsOfPrompts(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	a, b := h.mustCreate(desk(t)), h.mustCreate(desk(t, warmer))
	d, err := h.svc.Diff(context.Background(), a, b)
	if err != nil || len(d.Components) != 1 || d.From != 1 || d.To != 2 {
		t.Fatalf("%+v, %v", d, err)
	}
	added := ""
	for _, w := range d.Components[0].Words {
		if w.Op == "+" {
			added += w.Text
		}
	}
	if strings.TrimSpace(added) != "very" {
		t.Errorf("added words: %q in %+v", added, d.Components[0].Words)
	}
}

func TestTheKeyIsPrivateAndStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys", "release.pem")
	a, err := release.OpenKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	b, err := release.OpenKey(path)
	if err != nil || a.ID() != b.ID() {
		t.Errorf("opened again: %v", err)
	}
	pem, err := a.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	if public, err := release.ParsePublic(pem); err != nil || !public.Equal(a.Public()) {
		t.Errorf("the exported key is another one: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = release.OpenKey(path)
	wantCode(t, err, "release.key_open")
}
