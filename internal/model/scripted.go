package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
)

// Script is a Chatter without a model: rules from a YAML file decide every answer, so that tests are fast
// and always the same. Its answers carry the form scripted wherever they show.
//
//	name: desk
//	rules:
//	  - when: {matches: 'freeze.*?(\d{4})'}      # of the last user message
//	    call: {tool: cards.freeze, args: {card_id: "$1"}}
//	  - when: {tool_result: {tool: cards.freeze, contains: frozen}}
//	    reply: "Done: ${result}"
//	default: {reply: "How can I help?"}
//
// The first rule whose conditions all hold answers. A rule with tool_result looks at conversations that
// end with a tool's result, any other rule at those that end with the user; default takes what is left.
// In reply and args stand $1, ${name} (groups of matches), ${user} (last user message), ${result} (last
// tool result) and ${result.path}.
type Script struct {
	name  string
	pin   Pin
	clock clock.Clock
	rules []rule
	other *rule // default
}

// Scripted reads the rules of a scripted model.
func Scripted(rules []byte) (*Script, error) { return ScriptedAt(rules, clock.Real()) }

// ScriptedAt reads the rules of a scripted model whose delays pass on the clock.
func ScriptedAt(rules []byte, c clock.Clock) (*Script, error) {
	var file scriptFile
	if err := yaml.UnmarshalWithOptions(rules, &file, yaml.Strict()); err != nil {
		return nil, fault.New(fault.Invalid, codeBadScript, "the script cannot be read: %s", strings.TrimSpace(yaml.FormatError(err, false, true))).
			WithHint("a script has name, rules and default; a rule has when and one of reply, data, call, calls, error, malformed")
	}
	sum := sha256.Sum256(rules)
	s := &Script{name: file.Name, clock: c, pin: Pin{Digest: "sha256:" + hex.EncodeToString(sum[:]), Form: FormScripted, Reproducible: true}}
	if s.name == "" {
		s.name = "script"
	}
	var fields []fault.Field
	for i, r := range file.Rules {
		compiled, err := compileRule(r)
		if err != nil {
			fields = append(fields, fault.Field{Path: fmt.Sprintf("rules[%d]", i), Code: codeBadScript, Message: err.Error()})
			continue
		}
		s.rules = append(s.rules, compiled)
	}
	if file.Default != nil {
		compiled, err := compileRule(*file.Default)
		if err != nil {
			fields = append(fields, fault.Field{Path: "default", Code: codeBadScript, Message: err.Error()})
		}
		s.other = &compiled
	}
	if fields != nil {
		return nil, fault.New(fault.Invalid, codeBadScript, "the script has %d errors, the first in %s: %s", len(fields), fields[0].Path, fields[0].Message).WithFields(fields...)
	}
	return s, nil
}

const codeBadScript = "model.bad_script"

type scriptFile struct {
	Name    string       `yaml:"name"`
	Rules   []scriptRule `yaml:"rules"`
	Default *scriptRule  `yaml:"default"`
}

type scriptRule struct {
	When      scriptWhen   `yaml:"when"`
	Reply     *string      `yaml:"reply"`
	Data      any          `yaml:"data"`
	Call      *scriptCall  `yaml:"call"`
	Calls     []scriptCall `yaml:"calls"`
	Error     string       `yaml:"error"` // unreachable interrupted refused timeout
	Malformed bool         `yaml:"malformed"`
	Delay     string       `yaml:"delay"`
	Usage     struct {
		In  int `yaml:"in"`
		Out int `yaml:"out"`
	} `yaml:"usage"`
}

type scriptCall struct {
	Tool string `yaml:"tool"`
	Args any    `yaml:"args"`
}

type scriptWhen struct {
	Contains   any    `yaml:"contains"` // text, or several that must all be there; case does not matter
	Matches    string `yaml:"matches"`  // regular expression
	System     string `yaml:"system"`   // the system prompt contains
	Turn       int    `yaml:"turn"`     // number of user messages, from 1
	ToolResult any    `yaml:"tool_result"`
}

// rule is a compiled rule.
type rule struct {
	contains    []string
	matches     *regexp.Regexp
	system      string
	turn        int
	afterTool   bool
	tool        string
	result      string
	resultMatch *regexp.Regexp

	reply  template
	isData bool
	calls  []callTemplate
	err    *fault.Error
	delay  time.Duration
	usage  Usage
}

