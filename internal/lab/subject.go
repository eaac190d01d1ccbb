package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flywheel/internal/agent"
	"flywheel/internal/model"
	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/run"
	"flywheel/internal/tool"
)

// engineVersion is part of what names a stored trial: raise it when the same trial would end otherwise.
const engineVersion = 1

// subject is a package made ready for trials.
type subject struct {
	identity blob.Digest
	resolved *agent.Resolved
	program  *run.Program
	mocks    *tool.Mocks
	models   map[string]string        // alias → reference
	pins     map[string]string        // reference → what it stands for
	scripts  map[string]model.Chatter // reference → rules that the package brings
	refs     []string                 // models that agents use, sorted
	key      string                   // of identity, engine and pins
}

// subject loads and compiles a package. What its models stand for is asked anew each time.
func (s *Service) subject(ctx context.Context, identity blob.Digest) (*subject, error) {
	s.mu.Lock()
	sub := s.programs[identity]
	s.mu.Unlock()
	if sub == nil {
		resolved, err := agent.Load(ctx, s.deps.Blobs, identity)
		if err != nil {
			return nil, err
		}
		if sub, err = compileSubject(resolved); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if len(s.programs) >= 32 {
			clear(s.programs)
		}
		s.programs[identity] = sub
		s.mu.Unlock()
	}
	return s.pinned(ctx, sub)
}

func compileSubject(resolved *agent.Resolved) (*subject, error) {
	program, err := run.Compile(resolved)
	if err != nil {
		return nil, err
	}
	mocks, err := tool.NewMocks(resolved.Package, resolved.Data)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "lab.mocks", "the mocks of the package cannot be used").WithHint("flywheel check")
	}
	return &subject{identity: resolved.Identity, resolved: resolved, program: program, mocks: mocks}, nil
}

// pinned is a copy of the subject that knows which models answer.
func (s *Service) pinned(ctx context.Context, sub *subject) (*subject, error) {
	out := *sub
	out.models, out.pins, out.scripts = map[string]string{}, map[string]string{}, map[string]model.Chatter{}
	out.refs = nil
	choices := sub.resolved.Package.Models
	for _, name := range sub.program.Models() {
		ref := name
		if choice, ok := choices[name]; ok {
			ref = choice.First
			if _, ours := sub.program.Script(ref); !ours && s.deps.Resolve != nil {
				var err error
				if ref, err = s.deps.Resolve(ctx, choice); err != nil {
					return nil, err
				}
			}
			out.models[name] = ref
		}
		if rules, ok := sub.program.Script(ref); ok {
			script, err := model.Scripted(rules)
			if err != nil {
				return nil, fault.Wrap(err, fault.Invalid, "lab.script", "the rules of %s cannot be read", ref)
			}
			out.scripts[ref] = script
		} else if s.deps.Pin != nil {
			pin, err := s.deps.Pin(ctx, ref)
			if err != nil {
				return nil, err
			}
			out.pins[ref] = pin
		}
		out.refs = append(out.refs, ref)
	}
	slices.Sort(out.refs)
	out.refs = slices.Compact(out.refs)
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\n%d\n", sub.identity, engineVersion)
	for _, alias := range slices.Sorted(maps.Keys(out.models)) {
		_, _ = fmt.Fprintf(h, "%s=%s\n", alias, out.models[alias])
	}
	for _, ref := range out.refs {
		_, _ = fmt.Fprintf(h, "%s@%s\n", ref, out.pins[ref])
	}
	out.key = hex.EncodeToString(h.Sum(nil))
	return &out, nil
}

// scripted says whether no real model answers.
func (sub *subject) scripted() bool {
	return !slices.ContainsFunc(sub.refs, func(ref string) bool { return !strings.HasPrefix(ref, "scripted/") })
}

// parallel is how many trials run at once unless somebody says otherwise: one where a model on this
// machine has the processors for itself.
func (sub *subject) parallel() int {
	if sub.scripted() {
		return cores()
	}
	for _, ref := range sub.refs {
		provider, _, _ := strings.Cut(ref, "/")
		if provider == "local" || provider == "ollama" {
			return 1
		}
	}
	return 8
}
