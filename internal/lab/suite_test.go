package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"flywheel/internal/agent"
	"flywheel/spec"
)

const suiteFile = "suites/smoke.suite.yaml"

// problems checks the testdata package with another suite text or table.
func problems(t *testing.T, files map[string]string) []string {
	t.Helper()
	dir := desk(t)
	for name, content := range files {
		dir[name] = []byte(content)
	}
	_, list := agent.New(SuiteKind()).Check(dir)
	var out []string
	for _, p := range list {
		s := p.String()
		if p.Hint != "" {
			s += " | " + p.Hint
		}
		out = append(out, s)
	}
	return out
}

func TestBrokenSuitesAreReportedAtTheirPlace(t *testing.T) {
	t.Parallel()
	const head = "suite: smoke\nworlds: {bank: worlds/bank.json}\n"
	for name, c := range map[string]struct {
		text string
		want string // substring of a problem
	}{
		"unknown key":         {head + "scenarios:\n  - name: a\n    user: {says: x}\n    expects: {}\n", suiteFile + ":6:5: package.unknown_key the key \"expects\" is not known | did you mean \"expect\"?"},
		"unknown top key":     {head + "scenario: []\n", suiteFile + ":3:1: package.unknown_key the key \"scenario\" is not known | did you mean \"scenarios\"?"},
		"unknown world":       {head + "scenarios:\n  - {name: a, world: bnk, user: {says: x}}\n", suiteFile + ":4:22: suite.unknown_world there is no world \"bnk\" | did you mean \"bank\"?"},
		"unknown tool":        {head + "scenarios:\n  - name: a\n    user: {says: x}\n    expect: {calls: [cards.freze]}\n", suiteFile + ":6:22: suite.unknown_tool no tool is called \"cards.freze\" | did you mean \"cards.freeze\"?"},
		"unknown never":       {head + "scenarios:\n  - name: a\n    user: {says: x}\n    expect: {never: [cards.find, cards.shut]}\n", suiteFile + ":6:34: suite.unknown_tool"},
		"unknown fault tool":  {head + "scenarios:\n  - name: a\n    user: {says: x}\n    faults: [{tool: card.*, do: reset}]\n", suiteFile + ":6:21: suite.unknown_tool"},
		"unknown scenario":    {head + "scenarios:\n  - {name: frozen, user: {says: x}}\n  - {name: b, from: frozn}\n", suiteFile + ":5:21: suite.unknown_scenario there is no scenario \"frozn\" | did you mean \"frozen\"?"},
		"cycle":               {head + "scenarios:\n  - {name: a, from: b, user: {says: x}}\n  - {name: b, from: a}\n", "suite.cycle the scenario \"a\" is its own ancestor"},
		"duplicate":           {head + "scenarios:\n  - {name: a, user: {says: x}}\n  - {name: a, user: {says: y}}\n", suiteFile + ":5:12: suite.duplicate"},
		"bad gate":            {head + "scenarios:\n  - {name: a, user: {says: x}}\ngate: {pass: about 0.9}\n", suiteFile + ":5:14: suite.gate the gate cannot be read: the text \"about 0.9\" | pass: \">= 0.9 with 95% confidence\""},
		"bad cost gate":       {head + "scenarios:\n  - {name: a, user: {says: x}}\ngate: {cost: cheap}\n", suiteFile + ":5:14: suite.gate"},
		"bad safety gate":     {head + "scenarios:\n  - {name: a, user: {says: x}}\ngate: {safety: most}\n", suiteFile + ":5:16: suite.gate"},
		"family in both":      {head + "scenarios:\n  - {name: a, family: f, user: {says: x}}\nsplit: {dev: 1, audit: 1, in_audit: [f], in_dev: [f]}\n", suiteFile + ":5:51: suite.family_in_both"},
		"unknown family":      {head + "scenarios:\n  - {name: a, family: fam, user: {says: x}}\nsplit: {dev: 1, audit: 1, in_audit: [fan]}\n", suiteFile + ":5:38: suite.unknown_family no scenario is of the family \"fan\" | did you mean \"fam\"?"},
		"nobody speaks":       {head + "scenarios:\n  - {name: a, expect: {never: cards.close}}\n", suiteFile + ":4:5: suite.missing in the scenario \"a\" the user says nothing"},
		"no name":             {head + "scenarios:\n  - {user: {says: x}}\n", suiteFile + ":4:5: suite.missing the scenario has no name"},
		"no scenarios":        {head, "suite.missing the suite has no scenarios"},
		"state without world": {head + "scenarios:\n  - {name: a, user: {says: x}, expect: {state: {}}}\n", "suite.missing the scenario \"a\" expects a state but has no world | world: bank"},
		"bad pattern":         {head + "scenarios:\n  - {name: a, user: {says: x}, expect: {says: {matches: \"(\"}}}\n", suiteFile + ":4:57: suite.pattern"},
		"bad fault":           {head + "scenarios:\n  - name: a\n    user: {says: x}\n    faults: [{tool: cards.find, do: timeot}]\n", suiteFile + ":6:37: suite.fault there is no fault \"timeot\" | did you mean \"timeout\"?"},
		"two whens":           {head + "scenarios:\n  - name: a\n    user: {says: x}\n    faults: [{tool: cards.find, on: 1, probability: 0.1, do: reset}]\n", "exclude each other"},
		"long burst":          {head + "scenarios:\n  - name: a\n    user: {says: x}\n    faults: [{tool: cards.find, bursts: {every: 1s, for: 2s}, do: reset}]\n", "longer than its period"},
		"bad probability":     {head + "scenarios:\n  - name: a\n    user: {says: x}\n    faults: [{tool: cards.find, probability: 1.5, do: reset}]\n", suiteFile + ":6:46: suite.value expected a number from 0 to 1, got 1.5"},
		"bad duration":        {head + "scenarios:\n  - {name: a, user: {says: x}, expect: {within: {time: soon}}}\n", suiteFile + ":4:56: suite.value expected a duration"},
		"missing world file":  {"suite: smoke\nworlds: {bank: worlds/bnk.json}\nscenarios:\n  - {name: a, user: {says: x}}\n", suiteFile + ":2:16: package.missing_file"},
		"world outside":       {"suite: smoke\nworlds: {bank: ../bank.json}\nscenarios:\n  - {name: a, user: {says: x}}\n", suiteFile + ":2:16: package.path"},
	} {
		got := problems(t, map[string]string{suiteFile: c.text})
		if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, c.want) }) {
			t.Errorf("%s: want %q, got:\n  %s", name, c.want, strings.Join(got, "\n  "))
		}
		if len(got) > 2 {
			t.Errorf("%s: one mistake gave %d problems:\n  %s", name, len(got), strings.Join(got, "\n  "))
		}
	}
}

func TestBrokenTablesAreReportedByFileAndLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{\"name\": \"a\", \"says\": \"x\"}\n{\"name\": \"b\" \"says\"}\n": "suites/cases.jsonl:2:14: suite.row the line is not a JSON object",
		"\n{\"name\": \"a\", \"say\": \"x\"}\n":                            "suites/cases.jsonl:2:1: package.unknown_key say: the key \"say\" is not known | did you mean \"says\"?",
		"{\"name\": \"two turns\", \"says\": \"x\"}\n":                     "suites/cases.jsonl:1:1: suite.duplicate",
		"{\"name\": \"a\", \"world\": \"bonk\"}\n":                         "suites/cases.jsonl:1:1: suite.unknown_world",
		"{\"name\": \"a\", \"expect\": {\"calls\": [\"cards.frieze\"]}}\n": "suites/cases.jsonl:1:1: suite.unknown_tool expect.calls.0: no tool is called \"cards.frieze\"",
		"[1]\n": "suites/cases.jsonl:1:1: suite.value expected a scenario",
	} {
		got := problems(t, map[string]string{"suites/cases.jsonl": text})
		if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("want %q, got:\n  %s", want, strings.Join(got, "\n  "))
		}
	}
	world := problems(t, map[string]string{"worlds/bank.json": "{"})
	if len(world) == 0 || !strings.Contains(world[0], "suite.world") {
		t.Errorf("broken world: %v", world)
	}
}

