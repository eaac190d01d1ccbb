package release

import (
	"context"
	"net/http"
	"path/filepath"

	"flywheel/internal/agent"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// Permissions of this domain.
const (
	PermissionRead   = "release.read"
	PermissionCreate = "release.create"
)

// Checker checks the files of a package; *agent.Checker is one.
type Checker interface {
	Check(files op.Dir) (*agent.Resolved, []agent.Problem)
}

// Ops are the operations. They need a checker and a locker, which know all domains.
func (s *Service) Ops(checker Checker, locker Locker) []op.Op {
	return []op.Op{
		s.createOp(checker, locker), s.listOp(), s.showOp(), s.verifyOp(), s.diffOp(), s.exportOp(), s.keyOp(),
		s.channelsOp(), s.historyOp(),
	}
}

type createIn struct {
	Files   op.Dir `json:"files" cli:"dir"`
	Force   bool   `json:"force" doc:"Release although the gate refuses; the release says so wherever it is shown"`
	Suite   string `json:"suite" doc:"Suite whose gate decides; default the one that has a gate"`
	Channel string `json:"channel" default:"prod" doc:"Channel whose release is compared with"`
	Notes   string `json:"notes" short:"n" doc:"What is new"`
}

type createOut struct {
	Release *Release `json:"release"`
	Files   op.Dir   `json:"files,omitempty" write:"true"` // the lock, when it was made
}

func (s *Service) createOp(checker Checker, locker Locker) op.Op {
	o := op.Stream(op.Meta{
		ID: "release.create", Path: "/api/v1/releases", Summary: "Check, lock, test on the audit split, build, sign and attest a release",
		Permission: PermissionCreate, Audit: "release.created", Stage: 5, CLI: "release", Example: "flywheel release --notes \"retries for the card service\"",
	}, func(ctx context.Context, in *createIn, emit func(Progress)) (*createOut, error) {
		r, problems := checker.Check(in.Files)
		if err := agent.Fault(problems); err != nil {
			return nil, err
		}
		emit(Progress{Stage: "check", Message: r.Package.Name + ", identity " + r.Identity.Short()})
		lock, made, err := lockOf(ctx, in.Files, r, locker)
		if err != nil {
			return nil, err
		}
		raw, err := LockJSON(lock)
		if err != nil {
			return nil, err
		}
		emit(Progress{Stage: "lock", Message: lockWord(lock, made)})
		out := &createOut{}
		if made {
			out.Files = op.Dir{agent.LockFile: lock.Text()}
		}
		out.Release, err = s.Create(ctx, CreateRequest{
			Package: r, Lock: raw, Suite: in.Suite, Channel: in.Channel, Force: in.Force, Notes: in.Notes, By: op.Actor(ctx),
		}, emit)
		return out, err
	})
	return op.WithEventText(op.WithText(o, printCreated), printProgress)
}

type listIn struct {
	Agent string `query:"agent" doc:"Only this agent"`
	Limit int    `query:"limit" default:"100" minimum:"1" doc:"At most so many, newest first"`
}

type listOut struct {
	Releases []*Release `json:"releases"`
}

func (s *Service) listOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "release.list", Method: http.MethodGet, Path: "/api/v1/releases", Summary: "List releases, newest first",
		Permission: PermissionRead, Stage: 5, CLI: "releases", Example: "flywheel releases", MCP: true,
	}, func(ctx context.Context, in *listIn) (*listOut, error) {
		list, err := s.List(ctx, in.Agent, in.Limit)
		return &listOut{Releases: list}, err
	}), printReleases)
}

type showIn struct {
	Release string `path:"release" cli:"arg" doc:"Number, digest or its beginning, AGENT:NUMBER, AGENT@CHANNEL or latest"`
	Agent   string `query:"agent" doc:"Whose number it is, when there are several agents"`
}

func (s *Service) showOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "release.show", Method: http.MethodGet, Path: "/api/v1/releases/{release}", Summary: "Show a release with what its gate saw",
		Permission: PermissionRead, Stage: 5, CLI: "release show", Example: "flywheel release show 2", MCP: true,
	}, func(ctx context.Context, in *showIn) (*Release, error) {
		return s.Get(ctx, in.Agent, in.Release)
	}), printRelease)
}

type verifyIn struct {
	Release string `query:"release,omitempty" cli:"arg" doc:"Release to verify; default the latest"`
	Agent   string `query:"agent" doc:"Whose number it is, when there are several agents"`
}

func (s *Service) verifyOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "release.verify", Method: http.MethodGet, Path: "/api/v1/verify", Summary: "Check every byte, signature and attestation of a release",
		Permission: PermissionRead, Stage: 5, CLI: "verify", Example: "flywheel verify 2", MCP: true,
	}, func(ctx context.Context, in *verifyIn) (*Verification, error) {
		r, err := s.Get(ctx, in.Agent, in.Release)
		if err != nil {
			return nil, err
		}
		v, err := s.Verify(ctx, r)
		if err != nil {
			return nil, err
		}
		if !v.OK {
			return nil, tampered(r, v)
		}
		return v, nil
	}), printVerification)
}

