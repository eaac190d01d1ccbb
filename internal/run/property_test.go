package run_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"flywheel/internal/model"
	"flywheel/internal/run"
	"flywheel/internal/tool"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// drawAnswer gives any answer that the world might give to a command.
func drawAnswer(t *rapid.T, c *run.Command) run.Answer {
	a := run.Answer{For: time.Duration(rapid.IntRange(0, 5000).Draw(t, "took")) * time.Microsecond}
	text := rapid.SampledFrom([]string{"", "frozen", "a <b> & \"c\"\n", "Grüße \u2028 😀", "{\"label\":\"x\"}", "bad \xff utf8"}).Draw(t, "text")
	switch c.Kind {
	case run.KindModel:
		switch rapid.IntRange(0, 5).Draw(t, "model") {
		case 0:
			a.Failure = &run.Failure{Class: run.ClassMalformed, Message: text}
		case 1, 2:
			r := call()
			for range rapid.IntRange(1, 3).Draw(t, "calls") {
				name := rapid.SampledFrom([]string{"cards.find", "cards.freeze", "cards.pay", "cards.eat"}).Draw(t, "tool")
				args := rapid.SampledFrom([]string{`{"name":"a"}`, `{ "card_id" : "<1>" , "reason":"x" }`, `{"card_id":"12345678901234567890"}`, `nonsense`, ``}).Draw(t, "args")
				r.Message.ToolCalls = append(r.Message.ToolCalls, model.ToolCall{
					ID: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "id"), Name: name, Args: json.RawMessage(args),
				})
			}
			r.Message.Content = strings.ToValidUTF8(text, "?")
			a.Model = &r
		default:
			r := say(text)
			a.Model = &r
		}
	case run.KindTool:
		class := rapid.SampledFrom([]tool.Class{tool.OK, tool.OK, tool.Timeout, tool.Rejected}).Draw(t, "class")
		a.Tool = &tool.Result{Class: class, Tool: c.Tool.Name, Attempts: []tool.Attempt{{Tool: c.Tool.Name, Class: class, At: epoch}}}
		if class == tool.OK {
			out := rapid.SampledFrom([]string{`{"did": "<it>", "n": 1.5}`, `"words"`, `[1, 2]`, `null`, ``}).Draw(t, "out")
			a.Tool.Out = json.RawMessage(out)
		} else {
			a.Tool.Message = strings.ToValidUTF8(text, "?")
		}
	case run.KindAsk:
		a.Human = &run.Human{Approved: rapid.Bool().Draw(t, "approved"), Text: strings.ToValidUTF8(text, "?")}
	}
	return a
}

// state is everything that a machine shows.
func state(t *rapid.T, m *run.Machine) string {
	var b strings.Builder
	for i := range m.Next() {
		c := &m.Next()[i]
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("command: %v", err)
		}
		fmt.Fprintf(&b, "%s %s\n", c.Digest(), text)
	}
	ended, err := json.Marshal(m.Ended())
	if err != nil {
		t.Fatalf("ended: %v", err)
	}
	return b.String() + string(ended)
}

// The machine that was applied answer by answer equals the machine that is rebuilt from any prefix of
// its journal, after the journal has been written and read.
func TestMachineEqualsItsRebuildFromAnyPrefix(t *testing.T) {
	t.Parallel()
	programs := []*run.Program{compile(t, deskPackage(), nil), compile(t, refundPackage(), nil), compile(t, outputPackage(), nil)}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(programs).Draw(t, "program")
		in := run.Input{Message: rapid.SampledFrom([]string{"pay 4711", "hello", ""}).Draw(t, "message"), Seed: 7}
		live := run.NewMachine(p, in, nil)
		var journal []run.Row
		states := []string{state(t, live)}
		for len(live.Next()) > 0 && len(journal) < 40 {
			open := live.Next()
			c := open[rapid.IntRange(0, len(open)-1).Draw(t, "which")]
			a := drawAnswer(t, &c)
			row := run.Row{Step: c.Step, Kind: map[run.Kind]string{
				run.KindModel: run.RowModel, run.KindTool: run.RowTool, run.KindAsk: run.RowAnswer, run.KindFinish: run.RowFinish,
			}[c.Kind], StartedAt: epoch, EndedAt: epoch.Add(a.For), Command: &c, Answer: &a}
			if err := row.Encode(); err != nil {
				t.Fatalf("encode: %v", err)
			}
			journal = append(journal, row)
			if err := live.Apply(c.Step, a); err != nil {
				t.Fatalf("apply: %v", err)
			}
			states = append(states, state(t, live))
		}
		for n := range states {
			again := run.NewMachine(p, in, nil)
			for i := range journal[:n] {
				row := journal[i]
				row.Command, row.Answer = nil, nil
				a, _, err := row.Decode()
				if err != nil {
					t.Fatalf("decode %s: %v", row.Output, err)
				}
				if err := again.Apply(row.Step, a); err != nil {
					t.Fatalf("apply again: %v", err)
				}
			}
			if diff := cmp.Diff(states[n], state(t, again)); diff != "" {
				t.Fatalf("after %d answers (-live +rebuilt):\n%s", n, diff)
			}
		}
	})
}
