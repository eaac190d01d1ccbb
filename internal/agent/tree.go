package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
	"flywheel/spec"
)

// tree is path → normalised content: the value of a YAML file, {"front", "body"} of a Markdown file,
// {"digest", "size"} of a data file.
type tree map[string]any

// canonical is the bytes whose digest is the identity.
func (t tree) canonical() []byte {
	return compact(map[string]any{"flywheel": int64(spec.FormatVersion), "files": map[string]any(t)})
}

func dataValue(f spec.DataFile) any { return map[string]any{"digest": f.Digest, "size": f.Size} }

// asData reads {"digest", "size"}; known kinds never look like that.
func asData(v any) (digest blob.Digest, ok bool) {
	m, _ := v.(map[string]any)
	text, ok1 := m["digest"].(string)
	_, ok2 := m["size"].(int64)
	return blob.Digest(text), ok1 && ok2 && len(m) == 2
}

// resolved is the package of a builder without errors.
func (b *builder) resolved(others tree) *Resolved {
	t := tree{}
	maps.Copy(t, others)
	for file, s := range b.sources {
		t[file] = s.value
	}
	for file, f := range b.pkg.Data {
		t[file] = dataValue(f)
	}
	canonical := t.canonical()
	return &Resolved{Package: b.pkg, Identity: blob.Of(canonical), Canonical: canonical, Data: b.data, tree: t}
}

// fromTree decodes a canonical tree. Places in its problems have no lines.
func fromTree(t tree, data map[string][]byte) (*Resolved, []Problem) {
	b := &builder{sources: map[string]*source{}, files: op.Dir(data)}
	others := tree{}
	for file, value := range t {
		kind, known := kindOf(file, nil)
		_, isData := asData(value)
		switch {
		case known:
			s := &source{file: file, kind: kind, value: value}
			b.sources[file] = s
			if m, ok := value.(map[string]any); ok && kind.format == formatMarkdown {
				s.body, _ = m["body"].(string)
			}
		case !isData:
			others[file] = value
		}
	}
	b.build()
	problems := b.list()
	if len(Errors(problems)) > 0 {
		return nil, problems
	}
	r := b.resolved(others)
	r.Problems = problems
	return r, problems
}

// build decodes the sources and checks what they refer to.
func (b *builder) build() {
	b.data, b.once = map[string][]byte{}, map[string]bool{}
	if b.sources["flywheel.yaml"] == nil {
		b.sources["flywheel.yaml"] = &source{file: "flywheel.yaml", kind: formatKinds[0]}
		b.decode()
		delete(b.sources, "flywheel.yaml")
		return
	}
	b.decode()
	b.references()
}

// Store keeps the canonical tree and the data files as blobs; the identity is the digest of the first.
func Store(ctx context.Context, blobs blob.Store, r *Resolved) error {
	for _, file := range slices.Sorted(maps.Keys(r.Data)) {
		if _, err := blob.PutBytes(ctx, blobs, r.Data[file]); err != nil {
			return fmt.Errorf("storing %s: %w", file, err)
		}
	}
	d, err := blob.PutBytes(ctx, blobs, r.Canonical)
	if err != nil {
		return fmt.Errorf("storing the package: %w", err)
	}
	if d != r.Identity {
		return fault.New(fault.Internal, "package.identity", "the package %s was stored as %s", r.Identity.Short(), d.Short())
	}
	return nil
}

// Load reads a package from blobs and verifies every digest. It has no suites.
func Load(ctx context.Context, blobs blob.Store, identity blob.Digest) (*Resolved, error) {
	canonical, err := blob.Bytes(ctx, blobs, identity)
	if err != nil {
		return nil, err
	}
	t, err := parseCanonical(canonical)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "package.identity", "%s is not a package", identity.Short())
	}
	data := map[string][]byte{}
	for file, value := range t {
		digest, ok := asData(value)
		if !ok {
			continue
		}
		if data[file], err = blob.Bytes(ctx, blobs, digest); err != nil {
			return nil, fmt.Errorf("reading %s of package %s: %w", file, identity.Short(), err)
		}
	}
	r, problems := fromTree(t, data)
	if err := Fault(problems); err != nil {
		return nil, err
	}
	if r.Identity != identity {
		return nil, fault.New(fault.Invalid, "package.identity", "the package %s reads as %s: another version of Flywheel wrote it",
			identity.Short(), r.Identity.Short())
	}
	return r, nil
}

func parseCanonical(b []byte) (tree, error) {
	v, err := parseJSON(b)
	if err != nil {
		return nil, err
	}
	m, _ := v.(map[string]any)
	files, ok := m["files"].(map[string]any)
	if !ok || m["flywheel"] != int64(spec.FormatVersion) {
		return nil, errors.New("not the canonical tree of format 1")
	}
	return tree(files), nil
}

// parseJSON reads one JSON value with the number types of a tree.
func parseJSON(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return treeNumbers(v)
}

func treeNumbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i, nil
		}
		f, err := v.Float64()
		if err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), nil
		}
		return f, err
	case map[string]any:
		for k, e := range v {
			if v[k], err = treeNumbers(e); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, e := range v {
			if v[i], err = treeNumbers(e); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// treeValue turns any Go value into one of a tree.
func treeValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64:
		return v, nil
	case string:
		return strings.ToValidUTF8(v, "\uFFFD"), nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return parseJSON(b)
}
