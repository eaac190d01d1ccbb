package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// server serves the tools of a bank.
type server struct {
	bank   *bank
	outage outage
	now    func() time.Time
	exit   func() // ends the process in mid-call
}

type cardArgs struct {
	Card string `json:"card" jsonschema:"the last four digits of the card"`
}

type disputeArgs struct {
	Card        string `json:"card" jsonschema:"the last four digits of the card"`
	Transaction string `json:"transaction,omitempty" jsonschema:"id of the transaction; the newest when it is left out"`
}

type handOverArgs struct {
	Card   string `json:"card,omitempty" jsonschema:"the last four digits of the card, when it is known"`
	Reason string `json:"reason,omitempty" jsonschema:"what the customer wants, in a few words"`
}

// refusal is an error that the caller can act on.
type refusal struct {
	Class   string `json:"class"`
	Status  int    `json:"status"`
	Message string `json:"message"`
}

func (r *refusal) Error() string { return r.Message }

func noCard(number string) error {
	return &refusal{Class: "rejected", Status: 404, Message: fmt.Sprintf("There is no card %s.", number)}
}

func (s *server) mcp() *mcp.Server {
	m := mcp.NewServer(&mcp.Implementation{Name: "cards", Version: "1"}, nil)
	add(m, "find_card", "Find a card by its last four digits and say how it is.", s.findCard)
	add(m, "list_transactions", "List the latest transactions of a card.", s.listTransactions)
	add(m, "freeze_card", "Freeze a card so that it cannot be used.", s.freezeCard("freeze_card"))
	add(m, "freeze_card_mirror", "Freeze a card so that it cannot be used, by the mirror of the card service.", s.freezeCard("freeze_card_mirror"))
	add(m, "replace_card", "Send a new card; the old one stops working.", s.replaceCard)
	add(m, "open_dispute", "Dispute a transaction of a card.", s.openDispute)
	add(m, "hand_over", "Hand the customer over to a person.", s.handOver)
	return m
}

// add registers a tool whose errors are structured results.
func add[In any](m *mcp.Server, name, does string, fn func(ctx context.Context, in In, key string) (any, error)) {
	mcp.AddTool(m, &mcp.Tool{Name: name, Description: does},
		func(ctx context.Context, req *mcp.CallToolRequest, in In) (*mcp.CallToolResult, any, error) {
			key, _ := req.Params.Meta["idempotencyKey"].(string)
			out, err := fn(ctx, in, key)
			if err == nil {
				return nil, out, nil
			}
			var r *refusal
			if !errors.As(err, &r) {
				r = &refusal{Class: "unavailable", Status: 500, Message: err.Error()}
			}
			return &mcp.CallToolResult{
				IsError: true, StructuredContent: map[string]any{"error": r},
				Content: []mcp.Content{&mcp.TextContent{Text: r.Message}},
			}, nil, nil
		})
}

func (s *server) findCard(ctx context.Context, in cardArgs, _ string) (any, error) {
	c, err := s.bank.card(ctx, in.Card)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"card": in.Card, "holder": c.Holder, "kind": c.Kind, "status": c.Status,
		"message": fmt.Sprintf("Card %s is %s.", in.Card, c.Status),
	}, nil
}

func (s *server) listTransactions(ctx context.Context, in cardArgs, _ string) (any, error) {
	if _, err := s.bank.card(ctx, in.Card); err != nil {
		return nil, err
	}
	list, err := s.bank.transactions(ctx, in.Card)
	if err != nil {
		return nil, err
	}
	message := fmt.Sprintf("Card %s has no transactions.", in.Card)
	if len(list) > 0 {
		last := list[0]
		message = fmt.Sprintf("The last transaction of card %s: %s at %s on %s.", in.Card, last.Amount, last.Merchant, last.Date)
	}
	return map[string]any{"card": in.Card, "transactions": list, "message": message}, nil
}

func (s *server) freezeCard(tool string) func(context.Context, cardArgs, string) (any, error) {
	return func(ctx context.Context, in cardArgs, key string) (any, error) {
		if _, err := s.bank.card(ctx, in.Card); err != nil {
			return nil, err
		}
		way := ""
		if s.outage.active(tool, s.now()) {
			n, err := s.bank.countFailure(ctx, tool)
			if err != nil {
				return nil, err
			}
			way = s.outage.way(n)
			if err := s.fail(ctx, tool, way); err != nil {
				return nil, err
			}
		}
		out, err := s.bank.do(ctx, order{tool: tool, action: "freeze", card: in.Card, key: key, status: "frozen"}, func(int64) any {
			return map[string]any{"card": in.Card, "status": "frozen", "message": fmt.Sprintf("Card %s is frozen.", in.Card)}
		})
		if way == modeLate {
			s.die(tool)
		}
		return out, err
	}
}

// fail fails before the effect.
func (s *server) fail(ctx context.Context, tool, way string) error {
	switch way {
	case modeStatus:
		return &refusal{Class: "unavailable", Status: 503, Message: "The card service is down. Try again later."}
	case modeHang:
		<-ctx.Done() // until the caller gives up
		return ctx.Err()
	case modeDie:
		s.die(tool)
	}
	return nil
}

func (s *server) die(tool string) {
	fmt.Fprintln(os.Stderr, "cards-server: outage: the process ends in the middle of", tool)
	s.exit()
}

func (s *server) replaceCard(ctx context.Context, in cardArgs, key string) (any, error) {
	if _, err := s.bank.card(ctx, in.Card); err != nil {
		return nil, err
	}
	return s.bank.do(ctx, order{tool: "replace_card", action: "replace", card: in.Card, key: key, status: "replaced"}, func(int64) any {
		return map[string]any{"card": in.Card, "status": "replaced", "message": fmt.Sprintf("A new card for %s is on its way.", in.Card)}
	})
}

func (s *server) openDispute(ctx context.Context, in disputeArgs, key string) (any, error) {
	if _, err := s.bank.card(ctx, in.Card); err != nil {
		return nil, err
	}
	list, err := s.bank.transactions(ctx, in.Card)
	if err != nil {
		return nil, err
	}
	about, ok := pick(list, in.Transaction)
	if !ok {
		return nil, &refusal{Class: "rejected", Status: 404, Message: fmt.Sprintf("Card %s has no such transaction.", in.Card)}
	}
	return s.bank.do(ctx, order{tool: "open_dispute", action: "dispute " + about.ID, card: in.Card, key: key}, func(seq int64) any {
		return map[string]any{
			"card": in.Card, "status": "disputed", "dispute": fmt.Sprintf("D-%d", seq), "transaction": about.ID,
			"message": fmt.Sprintf("A dispute for card %s is open: %s at %s.", in.Card, about.Amount, about.Merchant),
		}
	})
}

// pick finds a transaction, or the newest.
func pick(list []transaction, id string) (transaction, bool) {
	for _, t := range list {
		if id == "" || t.ID == id {
			return t, true
		}
	}
	return transaction{}, false
}

func (s *server) handOver(ctx context.Context, in handOverArgs, key string) (any, error) {
	return s.bank.do(ctx, order{tool: "hand_over", action: "hand over", card: in.Card, key: key}, func(seq int64) any {
		return map[string]any{
			"card": in.Card, "status": "waiting", "ticket": fmt.Sprintf("H-%d", seq),
			"message": "A person will take over.",
		}
	})
}
