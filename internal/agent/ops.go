package agent

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// Deps is what the operations need. Models and Tools may be nil: the lock then pins the package alone.
type Deps struct {
	Checker *Checker
	Models  Pinner
	Tools   Schemer
	// Env gives the values of environment names; nil: the defaults of the package alone.
	Env func(name string) (string, bool)
}

type filesIn struct {
	Files op.Dir `json:"files" cli:"dir" required:"true" doc:"The package directory"`
}

type checkOut struct {
	Identity blob.Digest `json:"identity" doc:"Digest of the canonical package"`
	Name     string      `json:"name"`
	Entry    string      `json:"entry"`
	Files    int         `json:"files" doc:"Files in the identity"`
	Suites   []string    `json:"suites"`
	Warnings []Problem   `json:"warnings"`
}

type formatOut struct {
	Files    op.Dir    `json:"files" write:"true" doc:"Files that change"`
	Changed  []string  `json:"changed"`
	Problems []Problem `json:"problems"`
}

type lockOut struct {
	Files    op.Dir      `json:"files" write:"true"`
	Identity blob.Digest `json:"identity"`
	Lines    []LockLine  `json:"lines"`
}

type initIn struct {
	Name     string `json:"name" cli:"arg" required:"true" doc:"Name of the package"`
	Template string `json:"template" default:"help-desk" doc:"What to start from"`
}

type initOut struct {
	Name     string `json:"name"`
	Template string `json:"template"`
	Files    op.Dir `json:"files"`
}

type diffIn struct {
	Before op.Dir `json:"before" required:"true" cli:"-" doc:"One package directory"`
	After  op.Dir `json:"after" required:"true" cli:"-" doc:"The other"`
}

type diffOut struct {
	Before blob.Digest     `json:"before"`
	After  blob.Digest     `json:"after"`
	Diffs  []ComponentDiff `json:"diffs"`
}

// Ops are the operations on packages.
func (d Deps) Ops() []op.Op {
	if d.Checker == nil {
		d.Checker = New()
	}
	return []op.Op{d.checkOp(), d.formatOp(), d.lockOp(), d.initOp(), d.diffOp()}
}

func (d Deps) checkOp() op.Op {
	o := op.New(op.Meta{
		ID: "package.check", Path: "/api/v1/packages/check", Summary: "Check the package and show its identity",
		Permission: "package.read", Stage: 2, CLI: "check", Example: "flywheel check", MCP: true, Local: true,
	}, func(_ context.Context, in *filesIn) (*checkOut, error) {
		r, problems := d.Checker.Check(in.Files)
		if err := Fault(problems); err != nil {
			return nil, err
		}
		return &checkOut{
			Identity: r.Identity, Name: r.Package.Name, Entry: r.Package.Entry, Files: len(r.tree),
			Suites: slices.Sorted(maps.Keys(r.Suites)), Warnings: orEmpty(problems),
		}, nil
	})
	return op.WithText(o, func(w io.Writer, out *checkOut) {
		writeProblems(w, out.Warnings)
		_, _ = fmt.Fprintf(w, "%s is sound: %s, %s, entry %s\nidentity %s\n",
			out.Name, op.Count(out.Files, "file"), op.Count(len(out.Suites), "suite"), out.Entry, out.Identity)
	})
}

func writeProblems(w io.Writer, list []Problem) {
	for _, p := range list {
		_, _ = fmt.Fprintf(w, "%s\n", p)
		if p.Hint != "" {
			_, _ = fmt.Fprintf(w, "    %s\n", p.Hint)
		}
	}
}

func orEmpty(list []Problem) []Problem {
	if list == nil {
		return []Problem{}
	}
	return list
}