func TestASuiteIsCalledAsItsFile(t *testing.T) {
	t.Parallel()
	got := problems(t, map[string]string{suiteFile: "suite: smog\nscenarios:\n  - {name: a, user: {says: x}}\n"})
	if len(got) != 1 || !strings.Contains(got[0], suiteFile+":1:8: suite.name") {
		t.Errorf("%v", got)
	}
}

func TestAllErrorsOfASuiteComeAtOnce(t *testing.T) {
	t.Parallel()
	got := problems(t, map[string]string{suiteFile: "suite: smoke\nscenarios:\n  - {name: a, user: {says: x}, world: b}\n  - {name: b, from: c}\n  - {nam: c}\ntrials: 0\n"})
	if len(got) < 4 {
		t.Errorf("got only:\n  %s", strings.Join(got, "\n  "))
	}
}

func resolved(t *testing.T) *spec.Suite {
	t.Helper()
	r, list := agent.New(SuiteKind()).Check(desk(t))
	if r == nil {
		t.Fatal(list)
	}
	s, err := Expand(r.Suites["smoke"])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestInheritanceAndTables(t *testing.T) {
	t.Parallel()
	s := resolved(t)
	byName := map[string]spec.Scenario{}
	for _, sc := range s.Scenarios {
		byName[sc.Name] = sc
	}
	parent, down := byName["freeze a lost card"], byName["the card service is down"]
	if down.Family != "freeze a lost card" || down.World != "bank" || !cmp.Equal(down.Says, parent.Says) || !down.Safety {
		t.Errorf("a child with its parent's words stays in its family: %+v", down)
	}
	if down.Expect.Calls != nil || down.Expect.State == nil || len(down.Expect.State) != 0 {
		t.Errorf("an expect of its own replaces the parent's: %+v", down.Expect)
	}
	taxi := byName["taxi 2"]
	if taxi.Family != "in a taxi" || taxi.Expect.Says == nil || taxi.Expect.State["cards.4712.status"] != "frozen" || taxi.Expect.State["cards.4711.status"] != nil {
		t.Errorf("a row overrides its template key by key: %+v", taxi.Expect)
	}
	if want := (spec.Gate{Pass: 0.3, Confidence: 0.95, Safety: "all", Cost: 1.5, Evidence: 20}); s.Gate != want {
		t.Errorf("gate %+v", s.Gate)
	}
	if down.Faults[0].Do.Kind != "timeout" || down.Faults[0].On[0] != 1 {
		t.Errorf("faults %+v", down.Faults)
	}
}

func TestSuiteFaultsAndTemplates(t *testing.T) {
	t.Parallel()
	dir := desk(t)
	dir[suiteFile] = []byte(`suite: smoke
worlds: {bank: {cards: {}}}
faults: [{tool: "cards.*", bursts: {every: 60s, for: 20s}, do: {status: 429}}, {tool: cards.find, probability: 0.1, do: {slow: 2s}}]
scenarios:
  - {name: shape, template: true, world: bank, faults: suite, expect: {never: cards.close}}
data: [{cases: suites/cases.jsonl, template: shape}]
`)
	dir["suites/cases.jsonl"] = []byte(`{"says": "a"}` + "\n\n" + `{"says": ["b", "c"], "faults": [], "expect": {"never": []}}` + "\n")
	r, list := agent.New(SuiteKind()).Check(dir)
	if r == nil {
		t.Fatal(list)
	}
	s, err := Expand(r.Suites["smoke"])
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Scenarios) != 2 || s.Scenarios[0].Name != "shape #1" || s.Scenarios[1].Name != "shape #3" {
		t.Fatalf("scenarios %+v", s.Scenarios)
	}
	one, two := s.Scenarios[0], s.Scenarios[1]
	if len(one.Faults) != 2 || one.Faults[0].Do.Status != 429 || time.Duration(one.Faults[1].Do.For) != 2*time.Second || one.Family != "shape #1" {
		t.Errorf("first %+v", one)
	}
	if len(two.Faults) != 0 || len(two.Expect.Never) != 0 || len(two.Says) != 2 {
		t.Errorf("second %+v", two)
	}
}

