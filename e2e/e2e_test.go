// Package e2e plays the journeys of people on the real binary: each testdata/*.txtar is one story.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	_ "flywheel/internal/app" // so that a change of the program is a change of these tests, for the test cache
)

var binaries string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "flywheel-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binaries = dir
	for name, pkg := range map[string]string{"flywheel": "./cmd/flywheel", "cards-server": "./examples/card-desk/cards-server"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	sources, err := filepath.Glob("../examples/card-desk/cards-server/*")
	for _, file := range sources {
		_, err = os.ReadFile(file) // for the test cache, too
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func TestJourneys(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	desk, err := filepath.Abs("testdata/desk")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("FLYWHEEL_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("EXAMPLES", examples)
			env.Setenv("DESK", desk)
			env.Setenv("CARDS_SERVER", filepath.Join(binaries, "cards-server"))
			env.Setenv("CARDS_DATA", filepath.Join(env.WorkDir, "cards.db"))
			env.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: commands,
	})
}