func (d Deps) formatOp() op.Op {
	o := op.New(op.Meta{
		ID: "package.format", Path: "/api/v1/packages/format", Summary: "Lay the files of the package out in the canonical way",
		Permission: "package.read", Stage: 2, CLI: "fmt", Example: "flywheel fmt", Local: true,
	}, func(_ context.Context, in *filesIn) (*formatOut, error) {
		changed, problems := Format(in.Files)
		if err := Fault(problems); err != nil {
			return nil, err
		}
		return &formatOut{Files: changed, Changed: slices.Sorted(maps.Keys(changed)), Problems: orEmpty(problems)}, nil
	})
	return op.WithText(o, func(w io.Writer, out *formatOut) {
		writeProblems(w, out.Problems)
		if len(out.Changed) == 0 {
			_, _ = fmt.Fprintln(w, "nothing to change")
		}
	})
}

func (d Deps) lockOp() op.Op {
	o := op.New(op.Meta{
		ID: "package.lock", Path: "/api/v1/packages/lock", Summary: "Pin models, tool schemas, prompts and data by digest",
		Permission: "package.write", Audit: "package.lock", Stage: 2, CLI: "lock", Example: "flywheel lock",
	}, func(ctx context.Context, in *filesIn) (*lockOut, error) {
		r, problems := d.Checker.Check(in.Files)
		if err := Fault(problems); err != nil {
			return nil, err
		}
		lock, err := MakeLock(ctx, r, Pins{Models: d.Models, Tools: d.Tools, Env: Environment(r, d.Env)})
		if err != nil {
			return nil, err
		}
		return &lockOut{Files: op.Dir{LockFile: lock.Text()}, Identity: r.Identity, Lines: lock.Lines}, nil
	})
	return op.WithText(o, func(w io.Writer, out *lockOut) {
		_, _ = fmt.Fprintf(w, "%s locked, identity %s\n", op.Count(len(out.Lines), "component"), out.Identity)
	})
}

// Environment gives the values of the names that a package declares: what lookup knows, else defaults.
func Environment(r *Resolved, lookup func(name string) (string, bool)) map[string]string {
	out := map[string]string{}
	for name, v := range r.Package.Env {
		out[name] = v.Default
		if lookup == nil {
			continue
		}
		if value, ok := lookup(name); ok {
			out[name] = value
		}
	}
	return out
}

func (d Deps) initOp() op.Op {
	return op.New(op.Meta{
		ID: "package.init", Method: http.MethodPost, Path: "/api/v1/packages/init", Summary: "Make a new package from a template",
		Permission: "package.read", Stage: 1, Example: "flywheel init my-desk --template help-desk", Local: true,
	}, func(_ context.Context, in *initIn) (*initOut, error) {
		if in.Template == "" {
			in.Template = "help-desk"
		}
		files, err := NewFrom(in.Template, in.Name)
		if err != nil {
			return nil, err
		}
		return &initOut{Name: in.Name, Template: in.Template, Files: files}, nil
	})
}

// NewFrom is a template under another name.
func NewFrom(template, name string) (op.Dir, error) {
	name = path.Base(name)
	if !nameForm.MatchString(name) {
		return nil, fault.New(fault.Invalid, "package.name", "the name %q is not allowed", name).
			WithHint("use lower-case letters, digits, - and _")
	}
	files, err := Template(template)
	if err != nil {
		return nil, err
	}
	files, problems := Patch(files, []Change{{File: "flywheel.yaml", Path: []string{"name"}, Value: name}})
	if err := Fault(problems); err != nil {
		return nil, err
	}
	return files, nil
}

func (d Deps) diffOp() op.Op {
	o := op.New(op.Meta{
		ID: "package.diff", Path: "/api/v1/packages/diff", Summary: "Compare two packages component by component",
		Permission: "package.read", Stage: 2, MCP: true, Local: true,
	}, func(_ context.Context, in *diffIn) (*diffOut, error) {
		before, problems := d.Checker.Check(in.Before)
		if err := Fault(problems); err != nil {
			return nil, err
		}
		after, problems := d.Checker.Check(in.After)
		if err := Fault(problems); err != nil {
			return nil, err
		}
		return &diffOut{Before: before.Identity, After: after.Identity, Diffs: Diff(before, after)}, nil
	})
	return op.WithText(o, func(w io.Writer, out *diffOut) { WriteDiff(w, out.Diffs) })
}
