package lab

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure,omitempty"`
	Error   *junitMessage `xml:"error,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes a report as JUnit XML: a test case per scenario, which fails when a trial of it failed.
// Times are those of the scenario's median trial, virtual tool time included.
func WriteJUnit(w io.Writer, r *Report) error {
	suite := junitSuite{Name: r.Suite, Timestamp: r.StartedAt.UTC().Format("2006-01-02T15:04:05")}
	var total time.Duration
	for _, s := range r.Scenarios {
		c := junitCase{Name: printable(s.Name), Class: printable(r.Suite + "." + s.Family), Time: seconds(s.Latency)}
		total += s.Latency
		text := printable(s.Reason) + "\nflywheel trial " + s.Trial
		switch {
		case s.Trials == 0:
			suite.Errors++
			c.Error = &junitMessage{Message: "no trial could be judged", Text: text}
		case s.Passed < s.Trials:
			suite.Failures++
			c.Failure = &junitMessage{Message: fmt.Sprintf("%d of %d trials passed", s.Passed, s.Trials), Text: text}
		}
		suite.Cases = append(suite.Cases, c)
	}
	suite.Tests, suite.Time = len(suite.Cases), seconds(total)
	rate := r.Total.Rate
	suite.Properties = []junitProperty{
		{"identity", string(r.Identity)},
		{"suite", string(r.SuiteID)},
		{"split", r.Split},
		{"seed", fmt.Sprint(r.Seed)},
		{"models", strings.Join(r.Models, " ")},
		{"status", r.Status},
		{"experiment", r.Experiment},
		{"pass_rate", fmt.Sprintf("%.4f [%.4f, %.4f]", rate.Rate, rate.Low, rate.High)},
	}
	out := junitSuites{
		Name: r.Package, Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Time: suite.Time, Suites: []junitSuite{suite},
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// printable drops what XML cannot hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 {
			return r
		}
		return '\uFFFD'
	}, s)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// WriteJSON writes a report or comparison as indented JSON.
func WriteJSON(w io.Writer, report any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(report)
}

// WriteMarkdown writes the summary of a report for a pull request.
func WriteMarkdown(w io.Writer, r *Report) error {
	var b strings.Builder
	rate := r.Total.Rate
	fmt.Fprintf(&b, "### %s · suite %s · %s\n\n", cell(r.Package), cell(r.Suite), r.Split)
	if r.Status != StatusDone {
		fmt.Fprintf(&b, "> **Partial:** %s\n\n", cell(r.Why))
	}
	fmt.Fprintf(&b, "**%d of %d** trials of %d scenarios passed: **%.2f** [%.2f, %.2f] at 95 %%, pass^%d %.2f\n\n",
		r.Total.Passed, r.Total.Trials, r.Total.Scenarios, rate.Rate, rate.Low, rate.High, r.Total.K, r.Total.PassAll)
	if bl := r.Baselines; bl != nil {
		fmt.Fprintf(&b, "Right tool: agent %.2f · nearest neighbour %.2f · majority %.2f\n\n", r.Total.Action, bl.Nearest, bl.Majority)
	}
	if failed := failedScenarios(r); len(failed) > 0 {
		b.WriteString("| scenario | passed | why |\n|---|---|---|\n")
		for i, s := range failed {
			if i == 20 {
				fmt.Fprintf(&b, "| … %d more | | |\n", len(failed)-i)
				break
			}
			fmt.Fprintf(&b, "| %s | %d/%d | %s |\n", cell(s.Name), s.Passed, s.Trials, cell(s.Reason))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "<sub>models %s · seed %d · package `%s` · suite `%s` · deterministic part `%s`</sub>\n",
		cell(strings.Join(r.Models, ", ")), r.Seed, r.Identity.Short(), r.SuiteID.Short(), r.Deterministic.Short())
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is text that a table cell can hold.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", "", "<", "&lt;").Replace(s)
}

func failedScenarios(r *Report) []ScenarioTally {
	var out []ScenarioTally
	for _, s := range r.Scenarios {
		if s.Passed < s.Trials || s.Trials == 0 {
			out = append(out, s)
		}
	}
	return out
}
