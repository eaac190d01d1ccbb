package deploy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flywheel/internal/run"
)

func runID(s string) run.ID { return run.ID(s) }

// openAIVersion is the release of OpenAI's Python client that the endpoint is tested with.
const openAIVersion = "3.54.0"

// pythonWithOpenAI gives a Python that has OpenAI's client: FLYWHEEL_TEST_PYTHON, the one on PATH, or, with
// FLYWHEEL_TEST_INSTALL=1, a new virtual environment. The test is skipped where there is none.
func pythonWithOpenAI(t *testing.T) string {
	t.Helper()
	for _, python := range []string{os.Getenv("FLYWHEEL_TEST_PYTHON"), "python3"} {
		if python != "" && exec.Command(python, "-c", "import openai").Run() == nil {
			return python
		}
	}
	if os.Getenv("FLYWHEEL_TEST_INSTALL") == "" {
		t.Skip("no Python with the package openai; FLYWHEEL_TEST_INSTALL=1 installs it into a temporary environment")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "venv")
	python := filepath.Join(dir, "bin", "python")
	for _, args := range [][]string{{"python3", "-m", "venv", dir}, {python, "-m", "pip", "install", "--quiet", "openai==" + openAIVersion}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return python
}

func TestTheStockPythonClientWorks(t *testing.T) {
	t.Parallel()
	python := pythonWithOpenAI(t)
	h, s := served(t)
	cmd := exec.Command(python, filepath.Join("testdata", "client.py"), s.URL+"/v1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all is well") {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := len(h.runner.seen); n != 4 {
		t.Errorf("%d runs, want 4: the client repeats what failed?", n)
	}
}
