package release

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"flywheel/internal/agent"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

// Progress tells what a release is doing. Done, Total, Passed and Left are those of the running test.
type Progress struct {
	Stage   string        `json:"stage"` // check, lock, gate, build, sign
	Message string        `json:"message"`
	Done    int           `json:"done,omitempty"`
	Total   int           `json:"total,omitempty"`
	Passed  int           `json:"passed,omitempty"`
	Left    time.Duration `json:"left,omitempty"` // estimate, nanoseconds
}

// Suite is a suite that was resolved and stored, as a gate needs it.
type Suite struct {
	Name   string
	Digest blob.Digest
	Gate   spec.Gate
}

// GateRequest asks for the trials of a gate. Base is empty when the channel serves nothing yet.
type GateRequest struct {
	Suite     Suite
	Candidate blob.Digest // identity of the package
	Base      blob.Digest // identity of the package that the channel serves
	Requester string
}

// GateRunner runs the trials of a gate on the audit split, for the purpose "gate".
type GateRunner interface {
	// Suite resolves and stores a suite of the package by name; an empty name is the only one, or the one
	// that has a gate. No suite at all is not an error: ok is false.
	Suite(ctx context.Context, r *agent.Resolved, name string) (s Suite, ok bool, err error)
	// Test runs the candidate; Compare runs it paired with the base.
	Test(ctx context.Context, req GateRequest, progress func(Progress)) (*Test, error)
	Compare(ctx context.Context, req GateRequest, progress func(Progress)) (*Against, error)
}

// CreateRequest asks for a release of a checked package.
type CreateRequest struct {
	Package *agent.Resolved
	Lock    json.RawMessage
	Suite   string // name; default the package's only suite with a gate
	Channel string // whose release is compared with; default prod
	Force   bool
	Notes   string
	By      string
}

// DefaultChannel is whose release a new one is compared with when nothing else is said.
const DefaultChannel = "prod"

// Create stores a package, lets the gate decide on the audit split, and builds, signs and attests its
// release. What was released already, with a gate that passed on the same suite, is given back at once:
// the audit split is not looked at again.
func (s *Service) Create(ctx context.Context, req CreateRequest, emit func(Progress)) (*Release, error) {
	if emit == nil {
		emit = func(Progress) {}
	}
	if err := agent.Store(ctx, s.deps.Blobs, req.Package); err != nil {
		return nil, fmt.Errorf("store package: %w", err)
	}
	build := BuildRequest{Source: SourceOf(req.Package, req.Lock), Force: req.Force, Notes: req.Notes, By: req.By}
	suite, ok, err := s.suite(ctx, req)
	if err != nil {
		return nil, err
	}
	if !ok && !req.Force {
		return nil, fault.New(fault.Conflict, "release.no_suite", "%s has no suite, so nothing says whether it may be released", build.Source.Name).
			WithHint("add suites/smoke.suite.yaml with a gate, or flywheel release --force, which is recorded")
	}
	if ok {
		if r, found, err := s.passedBefore(ctx, build.Source, suite); found || err != nil {
			return r, err
		}
		build.Suite, build.Gate = suite.Digest, suite.Gate
		if build.Test, build.Against, err = s.trials(ctx, req, suite, emit); err != nil {
			return nil, err
		}
	}
	emit(Progress{Stage: "build", Message: fmt.Sprintf("one layer for each of %d components", len(build.Source.Components))})
	r, err := s.Build(ctx, build)
	if err != nil {
		return nil, err
	}
	emit(Progress{Stage: "sign", Message: "signed by key " + s.deps.Signer.ID()[:12]})
	return r, nil
}

func (s *Service) suite(ctx context.Context, req CreateRequest) (Suite, bool, error) {
	if s.deps.Gate == nil {
		return Suite{}, false, nil
	}
	return s.deps.Gate.Suite(ctx, req.Package, req.Suite)
}

// passedBefore gives the equal release whose gate passed on this very suite.
func (s *Service) passedBefore(ctx context.Context, src Source, suite Suite) (*Release, bool, error) {
	im, err := assemble(src)
	if err != nil {
		return nil, false, err
	}
	list, err := s.query(ctx, `WHERE digest = $1`, im.digest)
	if err != nil || len(list) == 0 || !list[0].Gate.OK || list[0].Suite != suite.Digest {
		return nil, false, err
	}
	list[0].Existing = true
	return list[0], true, nil
}

func (s *Service) trials(ctx context.Context, req CreateRequest, suite Suite, emit func(Progress)) (*Test, *Against, error) {
	gr := GateRequest{Suite: suite, Candidate: req.Package.Identity, Requester: req.By}
	channel := req.Channel
	if channel == "" {
		channel = DefaultChannel
	}
	base, number, err := s.baseOf(ctx, req.Package, channel)
	if err != nil {
		return nil, nil, err
	}
	emit(Progress{Stage: "gate", Message: "the audit split of " + suite.Name})
	test, err := s.deps.Gate.Test(ctx, gr, emit)
	if err != nil {
		return nil, nil, fmt.Errorf("run the gate: %w", err)
	}
	if base == nil || base.Identity == gr.Candidate {
		return test, nil, nil
	}
	emit(Progress{Stage: "gate", Message: fmt.Sprintf("paired with release %d on %s", number, channel)})
	gr.Base = base.Identity
	against, err := s.deps.Gate.Compare(ctx, gr, emit)
	if err != nil {
		return nil, nil, fmt.Errorf("compare with release %d: %w", number, err)
	}
	against.Base, against.BaseNumber, against.Channel = base.Digest, number, channel
	return test, against, nil
}

// baseOf is the stable release of the channel; nil when there is none.
func (s *Service) baseOf(ctx context.Context, r *agent.Resolved, channel string) (*Release, int, error) {
	c, err := s.Channel(ctx, r.Package.Name, channel)
	switch {
	case fault.HasCode(err, "release.no_channel"):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	case c.Stable == "":
		return nil, 0, nil
	}
	base, err := s.exact(ctx, c.Stable)
	return base, c.StableNumber, err
}

// gateLines is the gate as text, one line per rule.
func gateLines(v Verdict) string {
	var b strings.Builder
	for _, l := range v.Lines {
		mark := "ok  "
		if !l.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(&b, "  %s %-10s got %s; want %s\n", mark, l.Rule, l.Got, l.Want)
	}
	return b.String()
}