type callTemplate struct {
	tool string
	args template
}

func compileRule(r scriptRule) (rule, error) {
	out := rule{turn: r.When.Turn, system: r.When.System, usage: Usage{In: r.Usage.In, Out: r.Usage.Out, Prices: providerScripted}}
	var err error
	if out.contains, err = lowerTexts(r.When.Contains); err != nil {
		return out, err
	}
	if r.When.Matches != "" {
		if out.matches, err = regexp.Compile(r.When.Matches); err != nil {
			return out, fmt.Errorf("matches: %w", err)
		}
	}
	if err := out.compileResult(r.When.ToolResult); err != nil {
		return out, err
	}
	if r.Delay != "" {
		if out.delay, err = time.ParseDuration(r.Delay); err != nil {
			return out, fmt.Errorf("delay: %w", err)
		}
	}
	return out, out.compileAnswer(r)
}

func (out *rule) compileResult(v any) error {
	switch v := v.(type) {
	case nil:
	case bool:
		out.afterTool = v
	case string:
		out.afterTool, out.result = true, v
	case map[string]any:
		out.afterTool = true
		for key, value := range v {
			text, ok := value.(string)
			if !ok {
				return fmt.Errorf("tool_result.%s is no text", key)
			}
			switch key {
			case "tool":
				out.tool = text
			case "contains":
				out.result = text
			case "matches":
				re, err := regexp.Compile(text)
				if err != nil {
					return fmt.Errorf("tool_result.matches: %w", err)
				}
				out.resultMatch = re
			default:
				return fmt.Errorf("tool_result has no key %s: it has tool, contains, matches", key)
			}
		}
	default:
		return fmt.Errorf("tool_result is true, a text, or {tool, contains, matches}")
	}
	return nil
}

func (out *rule) compileAnswer(r scriptRule) error {
	answers := 0
	if r.Reply != nil {
		answers++
		out.reply = compileTemplate(*r.Reply, false)
	}
	if r.Data != nil {
		answers++
		b, err := json.Marshal(r.Data)
		if err != nil {
			return fmt.Errorf("data: %w", err)
		}
		out.reply, out.isData = compileTemplate(string(b), true), true
	}
	calls := r.Calls
	if r.Call != nil {
		calls = append([]scriptCall{*r.Call}, calls...)
	}
	for _, c := range calls {
		args := c.Args
		if args == nil {
			args = map[string]any{}
		}
		b, err := json.Marshal(args)
		if err != nil || b[0] != '{' || c.Tool == "" {
			return fmt.Errorf("a call needs tool, and args that are an object")
		}
		out.calls = append(out.calls, callTemplate{c.Tool, compileTemplate(string(b), true)})
	}
	if len(calls) > 0 {
		answers++
	}
	if r.Error != "" {
		answers++
		kinds := map[string]*fault.Error{
			"unreachable": fault.New(fault.Unavailable, CodeUnreachable, "the script says that the model is unreachable"),
			"interrupted": fault.New(fault.Unavailable, CodeInterrupted, "the script breaks the stream"),
			"refused":     fault.New(fault.Invalid, CodeRefused, "the script refuses"),
			"timeout":     fault.New(fault.Timeout, CodeTimeout, "the script does not answer in time"),
		}
		if out.err = kinds[r.Error]; out.err == nil {
			return fmt.Errorf("error is one of unreachable, interrupted, refused, timeout")
		}
	}
	if r.Malformed {
		answers++
		out.err = fault.New(fault.Invalid, CodeMalformed, "the script answers with malformed JSON")
	}
	if answers != 1 {
		return fmt.Errorf("a rule needs exactly one of reply, data, call or calls, error, malformed")
	}
	return nil
}

func lowerTexts(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{strings.ToLower(v)}, nil
	case []any:
		var out []string
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, fmt.Errorf("contains holds %v, which is no text", x)
			}
			out = append(out, strings.ToLower(s))
		}
		return out, nil
	}
	return nil, fmt.Errorf("contains is a text or a list of texts")
}

// Pin names the script by its digest.
func (s *Script) Pin() Pin {
	p := s.pin
	p.Ref = providerScripted + "/" + s.name
	return p
}

