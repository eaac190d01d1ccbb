package lab

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"flywheel/internal/platform/op"
)

// sixTurns is a package whose suite plays episodes of six turns on a bank of 20,000 cards (3 MB): with one
// user message that takes six model answers and five tool calls, or with six user messages that each take
// two model answers and a tool call.
func sixTurns(b *testing.B, userTurns bool) op.Dir {
	b.Helper()
	dir := desk(b, "main: test/gold", "main: scripted/desk")
	dir["models/desk.script.yaml"] = []byte(`name: desk
rules:
  - when: {contains: "turn by turn", tool_result: {contains: frozen}}
    reply: "Frozen."
  - when: {matches: 'turn by turn .*(\d{5})'}
    call: {tool: cards.freeze, args: {card_id: "$1"}}
  - when: {matches: 'lost card (\d{5})', tool_result: {contains: note 3}}
    reply: "The card $1 is frozen."
  - when: {matches: 'lost card (\d{5})', tool_result: {contains: note 2}}
    call: {tool: cards.note, args: {card_id: "$1", text: "note 3"}}
  - when: {matches: 'lost card (\d{5})', tool_result: {contains: note 1}}
    call: {tool: cards.note, args: {card_id: "$1", text: "note 2"}}
  - when: {matches: 'lost card (\d{5})', tool_result: {contains: owner}}
    call: {tool: cards.freeze, args: {card_id: "$1"}}
  - when: {matches: 'lost card (\d{5})', tool_result: {contains: frozen}}
    call: {tool: cards.note, args: {card_id: "$1", text: "note 1"}}
  - when: {matches: 'lost card (\d{5})'}
    call: {tool: cards.get, args: {card_id: "$1"}}
default: {reply: "How can I help?"}
`)
	dir["tools/cards.tool.yaml"] = append(dir["tools/cards.tool.yaml"], []byte(`  cards.get:
    does: Show a card.
    effect: read
    in: {card_id: string}
    call: {http: {post: "http://127.0.0.1:1/get"}}
    mock: {star: mocks/cards.star, func: get}
`)...)
	dir["mocks/cards.star"] = []byte(`
def find(world, args, now):
    return {}

def close(world, args, now):
    return {}

def get(world, args, now):
    card = world["cards"][args["card_id"]]
    return {"owner": card["owner"], "status": card["status"]}

def freeze(world, args, now):
    card = world["cards"][args["card_id"]]
    card["status"] = "frozen"
    return {"message": "The card %s is frozen." % args["card_id"]}

def note(world, args, now):
    world["cards"][args["card_id"]]["notes"].append(args["text"])
    return {"written": args["text"]}
`)
	var world strings.Builder
	world.WriteString(`{"cards": {`)
	for i := range 20_000 {
		if i > 0 {
			world.WriteByte(',')
		}
		fmt.Fprintf(&world, `"%d": {"owner": "customer %d", "status": "active", "notes": [], "street": "A long street %d", "opened": "2021-03-0%d"}`, 10000+i, i, i, i%9+1)
	}
	world.WriteString("}}")
	dir["worlds/bank.json"] = []byte(world.String())
	var rows strings.Builder
	for i := range 250 {
		card := fmt.Sprint(10000 + i)
		if !userTurns {
			fmt.Fprintf(&rows, `{"name": "case %d", "says": "I lost card %s", "expect": {"state": {"cards.%s.status": "frozen", "cards.%s.notes": ["note 1", "note 2", "note 3"]}, "calls": ["cards.get", "cards.freeze", "cards.note"], "says": {"contains": ["%s"]}}}`+"\n", i, card, card, card, card)
			continue
		}
		var says, state []string
		for turn := range 6 {
			c := 10000 + i + 1000*turn
			says = append(says, fmt.Sprintf(`"turn by turn %d: card %d"`, turn, c))
			state = append(state, fmt.Sprintf(`"cards.%d.status": "frozen"`, c))
		}
		fmt.Fprintf(&rows, `{"name": "case %d", "says": [%s], "expect": {"state": {%s}, "calls": ["cards.freeze", "cards.freeze"], "says": {"contains": ["frozen"]}}}`+"\n",
			i, strings.Join(says, ", "), strings.Join(state, ", "))
	}
	dir["suites/cases.jsonl"] = []byte(rows.String())
	dir[suiteFile] = []byte("suite: smoke\nworlds: {bank: worlds/bank.json}\nscenarios:\n  - {name: shape, template: true, world: bank}\ndata: {cases: suites/cases.jsonl, template: shape}\n")
	return dir
}

// BenchmarkTrials reports durable trials per second.
func BenchmarkTrials(b *testing.B) {
	for _, c := range []struct {
		name      string
		userTurns bool
	}{{"six-model-turns", false}, {"six-user-turns", true}} {
		b.Run(c.name, func(b *testing.B) {
			lab := open(b, b.TempDir())
			req := lab.draft(sixTurns(b, c.userTurns))
			req.Split, req.Parallel, req.Trials = SplitDev, 0, 4
			if _, err := lab.Test(context.Background(), req, nil); err != nil { // warm
				b.Fatal(err)
			}
			b.ResetTimer()
			trials := 0
			for i := range b.N {
				req.Seed = uint64(100 + i)
				r, err := lab.Test(context.Background(), req, nil)
				if err != nil || r.Total.Passed != 1000 {
					b.Fatalf("%v: %d passed: %+v", err, r.Total.Passed, r.Failing)
				}
				trials += r.Total.Trials
			}
			b.ReportMetric(float64(trials)/b.Elapsed().Seconds(), "trials/s")
		})
	}
}
