package tool_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"flywheel/internal/tool"
	"flywheel/spec"
)

// cardsServer is the built example server: a real MCP server with a ledger as witness.
var cardsServer string

func TestMain(m *testing.M) {
	if data := os.Getenv("TOOL_TEST_PARENT"); data != "" {
		parent(data)
		return
	}
	dir, err := os.MkdirTemp("", "cards")
	if err != nil {
		panic(err)
	}
	cardsServer = filepath.Join(dir, "cards-server")
	if out, err := exec.Command("go", "build", "-o", cardsServer, "flywheel/examples/card-desk/cards-server").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build cards-server: %v\n%s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// bankPackage is a package whose tools are those of the cards-server.
func bankPackage(outage string) *spec.Package {
	mcp := func(name string, effect spec.Effect) *spec.Tool {
		return &spec.Tool{
			Effect: effect, Timeout: spec.Duration(20 * time.Second), Idempotency: "meta:idempotencyKey",
			Call: spec.ToolCall{MCP: &spec.MCPCall{Server: "cards", Tool: name}},
		}
	}
	p := &spec.Package{
		Env: map[string]spec.EnvVar{"SERVER": {Required: true}, "DATA": {Required: true}, "OUTAGE": {}},
		Servers: map[string]*spec.MCPServer{"cards": {
			Command: []string{"${env.SERVER}", "--data", "${env.DATA}", "--outage", "${env.OUTAGE}" + outage},
		}},
		Tools: map[string]*spec.Tool{
			"cards.find":          mcp("find_card", spec.EffectRead),
			"cards.freeze":        mcp("freeze_card", spec.EffectWrite),
			"cards_mirror.freeze": mcp("freeze_card_mirror", spec.EffectWrite),
			"transactions.list":   mcp("list_transactions", spec.EffectRead),
		},
	}
	for name, t := range p.Tools {
		t.Name = name
	}
	return p
}

// bank is a package, a service and a data file.
type bank struct {
	t       *testing.T
	pkg     *spec.Package
	env     map[string]string
	service *tool.Service
	caller  tool.Caller
}

func newBank(t *testing.T, outage string) *bank {
	t.Helper()
	b := &bank{t: t, pkg: bankPackage(outage), service: tool.New(tool.Deps{})}
	b.env = map[string]string{"SERVER": cardsServer, "DATA": filepath.Join(t.TempDir(), "bank.db")}
	b.caller = b.service.Caller(b.env, b.pkg)
	t.Cleanup(func() {
		if err := b.service.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bank) do(name, args, key string) tool.Result {
	b.t.Helper()
	p := tool.Policy{Clock: realClock, Tools: b.pkg.Tools, Caller: b.caller}
	return tool.Do(b.t.Context(), p, tool.Call{Tool: b.pkg.Tools[name], Name: name, Args: json.RawMessage(args), Key: key})
}

type ledgerLine struct {
	Tool    string `json:"tool"`
	Card    string `json:"card"`
	Key     string `json:"key"`
	Repeats int    `json:"repeats"`
}

// ledger asks the witness what really happened.
func (b *bank) ledger() []ledgerLine {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), cardsServer, "ledger", "--data", b.env["DATA"]).Output()
	if err != nil {
		b.t.Fatal(err)
	}
	var lines []ledgerLine
	scan := bufio.NewScanner(bytes.NewReader(out))
	for scan.Scan() {
		var l ledgerLine
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			b.t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}
