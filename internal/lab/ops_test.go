package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

func TestTestOperation(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	ctx := op.WithActor(context.Background(), "ada")
	var events []Progress
	out, err := b.testOp(ctx, &testIn{Files: desk(t), Suite: "smoke", Trials: 1, JUnit: "out/report.xml", Markdown: "summary.md"},
		func(p Progress) { events = append(events, p) })
	if err != nil {
		t.Fatal(err)
	}
	if out.Failure() != nil || len(events) == 0 || events[len(events)-1].Done != out.Report.Total.Trials {
		t.Errorf("failure %v, events %+v", out.Failure(), events)
	}
	if !bytes.Contains(out.Files["out/report.xml"], []byte("<testsuites")) || !bytes.Contains(out.Files["summary.md"], []byte("### card-desk")) {
		t.Errorf("files %v", out.Files)
	}
	if out.Report.Split != SplitDev || out.Report.Total.Scenarios != 5 {
		t.Errorf("%s, %d scenarios", out.Report.Split, out.Report.Total.Scenarios)
	}
	list, err := b.List(ctx, ListFilter{})
	if err != nil || len(list) != 1 || list[0].Requester != "ada" || list[0].Status != StatusDone || list[0].Done != 5 {
		t.Errorf("%+v %v", list[0], err)
	}
	out, err = b.testOp(ctx, &testIn{Files: desk(t, "test/gold", "test/rude"), AtLeast: 0.9}, func(Progress) {})
	if err != nil || !fault.HasCode(out.Failure(), "lab.below") {
		t.Errorf("%v, failure %v", err, out.Failure())
	}
}

func TestTestOperationSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	none := desk(t)
	delete(none, suiteFile)
	for code, in := range map[string]*testIn{
		"lab.nothing":      {},
		"lab.no_suite":     {Files: desk(t), Suite: "smok"},
		"lab.split":        {Files: desk(t), Split: "train"},
		"lab.file":         {Files: desk(t), JUnit: "../x.xml"},
		"package.invalid":  {Files: desk(t, "suite: smoke", "suit: smoke")},
		"lab.no_releases":  {Release: "card-desk@prod"},
		"lab.audit_denied": {Files: desk(t), Split: "all"},
	} {
		_, err := b.testOp(context.Background(), in, func(Progress) {})
		if f := fault.From(err); f == nil || f.Code != code {
			t.Errorf("want %s, got %v", code, err)
		}
	}
	if _, err := b.testOp(context.Background(), &testIn{Files: none}, func(Progress) {}); !fault.HasCode(err, "lab.no_suite") {
		t.Errorf("%v", err)
	}
}

func TestAReleaseIsTestedOnItsOwnSuite(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	req := b.draft(desk(t))
	b.deps.Release = func(_ context.Context, ref string) (Released, error) {
		return Released{Name: "card-desk release 1", Identity: req.Identity, Suite: req.Suite}, nil
	}
	out, err := b.testOp(context.Background(), &testIn{Release: "card-desk@prod"}, func(Progress) {})
	if err != nil || out.Report.Release != "card-desk release 1" || out.Report.Identity != req.Identity {
		t.Errorf("%v %+v", err, out)
	}
}

func TestOperationsRenderTheirResults(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	r := b.test(b.draft(desk(t)))
	byID := map[string]op.Op{}
	for _, o := range b.Ops() {
		byID[o.Meta().ID] = o
	}
	render := func(id string, v any) string {
		t.Helper()
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if ok, err := byID[id].RenderResult(&out, raw); !ok || err != nil {
			t.Fatalf("%s: %v %v", id, ok, err)
		}
		return out.String()
	}
	list, err := b.List(context.Background(), ListFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if text := render("experiment.list", listOut{list}); !strings.Contains(text, r.Experiment) || !strings.Contains(text, "12/12") {
		t.Errorf("list:\n%s", text)
	}
	shown, err := b.showOp(context.Background(), &showIn{r.Experiment})
	if err != nil {
		t.Fatal(err)
	}
	if text := render("experiment.show", shown); !strings.Contains(text, "12 of 12") {
		t.Errorf("show:\n%s", text)
	}
	looks, err := b.Looks(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if text := render("audit_look.list", looksOut{looks}); !strings.Contains(text, "gate") {
		t.Errorf("looks:\n%s", text)
	}
	var out bytes.Buffer
	raw, _ := json.Marshal(Progress{Done: 3, Total: 9, Passed: 2, Failed: 1, Left: 1.5e9})
	if ok, err := byID["test.run"].RenderEvent(&out, raw); !ok || err != nil || out.String() != "3/9 trials · 2 passed, 1 failed · 1.5s left\n" {
		t.Errorf("%v %q", err, out.String())
	}
	if _, err := b.showOp(context.Background(), &showIn{"exp_x"}); !fault.HasCode(err, "lab.no_experiment") {
		t.Errorf("%v", err)
	}
}
