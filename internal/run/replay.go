package run

import (
	"context"
	"encoding/json"
	"fmt"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
)

// ReplayReport says whether the commands of a run are the same when it is computed again.
type ReplayReport struct {
	Run      ID          `json:"run"`
	Identity blob.Digest `json:"identity"` // of the package that was replayed
	Equal    bool        `json:"equal"`
	Steps    int         `json:"steps"` // that were equal
	First    *Difference `json:"first,omitempty"`
}

// Difference is the first command that is not the recorded one.
type Difference struct {
	Step int    `json:"step"`
	Node string `json:"node"`
	// What differs, in words: "messages[0]", "arguments", "the run ended".
	What     string `json:"what"`
	Recorded *Side  `json:"recorded,omitempty"` // nil: the journal has no such step
	Now      *Side  `json:"now,omitempty"`      // nil: nothing is asked for now
}

// Side is a command on one side of a difference.
type Side struct {
	Kind   string          `json:"kind"`
	Node   string          `json:"node"`
	Digest string          `json:"digest"`
	Body   json.RawMessage `json:"body,omitempty"` // what the journal keeps of it: ModelInput, ToolInput, Ask, Output
}

// String is the difference in a line.
func (d *Difference) String() string {
	return fmt.Sprintf("step %d, node %s: %s", d.Step, d.Node, d.What)
}

// Replay computes a run again from its journal, with its own package, and compares each command.
// Nothing is called.
func (s *Service) Replay(ctx context.Context, id ID) (*ReplayReport, error) {
	return s.ReplayOn(ctx, id, "")
}

// ReplayOn is Replay with another package.
func (s *Service) ReplayOn(ctx context.Context, id ID, identity blob.Digest) (*ReplayReport, error) {
	r, err := s.store.run(ctx, s.deps.DB, id)
	if err != nil {
		return nil, err
	}
	if identity == "" {
		identity = r.Identity
	}
	on := *r
	on.Identity = identity
	begin, program, rows, err := s.load(ctx, &on)
	if err != nil {
		return nil, err
	}
	m := NewMachine(program, begin.Input, begin.History)
	report := &ReplayReport{Run: id, Identity: identity}
	if report.First, err = m.replay(rows); err != nil {
		return nil, err
	}
	report.Equal = report.First == nil
	report.Steps = m.compared
	return report, nil
}

// replay applies the answers of a journal while the commands are those that it recorded.
func (m *Machine) replay(rows []Row) (*Difference, error) {
	compared := map[int]bool{}
	for i := range rows {
		r := &rows[i]
		if outside(r) {
			return nil, nil
		}
		c := m.open(r.Step)
		if c == nil {
			return m.missing(r), nil
		}
		if r.Kind != RowAsk || c.Kind == KindAsk { // a question about an uncertain call is no command
			if got := string(c.Digest()); got != r.Digest {
				return difference(c, r), nil
			}
			compared[r.Step] = true
			m.compared = len(compared)
		}
		if r.Kind == RowFinish {
			return nil, m.Apply(r.Step, Answer{})
		}
		a, isAnswer, err := r.Decode()
		if err != nil {
			return nil, err
		}
		if !isAnswer {
			continue
		}
		if err := m.Apply(r.Step, a); err != nil {
			return nil, fault.Wrap(err, fault.Internal, ClassDiverged, "row %d cannot be replayed", r.Seq)
		}
	}
	return nil, nil
}

// outside tells the end that came from outside the machine: canceled, diverged.
func outside(r *Row) bool {
	return r.Kind == RowFinish && (r.Class == ClassCanceled || r.Class == ClassDiverged)
}

func (m *Machine) open(step int) *Command {
	for i := range m.pending {
		if m.pending[i].Step == step {
			return &m.pending[i]
		}
	}
	return nil
}

func (m *Machine) missing(r *Row) *Difference {
	d := &Difference{Step: r.Step, Node: r.Node, Recorded: recordedSide(r)}
	if len(m.pending) == 0 {
		d.What = "the run has ended before this step"
		return d
	}
	d.What = "this step is not asked for"
	d.Now = nowSide(&m.pending[0])
	return d
}

func difference(c *Command, r *Row) *Difference {
	d := &Difference{Step: r.Step, Node: c.Node, Recorded: recordedSide(r), Now: nowSide(c)}
	switch {
	case c.Node != r.Node:
		d.What = fmt.Sprintf("the node was %s and is %s", r.Node, c.Node)
	case d.Now.Kind != d.Recorded.Kind:
		d.What = fmt.Sprintf("the command was %s and is %s", d.Recorded.Kind, d.Now.Kind)
	case c.Kind == KindModel:
		d.What = modelDifference(d)
	case c.Kind == KindTool:
		d.What = toolDifference(d)
	case c.Kind == KindFinish:
		d.What = "the end is another"
	default:
		d.What = "the question is another"
	}
	return d
}

func recordedSide(r *Row) *Side {
	s := &Side{Kind: r.Kind, Node: r.Node, Digest: r.Digest, Body: r.Input}
	switch r.Kind {
	case RowIntent:
		s.Kind = RowTool
	case RowAnswer:
		s.Kind = RowAsk
	case RowFinish:
		s.Body = r.Output
	}
	return s
}

func nowSide(c *Command) *Side {
	s := &Side{Kind: string(c.Kind), Node: c.Node, Digest: string(c.Digest())}
	var err error
	switch {
	case c.Finish != nil:
		s.Body, err = canon.JSON(c.Finish)
	case c.Failure != nil:
		s.Body, err = canon.JSON(c.Failure)
	default:
		s.Body, err = c.encode()
	}
	if err != nil {
		s.Body = nil
	}
	return s
}

func modelDifference(d *Difference) string {
	var was, is ModelInput
	if json.Unmarshal(d.Recorded.Body, &was) != nil || json.Unmarshal(d.Now.Body, &is) != nil {
		return "the request is another"
	}
	switch {
	case was.Model != is.Model:
		return fmt.Sprintf("the model was %s and is %s", was.Model, is.Model)
	case len(was.Messages) != len(is.Messages):
		return fmt.Sprintf("there were %d new messages and are %d", len(was.Messages), len(is.Messages))
	}
	for i := range was.Messages {
		a, errA := canon.JSON(was.Messages[i])
		b, errB := canon.JSON(is.Messages[i])
		if errA != nil || errB != nil || string(a) != string(b) {
			return fmt.Sprintf("message %d (%s) is another", i+1, is.Messages[i].Role)
		}
	}
	if was.Temperature != is.Temperature || was.MaxTokens != is.MaxTokens || was.Seed != is.Seed {
		return "the sampling of the request is another"
	}
	return "the tools, the output schema, or an earlier message of the request are others"
}

func toolDifference(d *Difference) string {
	var was, is ToolInput
	if json.Unmarshal(d.Recorded.Body, &was) != nil || json.Unmarshal(d.Now.Body, &is) != nil {
		return "the call is another"
	}
	if was.Tool != is.Tool {
		return fmt.Sprintf("the tool was %s and is %s", was.Tool, is.Tool)
	}
	return fmt.Sprintf("the arguments of %s were %s and are %s", was.Tool, was.Args, is.Args)
}

// jsonOrText is what a person wrote as JSON: as it is when it is JSON, else as a string.
func jsonOrText(text string) json.RawMessage {
	if text == "" {
		return json.RawMessage("null")
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	b, err := canon.JSON(text)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}
