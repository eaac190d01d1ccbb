package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/file"
)

// TokenFile is the name of the token file in the home.
const TokenFile = "token"

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newSecret is 43 random characters of base 62, which carry 32 bytes, after a prefix that scanners can find.
func newSecret(prefix string) string {
	var b strings.Builder
	b.WriteString(prefix)
	var buf [64]byte
	for n := 0; n < 43; {
		_, _ = rand.Read(buf[:])
		for _, x := range buf {
			if x < 248 && n < 43 { // 248 = 4 × 62: no character is likelier than another
				b.WriteByte(base62[x%62])
				n++
			}
		}
	}
	return b.String()
}

// ReadToken reads the token of a home, as the CLI does to talk to a running server.
func ReadToken(home string) (string, error) {
	name := filepath.Join(home, TokenFile)
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if !strings.HasPrefix(token, "fw_") || len(token) < 20 {
		return "", fault.New(fault.Invalid, "identity.token_file", "%s does not hold a token", name).
			WithHint("remove the file; the next command makes a new one")
	}
	return token, nil
}

// ensureToken reads the token and makes it when there is none. It refuses a file that others may read.
func ensureToken(home string) (string, error) {
	name := filepath.Join(home, TokenFile)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return createToken(name)
	}
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fault.New(fault.Invalid, "identity.token_open", "%s may be read by others (mode %04o)", name, info.Mode().Perm()).
			WithHint("chmod 600 %s, or remove it: the next command makes a new one", name)
	}
	return ReadToken(home)
}

func createToken(name string) (string, error) {
	token := newSecret("fw_")
	if err := file.Replace(name, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the token file: %w", err)
	}
	return token, nil
}
