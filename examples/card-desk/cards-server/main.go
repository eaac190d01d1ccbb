package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cards-server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	printLedger := len(args) > 0 && args[0] == "ledger"
	if printLedger {
		args = args[1:]
	}
	flags := flag.NewFlagSet("cards-server", flag.ContinueOnError)
	data := flags.String("data", "", "SQLite `file` with cards and ledger; made and seeded when it is not there")
	outageText := flags.String("outage", "", "when a tool fails, as in freeze_card:every=20s,for=6s,mode=mixed")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *data == "" {
		return errors.New("--data FILE is missing")
	}
	outage, err := parseOutage(*outageText)
	if err != nil {
		return err
	}
	bank, err := openBank(ctx, *data)
	if err != nil {
		return err
	}
	defer bank.close()
	if printLedger {
		return writeLedger(ctx, bank, out)
	}
	s := &server{bank: bank, outage: outage, now: time.Now, exit: func() { os.Exit(3) }}
	err = s.mcp().Run(ctx, &mcp.StdioTransport{})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func writeLedger(ctx context.Context, b *bank, out io.Writer) error {
	effects, err := b.ledger(ctx)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	for _, e := range effects {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	return nil
}
