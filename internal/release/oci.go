package release

import (
	"bytes"
	"encoding/json"
	"fmt"

	"flywheel/internal/platform/blob"
)

// Media types of a release. The OCI ones follow image-spec v1.1.
const (
	ArtifactType     = "application/vnd.flywheel.release.v1+json"
	MediaTypeLock    = "application/vnd.flywheel.lock.v1+json"
	MediaTypePackage = "application/vnd.flywheel.package.v1+json"
	// mediaTypeComponent is completed by the component's kind.
	mediaTypeComponent = "application/vnd.flywheel.component.%s.v1"

	mediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaTypeIndex    = "application/vnd.oci.image.index.v1+json"
	mediaTypeEmpty    = "application/vnd.oci.empty.v1+json"

	annotationTitle = "org.opencontainers.image.title"
	annotationRef   = "org.opencontainers.image.ref.name"
	annotationKind  = "org.flywheel.component.kind"
	annotationName  = "org.flywheel.component.name"
	annotationWhat  = "org.flywheel.attestation"
)

// Descriptor points to a blob (image-spec descriptor.md).
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       blob.Digest       `json:"digest"`
	Size         int64             `json:"size"` // bytes
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// Manifest is an OCI image manifest (image-spec manifest.md).
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// index is the index.json of an OCI layout (image-spec image-index.md).
type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []Descriptor `json:"manifests"`
}

var emptyJSON = []byte("{}")

func describe(mediaType string, content []byte) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: blob.Of(content), Size: int64(len(content))}
}

func parseManifest(b []byte) (*Manifest, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	m := &Manifest{}
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if m.SchemaVersion != 2 || m.MediaType != mediaTypeManifest {
		return nil, fmt.Errorf("read manifest: schema version %d, media type %q", m.SchemaVersion, m.MediaType)
	}
	return m, nil
}
