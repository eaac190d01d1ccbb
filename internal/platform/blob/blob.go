// Package blob keeps immutable bytes under the sha256 of their content. A blob is readable because a
// row somewhere refers to it, never because it exists: callers check that before they open one.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"flywheel/internal/platform/fault"
)

// Digest names content as "sha256:" followed by 64 hexadecimal digits.
type Digest string

// Of is the digest of b.
func Of(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// Valid says whether d is well formed.
func (d Digest) Valid() bool {
	hexa, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok || len(hexa) != 64 {
		return false
	}
	_, err := hex.DecodeString(hexa)
	return err == nil && hexa == strings.ToLower(hexa)
}

// Short is the first twelve hexadecimal digits, the form that people see.
func (d Digest) Short() string {
	hexa := strings.TrimPrefix(string(d), "sha256:")
	return hexa[:min(12, len(hexa))]
}

// Store keeps blobs. The file store is the only driver for now; object storage passes the same suite.
type Store interface {
	// Put stores what r gives and returns its digest and size in bytes; durable when it returns.
	Put(ctx context.Context, r io.Reader) (Digest, int64, error)
	// Open reads a blob; fault code blob.missing when it is not there.
	Open(ctx context.Context, d Digest) (io.ReadCloser, error)
	// Has says whether the blob is there.
	Has(ctx context.Context, d Digest) (bool, error)
}

// PutBytes stores b.
func PutBytes(ctx context.Context, s Store, b []byte) (Digest, error) {
	d, _, err := s.Put(ctx, bytes.NewReader(b))
	return d, err
}

// Bytes reads a whole blob and verifies it against its digest; code blob.damaged when it differs.
func Bytes(ctx context.Context, s Store, d Digest) ([]byte, error) {
	r, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if got := Of(b); got != d {
		return nil, fault.New(fault.Internal, "blob.damaged", "blob %s has the content of %s", d.Short(), got.Short()).
			WithHint("flywheel doctor")
	}
	return b, nil
}

// Files is a Store in a directory: sha256/ab/cd/<hex>.
type Files struct{ dir string }

// OpenFiles opens or creates a file store.
func OpenFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o750); err != nil {
		return nil, err
	}
	return &Files{dir: dir}, nil
}

func (f *Files) path(d Digest) string {
	hexa := strings.TrimPrefix(string(d), "sha256:")
	return filepath.Join(f.dir, "sha256", hexa[:2], hexa[2:4], hexa)
}

// Put writes to a temporary file, syncs it and renames it into place.
func (f *Files) Put(ctx context.Context, r io.Reader) (Digest, int64, error) {
	tmp, err := os.CreateTemp(filepath.Join(f.dir, "tmp"), "put-")
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), contextReader{ctx, r})
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", 0, err
	}
	d := digestOf(h)
	target := f.path(d)
	if _, err := os.Stat(target); err == nil {
		return d, n, nil
	}
	if err := f.makeDirs(filepath.Dir(target)); err != nil {
		return "", 0, err
	}
	if err := os.Rename(tmp.Name(), target); err != nil {
		return "", 0, err
	}
	return d, n, syncDir(filepath.Dir(target))
}

// makeDirs creates the directories of a blob so that their own entries are durable too.
func (f *Files) makeDirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if dir != f.dir {
		if err := f.makeDirs(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// Open opens the file of a blob.
func (f *Files) Open(_ context.Context, d Digest) (io.ReadCloser, error) {
	if !d.Valid() {
		return nil, fault.New(fault.Invalid, "blob.digest", "%q is not a sha256 digest", string(d))
	}
	file, err := os.Open(f.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "blob.missing", "blob %s is not in the store", d.Short())
	}
	return file, err
}

// Has looks for the file of a blob.
func (f *Files) Has(_ context.Context, d Digest) (bool, error) {
	if !d.Valid() {
		return false, nil
	}
	_, err := os.Stat(f.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func digestOf(h hash.Hash) Digest { return Digest("sha256:" + hex.EncodeToString(h.Sum(nil))) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
