package release

import (
	"context"
	"crypto/ed25519"
	"embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/clock"
	"flywheel/internal/platform/db"
	"flywheel/internal/platform/fault"
	"flywheel/spec"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations are the tables of this domain.
var Migrations = db.Migrations{Domain: "release", Files: files}

// Topics of the outbox.
const (
	TopicCreated = "release.created" // payload Release
	TopicMoved   = "channel.moved"   // payload Move
)

// Emitter writes an outbox event in the transaction of the change; *bus.Bus is one.
type Emitter interface {
	Emit(ctx context.Context, tx *db.Tx, topic, subject string, payload any) error
}

// Packages gives a package back by its identity, as a release is built from it.
type Packages interface {
	Source(ctx context.Context, identity blob.Digest, lock json.RawMessage) (Source, error)
}

// Deps is what releases need.
type Deps struct {
	DB     *db.DB
	Blobs  blob.Store
	Bus    Emitter
	Clock  clock.Clock
	Signer *Key
	// Trusted are further keys whose signatures are accepted.
	Trusted  []ed25519.PublicKey
	Packages Packages   // nil: AgentPackages over Blobs
	Gate     GateRunner // nil: there is no test, so only forced releases can be made
	Log      *slog.Logger
}

// Service makes, checks and finds releases and moves channels.
type Service struct {
	deps    Deps
	trusted map[string]ed25519.PublicKey
}

// New makes the service.
func New(deps Deps) (*Service, error) {
	if deps.Clock == nil {
		deps.Clock = clock.Real()
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Packages == nil {
		deps.Packages = AgentPackages{Blobs: deps.Blobs}
	}
	s := &Service{deps: deps, trusted: map[string]ed25519.PublicKey{}}
	for _, public := range append([]ed25519.PublicKey{deps.Signer.Public()}, deps.Trusted...) {
		kid, err := keyID(public)
		if err != nil {
			return nil, fmt.Errorf("trust a key: %w", err)
		}
		s.trusted[kid] = public
	}
	return s, nil
}

// Release is an immutable, signed agent. Digest is the digest of its OCI manifest; Number counts the
// releases of one agent in this home.
type Release struct {
	Digest    blob.Digest `json:"digest"`
	Agent     string      `json:"agent"`
	Number    int         `json:"number"`
	Identity  blob.Digest `json:"identity"`
	Suite     blob.Digest `json:"suite,omitempty"`
	Size      int64       `json:"size"` // bytes of the manifest
	Gate      Verdict     `json:"gate"`
	Forced    bool        `json:"forced,omitempty"`
	Test      *Test       `json:"test,omitempty"`
	Against   *Against    `json:"comparison,omitempty"`
	Notes     string      `json:"notes,omitempty"`
	CreatedBy string      `json:"created_by,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
	// Existing says that an equal release was there already.
	Existing bool `json:"existing,omitempty"`
}

// Name is what people call the release, as in "card-desk release 2".
func (r *Release) Name() string { return fmt.Sprintf("%s release %d", r.Agent, r.Number) }

// BuildRequest asks for a release of a package that is stored, with what its gate saw.
type BuildRequest struct {
	Source  Source
	Suite   blob.Digest
	Gate    spec.Gate
	Test    *Test
	Against *Against
	Force   bool
	Notes   string
	By      string
}

// Build assembles, judges, stores, signs and attests a release. A failed gate is refused with code
// release.gate unless the request forces it. Equal content gives the release that is there already: it
// keeps its number, and takes the newer verdict with a further attestation.
func (s *Service) Build(ctx context.Context, req BuildRequest) (*Release, error) {
	verdict := Judge(req.Gate, req.Test, req.Against)
	if !verdict.OK {
		if !req.Force {
			return nil, refused(req.Source.Name, verdict)
		}
		verdict.Forced = true
	}
	im, err := assemble(req.Source)
	if err != nil {
		return nil, err
	}
	if err := s.keep(ctx, im); err != nil {
		return nil, err
	}
	r := &Release{
		Digest: im.digest, Agent: req.Source.Name, Identity: req.Source.Identity, Suite: req.Suite,
		Size: int64(len(im.manifest)), Gate: verdict, Forced: verdict.Forced, Test: req.Test, Against: req.Against,
		Notes: req.Notes, CreatedBy: req.By, CreatedAt: s.deps.Clock.Now().UTC().Truncate(time.Microsecond),
	}
	attestations, err := s.attestAll(ctx, req, im, r)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", r.Digest.Short(), err)
	}
	return r, s.insert(ctx, r, attestations)
}

// attestAll signs the build, for a release that is new, and the test.
func (s *Service) attestAll(ctx context.Context, req BuildRequest, im *image, r *Release) ([]Attestation, error) {
	about := reference{name: r.Agent, digest: im.digest, size: r.Size}
	var out []Attestation
	signed, err := s.attestations(ctx, im.digest)
	if err != nil {
		return nil, err
	}
	if len(signed) == 0 {
		provenance, err := s.provenance(req.Source, im)
		if err != nil {
			return nil, err
		}
		a, err := s.attest(ctx, about, AttestSignature, PredicateProvenance, provenance)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	predicate, err := canon.JSON(testPredicate(r))
	if err != nil {
		return nil, err
	}
	a, err := s.attest(ctx, about, AttestTest, PredicateTest, predicate)
	if err != nil {
		return nil, err
	}
	return append(out, a), nil
}

func testPredicate(r *Release) TestPredicate {
	p := TestPredicate{Result: "PASSED", Gate: r.Gate, Test: r.Test, Against: r.Against}
	if !r.Gate.OK {
		p.Result = "FAILED"
	}
	if r.Suite != "" {
		p.Configuration = append(p.Configuration, subjectOf("suite", r.Suite))
	}
	if r.Test != nil && r.Test.Report != "" {
		p.Configuration = append(p.Configuration, subjectOf("report", r.Test.Report))
	}
	return p
}

// refused is the fault of a gate that said no, one field per line that failed.
func refused(agent string, v Verdict) error {
	var fields []fault.Field
	for _, l := range v.Lines {
		if !l.OK {
			fields = append(fields, fault.Field{
				Path: l.Rule, Code: "release.gate_" + code(l.Rule),
				Message: fmt.Sprintf("got %s, want %s", l.Got, l.Want),
			})
		}
	}
	return fault.New(fault.Conflict, "release.gate", "the gate refuses this version of %s", agent).
		WithHint("flywheel test, to see what fails; flywheel release --force releases it anyway and says so everywhere").
		WithFields(fields...)
}

func code(rule string) string {
	out := []byte(rule)
	for i, c := range out {
		if c == ' ' {
			out[i] = '_'
		}
	}
	return string(out)
}
