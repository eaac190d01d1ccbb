package agent

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"flywheel/spec"
)

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	toolForm  = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}(\.[a-z0-9][a-z0-9_-]{0,63})*$`)
	nodeForm  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	envForm   = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	fieldForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
)

// decode reads every file of a known kind; references are checked afterwards.
func (b *builder) decode() {
	b.pkg = &spec.Package{
		Models: map[string]spec.ModelChoice{}, Env: map[string]spec.EnvVar{},
		Agents: map[string]*spec.Agent{}, Prompts: map[string]*spec.Prompt{}, Flows: map[string]*spec.Flow{},
		Tools: map[string]*spec.Tool{}, Servers: map[string]*spec.MCPServer{}, Memories: map[string]*spec.Memory{},
		Data: map[string]spec.DataFile{},
	}
	b.origin = map[string]cursor{}
	for _, file := range slices.Sorted(maps.Keys(b.sources)) {
		s := b.sources[file]
		c := cursor{b: b, src: s, v: s.value}
		if s.kind.format == formatMarkdown {
			c = c.get("front")
		}
		switch s.kind.dir {
		case "agents":
			b.agent(c)
		case "prompts":
			b.prompt(c)
		case "flows":
			b.flow(c)
		case "tools":
			b.tools(c)
		case "memory":
			b.memory(c)
		default:
			if file == "flywheel.yaml" {
				b.root(c)
			}
		}
	}
}

// named checks the name that a file gets from its path, and remembers where the thing was declared.
func (b *builder) named(c cursor, dir string) (name string) {
	name = strings.TrimSuffix(strings.TrimPrefix(c.src.file, dir+"/"), c.src.kind.suffix)
	if !nameForm.MatchString(name) {
		b.add(Problem{
			File: c.src.file, Line: 1, Column: 1, Code: "package.name",
			Message: "the name " + quote(name) + " is not allowed", Hint: "use lower-case letters, digits, - and _",
		})
	}
	b.origin[dir+"/"+name] = c
	return name
}

func quote(s string) string { return `"` + cut(s, 60) + `"` }

func (b *builder) root(c cursor) {
	if c.v == nil {
		c.errorf("package.empty", "flywheel.yaml is empty").Hint = "flywheel init NAME --template help-desk"
		return
	}
	if !c.mapping("flywheel", "name", "description", "goal", "entry", "models", "env", "limits") {
		return
	}
	p := b.pkg
	switch v := c.get("flywheel"); {
	case v.v == nil:
		c.keyErrorf("package.missing_key", `"flywheel" must be set`).Hint = "write flywheel: 1"
	case v.v != int64(spec.FormatVersion):
		v.errorf("package.version", "format %v is not known", v.v).Hint = "this program reads flywheel: 1"
	}
	p.Name = c.get("name").need()
	if p.Name != "" && !nameForm.MatchString(p.Name) {
		c.get("name").errorf("package.name", "the name %s is not allowed", quote(p.Name)).Hint = "use lower-case letters, digits, - and _"
	}
	p.Description, p.Goal = c.get("description").text(), c.get("goal").text()
	p.Entry = c.get("entry").need()
	for _, m := range c.get("models").entries() {
		if !nameForm.MatchString(m.key()) {
			m.keyErrorf("package.name", "the model alias %s is not allowed", quote(m.key())).Hint = "use lower-case letters, digits, - and _"
		}
		p.Models[m.key()] = m.model()
	}
	for _, e := range c.get("env").entries() {
		p.Env[e.key()] = e.environment()
	}
	p.Limits = c.get("limits").limits()
}

func (c cursor) model() spec.ModelChoice {
	if _, ok := c.v.(map[string]any); ok {
		c.mapping("first", "else")
		choice := spec.ModelChoice{First: c.get("first").need(), Else: c.get("else").text()}
		c.get("first").provider(choice.First)
		c.get("else").provider(choice.Else)
		return choice
	}
	choice := spec.ModelChoice{First: c.need()}
	c.provider(choice.First)
	return choice
}

// provider checks the form provider/name, and that a scripted model has its rules in the package.
func (c cursor) provider(ref string) {
	if ref == "" {
		return
	}
	provider, name, ok := strings.Cut(ref, "/")
	if !ok || provider == "" || name == "" || strings.ContainsAny(ref, " \t\n") {
		c.errorf("package.model", "%s is not a model", quote(ref)).Hint = "write provider/name, as in local/smollm2-135m-instruct or openai/gpt-5-mini"
		return
	}
	if provider == "scripted" {
		c.useData("models/" + name + ".script.yaml")
	}
}

func (c cursor) environment() spec.EnvVar {
	if !envForm.MatchString(c.key()) {
		c.keyErrorf("package.name", "the environment name %s is not allowed", quote(c.key())).Hint = "use upper-case letters, digits and _"
	}
	if _, ok := c.v.(map[string]any); !ok {
		c.checkSecret()
		return spec.EnvVar{Default: c.scalarText()}
	}
	if s, ok := c.get("default").v.(string); ok {
		cursor{c.b, c.src, c.path, s}.checkSecret()
	}
	c.mapping("description", "default", "required")
	return spec.EnvVar{
		Description: c.get("description").text(), Default: c.get("default").scalarText(),
		Required: c.get("required").boolean(),
	}
}

// scalarText is any scalar as text: environments hold nothing else.
func (c cursor) scalarText() string {
	switch c.v.(type) {
	case int64, float64, bool:
		return string(compact(c.v))
	}
	return c.text()
}

func (c cursor) limits() spec.Limits {
	if !c.mapping("steps", "cost", "time") {
		return spec.Limits{}
	}
	return spec.Limits{
		Steps: c.get("steps").integer(100_000), Cost: c.get("cost").number(0, 1e6),
		Time: c.get("time").duration(),
	}
}

func (b *builder) prompt(c cursor) {
	name := b.named(c, "prompts")
	c.mapping("description", "input")
	c.get("input").objectSchema()
	body, _ := c.src.value.(map[string]any)["body"].(string)
	b.pkg.Prompts[name] = &spec.Prompt{Name: name, Description: c.get("description").text(), Text: body}
}

func (b *builder) agent(c cursor) {
	name := b.named(c, "agents")
	c.mapping("model", "description", "temperature", "max_tokens", "input", "tools", "memory", "output",
		"examples", "after_tools", "limits")
	body, _ := c.src.value.(map[string]any)["body"].(string)
	a := &spec.Agent{
		Name: name, Description: c.get("description").text(), Model: c.get("model").need(),
		Temperature: c.get("temperature").number(0, 2), MaxTokens: c.get("max_tokens").integer(1_000_000),
		Input: c.get("input").objectSchema(), Memory: c.get("memory").texts(), Output: c.get("output").objectSchema(),
		Examples: c.get("examples").text(), AfterTools: c.get("after_tools").oneOf(spec.AfterToolsContinue, spec.AfterToolsStop),
		Limits: c.get("limits").limits(), Prompt: body,
	}
	for _, t := range c.get("tools").list() {
		a.Tools = append(a.Tools, t.toolUse()...)
	}
	if strings.TrimSpace(body) == "" {
		line, _ := c.src.at([]string{"body"}, false)
		b.add(Problem{
			File: c.src.file, Line: line, Column: 1, Code: "package.missing_prompt", Message: "the agent has no prompt",
			Hint: "write the system prompt below the front matter",
		})
	}
	b.pkg.Agents[name] = a
}

// toolUse reads cards.freeze, cards.*, or {cards.freeze: {card_id: "${input.card}"}}.
func (c cursor) toolUse() []spec.ToolUse {
	m, ok := c.v.(map[string]any)
	if !ok {
		if name := c.need(); name != "" {
			return []spec.ToolUse{{Tool: name}}
		}
		return nil
	}
	var out []spec.ToolUse
	for _, key := range slices.Sorted(maps.Keys(m)) {
		use := spec.ToolUse{Tool: key}
		for _, arg := range c.step(key, m[key]).entries() {
			if use.With == nil {
				use.With = map[string]string{}
			}
			use.With[arg.key()] = arg.expression()
		}
		out = append(out, use)
	}
	return out
}

// expression is a text with ${…}; any other value becomes a constant expression.
func (c cursor) expression() string {
	if s, ok := c.v.(string); ok {
		return s
	}
	return "${" + string(compact(c.v)) + "}"
}

func (b *builder) memory(c cursor) {
	name := b.named(c, "memory")
	if c.v == nil {
		c.errorf("package.empty", "the file is empty")
		return
	}
	if !c.mapping("memory", "kind", "scope", "data", "retrieve", "description") {
		return
	}
	c.get("memory").sameName(name)
	m := &spec.Memory{
		Name: name, Kind: c.get("kind").need(), Scope: c.get("scope").oneOf("agent"),
		Data: c.get("data").text(),
	}
	if m.Kind != "" {
		c.get("kind").oneOf("episodes")
	}
	if m.Scope == "" {
		m.Scope = "agent"
	}
	r := c.get("retrieve")
	r.mapping("k", "by")
	m.K, m.By = cmp.Or(r.get("k").integer(100), 4), cmp.Or(r.get("by").oneOf("tfidf"), "tfidf")
	c.get("description").text()
	b.pkg.Memories[name] = m
}

// sameName checks that a file says the name that its path has: names are ids.
func (c cursor) sameName(name string) {
	if s := c.need(); s != "" && s != name {
		c.errorf("package.name_mismatch", "the file says %s and is called %s", quote(s), quote(name)).Hint = "make both the same"
	}
}
