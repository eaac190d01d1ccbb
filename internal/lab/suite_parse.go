package lab

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"flywheel/internal/tool/world"
	"flywheel/spec"
)

// maxScenarios bounds what tables may expand to.
const maxScenarios = 100_000

// parser turns the value of a suite file into a suite.
type parser struct {
	suite  spec.Suite
	tools  []string // of the package; nil: not compared
	drafts []*draft
	byName map[string]*draft
	data   []table
}

// table is one entry of `data`.
type table struct {
	at       cursor
	file     string
	template string
}

// parseSuite reports everything that is wrong to o; the result is complete only when nothing was.
func parseSuite(o origin, value any, tools []string) *spec.Suite {
	p := &parser{tools: tools, byName: map[string]*draft{}}
	root := cursor{o: o, value: value}
	var scenarios, gate cursor
	ok := root.fields(each{
		"suite":     func(c cursor) { c.text(&p.suite.Name) },
		"worlds":    p.worlds,
		"scenarios": func(c cursor) { scenarios = c },
		"faults":    func(c cursor) { p.suite.Faults = p.faults(c) },
		"data":      p.tables,
		"split":     p.split,
		"trials":    func(c cursor) { c.count(&p.suite.Trials, 1, 1000) },
		"claims":    p.claims,
		"gate":      func(c cursor) { gate = c },
	})
	if !ok {
		return &p.suite
	}
	if p.suite.Name == "" {
		root.failHint("suite: smoke", "suite.missing", "the suite has no name")
	}
	if scenarios.o != nil {
		scenarios.items(p.draft)
	}
	p.inherit()
	p.rows()
	p.finish(root)
	if gate.o != nil {
		p.gate(gate)
	}
	return &p.suite
}

func (p *parser) worlds(c cursor) {
	p.suite.Worlds = map[string]json.RawMessage{}
	c.entries(func(name string, v cursor) {
		var raw []byte
		switch x := v.value.(type) {
		case string:
			b, ok := v.o.Read(v.path, x)
			if !ok {
				p.suite.Worlds[name] = json.RawMessage("{}")
				return
			}
			raw = b
		case map[string]any:
			raw, _ = json.Marshal(x)
		default:
			v.failHint("worlds: {bank: worlds/bank.json}", "suite.value", "a world is a JSON file or a mapping, got %s", kindOf(v.value))
			return
		}
		base, err := world.Parse(raw)
		if err != nil {
			v.o.Errorf(v.path, "suite.world", "the world %s cannot be read: %v", name, err)
			p.suite.Worlds[name] = json.RawMessage("{}")
			return
		}
		canonical, err := base.Fork().MarshalJSON()
		if err != nil {
			v.o.Errorf(v.path, "suite.world", "the world %s cannot be written: %v", name, err)
			return
		}
		p.suite.Worlds[name] = canonical
	})
}

func (p *parser) claims(c cursor) {
	p.suite.Claims = map[string][]string{}
	c.entries(func(tool string, v cursor) {
		p.knownTool(cursor{c.o, v.path, tool}, tool)
		var texts []string
		v.texts(&texts)
		p.suite.Claims[tool] = texts
	})
}

func (p *parser) tables(c cursor) {
	one := func(c cursor) {
		t := table{at: c}
		c.fields(each{
			"cases":    func(c cursor) { c.text(&t.file) },
			"template": func(c cursor) { c.text(&t.template) },
		})
		if t.file == "" {
			c.failHint("data: {cases: suites/cases.jsonl, template: a scenario}", "suite.missing", "the table has no cases")
			return
		}
		p.data = append(p.data, t)
	}
	if _, list := c.value.([]any); list {
		c.items(one)
		return
	}
	one(c)
}

func (p *parser) split(c cursor) {
	s := &p.suite.Split
	c.fields(each{
		"by": func(c cursor) {
			c.text(&s.By)
			if s.By != "" && s.By != "family" {
				c.failHint("by: family", "suite.value", "scenarios are divided by family, not by %q", s.By)
			}
		},
		"dev":      func(c cursor) { c.count(&s.Dev, 0, 1_000_000) },
		"audit":    func(c cursor) { c.count(&s.Audit, 0, 1_000_000) },
		"in_audit": func(c cursor) { c.texts(&s.In) },
		"in_dev":   func(c cursor) { c.texts(&s.InDev) },
	})
}

// knownTool checks a tool name or pattern against the package.
func (p *parser) knownTool(c cursor, pattern string) {
	if p.tools == nil || pattern == "" {
		return
	}
	if !slices.ContainsFunc(p.tools, func(t string) bool { return matchTool(pattern, t) }) {
		c.o.Errorf(c.path, "suite.unknown_tool", "no tool is called %q", pattern).Hint = meant(pattern, p.tools)
	}
}

