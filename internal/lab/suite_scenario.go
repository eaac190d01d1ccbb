package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"

	"flywheel/internal/lab/faults"
	"flywheel/spec"
)

// draft is a scenario as written, with what it says itself.
type draft struct {
	at       cursor
	scenario spec.Scenario
	has      map[string]bool // keys that are written
	expects  map[string]bool // keys of expect that are written
	from     string
	template bool // stands only for its table
	suite    bool // faults: suite
	state    int  // of inherit: 0 new, 1 on the way, 2 done
}

func (p *parser) draft(c cursor) {
	d := p.read(c)
	if d == nil {
		return
	}
	name := d.scenario.Name
	if name == "" {
		c.failHint("name: freeze a lost card", "suite.missing", "the scenario has no name")
		return
	}
	if other := p.byName[name]; other != nil {
		c.sub("name", name).failHint("give each scenario its own name", "suite.duplicate", "two scenarios are called %q", name)
		return
	}
	p.byName[name] = d
	p.drafts = append(p.drafts, d)
}

// read decodes one scenario, or one line of a table.
func (p *parser) read(c cursor) *draft {
	d := &draft{at: c, has: map[string]bool{}, expects: map[string]bool{}}
	s := &d.scenario
	m, ok := c.value.(map[string]any)
	if !ok {
		c.fail("expected a scenario, got %s", kindOf(c.value))
		return nil
	}
	for k := range m {
		d.has[k] = true
	}
	says := func(c cursor) {
		d.has["says"] = true
		c.texts(&s.Says)
		for i := range s.Says {
			s.Says[i] = trimmed(s.Says[i])
		}
		if len(s.Says) == 0 || slices.Contains(s.Says, "") {
			c.failHint(`says: "I lost my card"`, "suite.missing", "the user says nothing")
		}
	}
	c.fields(each{
		"name":     func(c cursor) { c.text(&s.Name) },
		"family":   func(c cursor) { c.text(&s.Family) },
		"world":    func(c cursor) { p.world(c, s) },
		"user":     func(c cursor) { c.fields(each{"says": says}) },
		"says":     says,
		"in":       func(c cursor) { c.object(&s.In) },
		"from":     func(c cursor) { c.text(&d.from) },
		"faults":   func(c cursor) { p.scenarioFaults(c, d) },
		"expect":   func(c cursor) { p.expect(c, d) },
		"tags":     func(c cursor) { c.texts(&s.Tags) },
		"safety":   func(c cursor) { c.flag(&s.Safety) },
		"template": func(c cursor) { c.flag(&d.template) },
	})
	return d
}

func (p *parser) world(c cursor, s *spec.Scenario) {
	c.text(&s.World)
	if _, ok := p.suite.Worlds[s.World]; !ok && s.World != "" {
		c.o.Errorf(c.path, "suite.unknown_world", "there is no world %q", s.World).Hint = meant(s.World, slices.Sorted(maps.Keys(p.suite.Worlds)))
	}
}

func (p *parser) scenarioFaults(c cursor, d *draft) {
	if c.value == "suite" {
		d.suite = true
		return
	}
	if s, ok := c.value.(string); ok {
		c.failHint("faults: suite, or a list", "suite.value", "faults are a list or the word suite, got %q", s)
		return
	}
	d.scenario.Faults = p.faults(c)
}

func (p *parser) expect(c cursor, d *draft) {
	e := &d.scenario.Expect
	if m, ok := c.value.(map[string]any); ok {
		for k := range m {
			d.expects[k] = true
		}
	}
	tools := func(into *[]string) func(cursor) {
		return func(c cursor) {
			c.texts(into)
			for i, t := range *into {
				at := c
				if _, list := c.value.([]any); list {
					at = c.sub(strconv.Itoa(i), t)
				}
				p.knownTool(at, t)
			}
		}
	}
	c.fields(each{
		"state": func(c cursor) {
			if c.value == nil {
				return // takes back what was inherited
			}
			c.object(&e.State)
		},
		"calls":        func(c cursor) { e.Calls = p.calls(c) },
		"never":        tools(&e.Never),
		"never_claims": tools(&e.NeverClaims),
		"says":         func(c cursor) { e.Says = p.says(c) },
		"within": func(c cursor) {
			e.Within = &spec.Limits{}
			c.fields(each{
				"steps": func(c cursor) { c.count(&e.Within.Steps, 1, 100_000) },
				"cost":  func(c cursor) { c.number(&e.Within.Cost, 0, math.MaxInt32) },
				"time":  func(c cursor) { c.duration(&e.Within.Time) },
			})
		},
	})
}

