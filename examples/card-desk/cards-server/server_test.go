package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// connect serves a bank in process and returns a client's session with it.
func connect(t *testing.T, s *server) *mcp.ClientSession {
	t.Helper()
	here, there := mcp.NewInMemoryTransports()
	if _, err := s.mcp().Connect(t.Context(), there, nil); err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func newServer(t *testing.T, outageText string) *server {
	t.Helper()
	o, err := parseOutage(outageText)
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBank(t.Context(), filepath.Join(t.TempDir(), "bank 1.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return &server{bank: b, outage: o, now: time.Now, exit: func() { t.Error("the process would exit") }}
}

// call returns the structured content as JSON, and whether it is an error.
func call(t *testing.T, s *mcp.ClientSession, name, args, key string) (string, bool) {
	t.Helper()
	params := &mcp.CallToolParams{Name: name, Arguments: json.RawMessage(args)}
	if key != "" {
		params.Meta = mcp.Meta{"idempotencyKey": key}
	}
	res, err := s.CallTool(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), res.IsError
}

func TestToolsAnswerWithCardStatusAndMessage(t *testing.T) {
	t.Parallel()
	session := connect(t, newServer(t, ""))
	for _, c := range []struct {
		tool, args, want string
		isError          bool
	}{
		{"find_card", `{"card":"4711"}`, `{"card":"4711","holder":"Ada Byron","kind":"debit","message":"Card 4711 is active.","status":"active"}`, false},
		{"find_card", `{"card":"0000"}`, `{"error":{"class":"rejected","message":"There is no card 0000.","status":404}}`, true},
		{"freeze_card", `{"card":"4711"}`, `{"card":"4711","message":"Card 4711 is frozen.","status":"frozen"}`, false},
		{"find_card", `{"card":"4711"}`, `{"card":"4711","holder":"Ada Byron","kind":"debit","message":"Card 4711 is frozen.","status":"frozen"}`, false},
		{"freeze_card_mirror", `{"card":"1234"}`, `{"card":"1234","message":"Card 1234 is frozen.","status":"frozen"}`, false},
		{"replace_card", `{"card":"4711"}`, `{"card":"4711","message":"A new card for 4711 is on its way.","status":"replaced"}`, false},
		{"list_transactions", `{"card":"7070"}`, `{"card":"7070","message":"Card 7070 has no transactions.","transactions":[]}`, false},
		{"open_dispute", `{"card":"7070"}`, `{"error":{"class":"rejected","message":"Card 7070 has no such transaction.","status":404}}`, true},
		{"open_dispute", `{"card":"1234"}`, `{"card":"1234","dispute":"D-4","message":"A dispute for card 1234 is open: 69.65 EUR at Cinema Lux.","status":"disputed","transaction":"T105"}`, false},
		{"hand_over", `{}`, `{"card":"","message":"A person will take over.","status":"waiting","ticket":"H-5"}`, false},
	} {
		got, isError := call(t, session, c.tool, c.args, "")
		if got != c.want || isError != c.isError {
			t.Errorf("%s %s:\n got %s\nwant %s", c.tool, c.args, got, c.want)
		}
	}
}

func TestAKeyHasOneEffectOnWhateverPath(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	session := connect(t, s)
	first, _ := call(t, session, "freeze_card", `{"card":"4711"}`, "k")
	again, isError := call(t, session, "freeze_card_mirror", `{"card":"4711"}`, "k")
	if isError || again != first {
		t.Errorf("the mirror under the same key: %s, want %s", again, first)
	}
	if got, isError := call(t, session, "replace_card", `{"card":"4711"}`, "k"); !isError || !strings.Contains(got, `"status":409`) {
		t.Errorf("the key for something else: %s", got)
	}
	var out bytes.Buffer
	if err := writeLedger(t.Context(), s.bank, &out); err != nil {
		t.Fatal(err)
	}
	var e effect
	if err := json.Unmarshal(out.Bytes(), &e); err != nil {
		t.Fatalf("one line is expected: %v\n%s", err, out.String())
	}
	e.At = ""
	want := effect{Seq: 1, Tool: "freeze_card", Card: "4711", Key: "k", Repeats: 1, Result: json.RawMessage(first)}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
}

func TestOutagesFailInTurn(t *testing.T) {
	t.Parallel()
	s := newServer(t, "freeze_card:every=20s,for=6s,mode=mixed")
	at := time.Unix(0, 0)
	s.now = func() time.Time { return at }
	exits := 0
	s.exit = func() { exits++ }
	freeze := func(ctx context.Context) error {
		_, err := s.freezeCard("freeze_card")(ctx, cardArgs{Card: "4711"}, "")
		return err
	}
	effects := func() int {
		l, err := s.bank.ledger(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(l)
	}
	if err := freeze(t.Context()); err == nil || err.Error() != "The card service is down. Try again later." || effects() != 0 {
		t.Errorf("status: %v, %d effects", err, effects())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := freeze(ctx); err == nil || effects() != 0 {
		t.Errorf("hang: %v, %d effects", err, effects())
	}
	if err := s.fail(t.Context(), "freeze_card", modeDie); err != nil || exits != 1 {
		t.Errorf("die: %v, %d exits", err, exits)
	}
	if _, err := s.bank.countFailure(t.Context(), "freeze_card"); err != nil { // the turn of die
		t.Fatal(err)
	}
	if err := freeze(t.Context()); err != nil || exits != 2 || effects() != 1 {
		t.Errorf("late: %v, %d exits, %d effects", err, exits, effects())
	}
	at = time.Unix(6, 0) // the outage is over
	if err := freeze(t.Context()); err != nil || exits != 2 {
		t.Errorf("after the outage: %v", err)
	}
	at = time.Unix(25, 0)
	if _, err := s.freezeCard("freeze_card_mirror")(t.Context(), cardArgs{Card: "4711"}, ""); err != nil {
		t.Errorf("the mirror in an outage: %v", err)
	}
}

func TestOutagesThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"freeze_card", "freeze_card:", "freeze_card:every=1s,for=x", "x:every=1s,mode=loud", "x:for=1s", "x:every=1s,for=1s,mode="} {
		if _, err := parseOutage(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	for _, text := range []string{"", "none"} {
		if o, err := parseOutage(text); err != nil || o.active("freeze_card", time.Now()) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAFileIsSeededOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bank.db")
	for range 2 {
		b, err := openBank(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := b.db.QueryRowContext(t.Context(), `SELECT count(*) FROM cards`).Scan(&n); err != nil || n < 12 {
			t.Errorf("%d cards (%v)", n, err)
		}
		b.close()
	}
	if err := run(t.Context(), []string{"ledger"}, &bytes.Buffer{}); err == nil || err.Error() != "--data FILE is missing" {
		t.Errorf("without a file: %v", err)
	}
}

// TestTheWorldOfTheSuitesIsThisBank keeps simulation and reality together.
func TestTheWorldOfTheSuitesIsThisBank(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile(filepath.Join("..", "worlds", "bank.json"))
	if os.IsNotExist(err) {
		t.Skip("the package has no world yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	var world, real seed
	for dst, b := range map[*seed][]byte{&world: src, &real: seedJSON} {
		if err := json.Unmarshal(b, dst); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(real, world); d != "" {
		t.Errorf("seed.json (-) and worlds/bank.json (+) differ: %s", d)
	}
}
