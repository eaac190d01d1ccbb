package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secrets gives the values of secret://NAME: the variable FLYWHEEL_SECRET_NAME of the process, else the
// file secrets/NAME of the home, which only its owner may read. They go into headers and environments of
// tool servers at the last moment, and nowhere else.
func secrets(home string, getenv func(string) string) func(name string) (string, error) {
	return func(name string) (string, error) {
		variable := "FLYWHEEL_SECRET_" + strings.Map(func(r rune) rune {
			if r == '-' || r == '.' {
				return '_'
			}
			return r
		}, strings.ToUpper(name))
		if v := getenv(variable); v != "" {
			return v, nil
		}
		path := filepath.Join(home, "secrets", filepath.Base(name))
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("the secret %s is not set: set %s, or write it to %s", name, variable, path)
		}
		if err != nil {
			return "", fmt.Errorf("the secret %s: %w", name, err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			return "", fmt.Errorf("the secret %s can be read by others: chmod 600 %s", name, path)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("the secret %s: %w", name, err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
}