func (p *parser) calls(c cursor) []spec.CallMatch {
	out := []spec.CallMatch{}
	c.items(func(c cursor) {
		if name, ok := c.value.(string); ok {
			p.knownTool(c, name)
			out = append(out, spec.CallMatch{Tool: name})
			return
		}
		m, ok := c.value.(map[string]any)
		if !ok || len(m) != 1 {
			c.failHint(`calls: [cards.find, {cards.freeze: {card_id: "4711"}}]`, "suite.value", "a call is a tool, or a tool with arguments")
			return
		}
		c.entries(func(name string, v cursor) {
			p.knownTool(v, name)
			call := spec.CallMatch{Tool: name}
			if v.value != nil {
				v.object(&call.Args)
			}
			out = append(out, call)
		})
	})
	return out
}

func (p *parser) says(c cursor) *spec.Says {
	s := &spec.Says{}
	if _, ok := c.value.(map[string]any); !ok {
		c.texts(&s.Contains) // says: frozen
		return s
	}
	c.fields(each{
		"contains": func(c cursor) { c.texts(&s.Contains) },
		"not":      func(c cursor) { c.texts(&s.Not) },
		"matches": func(c cursor) {
			c.text(&s.Matches)
			if _, err := regexp.Compile(s.Matches); err != nil {
				c.failHint("RE2 syntax: no lookahead, no backreferences", "suite.pattern", "the pattern cannot be read: %v", err)
			}
		},
	})
	return s
}

func (p *parser) faults(c cursor) []spec.FaultRule {
	out := []spec.FaultRule{}
	c.items(func(c cursor) {
		var r spec.FaultRule
		when := 0
		ok := c.fields(each{
			"tool": func(c cursor) { c.text(&r.Tool); p.knownTool(c, r.Tool) },
			"on": func(c cursor) {
				when++
				one := func(c cursor) { n := 1; c.count(&n, 1, 1_000_000); r.On = append(r.On, n) }
				if _, list := c.value.([]any); list {
					c.items(one)
					return
				}
				one(c)
			},
			"probability": func(c cursor) { when++; c.number(&r.Probability, 0, 1) },
			"bursts":      func(c cursor) { when++; r.Bursts = bursts(c) },
			"do":          func(c cursor) { r.Do = faultKind(c) },
		})
		if !ok {
			return
		}
		if r.Tool == "" {
			c.failHint("tool: cards.freeze", "suite.missing", "the fault names no tool")
		}
		if r.Do.Kind == "" {
			m, _ := c.value.(map[string]any)
			if kind, mapping := m["do"].(map[string]any); m["do"] == nil || mapping && len(kind) == 0 {
				c.failHint("do: timeout | slow | malformed | reset | {status: 503}", "suite.missing", "the fault does nothing")
			}
		}
		if when > 1 {
			c.failHint("keep one of them", "suite.value", "on, probability and bursts exclude each other")
		}
		out = append(out, r)
	})
	return out
}

func bursts(c cursor) *spec.Bursts {
	b := &spec.Bursts{}
	c.fields(each{
		"every": func(c cursor) { c.duration(&b.Every) },
		"for":   func(c cursor) { c.duration(&b.For) },
	})
	switch {
	case b.Every == 0 || b.For == 0:
		c.failHint("bursts: {every: 60s, for: 20s}", "suite.missing", "bursts need every and for")
	case b.For > b.Every:
		c.fail("an outage cannot be longer than its period")
	}
	return b
}

func faultKind(c cursor) spec.FaultKind {
	if name, ok := c.value.(string); ok {
		if !slices.Contains(faults.Kinds, name) {
			c.failHint(meant(name, faults.Kinds), "suite.fault", "there is no fault %q", name)
			return spec.FaultKind{Kind: name}
		}
		if name == faults.Status {
			return spec.FaultKind{Kind: name, Status: 503}
		}
		return spec.FaultKind{Kind: name}
	}
	var k spec.FaultKind
	c.fields(each{
		"status": func(c cursor) { k.Kind = faults.Status; c.count(&k.Status, 400, 599) },
		"slow":   func(c cursor) { k.Kind = faults.Slow; c.duration(&k.For) },
	})
	return k
}

// inherit resolves `from`. A child takes over everything that it does not say itself; an expect of its
// own replaces the parent's. A child with its parent's words belongs to its parent's family.
func (p *parser) inherit() {
	for _, d := range p.drafts {
		p.resolve(d)
	}
	for _, d := range p.drafts {
		if !d.template {
			p.add(d.at, d.scenario, d.suite)
		}
	}
}

