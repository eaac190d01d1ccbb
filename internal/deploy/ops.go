package deploy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/internal/release"
)

// Permissions of this domain.
const (
	PermissionRead = "deploy.read"
	PermissionMove = "deploy.move"
	// PermissionCall is what a caller of the endpoint needs.
	PermissionCall = "deploy.call"
)

// Ops are the operations.
func (s *Service) Ops() []op.Op {
	return []op.Op{s.deployOp(), s.promoteOp(), s.rollbackOp(), s.listOp()}
}

type deployIn struct {
	Channel string   `json:"channel" cli:"arg" doc:"Channel, such as prod"`
	Release string   `json:"release,omitempty" cli:"arg" doc:"Number, digest or its beginning, AGENT:NUMBER; default the latest"`
	Canary  string   `json:"canary" doc:"Share of the sessions that get the release, such as 20%; default all"`
	Env     []string `json:"env" doc:"Value of the environment, as NAME=VALUE; may be repeated"`
	Why     string   `json:"why" doc:"Kept in the history"`
	Agent   string   `json:"agent" doc:"Which agent, when there are several"`
}

type moveOut struct {
	Deployment *Deployment   `json:"deployment"`
	Move       *release.Move `json:"move,omitempty"` // absent when the channel served it already
}

func (s *Service) deployOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "deploy.create", Path: "/api/v1/deployments", Summary: "Verify a release and put it on a channel, on all or a share of the sessions",
		Permission: PermissionMove, Audit: "channel.moved", Stage: 6, CLI: "deploy", Example: "flywheel deploy prod 2 --canary 20%",
	}, func(ctx context.Context, in *deployIn) (*moveOut, error) {
		share, err := parseShare(in.Canary)
		if err != nil {
			return nil, err
		}
		env, err := parseEnv(in.Env)
		if err != nil {
			return nil, err
		}
		d, m, err := s.Deploy(ctx, Request{Env: env, MoveRequest: release.MoveRequest{
			Agent: in.Agent, Channel: in.Channel, Release: in.Release, Share: share, Who: op.Actor(ctx), Why: in.Why,
		}})
		return &moveOut{Deployment: d, Move: m}, err
	}), printMove)
}

type moveIn struct {
	Channel string `path:"channel" cli:"arg" doc:"Channel, such as prod, or AGENT@CHANNEL"`
	Release string `json:"release,omitempty" cli:"arg" doc:"Release; default the canary, else the one that was rolled back"`
	Why     string `json:"why" doc:"Kept in the history"`
	Agent   string `json:"agent" doc:"Which agent, when there are several"`
}

func (s *Service) promoteOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "deploy.promote", Path: "/api/v1/channels/{channel}/promote", Summary: "Give the whole channel to its canary, or go forward after a rollback",
		Permission: PermissionMove, Audit: "channel.moved", Stage: 6, CLI: "promote", Example: "flywheel promote prod",
	}, func(ctx context.Context, in *moveIn) (*moveOut, error) {
		return s.after(ctx, s.deps.Releases.Promote, release.MoveRequest{
			Agent: in.Agent, Channel: in.Channel, Release: in.Release, Who: op.Actor(ctx), Why: in.Why,
		})
	}), printMove)
}

type rollbackIn struct {
	Channel string `path:"channel" cli:"arg" doc:"Channel, such as prod, or AGENT@CHANNEL"`
	Why     string `json:"why" doc:"Kept in the history"`
	Agent   string `json:"agent" doc:"Which agent, when there are several"`
}

func (s *Service) rollbackOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "deploy.rollback", Path: "/api/v1/channels/{channel}/rollback", Summary: "Take the canary away, or bring the release before back",
		Permission: PermissionMove, Audit: "channel.moved", Stage: 6, CLI: "rollback", Example: "flywheel rollback prod --why \"freezes the wrong cards\"",
	}, func(ctx context.Context, in *rollbackIn) (*moveOut, error) {
		return s.after(ctx, s.deps.Releases.Rollback, release.MoveRequest{
			Agent: in.Agent, Channel: in.Channel, Who: op.Actor(ctx), Why: in.Why,
		})
	}), printMove)
}

type mover func(ctx context.Context, req release.MoveRequest) (*release.Channel, *release.Move, error)

func (s *Service) after(ctx context.Context, move mover, req release.MoveRequest) (*moveOut, error) {
	c, m, err := move(ctx, req)
	if err != nil {
		return nil, err
	}
	env, err := s.env(ctx, c.Agent, c.Name)
	if err != nil {
		return nil, err
	}
	return &moveOut{Deployment: deployment(c, env), Move: m}, nil
}

type listIn struct {
	Agent string `query:"agent" doc:"Only this agent"`
}

type listOut struct {
	Deployments []*Deployment `json:"deployments"`
}

func (s *Service) listOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "deploy.list", Method: http.MethodGet, Path: "/api/v1/deployments", Summary: "List what is served, under which model name",
		Permission: PermissionRead, Stage: 6, CLI: "deployments", Example: "flywheel deployments", MCP: true,
	}, func(ctx context.Context, in *listIn) (*listOut, error) {
		list, err := s.List(ctx, in.Agent)
		return &listOut{Deployments: list}, err
	}), printDeployments)
}

// parseShare reads "20%" or "0.2"; "" is the whole channel.
func parseShare(text string) (float64, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share > 0 && share <= 1) {
		return 0, fault.New(fault.Invalid, "deploy.share", "%q is not a share of the sessions", text).WithHint("--canary 20%%")
	}
	return share, nil
}

func parseEnv(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, item := range list {
		name, value, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			return nil, fault.New(fault.Invalid, "deploy.env", "%q is not NAME=VALUE", name).WithHint("--env CARDS_URL=http://127.0.0.1:9000")
		}
		out[name] = value
	}
	return out, nil
}

func printMove(w io.Writer, out *moveOut) {
	d := out.Deployment
	if out.Move == nil {
		_, _ = fmt.Fprintf(w, "%s serves that already\n", d.Model)
		return
	}
	_, _ = fmt.Fprintf(w, "%s: %s\n", d.Model, serving(d.State))
	if out.Move.Gate != "passed" {
		_, _ = fmt.Fprintf(w, "  release %d was FORCED: its gate had refused it\n", out.Move.ToNumber)
	}
	if d.State.Canary != "" {
		_, _ = fmt.Fprintf(w, "  flywheel promote %s, or flywheel rollback %s\n", d.Channel, d.Channel)
	}
}

func serving(c *release.Channel) string {
	text := fmt.Sprintf("release %d", c.StableNumber)
	if c.StableForced {
		text += " (forced)"
	}
	if c.Canary == "" {
		return text
	}
	text += fmt.Sprintf(", release %d for %.4g%% of the sessions", c.CanaryNumber, 100*c.Share)
	if c.CanaryForced {
		text += " (forced)"
	}
	return text
}

func printDeployments(w io.Writer, out *listOut) {
	if len(out.Deployments) == 0 {
		_, _ = fmt.Fprintln(w, "nothing is deployed: flywheel deploy prod")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "MODEL\tSERVES\tENVIRONMENT")
	for _, d := range out.Deployments {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", d.Model, serving(d.State), strings.Join(d.Env, ", "))
	}
	_ = t.Flush()
}
