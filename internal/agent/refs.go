package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"flywheel/internal/agent/prompt"
	"flywheel/internal/tool/star"
	"flywheel/spec"
)

// checkStar compiles a file of mocks and looks for the function.
func (c cursor) checkStar(m *spec.Mock, content []byte) {
	program, err := star.LoadFile(m.Star, content)
	if err != nil {
		p := Problem{File: m.Star, Code: "package.starlark", Message: firstLine(err.Error())}
		var e *star.Error
		if errors.As(err, &e) {
			p.Line, p.Column, p.Message = e.Line, e.Column, firstLine(e.Message)
		}
		c.b.add(p) // said once: equal problems are dropped
		return
	}
	if err := program.Check(m.Func); err != nil {
		message := err.Error()
		var e *star.Error
		if errors.As(err, &e) {
			message = e.Message
		}
		c.errorf("package.unknown_function", "%s: %s", m.Star, message)
	}
}

// references checks that everything that is named exists.
func (b *builder) references() {
	b.entry()
	for _, name := range slices.Sorted(maps.Keys(b.pkg.Agents)) {
		b.agentRefs(name, b.pkg.Agents[name])
	}
	for _, name := range slices.Sorted(maps.Keys(b.pkg.Prompts)) {
		c := b.origin["prompts/"+name]
		b.template(c, b.pkg.Prompts[name].Text, nil)
	}
	b.partCycles()
	for _, name := range slices.Sorted(maps.Keys(b.pkg.Tools)) {
		b.toolRefs(name, b.pkg.Tools[name])
	}
	for _, name := range slices.Sorted(maps.Keys(b.pkg.Memories)) {
		if m := b.pkg.Memories[name]; m.Data != "" {
			b.exampleFile(b.origin["memory/"+name].get("data"), m.Data)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.pkg.Flows)) {
		b.flowRefs(name, b.pkg.Flows[name])
	}
	for _, f := range b.later {
		f()
	}
}

func (b *builder) entry() {
	entry := b.pkg.Entry
	if entry == "" {
		return
	}
	c := cursor{b: b, src: b.sources["flywheel.yaml"]}.step("entry", entry)
	var known []string
	for _, n := range slices.Sorted(maps.Keys(b.pkg.Agents)) {
		known = append(known, "agents/"+n)
	}
	for _, n := range slices.Sorted(maps.Keys(b.pkg.Flows)) {
		known = append(known, "flows/"+n)
	}
	if !slices.Contains(known, entry) {
		c.errorf("package.unknown_entry", "%s is not an agent or flow of the package", quote(entry)).Hint = didYouMean(entry, known)
	}
}

func (b *builder) agentRefs(name string, a *spec.Agent) {
	c := b.origin["agents/"+name]
	if a.Model != "" && !strings.Contains(a.Model, "/") {
		if _, ok := b.pkg.Models[a.Model]; !ok {
			c.get("model").errorf("package.unknown_model", "there is no model alias %s", quote(a.Model)).Hint = cmpHint(didYouMean(a.Model, slices.Sorted(maps.Keys(b.pkg.Models))), "declare it under models in flywheel.yaml, or write provider/name")
		}
	} else {
		c.get("model").provider(a.Model)
	}
	for _, m := range c.get("memory").list() {
		if s, ok := m.v.(string); ok && s != "" && b.pkg.Memories[s] == nil {
			m.errorf("package.unknown_memory", "there is no memory %s", quote(s)).Hint = cmpHint(didYouMean(s, slices.Sorted(maps.Keys(b.pkg.Memories))), "declare it in memory/"+s+".memory.yaml")
		}
	}
	seen := map[string]bool{}
	for _, t := range c.get("tools").list() {
		b.toolUseRefs(t, seen)
	}
	if a.Examples != "" {
		b.exampleFile(c.get("examples"), a.Examples)
	}
	fields, _ := properties(a.Input)
	b.template(c, a.Prompt, fields)
}