// Chat answers by the first rule that fits.
func (s *Script) Chat(ctx context.Context, req Request, onDelta func(Delta)) (Response, error) {
	if err := ctx.Err(); err != nil {
		return Response{}, fault.From(err)
	}
	v := see(req.Messages)
	for i := range s.rules {
		if groups, ok := s.rules[i].fits(&v); ok {
			return s.answer(ctx, &s.rules[i], req, &v, groups, onDelta)
		}
	}
	if s.other != nil {
		return s.answer(ctx, s.other, req, &v, nil, onDelta)
	}
	return Response{}, fault.New(fault.Invalid, CodeRefused, "no rule of the script %s fits %q", s.name, clip(v.last)).
		WithHint("add a rule or a default to the script")
}

// view is what rules look at.
type view struct {
	system, user string
	lower        string // user in lower case, made when first needed
	last         string
	turn         int
	result       string
	resultTool   string
	afterTool    bool
	calls        int
}

func see(messages []Message) view {
	var v view
	resultID := ""
	for i := range messages {
		m := &messages[i]
		switch m.Role {
		case RoleSystem:
			v.system = m.Content
		case RoleUser:
			v.user, v.afterTool = m.Content, false
			v.turn++
		case RoleTool:
			v.result, v.afterTool, resultID = m.Content, true, m.ToolCallID
		}
		v.calls += len(m.ToolCalls)
		v.last = m.Content
	}
	if v.afterTool {
		for i := range messages {
			for _, c := range messages[i].ToolCalls {
				if c.ID == resultID {
					v.resultTool = c.Name
				}
			}
		}
	}
	return v
}

func (r *rule) fits(v *view) (groups []string, ok bool) {
	if r.afterTool != v.afterTool || r.turn != 0 && r.turn != v.turn {
		return nil, false
	}
	if r.tool != "" && r.tool != v.resultTool || !strings.Contains(v.result, r.result) || !strings.Contains(v.system, r.system) {
		return nil, false
	}
	if len(r.contains) > 0 && v.lower == "" {
		v.lower = strings.ToLower(v.user)
	}
	for _, c := range r.contains {
		if !strings.Contains(v.lower, c) {
			return nil, false
		}
	}
	if r.resultMatch != nil {
		if groups = r.resultMatch.FindStringSubmatch(v.result); groups == nil {
			return nil, false
		}
	}
	if r.matches != nil {
		if groups = r.matches.FindStringSubmatch(v.user); groups == nil {
			return nil, false
		}
	}
	return groups, true
}

func (s *Script) answer(ctx context.Context, r *rule, req Request, v *view, groups []string, onDelta func(Delta)) (Response, error) {
	if r.delay > 0 {
		if err := s.clock.Sleep(ctx, r.delay); err != nil {
			return Response{}, fault.From(err)
		}
	}
	out := Response{Model: req.Model, Form: FormScripted, Usage: r.usage, Finish: FinishStop}
	if r.err != nil {
		return out, r.err
	}
	out.Message.Role = RoleAssistant
	if len(r.calls) == 0 {
		out.Message.Content = r.reply.expand(v, r, groups)
		streamWords(out.Message.Content, onDelta)
		return out, checkOutput(req.Output, out.Message.Content, FinishStop)
	}
	out.Finish = FinishToolCalls
	out.Message.ToolCalls = make([]ToolCall, len(r.calls))
	for i := range r.calls {
		c := &r.calls[i]
		if !offered(req.Tools, c.tool) {
			return out, fault.New(fault.Invalid, CodeUnknownTool, "the model called the tool %q, which it was not given", c.tool)
		}
		out.Message.ToolCalls[i] = ToolCall{ID: callID(v.calls + i + 1), Name: c.tool, Args: c.args.bytes(v, r, groups)}
		if onDelta != nil {
			onDelta(Delta{Tool: c.tool})
		}
	}
	return out, nil
}

func offered(tools []ToolDef, name string) bool {
	for i := range tools {
		if tools[i].Name == name {
			return true
		}
	}
	return false
}

// streamWords gives a text out as a model would.
func streamWords(text string, onDelta func(Delta)) {
	if onDelta == nil {
		return
	}
	for word := range strings.SplitAfterSeq(text, " ") {
		if word != "" {
			onDelta(Delta{Text: word})
		}
	}
}
