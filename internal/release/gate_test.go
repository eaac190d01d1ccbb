package release_test

import (
	"testing"

	"pgregory.net/rapid"

	"flywheel/internal/release"
	"flywheel/spec"
)

func TestGateLines(t *testing.T) {
	t.Parallel()
	test := func(passed int, change ...func(*release.Test)) *release.Test {
		out := &release.Test{Split: "audit", Scenarios: 100, Trials: 100, Passed: passed}
		for _, c := range change {
			c(out)
		}
		return out
	}
	better := release.Against{Scenarios: 100, Better: 12, Worse: 1, Evidence: 100, Contrary: 0.01, BaseCost: 100, Cost: 120, BaseNumber: 1, Channel: "prod"}
	against := func(change func(*release.Against)) *release.Against {
		a := better
		change(&a)
		return &a
	}
	full := spec.Gate{Pass: 0.3, Confidence: 0.95, Safety: "all", Cost: 1.5, Evidence: 20}
	for name, c := range map[string]struct {
		gate    spec.Gate
		test    *release.Test
		against *release.Against
		failing string // rule; "" means that the gate passes
	}{
		"passes without a release before":          {full, test(50), nil, ""},
		"passes":                                   {full, test(50), &better, ""},
		"no gate":                                  {spec.Gate{}, test(100), nil, "gate"},
		"no test":                                  {full, nil, nil, "test"},
		"the bound, not the rate, must reach it":   {spec.Gate{Pass: 0.5}, test(55), nil, "pass"},
		"the bound reaches it":                     {spec.Gate{Pass: 0.5}, test(60), nil, ""},
		"less confidence, tighter bound":           {spec.Gate{Pass: 0.5, Confidence: 0.6}, test(55), nil, ""},
		"more trials of one scenario are no surer": {spec.Gate{Pass: 0.5}, test(550, func(t *release.Test) { t.Trials = 1000 }), nil, "pass"},
		"scenarios of one family are no surer":     {spec.Gate{Pass: 0.5}, test(60, func(t *release.Test) { t.Effective = 30 }), nil, "pass"},
		"independent trials of few scenarios":      {spec.Gate{Pass: 0.5}, test(550, func(t *release.Test) { t.Trials, t.Effective = 1000, 900 }), nil, "pass"},
		"nothing was tried":                        {full, test(0, func(t *release.Test) { t.Trials, t.Scenarios = 0, 0 }), nil, "complete"},
		"a trial could not be run":                 {full, test(90, func(t *release.Test) { t.Errors = 1 }), nil, "complete"},
		"stopped early":                            {full, test(90, func(t *release.Test) { t.Partial = true }), nil, "complete"},
		"comparison incomplete":                    {full, test(90), against(func(a *release.Against) { a.Partial = true }), "complete"},
		"unsafe":                                   {full, test(90, func(t *release.Test) { t.SafetyFailed = 1 }), nil, "safety"},
		"newly unsafe":                             {full, test(90), against(func(a *release.Against) { a.NewUnsafe = 1 }), "safety"},
		"unsafe where nobody asks":                 {spec.Gate{Pass: 0.3}, test(90, func(t *release.Test) { t.SafetyFailed = 1 }), nil, ""},
		"too dear":                                 {full, test(90), against(func(a *release.Against) { a.Cost = 151 }), "cost"},
		"as dear as allowed":                       {full, test(90), against(func(a *release.Against) { a.Cost = 150 }), ""},
		"money where there was none":               {full, test(90), against(func(a *release.Against) { a.BaseCost = 0 }), "cost"},
		"local models: processor time":             {full, test(90), against(func(a *release.Against) { a.BaseCost, a.Cost, a.BaseTime, a.Time = 0, 0, 10, 16 }), "cost"},
		"local models: within":                     {full, test(90), against(func(a *release.Against) { a.BaseCost, a.Cost, a.BaseTime, a.Time = 0, 0, 10, 14 }), ""},
		"scripted models cost nothing":             {full, test(90), against(func(a *release.Against) { a.BaseCost, a.Cost = 0, 0 }), ""},
		"not proven better":                        {full, test(90), against(func(a *release.Against) { a.Evidence = 19.9 }), "evidence"},
		"equal, where no evidence is asked":        {spec.Gate{Pass: 0.3}, test(90), against(func(a *release.Against) { a.Evidence = 1 }), ""},
		"proven worse":                             {spec.Gate{Pass: 0.3}, test(90), against(func(a *release.Against) { a.Evidence, a.Contrary = 0, 20 }), "not worse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := release.Judge(c.gate, c.test, c.against)
			if v.OK != (c.failing == "") {
				t.Errorf("ok is %v: %+v", v.OK, v.Lines)
			}
			for _, l := range v.Lines {
				if l.Got == "" || l.Want == "" {
					t.Errorf("line %q says nothing: %+v", l.Rule, l)
				}
				if !l.OK && l.Rule != c.failing && c.failing != "complete" {
					t.Errorf("%s fails, want %q: %+v", l.Rule, c.failing, l)
				}
			}
		})
	}
}

// More passes, less cost and more evidence never turn a pass into a refusal.
func TestAGateIsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g := spec.Gate{Pass: rapid.Float64Range(0.01, 1).Draw(t, "pass"), Cost: rapid.Float64Range(0.5, 3).Draw(t, "cost"), Evidence: rapid.Float64Range(1, 100).Draw(t, "evidence")}
		n := rapid.IntRange(1, 300).Draw(t, "n")
		passed := rapid.IntRange(0, n).Draw(t, "passed")
		a := release.Against{BaseCost: 100, Cost: rapid.Int64Range(1, 300).Draw(t, "spent"), Evidence: rapid.Float64Range(0, 100).Draw(t, "e"), Contrary: rapid.Float64Range(0, 40).Draw(t, "c")}
		test := release.Test{Scenarios: n, Trials: n, Passed: passed}
		if !release.Judge(g, &test, &a).OK {
			return
		}
		test.Passed = rapid.IntRange(passed, n).Draw(t, "more")
		a.Cost = rapid.Int64Range(0, a.Cost).Draw(t, "less")
		a.Evidence++
		a.Contrary /= 2
		if v := release.Judge(g, &test, &a); !v.OK {
			t.Fatalf("%+v", v)
		}
	})
}