func (b *builder) toolUseRefs(t cursor, seen map[string]bool) {
	names := []string{}
	bound := map[string]cursor{}
	switch v := t.v.(type) {
	case string:
		names = append(names, v)
	case map[string]any:
		for _, e := range t.entries() {
			names = append(names, e.key())
			bound[e.key()] = e
		}
	}
	for _, name := range names {
		matched := b.matchTools(name)
		at := t
		if e, ok := bound[name]; ok {
			at = e
		}
		if len(matched) == 0 && name != "" {
			at.keyErrorf("package.unknown_tool", "there is no tool %s", quote(name)).Hint = cmpHint(didYouMean(name, slices.Sorted(maps.Keys(b.pkg.Tools))), "declare it in a file under tools/")
		}
		if seen[name] {
			at.keyErrorf("package.duplicate_name", "the tool %s is in the list twice", quote(name))
		}
		seen[name] = true
		for _, tool := range matched {
			b.boundArgs(bound[name], b.pkg.Tools[tool])
		}
	}
}

func (b *builder) boundArgs(c cursor, tool *spec.Tool) {
	if c.b == nil {
		return
	}
	names, declared := properties(tool.In)
	for _, arg := range c.entries() {
		if declared && !slices.Contains(names, arg.key()) {
			arg.keyErrorf("package.unknown_argument", "%s is not an argument of %s", quote(arg.key()), tool.Name).Hint = didYouMean(arg.key(), names)
		}
		arg.checkTexts("input", "env")
	}
}

// matchTools finds the tools that a name or a pattern such as cards.* means.
func (b *builder) matchTools(pattern string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b.pkg.Tools)) {
		if name == pattern {
			out = append(out, name)
		} else if ok, err := path.Match(pattern, name); err == nil && ok {
			out = append(out, name)
		}
	}
	return out
}

func (b *builder) toolRefs(name string, t *spec.Tool) {
	c := b.origin["tools/"+name]
	if t.Call.MCP != nil && t.Call.MCP.Server != "" && b.pkg.Servers[t.Call.MCP.Server] == nil {
		c.get("call").get("mcp").errorf("package.unknown_server", "there is no MCP server %s", quote(t.Call.MCP.Server)).Hint = cmpHint(didYouMean(t.Call.MCP.Server, slices.Sorted(maps.Keys(b.pkg.Servers))), "declare it under mcp in the tool file")
	}
	if t.Backup == "" {
		return
	}
	at := c.get("backup")
	backup := b.pkg.Tools[t.Backup]
	switch {
	case backup == nil:
		at.errorf("package.unknown_tool", "there is no tool %s", quote(t.Backup)).Hint = didYouMean(t.Backup, slices.DeleteFunc(slices.Sorted(maps.Keys(b.pkg.Tools)), func(n string) bool { return n == name }))
	case t.Backup == name:
		at.errorf("package.backup", "a tool cannot be its own backup")
	case b.backupLoops(name):
		at.errorf("package.backup", "the backups of %s lead back to it", name)
	default:
		mine, _ := properties(t.In)
		for _, arg := range required(backup.In) {
			if !slices.Contains(mine, arg) {
				at.errorf("package.backup", "%s needs the argument %s, which %s does not have", t.Backup, quote(arg), name)
			}
		}
	}
}

func (b *builder) backupLoops(name string) bool {
	seen := map[string]bool{}
	for at := name; b.pkg.Tools[at] != nil && b.pkg.Tools[at].Backup != ""; {
		at = b.pkg.Tools[at].Backup
		if at == name {
			return true
		}
		if seen[at] {
			return false // a loop further on, reported there
		}
		seen[at] = true
	}
	return false
}

