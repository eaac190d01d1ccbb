package run

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"flywheel/internal/model"
	"flywheel/internal/tool"
)

// Shown is a run with its timeline.
type Shown struct {
	Run   *Run        `json:"run"`
	Steps []ShownStep `json:"steps"`
}

// ShownStep is one step of a timeline.
type ShownStep struct {
	Step    int            `json:"step"`
	Kind    Kind           `json:"kind"`
	Node    string         `json:"node"`
	Name    string         `json:"name,omitempty"` // model or tool
	At      time.Time      `json:"at"`
	Took    time.Duration  `json:"took,omitempty"` // nanoseconds
	Usage   model.Usage    `json:"usage,omitzero"`
	Class   string         `json:"class,omitempty"`
	Message string         `json:"message,omitempty"` // of the failure
	Tries   []tool.Attempt `json:"tries,omitempty"`   // when there was more than one, or one that failed
	// Text is what was said: the model's words, the question, the person's answer.
	Text  string           `json:"text,omitempty"`
	Calls []model.ToolCall `json:"calls,omitempty"` // that the model asked for
	Args  json.RawMessage  `json:"args,omitempty"`  // of a tool
	Out   json.RawMessage  `json:"out,omitempty"`   // of a tool
	By    string           `json:"by,omitempty"`    // who answered
	// Mock says that the tool's mock or a tape answered.
	Mock bool `json:"mock,omitempty"`
	// Open says that there is no answer yet.
	Open bool `json:"open,omitempty"`
}

// Show reads a run and tells its steps.
func (s *Service) Show(ctx context.Context, id ID) (*Shown, error) {
	r, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	rows, err := s.store.journal(ctx, id, 0, 0)
	if err != nil {
		return nil, err
	}
	out := &Shown{Run: r, Steps: []ShownStep{}}
	at := map[int]int{} // step → position
	for i := range rows {
		row := &rows[i]
		if row.Kind == RowFinish {
			continue
		}
		pos, known := at[row.Step]
		if !known {
			pos = len(out.Steps)
			at[row.Step] = pos
			out.Steps = append(out.Steps, ShownStep{Step: row.Step, Node: row.Node, At: row.StartedAt})
		}
		if err := out.Steps[pos].tell(row); err != nil {
			return nil, fmt.Errorf("row %d of %s: %w", row.Seq, id, err)
		}
	}
	return out, nil
}

// tell adds what a row says.
func (st *ShownStep) tell(r *Row) error {
	switch r.Kind {
	case RowIntent:
		st.Open = true
		return st.tellTool(r)
	case RowAsk:
		var ask Ask
		if err := json.Unmarshal(r.Input, &ask); err != nil {
			return err
		}
		st.Text, st.Open, st.Class = ask.Question, true, r.Class
		if ask.Uncertain == nil {
			st.Kind = KindAsk
		}
		return nil
	}
	a, _, err := r.Decode()
	if err != nil {
		return err
	}
	st.Open, st.Took, st.Usage, st.Class = false, max(0, r.EndedAt.Sub(r.StartedAt)), r.Usage, r.Class
	st.By, st.Mock = r.Labels["by"], r.Labels["mock"] != ""
	switch {
	case a.Model != nil:
		st.tellModel(r)
		st.Text, st.Calls = a.Model.Message.Content, a.Model.Message.ToolCalls
	case a.Failure != nil:
		st.tellModel(r)
		st.Message = a.Failure.Message
	case a.Tool != nil:
		st.Out, st.Message = a.Tool.Out, a.Tool.Message
		if len(a.Tool.Attempts) > 1 || a.Tool.Class != tool.OK {
			st.Tries = a.Tool.Attempts
		}
		return st.tellTool(r)
	case a.Human != nil:
		st.tellHuman(a.Human, r)
	}
	return nil
}

func (st *ShownStep) tellModel(r *Row) {
	st.Kind = KindModel
	var in ModelInput
	if json.Unmarshal(r.Input, &in) == nil {
		st.Name = in.Model
	}
}

func (st *ShownStep) tellTool(r *Row) error {
	st.Kind = KindTool
	var in ToolInput
	err := json.Unmarshal(r.Input, &in)
	st.Name, st.Args = in.Tool, in.Args
	return err
}

func (st *ShownStep) tellHuman(h *Human, r *Row) {
	st.Kind = KindAsk
	var ask Ask
	if st.Text == "" && json.Unmarshal(r.Input, &ask) == nil {
		st.Text = ask.Question
	}
	switch {
	case h.TimedOut:
		st.Message = "nobody answered in time"
	case h.Approved:
		st.Message = "approved"
	case h.Text == "":
		st.Message = "denied"
	}
	if h.Text != "" {
		if st.Message != "" {
			st.Message += ": "
		}
		st.Message += h.Text
	}
}

func (s *Service) opShow(ctx context.Context, in *runIn) (*Shown, error) { return s.Show(ctx, in.Run) }
