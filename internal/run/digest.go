package run

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
)

// conversation is the growing list of messages between an agent and its model. Requests are prefixes
// of it, so the digest of a request costs only what is new since the one before.
type conversation struct {
	agent    *agentProgram
	messages []Message
	last     int // step of the last request, or -1
	sent     int // messages in the last request

	hashed int // messages in sum
	sum    [sha256.Size]byte
}

// digest is a chain over the first n messages: sum(i) = sha256(sum(i-1) ‖ JSON of message i).
func (c *conversation) digest(messages []Message) ([sha256.Size]byte, error) {
	if len(messages) < c.hashed {
		c.hashed, c.sum = 0, [sha256.Size]byte{}
	}
	for ; c.hashed < len(messages); c.hashed++ {
		text, err := canon.JSON(messages[c.hashed])
		if err != nil {
			return c.sum, err
		}
		h := sha256.New()
		_, _ = h.Write(c.sum[:])
		_, _ = h.Write(text)
		h.Sum(c.sum[:0])
	}
	return c.sum, nil
}

// Digest names the command by its content: kind, node and everything that its effect depends on. The
// step, the idempotency key and the run are not in it.
func (c *Command) Digest() blob.Digest {
	if c.digest != "" {
		return c.digest
	}
	h := sha256.New()
	_, _ = io.WriteString(h, string(c.Kind)+"\n"+c.Node+"\n")
	switch {
	case c.Model != nil:
		c.digestModel(h)
	case c.Tool != nil:
		_, _ = io.WriteString(h, c.Tool.Name+"\n")
		_, _ = h.Write(c.Tool.Args)
	case c.Ask != nil:
		write(h, c.Ask)
	case c.Failure != nil:
		write(h, c.Failure)
	case c.Finish != nil:
		write(h, c.Finish)
	}
	c.digest = blob.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	return c.digest
}

func (c *Command) digestModel(h hash.Hash) {
	r := *c.Model
	chat := c.chat
	if chat == nil {
		chat = &conversation{}
	}
	sum, err := chat.digest(r.Messages)
	if err != nil { // a message that has no JSON cannot be journaled either
		_, _ = io.WriteString(h, err.Error())
	}
	_, _ = h.Write(sum[:])
	r.Messages = nil
	if chat.agent != nil && len(chat.agent.toolSum) > 0 {
		_, _ = h.Write(chat.agent.toolSum)
	} else {
		write(h, r.Tools)
	}
	r.Tools = nil
	write(h, r)
}

func write(w io.Writer, v any) {
	b, err := canon.JSON(v)
	if err != nil {
		b = []byte(err.Error())
	}
	_, _ = w.Write(b)
}

// modelInput is what the journal keeps of a request.
func (c *Command) modelInput() ModelInput {
	r := c.Model
	in := ModelInput{
		After: c.after, Model: r.Model, Messages: r.Messages[c.from:], Temperature: r.Temperature,
		MaxTokens: r.MaxTokens, Seed: r.Seed,
	}
	if c.after < 0 {
		in.Schema = r.Output
		for _, t := range r.Tools {
			in.Tools = append(in.Tools, t.Name)
		}
	}
	return in
}
