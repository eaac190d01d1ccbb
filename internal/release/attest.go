package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
)

// The kinds of attestation that each release has.
const (
	AttestSignature = "signature" // who built it from what
	AttestTest      = "test"      // what the gate saw
)

// Predicate types of in-toto statements.
const (
	PredicateProvenance = "https://slsa.dev/provenance/v1"
	PredicateTest       = "https://in-toto.io/attestation/test-result/v0.1"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	buildType     = "https://flywheel.dev/build/release/v1"
)

// Statement is an in-toto v1 statement.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subject is what a statement is about.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Provenance is the SLSA v1 predicate in the part that applies here.
type Provenance struct {
	BuildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		ResolvedDependencies []Subject      `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		Metadata struct {
			StartedOn string `json:"startedOn,omitempty"`
		} `json:"metadata"`
	} `json:"runDetails"`
}

// TestPredicate is in-toto's test result with what a gate decided and why. It holds aggregates only:
// names of audit scenarios never leave the lab.
type TestPredicate struct {
	Result        string    `json:"result"` // PASSED or FAILED
	Configuration []Subject `json:"configuration,omitempty"`
	Gate          Verdict   `json:"flywheel_gate"`
	Test          *Test     `json:"flywheel_test,omitempty"`
	Against       *Against  `json:"flywheel_comparison,omitempty"`
}

// Attestation is a signed statement as a referrer of the release's manifest.
type Attestation struct {
	Release   blob.Digest `json:"release"`
	Manifest  blob.Digest `json:"manifest"` // the referrer
	Kind      string      `json:"kind"`
	Predicate string      `json:"predicate_type"`
}

func hexOf(d blob.Digest) string { return strings.TrimPrefix(string(d), "sha256:") }

func subjectOf(name string, d blob.Digest) Subject {
	return Subject{Name: name, Digest: map[string]string{"sha256": hexOf(d)}}
}

func (s *Service) provenance(src Source, im *image) (json.RawMessage, error) {
	var p Provenance
	p.BuildDefinition.BuildType = buildType
	p.BuildDefinition.ExternalParameters = map[string]any{"package": src.Name, "identity": src.Identity}
	for _, l := range im.layers {
		p.BuildDefinition.ResolvedDependencies = append(p.BuildDefinition.ResolvedDependencies,
			subjectOf(l.Annotations[annotationTitle], l.Digest))
	}
	p.RunDetails.Builder.ID = "https://flywheel.dev/builder/" + s.deps.Signer.ID()
	p.RunDetails.Metadata.StartedOn = s.deps.Clock.Now().UTC().Format("2006-01-02T15:04:05Z")
	return canon.JSON(p)
}

// attest signs a predicate about a release and stores it as a referrer.
func (s *Service) attest(ctx context.Context, about reference, kind, predicateType string, predicate json.RawMessage) (Attestation, error) {
	statement, err := canon.JSON(Statement{
		Type: statementType, Subject: []Subject{subjectOf(about.name, about.digest)},
		PredicateType: predicateType, Predicate: predicate,
	})
	if err != nil {
		return Attestation{}, err
	}
	envelope, err := s.deps.Signer.sign(statement)
	if err != nil {
		return Attestation{}, err
	}
	layer := describe(MediaTypeEnvelope, envelope)
	layer.Annotations = map[string]string{annotationTitle: kind + ".dsse.json"}
	manifest, err := canon.JSON(Manifest{
		SchemaVersion: 2, MediaType: mediaTypeManifest, ArtifactType: PayloadType,
		Config: describe(mediaTypeEmpty, emptyJSON), Layers: []Descriptor{layer},
		Subject:     &Descriptor{MediaType: mediaTypeManifest, Digest: about.digest, Size: about.size},
		Annotations: map[string]string{annotationWhat: kind, "in-toto.io/predicate-type": predicateType},
	})
	if err != nil {
		return Attestation{}, err
	}
	for _, b := range [][]byte{emptyJSON, envelope, manifest} {
		if _, err := blob.PutBytes(ctx, s.deps.Blobs, b); err != nil {
			return Attestation{}, fmt.Errorf("store attestation: %w", err)
		}
	}
	return Attestation{Release: about.digest, Manifest: blob.Of(manifest), Kind: kind, Predicate: predicateType}, nil
}

// reference is the manifest that an attestation is about.
type reference struct {
	name   string
	digest blob.Digest
	size   int64
}

// open reads an attestation back and checks every link: referrer → release, envelope → key,
// statement → release.
func (s *Service) open(ctx context.Context, a Attestation) (*Statement, error) {
	raw, err := blob.Bytes(ctx, s.deps.Blobs, a.Manifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.Subject == nil || m.Subject.Digest != a.Release {
		return nil, fmt.Errorf("the referrer %s is about something else", a.Manifest.Short())
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != MediaTypeEnvelope {
		return nil, fmt.Errorf("the referrer %s holds no envelope", a.Manifest.Short())
	}
	envelope, err := blob.Bytes(ctx, s.deps.Blobs, m.Layers[0].Digest)
	if err != nil {
		return nil, err
	}
	payload, _, err := openEnvelope(envelope, s.trusted)
	if err != nil {
		return nil, err
	}
	return readStatement(payload, a)
}

func readStatement(payload []byte, a Attestation) (*Statement, error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	st := &Statement{}
	if err := d.Decode(st); err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	switch {
	case st.Type != statementType:
		return nil, fmt.Errorf("the statement has type %q", st.Type)
	case st.PredicateType != a.Predicate:
		return nil, fmt.Errorf("the statement is a %q, not a %q", st.PredicateType, a.Predicate)
	case len(st.Subject) != 1 || st.Subject[0].Digest["sha256"] != hexOf(a.Release):
		return nil, fmt.Errorf("the statement is about another release")
	}
	return st, nil
}
