package evolve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"flywheel/internal/agent"
	"flywheel/spec"
)

// PromptExamplesProposer teaches by example: runs that are known to have solved their task, and cases
// that a person solved instead, become episodes; the nearest few are shown before each message.
type PromptExamplesProposer struct{}

// minEpisodes is how many verified cases make retrieval worth a try.
const minEpisodes = 8

// shown is how many episodes precede a message; four was measured best for small models.
const shown = 4

const (
	episodesData = "data/episodes.jsonl"
	episodesFile = "memory/episodes.memory.yaml"
	episodesName = "episodes"
)

// Propose makes one draft for the agent that takes the first decision.
func (PromptExamplesProposer) Propose(_ context.Context, s Situation) ([]Draft, error) {
	name := deciding(s.Pack.Package)
	if name == "" {
		return nil, nil
	}
	episodes, own, people := verifiedCases(s, name)
	if len(episodes) < minEpisodes {
		return nil, nil
	}
	declared := s.Pack.Package.Agents[name]
	fixed := fixedExamples(s, declared)
	data, err := jsonLines(append(fixed, episodes...))
	if err != nil {
		return nil, err
	}
	changes := []agent.Change{{File: episodesData, Content: data}}
	if s.Pack.Package.Memories[episodesName] == nil {
		changes = append(changes, agent.Change{File: episodesFile, Value: map[string]any{
			"memory": episodesName, "kind": "episodes", "scope": "agent", "data": episodesData,
			"retrieve": map[string]any{"k": int64(shown), "by": "tfidf"},
		}})
	} else {
		changes = append(changes, agent.Change{File: episodesFile, Path: []string{"data"}, Value: episodesData})
	}
	memory := []any{}
	has := false
	for _, m := range declared.Memory {
		memory = append(memory, m)
		has = has || m == episodesName
	}
	if !has {
		memory = append(memory, episodesName)
		changes = append(changes, agent.Change{File: "agents/" + name + ".agent.md", Path: []string{"memory"}, Value: memory})
	}
	if len(fixed) > 0 {
		changes = append(changes, agent.Change{File: "agents/" + name + ".agent.md", Path: []string{"examples"}})
	}
	reasons := []string{fmt.Sprintf("%d cases are verified: %d that the agent solved itself, %d that a person solved after it had not", len(episodes), own, people)}
	if len(fixed) > 0 {
		reasons = append(reasons, fmt.Sprintf("the %d fixed examples join them: shown only where they are near, they cost less and mislead less", len(fixed)))
	}
	reasons = append(reasons, wrongChoices(s.Runs)...)
	return []Draft{{
		Kind: KindPromptExamples, Goal: GoalBetter,
		Title: fmt.Sprintf("%s: show the %d nearest of %d verified cases before each message", name, shown, len(episodes)),
		Why:   reasons, Changes: changes,
		Fit: map[string]any{"episodes": len(episodes), "own": own, "people": people},
	}}, nil
}

// deciding is the agent that sees the message first: the entry, or the first agent node of the entry flow.
func deciding(p *spec.Package) string {
	if name, ok := strings.CutPrefix(p.Entry, "agents/"); ok {
		return name
	}
	flow := p.Flows[strings.TrimPrefix(p.Entry, "flows/")]
	if flow == nil {
		return ""
	}
	seen := map[string]bool{}
	for node := flow.First; node != "" && !seen[node]; {
		seen[node] = true
		n := flow.Nodes[node]
		if n == nil {
			return ""
		}
		if n.Kind == spec.NodeAgent {
			return n.Agent
		}
		node = ""
		if len(n.Next) > 0 {
			node = n.Next[len(n.Next)-1].To
		}
	}
	return ""
}

// replyAction is what an outcome names as the right action when words alone would have been right.
const replyAction = "reply"

