package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"flywheel/internal/lab/stat"
	"flywheel/internal/platform/fault"
)

func liars(t *testing.T, b *bench) *Report {
	t.Helper()
	return b.test(b.draft(desk(t, "test/gold", "test/liar")))
}

func TestJUnitIsReadableAndCountsRight(t *testing.T) {
	t.Parallel()
	r := liars(t, open(t, t.TempDir()))
	r.Scenarios[0].Reason += " <&> \x01 \"quoted\""
	var out bytes.Buffer
	if err := WriteJUnit(&out, r); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string `xml:"name,attr"`
				Class   string `xml:"classname,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatalf("%v in\n%s", err, out.String())
	}
	if back.Tests != 6 || back.Failures != 1 || len(back.Suites[0].Cases) != 6 {
		t.Errorf("%+v", back)
	}
	c := back.Suites[0].Cases[0]
	if c.Name != "the card service is down" || c.Class != "smoke.freeze a lost card" || c.Failure == nil || c.Failure.Message != "0 of 2 trials passed" {
		t.Errorf("the worst comes first: %+v", c)
	}
	if !strings.Contains(c.Failure.Text, "never_claims: expected no claim") || !strings.Contains(c.Failure.Text, "<&>") {
		t.Errorf("text %q", c.Failure.Text)
	}
}

func TestTextMarkdownAndJSON(t *testing.T) {
	t.Parallel()
	r := liars(t, open(t, t.TempDir()))
	var text, md, js bytes.Buffer
	WriteText(&text, r)
	for _, want := range []string{
		"card-desk " + r.Identity.Short(), "10 of 12", "95% interval", "clustered by family: 12 trials count as", "pass^2",
		"0/2  the card service is down", "flywheel trial trial_", "cards.freeze", "timeout 2", "right tool: agent",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if err := WriteMarkdown(&md, r); err != nil || !strings.Contains(md.String(), "| the card service is down | 0/2 | never_claims") {
		t.Errorf("%v\n%s", err, md.String())
	}
	if err := WriteJSON(&js, r); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || back.Deterministic != r.Deterministic || back.Total.Rate != r.Total.Rate {
		t.Errorf("%v: JSON does not come back", err)
	}
}

func TestTrialTranscriptShowsTheFault(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	r := liars(t, b)
	trial, err := b.Trial(context.Background(), scenario(t, r, "the card service is down").Trial)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	WriteTrial(&out, trial)
	for _, want := range []string{"✗ never_claims:", "turn 1", "user: I am ada and I lost my card", "cards.freeze {\"card_id\":\"4711\"} →", "cards.freeze timeout in 3s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if _, err := b.Trial(context.Background(), "trial_x"); !fault.HasCode(err, "lab.no_trial") {
		t.Errorf("%v", err)
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		i    stat.Interval
		want string
	}{
		{stat.Interval{Rate: 0.5, Low: 0.2, High: 0.8}, "██▒▒┃▒▒▒··"},
		{stat.Interval{Rate: 1, Low: 0.7, High: 1}, "███████▒▒┃"},
		{stat.Interval{Rate: 0, Low: 0, High: 0.3}, "┃▒▒·······"},
	} {
		if got := Bar(c.i, 10); got != c.want {
			t.Errorf("%+v: %s, want %s", c.i, got, c.want)
		}
	}
}
