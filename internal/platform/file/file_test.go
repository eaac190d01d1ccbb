package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"flywheel/internal/platform/file"
)

func TestReplaceLeavesOneWholeFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "x")
	var together sync.WaitGroup
	for i := range 8 {
		together.Go(func() {
			if err := file.Replace(name, []byte(strings.Repeat(fmt.Sprint(i), 10_000)), 0o640); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	b, err := os.ReadFile(name)
	if err != nil || len(b) != 10_000 || strings.Trim(string(b), string(b[:1])) != "" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v %v", list, err)
	}
	if err := file.Replace(filepath.Join(dir, "none", "x"), nil, 0o600); err == nil {
		t.Error("there is no such directory")
	}
}

func TestTheFirstToCreateWins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "secret")
	got := make([]string, 8)
	var together sync.WaitGroup
	for i := range got {
		together.Go(func() {
			b, err := file.Create(name, []byte{byte('a' + i)}, 0o600)
			if err != nil {
				t.Error(err)
			}
			got[i] = string(b)
		})
	}
	together.Wait()
	for _, g := range got {
		if g != got[0] || len(g) != 1 {
			t.Errorf("%q", got)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v %v", list, err)
	}
}