// exampleFile checks each line of an examples or episodes file.
func (b *builder) exampleFile(c cursor, file string) {
	content, ok := c.useData(file)
	if !ok || b.once["examples "+file] {
		return
	}
	b.once["examples "+file] = true
	bad := 0
	for i, line := range bytes.Split(content, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		at := Problem{File: file, Line: i + 1, Column: 1}
		var e spec.Example
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&e); err != nil {
			at.Code, at.Message = "package.example", "the line is not an example: "+strings.TrimPrefix(err.Error(), "json: ")
			at.Hint = `write {"user": "…", "calls": [{"tool": "…", "args": {…}}], "reply": "…"}`
		} else if strings.TrimSpace(e.User) == "" {
			at.Code, at.Message = "package.example", `"user" must be set`
		} else {
			for _, call := range e.Calls {
				if b.pkg.Tools[call.Tool] == nil {
					at.Code, at.Message = "package.unknown_tool", "there is no tool "+quote(call.Tool)
					at.Hint = didYouMean(call.Tool, slices.Sorted(maps.Keys(b.pkg.Tools)))
				}
			}
		}
		if at.Code == "" {
			continue
		}
		if bad++; bad <= 10 { // a file of the wrong kind has one error per line
			b.add(at)
		}
	}
}

// template checks the {{…}} of a prompt. fields are those of the declared input, nil when it is open.
func (b *builder) template(c cursor, text string, fields []string) {
	place := func(line, column int) Problem {
		first, _ := c.src.at([]string{"body"}, false)
		if first == 0 {
			return Problem{File: c.src.file}
		}
		skipped := len(c.src.body) - len(strings.TrimLeft(c.src.body, "\n"))
		return Problem{File: c.src.file, Line: first + skipped + line - 1, Column: column}
	}
	t, err := prompt.Parse(text)
	if err != nil {
		var e *prompt.Error
		if errors.As(err, &e) {
			p := place(e.Line, e.Column)
			p.Code, p.Message = "package.template", e.Message
			b.add(p)
		}
		return
	}
	for _, part := range t.Parts() {
		if b.pkg.Prompts[part.Name] == nil {
			p := place(part.Line, part.Column)
			p.Code, p.Message = "package.unknown_prompt", "there is no prompt part "+quote(part.Name)
			p.Hint = cmpHint(didYouMean(part.Name, slices.Sorted(maps.Keys(b.pkg.Prompts))), "write prompts/"+part.Name+".prompt.md")
			b.add(p)
		}
	}
	if fields == nil {
		return
	}
	known := append([]string{"input", "env"}, fields...)
	for _, v := range t.Vars() {
		root, rest, _ := strings.Cut(v.Name, ".")
		name, among := root, known
		if root == "input" && rest != "" {
			name, _, _ = strings.Cut(rest, ".")
			among = fields
		}
		if root == "env" || slices.Contains(among, name) {
			continue
		}
		p := place(v.Line, v.Column)
		p.Code, p.Message = "package.unknown_name", fmt.Sprintf("{{%s}} is not in the input of the agent", v.Name)
		p.Hint = didYouMean(name, among)
		b.add(p)
	}
}

// partCycles reports prompt parts that contain themselves.
func (b *builder) partCycles() {
	for _, name := range slices.Sorted(maps.Keys(b.pkg.Prompts)) {
		if slices.Contains(b.partsBelow(name, map[string]bool{}), name) {
			c := b.origin["prompts/"+name]
			line, column := c.src.at([]string{"body"}, false)
			b.add(Problem{
				File: c.src.file, Line: line, Column: column, Code: "package.cycle",
				Message: "the prompt part " + quote(name) + " contains itself",
			})
		}
	}
}

func (b *builder) partsBelow(name string, seen map[string]bool) []string {
	p := b.pkg.Prompts[name]
	if p == nil || seen[name] {
		return nil
	}
	seen[name] = true
	t, err := prompt.Parse(p.Text)
	if err != nil {
		return nil
	}
	var out []string
	for _, ref := range t.Parts() {
		out = append(out, ref.Name)
		out = append(out, b.partsBelow(ref.Name, seen)...)
	}
	return out
}
