// Package file writes files as a whole: whoever reads one sees all of it or what was there before, also
// after a crash.
package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file in the place of the one that may be there.
func Replace(name string, content []byte, mode fs.FileMode) error {
	return write(name, content, mode, os.Rename)
}

// Create writes a file that must not be there yet, and gives its content: that of another process when it
// came first.
func Create(name string, content []byte, mode fs.FileMode) ([]byte, error) {
	err := write(name, content, mode, os.Link)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(name)
}

func write(name string, content []byte, mode fs.FileMode, place func(from, to string) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return place(tmp.Name(), name)
}
