package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
	"flywheel/internal/platform/fault"
)

const layoutFile = `{"imageLayoutVersion":"1.0.0"}`

// ExportOCI writes a release with its attestations as an OCI image layout (image-spec image-layout.md)
// into dir, which must be empty or not exist. The same release gives the same files. It returns how many
// blobs were written.
func (s *Service) ExportOCI(ctx context.Context, r *Release, dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return 0, fault.New(fault.Conflict, "release.export_exists", "%s is not empty", dir).WithHint("name a directory that does not exist yet")
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	if err := s.trustworthy(ctx, r); err != nil {
		return 0, err
	}
	list, err := s.attestations(ctx, r.Digest)
	if err != nil {
		return 0, err
	}
	head := Descriptor{
		MediaType: mediaTypeManifest, Digest: r.Digest, Size: r.Size, ArtifactType: ArtifactType,
		Annotations: map[string]string{annotationRef: fmt.Sprintf("%s-%d", r.Agent, r.Number), annotationTitle: r.Agent},
	}
	ix := index{SchemaVersion: 2, MediaType: mediaTypeIndex, Manifests: []Descriptor{head}}
	seen := map[blob.Digest]bool{}
	for _, d := range slices.Concat([]Descriptor{head}, referrers(list)) {
		size, err := s.exportManifest(ctx, d.Digest, dir, seen)
		if err != nil {
			return 0, fmt.Errorf("export %s: %w", r.Name(), err)
		}
		if d.Digest != r.Digest {
			d.Size = size
			ix.Manifests = append(ix.Manifests, d)
		}
	}
	raw, err := canon.JSON(ix)
	if err != nil {
		return 0, err
	}
	return len(seen), errors.Join(
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(layoutFile), 0o600),
		os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o600),
	)
}

func referrers(list []Attestation) []Descriptor {
	var out []Descriptor
	for _, a := range list {
		out = append(out, Descriptor{
			MediaType: mediaTypeManifest, Digest: a.Manifest, ArtifactType: PayloadType,
			Annotations: map[string]string{annotationWhat: a.Kind},
		})
	}
	return out
}

// exportManifest writes a manifest and all that it points to, and gives its size.
func (s *Service) exportManifest(ctx context.Context, d blob.Digest, dir string, seen map[blob.Digest]bool) (int64, error) {
	raw, err := s.exportBlob(ctx, d, dir, seen)
	if err != nil {
		return 0, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return 0, err
	}
	for _, l := range append([]Descriptor{m.Config}, m.Layers...) {
		if _, err := s.exportBlob(ctx, l.Digest, dir, seen); err != nil {
			return 0, err
		}
	}
	return int64(len(raw)), nil
}

func (s *Service) exportBlob(ctx context.Context, d blob.Digest, dir string, seen map[blob.Digest]bool) ([]byte, error) {
	content, err := blob.Bytes(ctx, s.deps.Blobs, d)
	if err != nil {
		return nil, err
	}
	target := filepath.Join(dir, "blobs", "sha256", hexOf(d))
	if seen[d] {
		return content, nil
	}
	seen[d] = true
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return nil, err
	}
	return content, os.WriteFile(target, content, 0o600)
}