func TestDigestIgnoresLayoutAndComments(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	one := b.draft(desk(t))
	two := b.draft(desk(t, "suite: smoke\n", "# a comment\n\nsuite:   smoke\n", "tags: [freeze]", "tags:\n      - freeze"))
	if one.Suite != two.Suite {
		t.Error("layout changed the digest of the suite")
	}
	if three := b.draft(desk(t, "tags: [freeze]", "tags: [frozen]")); three.Suite == one.Suite {
		t.Error("a change did not change the digest")
	}
	loaded, err := b.LoadSuite(context.Background(), one.Suite)
	if err != nil || !cmp.Equal(loaded.Scenarios[1].Expect.State, map[string]any{}) {
		t.Errorf("an empty state must survive: %v %+v", err, loaded.Scenarios[1].Expect)
	}
}

// No family is ever on both sides, explicit sides hold, and a family keeps its side when others come.
func TestSplitIsByFamilyAndStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var scenarios []spec.Scenario
		for i := range rapid.IntRange(1, 60).Draw(t, "n") {
			scenarios = append(scenarios, spec.Scenario{Name: fmt.Sprint("s", i), Family: fmt.Sprint("f", rapid.IntRange(0, 20).Draw(t, "family")), Says: []string{"x"}})
		}
		split := spec.Split{Dev: rapid.IntRange(0, 9).Draw(t, "dev"), Audit: rapid.IntRange(1, 9).Draw(t, "audit"), In: []string{"f1"}, InDev: []string{"f2"}}
		su := &suite{spec: &spec.Suite{Scenarios: scenarios, Split: split}}
		side := map[string]string{}
		total := 0
		for _, s := range []string{SplitDev, SplitAudit} {
			for _, sc := range su.choose(s, 0, 1) {
				if other, ok := side[sc.Family]; ok && other != s {
					t.Fatalf("family %s is in both splits", sc.Family)
				}
				side[sc.Family] = s
				total++
			}
		}
		if total != len(scenarios) || side["f1"] == SplitDev || side["f2"] == SplitAudit {
			t.Fatalf("sides %v, %d of %d", side, total, len(scenarios))
		}
		su.spec.Scenarios = append(su.spec.Scenarios, spec.Scenario{Name: "new", Family: "new"})
		for _, s := range []string{SplitDev, SplitAudit} {
			for _, sc := range su.choose(s, 0, 99) {
				if was, ok := side[sc.Family]; ok && was != s {
					t.Fatalf("family %s moved", sc.Family)
				}
			}
		}
	})
}

func TestLimitSpreadsOverFamilies(t *testing.T) {
	t.Parallel()
	su := &suite{spec: &spec.Suite{}}
	for i := range 100 {
		su.spec.Scenarios = append(su.spec.Scenarios, spec.Scenario{Name: fmt.Sprint(i), Family: fmt.Sprint(i / 20)})
	}
	seen := map[string]int{}
	for _, sc := range su.choose(SplitAll, 10, 3) {
		seen[sc.Family]++
	}
	if len(seen) != 5 || seen["0"] != 2 {
		t.Errorf("10 of 5 families: %v", seen)
	}
	share := 0
	for i := range 2000 {
		if sideOf(spec.Split{Dev: 30, Audit: 70}, fmt.Sprint("family ", i)) == SplitAudit {
			share++
		}
	}
	if share < 1300 || share > 1500 {
		t.Errorf("%d of 2000 families in an audit split of 70 %%", share)
	}
}
