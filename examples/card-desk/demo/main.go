// Command demo runs the whole loop on the card desk with a real model, through the public client alone:
// package, conversation, test, release, deployment, traffic with a tool that fails in bursts, findings,
// proposals with evidence, and the next release, proven on scenarios that nothing was tuned on.
//
// Every number that it prints was computed in that run. It exits with 1 when the second release is not
// better than the first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flywheel/client"
)

// models are what --model stands for; a person may give their own with --model provider/name.
var models = map[string]string{
	"local":     "local/smollm2-135m-instruct",
	"openai":    "openai/gpt-5-mini",
	"anthropic": "anthropic/claude-sonnet-4-5",
	"ollama":    "ollama/llama3.2",
}

func main() {
	model := flag.String("model", "local", "local, openai, anthropic, ollama, or provider/name")
	home := flag.String("home", ".demo", "directory of this demo; it is emptied first")
	source := flag.String("package", "examples/card-desk", "the package")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *model, *home, *source); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		var e *client.Error
		if errors.As(err, &e) {
			if e.Hint != "" {
				fmt.Fprintln(os.Stderr, "  hint:", e.Hint)
			}
			for _, f := range e.Fields {
				fmt.Fprintf(os.Stderr, "  %s: %s %s\n", f.Path, f.Code, f.Message)
			}
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, model, home, source string) error {
	started := time.Now()
	ref, ok := models[model]
	if !ok {
		ref = model
	}
	files, err := packageFiles(source, ref)
	if err != nil {
		return err
	}
	traffic, err := readTraffic(filepath.Join(source, "traffic", "messages.jsonl"))
	if err != nil {
		return err
	}
	d, err := start(ctx, home)
	if err != nil {
		return err
	}
	defer d.stop()
	s := &story{desk: d, files: files, traffic: traffic, model: ref, started: started}
	for _, stage := range []func(context.Context) error{
		s.code, s.converse, s.test, s.release, s.deploy, s.operate, s.retrain, s.again,
	} {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return s.end()
}

// packageFiles reads the package as the API takes it. A model other than the package's own replaces the
// alias in flywheel.yaml.
func packageFiles(dir, model string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			if rel == "demo" || rel == "cards-server" || rel == "traffic" {
				return fs.SkipDir
			}
			return nil
		}
		b, err := os.ReadFile(path)
		files[rel] = b
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the package: %w (run it from the repository: make demo)", err)
	}
	manifest := strings.ReplaceAll(string(files["flywheel.yaml"]), models["local"], model)
	files["flywheel.yaml"] = []byte(manifest)
	return files, nil
}
