package tool

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/fault"
	"flywheel/internal/tool/star"
	"flywheel/internal/tool/world"
	"flywheel/spec"
)

// Mocks are the compiled mocks of a package; goroutines share them.
type Mocks struct{ byTool map[string]mock }

// mock is one tool's: a function of a program, or a fixed answer.
type mock struct {
	program *star.Program
	fn      string
	out     json.RawMessage
}

// NewMocks compiles the mocks of a package; data holds its files, path → content. All that is wrong is in
// one fault tool.mock (invalid), a field per place.
func NewMocks(pkg *spec.Package, data map[string][]byte) (*Mocks, error) {
	m := &Mocks{byTool: map[string]mock{}}
	programs := map[string]*star.Program{}
	var wrong []fault.Field
	for _, name := range slices.Sorted(maps.Keys(pkg.Tools)) {
		declared := pkg.Tools[name].Mock
		if declared == nil {
			continue
		}
		compiled, err := compile(name, declared, data, programs)
		if err != nil {
			wrong = append(wrong, fault.Field{Path: name, Code: "tool.mock", Message: err.Error()})
			continue
		}
		m.byTool[name] = compiled
	}
	if len(wrong) > 0 {
		return nil, fault.New(fault.Invalid, "tool.mock", "%s: %s", wrong[0].Path, wrong[0].Message).
			WithFields(wrong...).WithHint("mend the mocks, then run: flywheel check")
	}
	return m, nil
}

func compile(name string, m *spec.Mock, data map[string][]byte, programs map[string]*star.Program) (mock, error) {
	if m.Star == "" {
		out, err := json.Marshal(m.Out)
		return mock{out: out}, err
	}
	p, ok := programs[m.Star]
	if !ok {
		src, found := data[m.Star]
		if !found {
			return mock{}, fmt.Errorf("there is no file %s", m.Star)
		}
		var err error
		if p, err = star.LoadFile(m.Star, src); err != nil {
			return mock{}, err
		}
		programs[m.Star] = p
	}
	fn := MockFunc(name, m)
	return mock{program: p, fn: fn}, p.Check(fn)
}

// MockFunc is the function that answers for a tool: the one named, or the tool's name with _ for dots.
func MockFunc(name string, m *spec.Mock) string {
	if m.Func != "" {
		return m.Func
	}
	return strings.NewReplacer(".", "_", "-", "_").Replace(name)
}

// Has says whether the tool has a mock.
func (m *Mocks) Has(tool string) bool {
	_, ok := m.byTool[tool]
	return ok
}

// Caller answers from the mocks, acting on w, at the time of clk. A mock takes no time. A tool without a
// mock is rejected: nothing real is ever called.
func (m *Mocks) Caller(w *world.State, clk clock.Clock) Caller {
	return &mockCaller{mocks: m, world: w, clock: clk}
}

// Mocked is NewMocks and Caller in one, for a single use; a package with broken mocks gives a caller that
// rejects every call and says why.
func Mocked(pkg *spec.Package, data map[string][]byte, w *world.State, clk clock.Clock) Caller {
	m, err := NewMocks(pkg, data)
	if err != nil {
		return rejecting{err}
	}
	return m.Caller(w, clk)
}

type mockCaller struct {
	mocks *Mocks
	world *world.State
	clock clock.Clock
}

// Attempt asks the mock.
func (c *mockCaller) Attempt(ctx context.Context, call Call) Attempt {
	if ctx.Err() != nil {
		return Attempt{Tool: call.Name, Class: Canceled, Message: ctx.Err().Error()}
	}
	m, ok := c.mocks.byTool[call.Name]
	if !ok {
		return Attempt{Tool: call.Name, Class: Rejected, Message: fmt.Sprintf("the tool %s has no mock; give it one in its tool file", call.Name)}
	}
	if m.program == nil {
		return Attempt{Tool: call.Name, Out: m.out}
	}
	out, failed := m.program.Call(m.fn, c.world, call.Args, c.clock.Now())
	if failed != nil {
		return Attempt{Tool: call.Name, Class: mockClass(failed), Status: failed.Status, Message: failed.Message}
	}
	return Attempt{Tool: call.Name, Out: out}
}

// mockClass takes what the mock says, as far as a tool can say it.
func mockClass(e *star.MockError) Class {
	switch c := Class(e.Class); c {
	case Timeout, Unavailable, Throttled, Reset, Malformed, Rejected:
		return c
	}
	return Rejected
}

type rejecting struct{ err error }

// Attempt is rejected.
func (r rejecting) Attempt(_ context.Context, call Call) Attempt {
	return Attempt{Tool: call.Name, Class: Rejected, Message: r.err.Error()}
}
