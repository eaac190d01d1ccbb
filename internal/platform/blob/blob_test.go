package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/fault"
)

func open(t *testing.T) (*blob.Files, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := blob.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, dir
}

func TestContentComesBackByItsDigest(t *testing.T) {
	t.Parallel()
	f, dir := open(t)
	content := []byte("hello")
	d, err := blob.PutBytes(t.Context(), f, content)
	if err != nil || d != "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Fatalf("%s %v", d, err)
	}
	if again, n, err := f.Put(t.Context(), bytes.NewReader(content)); again != d || n != 5 || err != nil {
		t.Errorf("%s %d %v", again, n, err)
	}
	if got, err := blob.Bytes(t.Context(), f, d); err != nil || string(got) != "hello" {
		t.Errorf("%q %v", got, err)
	}
	if ok, err := f.Has(t.Context(), d); !ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "tmp", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if d.Short() != "2cf24dba5fb0" {
		t.Error(d.Short())
	}
}

func TestMissingAndMalformedDigests(t *testing.T) {
	t.Parallel()
	f, _ := open(t)
	if _, err := f.Open(t.Context(), blob.Of([]byte("x"))); !fault.HasCode(err, "blob.missing") || fault.KindOf(err) != fault.NotFound {
		t.Errorf("error: %v", err)
	}
	for _, d := range []blob.Digest{"", "sha256:", "sha256:../../etc/passwd", "sha256:" + blob.Digest(strings.Repeat("A", 64)), "md5:" + blob.Digest(strings.Repeat("a", 64))} {
		if _, err := f.Open(t.Context(), d); !fault.HasCode(err, "blob.digest") {
			t.Errorf("%q: %v", d, err)
		}
		if ok, err := f.Has(t.Context(), d); ok || err != nil {
			t.Errorf("%q: %v %v", d, ok, err)
		}
	}
}

func TestDamagedContentIsNoticed(t *testing.T) {
	t.Parallel()
	f, dir := open(t)
	d, err := blob.PutBytes(t.Context(), f, []byte("release"))
	if err != nil {
		t.Fatal(err)
	}
	hexa := strings.TrimPrefix(string(d), "sha256:")
	if err := os.WriteFile(filepath.Join(dir, "sha256", hexa[:2], hexa[2:4], hexa), []byte("tampered"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Bytes(t.Context(), f, d); !fault.HasCode(err, "blob.damaged") {
		t.Errorf("error: %v", err)
	}
}

func TestFailedPutLeavesNothing(t *testing.T) {
	t.Parallel()
	f, dir := open(t)
	broken := errors.New("broken")
	if _, _, err := f.Put(t.Context(), io.MultiReader(strings.NewReader("half"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Put(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	for _, sub := range []string{"tmp/*", "sha256/*"} {
		if left, _ := filepath.Glob(filepath.Join(dir, sub)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestSameContentAtOnce(t *testing.T) {
	t.Parallel()
	f, _ := open(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := blob.PutBytes(t.Context(), f, []byte("same")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
