// Package e2e plays the journeys of people on the real binary: each testdata/*.txtar is one story.
package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
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
	return m.Run()
}

func TestJourneys(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs("../examples")
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
			env.Setenv("CARDS_SERVER", filepath.Join(binaries, "cards-server"))
			env.Setenv("CARDS_DATA", filepath.Join(env.WorkDir, "cards.db"))
			env.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"ready":  ready,
			"kill9":  kill9,
			"setenv": setenv,
			"copy":   copyTree,
		},
	})
}

// ready waits until the server of $FLYWHEEL_HOME answers, and sets $URL and $TOKEN.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	home := ts.Getenv("FLYWHEEL_HOME")
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) {
		b, err := os.ReadFile(filepath.Join(home, "server.json"))
		if err == nil {
			url := field(string(b), "url")
			if url != "" {
				if resp, err := http.Get(url + "/readyz"); err == nil {
					_ = resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						token, _ := os.ReadFile(filepath.Join(home, "token"))
						ts.Setenv("URL", url)
						ts.Setenv("TOKEN", strings.TrimSpace(string(token)))
						return
					}
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("no server became ready on %s", home)
}

// kill9 kills the process that holds $FLYWHEEL_HOME, as a power cut would.
func kill9(ts *testscript.TestScript, _ bool, _ []string) {
	b, err := os.ReadFile(filepath.Join(ts.Getenv("FLYWHEEL_HOME"), "server.json"))
	ts.Check(err)
	pid, err := strconv.Atoi(field(string(b), "pid"))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
}

// setenv NAME FILE [key] sets a variable to the content of a file, or to a field of the JSON in it.
func setenv(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[1])
	if len(args) == 3 {
		text = field(text, args[2])
	}
	ts.Setenv(args[0], strings.TrimSpace(text))
}

func copyTree(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(args[0])))
}

// field finds the first "key": value of a JSON text, whatever its depth.
func field(text, key string) string {
	_, rest, ok := strings.Cut(text, `"`+key+`":`)
	if !ok {
		return ""
	}
	rest = strings.TrimSpace(rest)
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		value, _, _ := strings.Cut(quoted, `"`)
		return value
	}
	return strings.TrimSpace(rest[:strings.IndexAny(rest+"\n", ",}\n")])
}
