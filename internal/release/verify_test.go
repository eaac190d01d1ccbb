package release_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/db"
	"flywheel/internal/release"
)

func (h *home) verify(r *release.Release) *release.Verification {
	h.t.Helper()
	v, err := h.svc.Verify(context.Background(), r)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

func failed(v *release.Verification) []string {
	var out []string
	for _, c := range v.Checks {
		if !c.OK {
			out = append(out, c.Name)
		}
	}
	return out
}

func (h *home) manifest(d blob.Digest) *release.Manifest {
	h.t.Helper()
	raw, err := blob.Bytes(context.Background(), h.blobs, d)
	if err != nil {
		h.t.Fatal(err)
	}
	m := &release.Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *home) exec(text string, args ...any) {
	h.t.Helper()
	ctx := context.Background()
	err := h.db.Write(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, text, args...)
		if err == nil && n == 0 {
			h.t.Errorf("%s changed nothing", text)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) put(content []byte) blob.Digest {
	h.t.Helper()
	d, err := blob.PutBytes(context.Background(), h.blobs, content)
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

// attested gives the referrer of a kind, and its envelope.
func (h *home) attested(r *release.Release, kind string) (referrer, envelope blob.Digest) {
	h.t.Helper()
	err := h.db.QueryRow(context.Background(), `SELECT manifest FROM release_attestations WHERE release = $1 AND kind = $2`, r.Digest, kind).Scan(&referrer)
	if err != nil {
		h.t.Fatal(err)
	}
	return referrer, h.manifest(referrer).Layers[0].Digest
}

func TestAnUntouchedReleaseVerifies(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	v := h.verify(h.mustCreate(desk(t)))
	if !v.OK {
		t.Fatalf("failed: %v", failed(v))
	}
	var names []string
	for _, c := range v.Checks {
		names = append(names, c.Name)
	}
	for _, want := range []string{
		"manifest", "lock", "component package.json", "component prompt/agents/desk", "component model/fast",
		"component data/examples.jsonl", "identity", "rebuilt", "signature", "test attestation", "record",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("nothing checks %q: %v", want, names)
		}
	}
}

// Every way to change what was released is seen, and by the right check.
func TestEveryTamperingIsSeen(t *testing.T) {
	t.Parallel()
	remove := func(h *home, d blob.Digest) {
		if err := os.Remove(h.path(d)); err != nil {
			h.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		tamper func(h *home, r *release.Release)
		check  string
	}{
		"manifest spoiled":      {func(h *home, r *release.Release) { h.spoil(r.Digest) }, "manifest"},
		"manifest removed":      {func(h *home, r *release.Release) { remove(h, r.Digest) }, "manifest"},
		"lock spoiled":          {func(h *home, r *release.Release) { h.spoil(h.manifest(r.Digest).Config.Digest) }, "lock"},
		"lock removed":          {func(h *home, r *release.Release) { remove(h, h.manifest(r.Digest).Config.Digest) }, "lock"},
		"package spoiled":       {func(h *home, r *release.Release) { h.spoil(r.Identity) }, "component package.json"},
		"envelope spoiled":      {func(h *home, r *release.Release) { _, e := h.attested(r, "signature"); h.spoil(e) }, "signature"},
		"envelope removed":      {func(h *home, r *release.Release) { _, e := h.attested(r, "signature"); remove(h, e) }, "signature"},
		"referrer spoiled":      {func(h *home, r *release.Release) { m, _ := h.attested(r, "signature"); h.spoil(m) }, "signature"},
		"test result spoiled":   {func(h *home, r *release.Release) { _, e := h.attested(r, "test"); h.spoil(e) }, "test attestation"},
		"signature row removed": {func(h *home, r *release.Release) { h.exec(`DELETE FROM release_attestations WHERE kind = 'signature'`) }, "signature"},
		"test row removed":      {func(h *home, r *release.Release) { h.exec(`DELETE FROM release_attestations WHERE kind = 'test'`) }, "test attestation"},
		"forced hidden":         {func(_ *home, r *release.Release) { r.Gate.Lines = r.Gate.Lines[:1] }, "record"},
		"forced claimed":        {func(_ *home, r *release.Release) { r.Forced = true }, "record"},
		"better test claimed":   {func(_ *home, r *release.Release) { r.Test.Passed++ }, "record"},
		"other package claimed": {func(_ *home, r *release.Release) { r.Identity = blob.Of([]byte("x")) }, "identity"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			r := h.mustCreate(desk(t))
			c.tamper(h, r)
			v := h.verify(r)
			if got := failed(v); v.OK || !slices.Contains(got, c.check) {
				t.Errorf("ok %v, failed %v, want %q", v.OK, got, c.check)
			}
		})
	}
}

func TestEverySpoiledLayerIsSeen(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.mustCreate(desk(t))
	for _, l := range h.manifest(r.Digest).Layers {
		before, err := os.ReadFile(h.path(l.Digest))
		if err != nil {
			t.Fatal(err)
		}
		h.spoil(l.Digest)
		if v := h.verify(r); v.OK {
			t.Errorf("spoiled %v and nobody saw it", l.Annotations)
		}
		if err := os.WriteFile(h.path(l.Digest), before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if v := h.verify(r); !v.OK {
		t.Errorf("restored, and still: %v", failed(v))
	}
}

// A forger with the store but without the key replaces blobs by others whose digests are right.
func TestAForgedManifestOrSignatureIsSeen(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	r := h.mustCreate(desk(t))
	other := h.mustCreate(desk(t, warmer))

	t.Run("another layer under a new digest", func(t *testing.T) {
		m := h.manifest(r.Digest)
		for i, l := range h.manifest(other.Digest).Layers {
			if l.Annotations["org.flywheel.component.kind"] == "prompt" {
				m.Layers[i] = l
			}
		}
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		forged := *r
		forged.Digest = h.put(raw)
		if v := h.verify(&forged); v.OK || !slices.Contains(failed(v), "signature") || !slices.Contains(failed(v), "rebuilt") {
			t.Errorf("failed: %v", failed(v))
		}
	})
	t.Run("the attestations of another release", func(t *testing.T) {
		referrer, _ := h.attested(other, "signature")
		fresh := newHomeWith(t, h)
		fresh.exec(`UPDATE release_attestations SET manifest = $1 WHERE release = $2 AND kind = 'signature'`, referrer, r.Digest)
		if v := fresh.verify(r); v.OK || !slices.Contains(failed(v), "signature") {
			t.Errorf("failed: %v", failed(v))
		}
	})
	t.Run("another key", func(t *testing.T) {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		key, err := release.NewKey(private)
		if err != nil {
			t.Fatal(err)
		}
		v, err := h.service(key).Verify(ctx, r)
		if err != nil || v.OK || !slices.Contains(failed(v), "signature") {
			t.Errorf("failed: %v, %v", failed(v), err)
		}
	})
}

// newHomeWith reopens the same home, so that a test may change its rows.
func newHomeWith(t *testing.T, h *home) *home {
	t.Helper()
	c := *h
	c.t = t
	return &c
}

func TestAChangedPayloadDoesNotFitItsSignature(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.mustCreate(desk(t))
	_, d := h.attested(r, "test")
	raw, err := blob.Bytes(context.Background(), h.blobs, d)
	if err != nil {
		t.Fatal(err)
	}
	trusted := map[string]ed25519.PublicKey{h.key.ID(): h.key.Public()}
	payload, by, err := release.OpenEnvelope(raw, trusted)
	if err != nil || by != h.key.ID() {
		t.Fatal(err)
	}
	var e release.Envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	e.Payload = base64.StdEncoding.EncodeToString(bytes.Replace(payload, []byte("PASSED"), []byte("FAILED"), 1))
	forged, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := release.OpenEnvelope(forged, trusted); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("a changed payload: %v", err)
	}
	e.Signatures = nil
	unsigned, _ := json.Marshal(e)
	if _, _, err := release.OpenEnvelope(unsigned, trusted); err == nil {
		t.Error("an envelope that nobody signed is accepted")
	}
}

// The vector is the one of the DSSE specification, protocol.md.
func TestPAEVector(t *testing.T) {
	t.Parallel()
	got := string(release.PAE("http://example.com/HelloWorld", []byte("hello world")))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestTheStatementsSayWhatTheyMust(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r := h.mustCreate(desk(t))
	for kind, predicate := range map[string]string{"signature": release.PredicateProvenance, "test": release.PredicateTest} {
		referrer, d := h.attested(r, kind)
		m := h.manifest(referrer)
		if m.Subject == nil || m.Subject.Digest != r.Digest || m.Subject.Size != r.Size || m.ArtifactType != release.PayloadType {
			t.Errorf("%s: referrer %+v", kind, m)
		}
		raw, err := blob.Bytes(context.Background(), h.blobs, d)
		if err != nil {
			t.Fatal(err)
		}
		payload, _, err := release.OpenEnvelope(raw, map[string]ed25519.PublicKey{h.key.ID(): h.key.Public()})
		if err != nil {
			t.Fatal(err)
		}
		var st release.Statement
		if err := json.Unmarshal(payload, &st); err != nil {
			t.Fatal(err)
		}
		hexa := strings.TrimPrefix(string(r.Digest), "sha256:")
		if st.Type != "https://in-toto.io/Statement/v1" || st.PredicateType != predicate || st.Subject[0].Digest["sha256"] != hexa {
			t.Errorf("%s: %+v", kind, st)
		}
		if kind == "test" {
			var p release.TestPredicate
			if err := json.Unmarshal(st.Predicate, &p); err != nil || p.Result != "PASSED" || p.Test.Passed != 50 || p.Test.Split != "audit" || len(p.Configuration) != 2 {
				t.Errorf("test result: %+v, %v", p, err)
			}
		}
	}
}

func TestTheExportIsAnOCILayoutThatHoldsEverything(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	ctx := context.Background()
	r := h.mustCreate(desk(t))
	dir := filepath.Join(t.TempDir(), "layout")
	n, err := h.svc.ExportOCI(ctx, r, dir)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	if err != nil || string(layout) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout: %s, %v", layout, err)
	}
	files, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil || len(files) != n {
		t.Fatalf("%d files, %d blobs said, %v", len(files), n, err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", f.Name()))
		if err != nil || string(blob.Of(content)) != "sha256:"+f.Name() {
			t.Errorf("%s holds something else (%v)", f.Name(), err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		SchemaVersion int                  `json:"schemaVersion"`
		MediaType     string               `json:"mediaType"`
		Manifests     []release.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil || index.SchemaVersion != 2 || len(index.Manifests) != 3 {
		t.Fatalf("index: %s, %v", raw, err)
	}
	if index.Manifests[0].Digest != r.Digest || index.Manifests[0].ArtifactType != release.ArtifactType {
		t.Errorf("the first manifest: %+v", index.Manifests[0])
	}
	for _, d := range index.Manifests {
		b, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(string(d.Digest), "sha256:")))
		if err != nil || int64(len(b)) != d.Size {
			t.Errorf("%s: %d bytes, index says %d, %v", d.Digest, len(b), d.Size, err)
		}
	}
	again := filepath.Join(t.TempDir(), "again")
	if _, err := h.svc.ExportOCI(ctx, r, again); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(again, "index.json"))
	if err != nil || !bytes.Equal(raw, second) {
		t.Errorf("the second export differs: %s", second)
	}
	_, err = h.svc.ExportOCI(ctx, r, dir)
	wantCode(t, err, "release.export_exists")
	h.spoil(r.Identity)
	_, err = h.svc.ExportOCI(ctx, r, filepath.Join(t.TempDir(), "spoiled"))
	wantCode(t, err, "release.tampered")
}