// verifiedCases are the messages whose right answer is known, oldest first, each text once.
func verifiedCases(s Situation, name string) (episodes []spec.Example, own, people int) {
	a := s.Pack.Package.Agents[name]
	seen := map[string]bool{}
	words := knownReply(s, a)
	for _, r := range s.Runs {
		key := strings.ToLower(strings.Join(strings.Fields(r.Message), " "))
		if seen[key] || key == "" {
			continue
		}
		e := spec.Example{User: r.Message, Source: r.Run}
		switch {
		case r.Verified() && len(r.Calls) > 0:
			e.Calls = r.Calls[:1]
			own++
		case r.Verified():
			e.Reply = r.Reply
			own++
		case r.Verdict == "failure" && r.Expected == replyAction && words != "":
			e.Reply = words
			people++
		case r.Verdict == "failure" && hasTool(a, r.Expected):
			e.Calls = []spec.ExampleCall{{Tool: r.Expected}}
			people++
		default:
			continue
		}
		seen[key] = true
		episodes = append(episodes, e)
	}
	return episodes, own, people
}

// fixedExamples are those that the agent is always shown.
func fixedExamples(s Situation, a *spec.Agent) []spec.Example {
	var out []spec.Example
	for _, line := range bytes.Split(s.Pack.Data[a.Examples], []byte("\n")) {
		var e spec.Example
		if json.Unmarshal(line, &e) == nil && e.User != "" {
			out = append(out, e)
		}
	}
	return out
}

func hasTool(a *spec.Agent, name string) bool {
	return name != "" && slices.ContainsFunc(a.Tools, func(u spec.ToolUse) bool { return u.Matches(name) })
}

// knownReply is how the agent answers with words: as it did in a verified run, else as in its fixed
// examples. A case that words should have solved teaches when to use them, not which.
func knownReply(s Situation, a *spec.Agent) string {
	for _, e := range fixedExamples(s, a) {
		if e.Reply != "" {
			return e.Reply
		}
	}
	for _, r := range s.Runs {
		if r.Verified() && len(r.Calls) == 0 && r.Reply != "" {
			return r.Reply
		}
	}
	return ""
}

// wrongChoices says which tool was called instead of which, commonest first.
func wrongChoices(runs []Observed) []string {
	count := map[string]int{}
	for _, r := range runs {
		if r.Verdict != "failure" || r.Expected == "" {
			continue
		}
		got := replyAction
		if len(r.Attempts) > 0 {
			got = r.Attempts[0].Tool
		}
		if got != r.Expected {
			count[fmt.Sprintf("%s where %s solved the case", got, r.Expected)]++
		}
	}
	lines := make([]string, 0, len(count))
	for what := range count {
		lines = append(lines, what)
	}
	sort.Slice(lines, func(i, j int) bool {
		if count[lines[i]] != count[lines[j]] {
			return count[lines[i]] > count[lines[j]]
		}
		return lines[i] < lines[j]
	})
	lines = lines[:min(3, len(lines))]
	for i, l := range lines {
		lines[i] = fmt.Sprintf("%d times %s", count[l], l)
	}
	return lines
}

func jsonLines(episodes []spec.Example) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, e := range episodes {
		if err := enc.Encode(e); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// PromptTrimProposer saves tokens: it leaves out the fixed examples of an agent. The gate says whether
// the agent needs them.
type PromptTrimProposer struct{}

// Propose makes a draft for the deciding agent when it has fixed examples.
func (PromptTrimProposer) Propose(_ context.Context, s Situation) ([]Draft, error) {
	name := deciding(s.Pack.Package)
	if name == "" || s.Pack.Package.Agents[name].Examples == "" {
		return nil, nil
	}
	path := s.Pack.Package.Agents[name].Examples
	tokens, runs := 0, 0
	for _, r := range s.Runs {
		if r.Tokens > 0 {
			tokens += r.Tokens
			runs++
		}
	}
	why := []string{fmt.Sprintf("%d fixed examples are sent with every message", bytes.Count(bytes.TrimSpace(s.Pack.Data[path]), []byte("\n"))+1)}
	if runs > 0 {
		why = append(why, fmt.Sprintf("a run reads %d prompt tokens on average", tokens/runs))
	}
	return []Draft{{
		Kind: KindPromptTrim, Goal: GoalCheaper,
		Title: name + ": leave out the fixed examples to save tokens", Why: why,
		Changes: []agent.Change{{File: "agents/" + name + ".agent.md", Path: []string{"examples"}}},
	}}, nil
}
