package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"flywheel/client"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/id"
	"flywheel/internal/platform/op"
)

// chatOp is the operation that answers one message of a conversation.
const chatOp = "run.start"

// addChat adds the conversation, when there is an operation that answers messages.
func (s *shell) addChat(root *cobra.Command) {
	if find(root, "chat") != nil {
		return
	}
	for _, o := range s.app.Ops() {
		if o.Meta().ID == chatOp {
			root.AddCommand(s.chatCommand(o))
			return
		}
	}
}

func (s *shell) chatCommand(o op.Op) *cobra.Command {
	body := map[string]any{}
	c := &cobra.Command{
		Use: "chat", Short: "Talk with the agent: several messages of one session", Args: cobra.NoArgs,
		Long: "Talk with the agent of this directory, or with a released one. Each line is a message of one session;\n" +
			"an empty line is skipped, Ctrl-C stops an answer, Ctrl-D ends.",
		Example:     "  flywheel chat --agent card-desk@prod",
		Annotations: map[string]string{stageKey: fmt.Sprint(o.Meta().Stage)},
	}
	c.Flags().SortFlags = false
	for _, f := range o.Fields() {
		if f.Name == "agent" || f.Name == "release" || f.Name == "session" {
			c.Flags().String(f.Flag, "", lowerFirst(f.Doc))
		}
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		named := false
		body["session"] = id.New("ses", time.Now())
		for _, name := range []string{"agent", "release", "session"} {
			if text, err := cmd.Flags().GetString(name); err == nil && text != "" {
				body[name] = text
				named = named || name != "session"
			}
		}
		if !named {
			root, err := s.packageRoot()
			if err != nil {
				return err
			}
			if body["dir"], err = s.readPackage(root); err != nil {
				return err
			}
		}
		body["source"] = "chat"
		conn, err := s.connect(cmd.Context())
		if err != nil {
			return err
		}
		return conn.with(func(c *client.Client) error { return s.chat(cmd.Context(), c, o, body) })
	}
	return c
}

func (s *shell) chat(ctx context.Context, c *client.Client, o op.Op, body map[string]any) error {
	lines := s.lines(ctx)
	for {
		if s.StdinTTY {
			_, _ = io.WriteString(s.Stderr, s.paint(s.StderrTTY, bold, "> "))
		}
		var line string
		var ok bool
		select {
		case line, ok = <-lines:
		case <-ctx.Done():
			return nil // Ctrl-C at the prompt is how conversations end
		}
		if !ok {
			return nil
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		body["message"] = line
		result, err := s.call(ctx, c, o, &input{path: o.Meta().Path, body: body})
		if err == nil {
			err = s.showReply(o, result)
		}
		if err != nil {
			f := asFault(err)
			if ctx.Err() != nil || !s.StdinTTY || f.fault.Kind == fault.Unauthenticated || f.fault.Kind == fault.Unavailable && f.fault.Code == "client.unreachable" {
				return err
			}
			s.printError(f) // the conversation goes on
		}
	}
}

// lines reads the messages of a person beside the conversation, so that Ctrl-C is seen at the prompt.
func (s *shell) lines(ctx context.Context) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(s.Stdin)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

// reply is what a conversation needs of a run.
type reply struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Streamed bool   `json:"streamed"`
	Output   struct {
		Reply string `json:"reply"`
	} `json:"output"`
	Ask *struct {
		Question string `json:"question"`
	} `json:"ask"`
}

func (s *shell) showReply(o op.Op, result json.RawMessage) error {
	failed := o.Failure(result)
	if s.json {
		s.printJSON(result)
		return s.quiet(failed)
	}
	var r reply
	if err := json.Unmarshal(result, &r); err != nil {
		return errors.Join(errors.New("read the answer"), err)
	}
	switch {
	case failed != nil:
		return failed
	case r.Ask != nil && r.Status == "waiting":
		_, _ = fmt.Fprintf(s.out(), "waits for a person: %s\n", r.Ask.Question)
		s.note(fmt.Sprintf("flywheel answer %s --approve | --deny", r.ID))
	case !r.Streamed:
		_, _ = fmt.Fprintln(s.out(), r.Output.Reply)
	}
	return nil
}
