package release

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/canon"
)

// Source is a locked package as a release is built from it: everything, and nothing else.
type Source struct {
	Name     string
	Goal     string
	Identity blob.Digest
	// Canonical is the resolved package whose digest is Identity.
	Canonical []byte
	// Lock is the lock as JSON: model pins, tool schemas, data.
	Lock json.RawMessage
	// Components are the parts, each of which becomes a layer.
	Components []Component
	// Data are the files that the package refers to, path → content.
	Data map[string][]byte
}

// Component is one pinned part of an agent as a layer.
type Component struct {
	Kind    string // model, prompt, tool, code, memory, policy, data
	Name    string
	Content []byte
}

// Config is the config blob of a release: the lock with what a reader wants to know first.
type Config struct {
	Flywheel int             `json:"flywheel"` // format of the package
	Name     string          `json:"name"`
	Goal     string          `json:"goal,omitempty"`
	Identity blob.Digest     `json:"identity"`
	Lock     json.RawMessage `json:"lock"`
}

// image is an assembled release before it is stored.
type image struct {
	digest   blob.Digest
	manifest []byte
	blobs    [][]byte // config and layers
	layers   []Descriptor
}

// assemble makes the manifest of a source. It is a pure function: the same source gives the same bytes.
func assemble(src Source) (*image, error) {
	if got := blob.Of(src.Canonical); got != src.Identity {
		return nil, fmt.Errorf("assemble %s: the canonical package is %s, not %s", src.Name, got.Short(), src.Identity.Short())
	}
	lock, err := compactJSON(src.Lock)
	if err != nil {
		return nil, fmt.Errorf("assemble %s: read lock: %w", src.Name, err)
	}
	config, err := canon.JSON(Config{Flywheel: 1, Name: src.Name, Goal: src.Goal, Identity: src.Identity, Lock: lock})
	if err != nil {
		return nil, fmt.Errorf("assemble %s: %w", src.Name, err)
	}
	im := &image{blobs: [][]byte{config}}
	pkg := describe(MediaTypePackage, src.Canonical)
	pkg.Annotations = map[string]string{annotationTitle: "package.json", annotationKind: "package", annotationName: src.Name}
	im.add(pkg, src.Canonical)
	for _, c := range layersOf(src) {
		d := describe(fmt.Sprintf(mediaTypeComponent, c.Kind), c.Content)
		d.Annotations = map[string]string{annotationTitle: title(c), annotationKind: c.Kind, annotationName: c.Name}
		im.add(d, c.Content)
	}
	im.manifest, err = canon.JSON(Manifest{
		SchemaVersion: 2, MediaType: mediaTypeManifest, ArtifactType: ArtifactType,
		Config: describe(MediaTypeLock, config), Layers: im.layers,
		Annotations: map[string]string{annotationTitle: src.Name},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble %s: %w", src.Name, err)
	}
	im.digest = blob.Of(im.manifest)
	return im, nil
}

// title is the file name under which clients that pull an artifact keep a layer.
func title(c Component) string {
	if strings.HasPrefix(c.Name, c.Kind+"/") {
		return c.Name
	}
	return c.Kind + "/" + c.Name
}

func (im *image) add(d Descriptor, content []byte) {
	im.layers = append(im.layers, d)
	im.blobs = append(im.blobs, content)
}

// layersOf gives the components in their order, and after them the data files that no component holds
// byte by byte, so that a release can be moved to another machine whole.
func layersOf(src Source) []Component {
	out := slices.Clone(src.Components)
	have := map[blob.Digest]bool{}
	for _, c := range out {
		have[blob.Of(c.Content)] = true
	}
	for path, content := range src.Data {
		if !have[blob.Of(content)] {
			out = append(out, Component{Kind: "data", Name: path, Content: content})
		}
	}
	slices.SortFunc(out, func(a, b Component) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return out
}

// compactJSON re-encodes JSON with sorted keys.
func compactJSON(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return json.RawMessage("{}"), nil
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return canon.JSON(v)
}

// keep stores the blobs of an image, the manifest last.
func (s *Service) keep(ctx context.Context, im *image) error {
	for _, b := range append(slices.Clone(im.blobs), im.manifest) {
		if _, err := blob.PutBytes(ctx, s.deps.Blobs, b); err != nil {
			return fmt.Errorf("store release %s: %w", im.digest.Short(), err)
		}
	}
	return nil
}
