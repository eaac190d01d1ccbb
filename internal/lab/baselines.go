package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/lab/stat"
	"flywheel/spec"
)

// Baselines are what needs no model: how often the first tool that a scenario expects is guessed right.
type Baselines struct {
	Scenarios int     `json:"scenarios"` // with an expected first tool, or none
	Majority  float64 `json:"majority"`  // the tool that most scenarios expect, always
	Label     string  `json:"label"`     // that tool
	Nearest   float64 `json:"nearest"`   // nearest neighbour, TF-IDF
	Examples  int     `json:"examples"`  // that it knows
	TrainedOn string  `json:"trained_on"`
}

// labelOf is the first tool that a scenario expects; "" when it forbids all of them, and false when it
// does not say what it expects.
func labelOf(sc *spec.Scenario) (string, bool) {
	if len(sc.Expect.Calls) > 0 {
		return sc.Expect.Calls[0].Tool, true
	}
	return "", slices.Contains(sc.Expect.Never, "*")
}

// labelsOf are the tools that scenarios expect first.
func labelsOf(scenarios []*spec.Scenario) []string {
	set := map[string]bool{}
	for _, sc := range scenarios {
		if label, ok := labelOf(sc); ok && label != "" {
			set[label] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// decision is the label of the first call that is one; "" when the agent called none of them.
func decision(called, labels []string) string {
	for _, tool := range called {
		for _, label := range labels {
			if matchTool(label, tool) {
				return label
			}
		}
	}
	return ""
}

func labelledScenario(sc *spec.Scenario) (stat.Labelled, bool) {
	label, ok := labelOf(sc)
	return stat.Labelled{Text: strings.Join(sc.Says, "\n"), Label: label, Group: sc.Family}, ok
}

// baselines guess the first tool without a model. They learn from the package's examples and episodes;
// where it has none, from the other families of the dev split.
func baselines(sub *subject, su *suite, chosen []*spec.Scenario) *Baselines {
	train := packageExamples(sub)
	from := fmt.Sprintf("%d examples of the package", len(train))
	if len(train) == 0 {
		from = "other families of the dev split"
		for i := range su.spec.Scenarios {
			sc := &su.spec.Scenarios[i]
			if l, ok := labelledScenario(sc); ok && sideOf(su.spec.Split, sc.Family) == SplitDev {
				train = append(train, l)
			}
		}
	}
	b := Score(train, chosen)
	if b != nil {
		b.TrainedOn = from
	}
	return b
}

// Score is how well the baselines do on scenarios: the majority class of the scenarios themselves, and the
// nearest neighbour after learning from labelled examples, those of the scenario's own family (their
// Group) left out; nil when there is nothing to learn or to guess.
func Score(train []stat.Labelled, scenarios []*spec.Scenario) *Baselines {
	var test []stat.Labelled
	for _, sc := range scenarios {
		if l, ok := labelledScenario(sc); ok {
			test = append(test, l)
		}
	}
	if len(test) == 0 || len(train) == 0 {
		return nil
	}
	classes := slices.Clone(test)
	for i := range classes {
		classes[i].Group = "" // the best that one constant answer can do
	}
	majority := stat.NewMajority(classes)
	return &Baselines{
		Scenarios: len(test), Label: majority.Predict(stat.Labelled{}), Examples: len(train),
		Majority: stat.Accuracy(test, majority.Predict), Nearest: stat.Accuracy(test, stat.NewNearest(train).Predict),
	}
}

func packageExamples(sub *subject) []stat.Labelled {
	pkg := sub.resolved.Package
	files := map[string]bool{}
	for _, a := range pkg.Agents {
		files[a.Examples] = true
	}
	for _, m := range pkg.Memories {
		files[m.Data] = true
	}
	var out []stat.Labelled
	for _, f := range slices.Sorted(maps.Keys(files)) {
		for _, line := range bytes.Split(sub.resolved.Data[f], []byte("\n")) {
			var e spec.Example
			if len(bytes.TrimSpace(line)) == 0 || json.Unmarshal(line, &e) != nil || e.User == "" {
				continue
			}
			l := stat.Labelled{Text: e.User}
			if len(e.Calls) > 0 {
				l.Label = e.Calls[0].Tool
			}
			out = append(out, l)
		}
	}
	return out
}
