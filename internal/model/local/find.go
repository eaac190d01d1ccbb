package local

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"flywheel/internal/platform/file"
)

//go:embed runner.py
var runner string

// File is a model on this machine.
type File struct {
	Name string // as in local/NAME
	Path string
	Size int64 // bytes
}

// quantized is the end of a file name that says how the weights are stored.
var quantized = regexp.MustCompile(`(?i)[.-](i?q\d+(_[0-9a-z]+)*|f16|f32|bf16)$`)

// Files lists the models of the cache: models/NAME.gguf, and what scripts/local-model has installed.
func (s *Supervisor) Files() []File {
	var out []File
	seen := map[string]bool{}
	add := func(path string, name func(string) string) {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			return
		}
		n := name(strings.TrimSuffix(filepath.Base(path), ".gguf"))
		if !seen[n] {
			seen[n] = true
			out = append(out, File{Name: n, Path: path, Size: info.Size()})
		}
	}
	asIs := func(n string) string { return n }
	short := func(n string) string { return strings.ToLower(quantized.ReplaceAllString(n, "")) }
	for _, g := range []struct {
		pattern string
		name    func(string) string
	}{
		{"models/*.gguf", asIs},
		{"local-model/venv/lib/python3*/site-packages/*/*.gguf", short},
		{"local-model/site/*/*.gguf", short},
	} {
		paths, _ := filepath.Glob(filepath.Join(s.deps.CacheDir, filepath.FromSlash(g.pattern)))
		for _, p := range paths {
			add(p, g.name)
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Find is the file of a model.
func (s *Supervisor) Find(name string) (File, bool) {
	for _, f := range s.Files() {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// Engine is a way to run a model.
type Engine struct {
	Kind string // llama-server or xllamacpp
	Path string // the program
	site string // directory of Python packages, for an installation without a virtual environment
}

// Engines lists what can run a model, the preferred one first: what a person has installed before what
// the project brought.
func (s *Supervisor) Engines() []Engine {
	var out []Engine
	if path := lookPath("llama-server", s.deps.Getenv("PATH")); path != "" {
		out = append(out, Engine{Kind: "llama-server", Path: path})
	}
	dir := filepath.Join(s.deps.CacheDir, "local-model")
	if libs, _ := filepath.Glob(filepath.Join(dir, "venv", "lib", "python3*", "site-packages", "xllamacpp")); len(libs) > 0 {
		if python := filepath.Join(dir, "venv", "bin", "python"); executable(python) {
			out = append(out, Engine{Kind: "xllamacpp", Path: python})
		}
	}
	site := filepath.Join(dir, "site")
	if _, err := os.Stat(filepath.Join(site, "xllamacpp")); err == nil {
		python, _ := os.ReadFile(filepath.Join(dir, "python"))
		if p := strings.TrimSpace(string(python)); executable(p) {
			out = append(out, Engine{Kind: "xllamacpp", Path: p, site: site})
		}
	}
	return out
}

func lookPath(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		if p := filepath.Join(dir, name); filepath.IsAbs(p) && executable(p) {
			return p
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

type digestEntry struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Digest   string    `json:"digest"`
}

// Digest is the SHA-256 of a model file as sha256:hex. It is computed once and remembered in the cache
// for as long as size and time of the file stay.
func (s *Supervisor) Digest(path string) (string, error) {
	s.digests.Lock()
	defer s.digests.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	store := filepath.Join(s.deps.CacheDir, "digests.json")
	known := map[string]digestEntry{}
	if b, err := os.ReadFile(store); err == nil {
		_ = json.Unmarshal(b, &known) // a broken store is written anew
	}
	if e, ok := known[path]; ok && e.Size == info.Size() && e.Modified.Equal(info.ModTime()) {
		return e.Digest, nil
	}
	digest, err := fileDigest(path)
	if err != nil {
		return "", err
	}
	known[path] = digestEntry{info.Size(), info.ModTime().UTC(), digest}
	for p := range known {
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			delete(known, p)
		}
	}
	b, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return "", err
	}
	return digest, replaceFile(store, b)
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// replaceFile writes a file so that another process never sees half of it.
func replaceFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return file.Replace(path, content, 0o600)
}