type diffIn struct {
	A     string `query:"a" cli:"arg" required:"true" doc:"The release before"`
	B     string `query:"b" cli:"arg" required:"true" doc:"The release after"`
	Agent string `query:"agent" doc:"Whose numbers they are, when there are several agents"`
}

func (s *Service) diffOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "release.diff", Method: http.MethodGet, Path: "/api/v1/releases/diff", Summary: "Show what changed between two releases, prompts word by word",
		Permission: PermissionRead, Stage: 5, CLI: "release diff", Example: "flywheel release diff 1 2", MCP: true,
	}, func(ctx context.Context, in *diffIn) (*Difference, error) {
		a, err := s.Get(ctx, in.Agent, in.A)
		if err != nil {
			return nil, err
		}
		b, err := s.Get(ctx, in.Agent, in.B)
		if err != nil {
			return nil, err
		}
		return s.Diff(ctx, a, b)
	}), printDifference)
}

type exportIn struct {
	Release string `path:"release" cli:"arg" doc:"Release to export"`
	To      string `json:"to" required:"true" doc:"Absolute path of a new directory on the machine of the server"`
	Agent   string `json:"agent" doc:"Whose number it is, when there are several agents"`
}

type exportOut struct {
	Release *Release `json:"release"`
	To      string   `json:"to"`
	Blobs   int      `json:"blobs"`
}

func (s *Service) exportOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "release.export", Path: "/api/v1/releases/{release}/export", Summary: "Write a release with its attestations as an OCI image layout",
		Permission: PermissionCreate, Audit: "release.exported", Stage: 5, CLI: "release export", Example: "flywheel release export 2 --to $PWD/release-2",
	}, func(ctx context.Context, in *exportIn) (*exportOut, error) {
		if !filepath.IsAbs(in.To) {
			return nil, fault.New(fault.Invalid, "release.export_path", "%q is not an absolute path", in.To).
				WithHint("the server writes it: --to $PWD/%s", in.To)
		}
		r, err := s.Get(ctx, in.Agent, in.Release)
		if err != nil {
			return nil, err
		}
		n, err := s.ExportOCI(ctx, r, in.To)
		return &exportOut{Release: r, To: in.To, Blobs: n}, err
	}), printExport)
}

type keyIn struct{}

type keyOut struct {
	KeyID  string `json:"key_id"`
	Public string `json:"public"` // PEM
}

func (s *Service) keyOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "release.key", Method: http.MethodGet, Path: "/api/v1/releases/key", Summary: "Show the public key that verifies the releases of this home",
		Permission: PermissionRead, Stage: 5, CLI: "release key", Example: "flywheel release key > flywheel.pub",
	}, func(context.Context, *keyIn) (*keyOut, error) {
		pem, err := s.deps.Signer.PublicPEM()
		return &keyOut{KeyID: s.deps.Signer.ID(), Public: string(pem)}, err
	}), printKey)
}

type channelsIn struct {
	Agent string `query:"agent" doc:"Only this agent"`
}

type channelsOut struct {
	Channels []*Channel `json:"channels"`
}

func (s *Service) channelsOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "channel.list", Method: http.MethodGet, Path: "/api/v1/channels", Summary: "List channels with the releases that they serve",
		Permission: PermissionRead, Stage: 6, CLI: "channels", Example: "flywheel channels", MCP: true,
	}, func(ctx context.Context, in *channelsIn) (*channelsOut, error) {
		list, err := s.Channels(ctx, in.Agent)
		return &channelsOut{Channels: list}, err
	}), printChannels)
}

type historyIn struct {
	Channel string `query:"channel,omitempty" cli:"arg" doc:"Only this channel"`
	Agent   string `query:"agent" doc:"Only this agent"`
	Limit   int    `query:"limit" default:"100" minimum:"1" doc:"At most so many, newest first"`
}

type historyOut struct {
	Moves []*Move `json:"moves"`
}

func (s *Service) historyOp() op.Op {
	return op.WithText(op.New(op.Meta{
		ID: "channel.history", Method: http.MethodGet, Path: "/api/v1/channels/history", Summary: "Show how channels moved: who, when and why",
		Permission: PermissionRead, Stage: 6, CLI: "history", Example: "flywheel history prod", MCP: true,
	}, func(ctx context.Context, in *historyIn) (*historyOut, error) {
		list, err := s.History(ctx, in.Agent, in.Channel, in.Limit)
		return &historyOut{Moves: list}, err
	}), printHistory)
}
