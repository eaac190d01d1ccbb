package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// packageFile marks the top of a package.
const packageFile = "flywheel.yaml"

// maxFile bounds the files that are sent with a package.
const maxFile = 10 << 20

// packageRoot looks for flywheel.yaml in the working directory and above it.
func (s *shell) packageRoot() (string, error) {
	start := s.workDir()
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, packageFile)); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fault.New(fault.Invalid, "cli.no_package", "there is no %s in %s or above it", packageFile, start).
				WithHint("flywheel init my-desk writes a new package; --dir DIR names one")
		}
	}
}

// readPackage reads the files of a package. What is left out is told.
func (s *shell) readPackage(root string) (op.Dir, error) {
	files := op.Dir{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		slash := filepath.ToSlash(rel)
		if d.IsDir() {
			if slash == ".git" || path.Base(slash) == ".git" || slash == ".flywheel/layout" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			s.note(slash + " is left out: not a regular file")
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > maxFile {
			s.note(fmt.Sprintf("%s is left out: larger than %d MB", slash, maxFile>>20))
			return nil
		}
		files[slash], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "cli.read_package", "the package in %s cannot be read", root)
	}
	return files, nil
}

// writePackage writes files into a package and returns the names of those that changed.
func writePackage(root string, files op.Dir) ([]string, error) {
	names := make([]string, 0, len(files))
	for name := range files {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return nil, fault.New(fault.Invalid, "cli.write_outside", "the answer wants to write %q, outside of the package", name)
		}
		names = append(names, name)
	}
	sort.Strings(names)
	dir, err := os.OpenRoot(root) // also refuses symbolic links that lead outside
	if err != nil {
		return nil, fmt.Errorf("open the package: %w", err)
	}
	defer func() { _ = dir.Close() }()
	var changed []string
	for _, name := range names {
		local := filepath.FromSlash(name)
		if old, err := dir.ReadFile(local); err == nil && string(old) == string(files[name]) {
			continue
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, fmt.Errorf("write %s: %w", name, err)
		}
		if err := writeInRoot(dir, local, files[name]); err != nil {
			return changed, fmt.Errorf("write %s: %w", name, err)
		}
		changed = append(changed, name)
	}
	return changed, nil
}

// writeInRoot replaces a file as a whole, keeping its mode.
func writeInRoot(dir *os.Root, name string, content []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := dir.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	if parent := filepath.Dir(name); parent != "." {
		if err := dir.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	tmp := name + ".flywheel-tmp"
	if err := dir.WriteFile(tmp, content, mode); err != nil {
		return err
	}
	if err := dir.Rename(tmp, name); err != nil {
		return errors.Join(err, dir.Remove(tmp))
	}
	return nil
}
