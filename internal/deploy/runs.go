package deploy

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"flywheel/internal/platform/blob"
	"flywheel/internal/run"
	"flywheel/spec"
)

// Runs lets deployments start runs of the run service.
type Runs struct {
	Service interface {
		Start(ctx context.Context, req run.StartRequest) (run.ID, func(context.Context) (*run.Run, error), error)
		Program(ctx context.Context, identity blob.Digest) (*run.Program, error)
	}
}

// Start begins a run.
func (r Runs) Start(ctx context.Context, req StartRequest) (string, func() (Result, error), error) {
	start := run.StartRequest{
		Identity: req.Identity, Release: string(req.Release), Channel: req.Channel, Source: req.Source, Session: req.Session,
		Input: run.Input{Message: req.Message, Fields: req.Fields}, Env: req.Env,
		History: req.History,
	}
	if req.OnText != nil {
		program, err := r.Service.Program(ctx, req.Identity)
		if err != nil {
			return "", nil, err
		}
		speaks := speakers(program.Package)
		start.OnDelta = func(d run.Delta) {
			if d.Text != "" && speaks(d.Node) {
				req.OnText(d.Text)
			}
		}
	}
	id, wait, err := r.Service.Start(ctx, start)
	if err != nil {
		return "", nil, fmt.Errorf("start run: %w", err)
	}
	return string(id), func() (Result, error) {
		ended, err := wait(ctx)
		if err != nil {
			return Result{}, err
		}
		return resultOf(ended), nil
	}, nil
}

func resultOf(r *run.Run) Result {
	out := Result{Reply: r.Output.Reply, Data: r.Output.Data, Waiting: r.Status == run.Waiting, Usage: r.Usage}
	switch {
	case r.Failure != nil:
		out.Class, out.Message = r.Failure.Class, r.Failure.Message
	case r.Status == run.Failed, r.Status == run.Canceled:
		out.Class, out.Message = string(r.Status), "the run was "+string(r.Status)
	}
	return out
}

// verbatim is a reply that is the text of one node and nothing else.
var verbatim = regexp.MustCompile(`^\$\{\s*([A-Za-z_][A-Za-z0-9_]*)\.out\.text\s*\}$`)

// speakers tells the nodes whose words are the reply, letter by letter, so that they can be streamed while
// they are written. What other nodes write is for the flow: a label, data for the next node.
func speakers(pkg *spec.Package) func(node string) bool {
	prose := func(agent string) bool {
		a := pkg.Agents[agent]
		return a != nil && len(a.Output) == 0
	}
	kind, name, _ := strings.Cut(pkg.Entry, "/")
	flow := pkg.Flows[name]
	if kind != "flows" || flow == nil {
		plain := prose(name)
		return func(string) bool { return plain }
	}
	yes := map[string]bool{}
	for node, n := range flow.Nodes {
		switch n.Kind {
		case spec.NodeEnd:
			m := verbatim.FindStringSubmatch(n.End["reply"])
			if m == nil {
				continue
			}
			if said := flow.Nodes[m[1]]; said != nil && said.Kind == spec.NodeAgent && prose(said.Agent) {
				yes[m[1]] = true
			}
		case spec.NodeAgent:
			if prose(n.Agent) && endsHere(n) {
				yes[node] = true
			}
		}
	}
	return func(node string) bool { return yes[node] }
}

// endsHere says whether the flow always ends after the node.
func endsHere(n *spec.Node) bool {
	for _, e := range n.Next {
		if e.To != "end" {
			return false
		}
	}
	return true
}
