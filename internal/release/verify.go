package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
)

// Check is one thing that was verified.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"` // what is wrong, or what was found
}

// Verification is what became of all checks of a release.
type Verification struct {
	Release blob.Digest `json:"release"`
	Agent   string      `json:"agent"`
	Number  int         `json:"number"`
	OK      bool        `json:"ok"`
	Forced  bool        `json:"forced,omitempty"` // its gate had failed
	Checks  []Check     `json:"checks"`
}

func (v *Verification) check(name, found string, err error) bool {
	c := Check{Name: name, OK: err == nil, Why: found}
	if err != nil {
		c.Why = err.Error()
		v.OK = false
	}
	v.Checks = append(v.Checks, c)
	return err == nil
}

// Verify checks a release from its bytes: every blob is there and is what its digest says, the manifest
// is what its own package and lock give when it is built again, the identity is that of the canonical
// package, signature and test attestation are by a trusted key and about this digest, and the record
// says what was attested. It returns an error only when it could not look.
func (s *Service) Verify(ctx context.Context, r *Release) (*Verification, error) {
	v := &Verification{Release: r.Digest, Agent: r.Agent, Number: r.Number, OK: true, Forced: r.Forced}
	if m := s.checkManifest(ctx, v, r); m != nil {
		config := s.checkBlobs(ctx, v, m)
		s.checkPackage(ctx, v, r, config)
	}
	list, err := s.attestations(ctx, r.Digest)
	if err != nil {
		return nil, err
	}
	s.checkSignature(ctx, v, list)
	s.checkTest(ctx, v, r, list)
	return v, ctx.Err()
}

func (s *Service) checkManifest(ctx context.Context, v *Verification, r *Release) *Manifest {
	raw, err := blob.Bytes(ctx, s.deps.Blobs, r.Digest)
	if !v.check("manifest", r.Digest.Short(), err) {
		return nil
	}
	m, err := parseManifest(raw)
	if err == nil && m.ArtifactType != ArtifactType {
		err = fmt.Errorf("the artifact type is %q", m.ArtifactType)
	}
	if !v.check("manifest form", ArtifactType, err) {
		return nil
	}
	return m
}

// checkBlobs reads every blob and returns the config when it could be read.
func (s *Service) checkBlobs(ctx context.Context, v *Verification, m *Manifest) *Config {
	read := func(name string, d Descriptor) []byte {
		content, err := blob.Bytes(ctx, s.deps.Blobs, d.Digest)
		if err == nil && int64(len(content)) != d.Size {
			err = fmt.Errorf("%d bytes, the manifest says %d", len(content), d.Size)
		}
		if !v.check(name, d.Digest.Short(), err) {
			return nil
		}
		return content
	}
	raw := read("lock", m.Config)
	for _, l := range m.Layers {
		read("component "+l.Annotations[annotationTitle], l)
	}
	if raw == nil {
		return nil
	}
	var config Config
	if err := json.Unmarshal(raw, &config); err != nil {
		v.check("lock form", "", err)
		return nil
	}
	return &config
}

// checkPackage builds the manifest again from the canonical package and the lock.
func (s *Service) checkPackage(ctx context.Context, v *Verification, r *Release, config *Config) {
	if config == nil {
		return
	}
	if config.Identity != r.Identity {
		v.check("identity", "", fmt.Errorf("the lock names %s, the record %s", config.Identity.Short(), r.Identity.Short()))
		return
	}
	src, err := s.deps.Packages.Source(ctx, config.Identity, config.Lock)
	if err == nil && blob.Of(src.Canonical) != config.Identity {
		err = fmt.Errorf("the canonical package is %s", blob.Of(src.Canonical).Short())
	}
	if !v.check("identity", config.Identity.Short(), err) {
		return
	}
	im, err := assemble(src)
	if err == nil && im.digest != r.Digest {
		err = fmt.Errorf("the package with this lock gives %s", im.digest.Short())
	}
	v.check("rebuilt", "the same digest", err)
}

func (s *Service) checkSignature(ctx context.Context, v *Verification, list []Attestation) {
	for _, a := range list {
		if a.Kind != AttestSignature {
			continue
		}
		_, err := s.open(ctx, a)
		v.check("signature", "in-toto statement, "+a.Predicate, err)
		return
	}
	v.check("signature", "", fmt.Errorf("there is none"))
}

// checkTest checks every test attestation; the newest must say what the record says.
func (s *Service) checkTest(ctx context.Context, v *Verification, r *Release, list []Attestation) {
	var newest *TestPredicate
	seen := false
	for _, a := range list {
		if a.Kind != AttestTest {
			continue
		}
		seen = true
		st, err := s.open(ctx, a)
		var p TestPredicate
		if err == nil {
			err = json.Unmarshal(st.Predicate, &p)
		}
		if err != nil {
			v.check("test attestation", "", err)
			newest = nil
			continue
		}
		v.check("test attestation", fmt.Sprintf("%s, gate %s", p.Result, p.Gate.Word()), nil)
		newest = &p
	}
	if !seen {
		v.check("test attestation", "", fmt.Errorf("there is none"))
		return
	}
	if newest == nil {
		return
	}
	got, err1 := canon.JSON(newest)
	want, err2 := canon.JSON(testPredicate(r))
	var err error
	if err1 != nil || err2 != nil || !bytes.Equal(got, want) || r.Forced != newest.Gate.Forced {
		err = fmt.Errorf("the record of the release says something else than what was attested")
	}
	v.check("record", r.Gate.Word(), err)
}