var (
	passText = regexp.MustCompile(`^\s*>=\s*([0-9.]+)(?:\s+with\s+([0-9.]+)\s*%\s+confidence)?\s*$`)
	costText = regexp.MustCompile(`^\s*<=\s*([0-9.]+)\s*x(?:\s+of\s+\S+)?\s*$`)
)

func (p *parser) gate(c cursor) {
	g := &p.suite.Gate
	c.fields(each{
		"pass": func(c cursor) {
			m, text := passText.FindStringSubmatch(fmt.Sprint(c.value)), `pass: ">= 0.9 with 95% confidence"`
			if m == nil {
				c.failHint(text, "suite.gate", "the gate cannot be read: %s", kindOf(c.value))
				return
			}
			pass, err := strconv.ParseFloat(m[1], 64)
			if err != nil || pass < 0 || pass > 1 {
				c.failHint(text, "suite.gate", "a pass rate is from 0 to 1, got %s", m[1])
				return
			}
			g.Pass, g.Confidence = pass, 0.95
			if m[2] != "" {
				confidence, err := strconv.ParseFloat(m[2], 64)
				if err != nil || confidence < 50 || confidence >= 100 {
					c.failHint(text, "suite.gate", "a confidence is from 50%% to below 100%%, got %s%%", m[2])
					return
				}
				g.Confidence = confidence / 100
			}
		},
		"safety": func(c cursor) {
			c.text(&g.Safety)
			if g.Safety != "" && g.Safety != "all" {
				c.failHint("safety: all", "suite.gate", "the only rule for safety is all, got %q", g.Safety)
			}
		},
		"cost": func(c cursor) {
			m := costText.FindStringSubmatch(fmt.Sprint(c.value))
			if m == nil {
				c.failHint(`cost: "<= 1.1x of prod"`, "suite.gate", "the gate cannot be read: %s", kindOf(c.value))
				return
			}
			g.Cost, _ = strconv.ParseFloat(m[1], 64)
		},
		"evidence": func(c cursor) { c.number(&g.Evidence, 1, 1e9) },
	})
}

// finish checks what only the whole suite can tell.
func (p *parser) finish(root cursor) {
	if len(p.suite.Scenarios) == 0 {
		root.failHint("scenarios: [{name: …, user: {says: …}, expect: {…}}]", "suite.missing", "the suite has no scenarios")
	}
	families := map[string]bool{}
	for _, s := range p.suite.Scenarios {
		families[s.Family] = true
	}
	known := slices.Sorted(maps.Keys(families))
	s := p.suite.Split
	in := map[string]bool{}
	check := func(key string, list []string) {
		for i, f := range list {
			path := []string{"split", key, strconv.Itoa(i)}
			if !families[f] {
				root.o.Errorf(path, "suite.unknown_family", "no scenario is of the family %q", f).Hint = meant(f, known)
			}
			if key == "in_dev" && in[f] {
				root.o.Errorf(path, "suite.family_in_both", "the family %q is in both splits", f).Hint = "keep it in one of in_dev and in_audit"
			}
			in[f] = true
		}
	}
	check("in_audit", s.In)
	check("in_dev", s.InDev)
	p.checkSides(root)
}

func (p *parser) checkSides(root cursor) {
	s := p.suite.Split
	if s.Audit == 0 && len(s.In) == 0 || len(p.suite.Scenarios) == 0 {
		return
	}
	count := map[string]int{}
	for _, sc := range p.suite.Scenarios {
		count[sideOf(s, sc.Family)]++
	}
	for _, side := range []string{SplitDev, SplitAudit} {
		if count[side] == 0 && (side == SplitAudit || s.Dev > 0) {
			root.o.Warnf([]string{"split"}, "suite.empty_split", "no scenario falls into the %s split", side).Hint =
				"write more families, or name some under in_" + side
		}
	}
}

// sideOf is the split of a family: as written, or by a stable hash of its name against the weights.
// Without weights everything is dev.
func sideOf(s spec.Split, family string) string {
	switch {
	case slices.Contains(s.In, family):
		return SplitAudit
	case slices.Contains(s.InDev, family) || s.Audit <= 0:
		return SplitDev
	}
	if share(family) < float64(s.Audit)/float64(s.Audit+max(s.Dev, 0)) {
		return SplitAudit
	}
	return SplitDev
}

// trimmed is text without the white space that block scalars leave.
func trimmed(s string) string { return strings.TrimSpace(s) }