func (p *parser) resolve(d *draft) {
	switch d.state {
	case 2:
		return
	case 1:
		d.at.sub("from", d.from).failHint("let one of them stand alone", "suite.cycle", "the scenario %q is its own ancestor", d.scenario.Name)
		d.from = ""
		return
	}
	d.state = 1
	defer func() { d.state = 2 }()
	if d.from == "" {
		return
	}
	parent := p.byName[d.from]
	if parent == nil {
		d.at.sub("from", d.from).failHint(meant(d.from, slices.Sorted(maps.Keys(p.byName))), "suite.unknown_scenario", "there is no scenario %q", d.from)
		return
	}
	p.resolve(parent)
	if d.from == "" { // a cycle was found
		return
	}
	expect := d.scenario.Expect
	d.overlay(parent)
	if d.has["expect"] {
		d.scenario.Expect = expect
	}
}

// overlay fills what d does not say from the parent; expect key by key.
func (d *draft) overlay(parent *draft) {
	s, from := &d.scenario, parent.scenario
	if !d.has["family"] && !d.has["says"] {
		s.Family = from.Family
		if s.Family == "" {
			s.Family = from.Name
		}
	}
	if !d.has["world"] {
		s.World = from.World
	}
	if !d.has["says"] {
		s.Says = from.Says
	}
	if !d.has["in"] {
		s.In = from.In
	}
	if !d.has["faults"] {
		s.Faults, d.suite = from.Faults, parent.suite
	}
	if !d.has["tags"] {
		s.Tags = from.Tags
	}
	if !d.has["safety"] {
		s.Safety = from.Safety
	}
	keep := func(key string, take func()) {
		if !d.expects[key] {
			take()
		}
	}
	e, f := &s.Expect, from.Expect
	keep("state", func() { e.State = f.State })
	keep("calls", func() { e.Calls = f.Calls })
	keep("never", func() { e.Never = f.Never })
	keep("never_claims", func() { e.NeverClaims = f.NeverClaims })
	keep("says", func() { e.Says = f.Says })
	keep("within", func() { e.Within = f.Within })
}

// add makes a scenario part of the suite.
func (p *parser) add(at cursor, s spec.Scenario, suiteFaults bool) {
	if suiteFaults {
		s.Faults = p.suite.Faults
	}
	if s.Family == "" {
		s.Family = s.Name
	}
	if len(s.Says) == 0 {
		at.failHint(`user: {says: "I lost my card"}`, "suite.missing", "in the scenario %q the user says nothing", s.Name)
	}
	if s.Expect.State != nil && s.World == "" {
		at.failHint("world: "+firstOr(slices.Sorted(maps.Keys(p.suite.Worlds)), "bank"), "suite.missing", "the scenario %q expects a state but has no world", s.Name)
	}
	p.suite.Scenarios = append(p.suite.Scenarios, s)
}

func firstOr(list []string, other string) string {
	if len(list) > 0 {
		return list[0]
	}
	return other
}

// rows expands the tables: each line overrides its template, expect key by key.
func (p *parser) rows() {
	names := map[string]bool{}
	for name := range p.byName {
		names[name] = true
	}
	for _, t := range p.data {
		var template *draft
		if t.template != "" {
			if template = p.byName[t.template]; template == nil {
				t.at.sub("template", t.template).failHint(meant(t.template, slices.Sorted(maps.Keys(p.byName))), "suite.unknown_scenario", "there is no scenario %q", t.template)
			}
		}
		content, ok := t.at.o.Read(append(slices.Clone(t.at.path), "cases"), t.file)
		if !ok {
			continue
		}
		for i, line := range bytes.Split(content, []byte("\n")) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if len(p.suite.Scenarios) >= maxScenarios {
				t.at.fail("the tables give more than %d scenarios", maxScenarios)
				return
			}
			p.row(t, template, i+1, line, names)
		}
	}
}

func (p *parser) row(t table, template *draft, line int, text []byte, names map[string]bool) {
	c := cursor{o: rowOrigin{t.at.o, t.file, line}}
	if err := decodeJSON(text, &c.value); err != nil {
		column := 1
		if syntax, ok := err.(*json.SyntaxError); ok { //nolint:errorlint // encoding/json returns it bare
			column = int(syntax.Offset)
		}
		t.at.o.FileErrorf(t.file, line, column, "suite.row", "the line is not a JSON object: %v", err).Hint = "one JSON object per line"
		return
	}
	d := p.read(c)
	if d == nil {
		return
	}
	if d.has["from"] || d.has["template"] {
		c.failHint("name the template under data", "suite.row", "a line of a table cannot have from or template")
		return
	}
	if d.scenario.Name == "" {
		base := t.template
		if base == "" {
			base = t.file
		}
		d.scenario.Name = fmt.Sprintf("%s #%d", base, line)
	}
	if names[d.scenario.Name] {
		c.failHint("give each scenario its own name", "suite.duplicate", "two scenarios are called %q", d.scenario.Name)
		return
	}
	names[d.scenario.Name] = true
	if template != nil {
		d.overlay(template)
	}
	p.add(c, d.scenario, d.suite)
}
