package local

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestMain lets the test binary play llama-server, so that the supervisor meets real processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "play-llama-server" {
		playServer(os.Args[2:])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "play-runner" {
		playRunner()
		return
	}
	os.Exit(m.Run())
}

// playRunner is the Python runner: it is configured by its first line and ends with its standard input.
func playRunner() {
	in := bufio.NewReader(os.Stdin)
	line, _ := in.ReadBytes('\n')
	var c struct {
		Model, Key    string
		Port, Context int
	}
	if err := json.Unmarshal(line, &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}()
	_ = os.Setenv("LLAMA_API_KEY", c.Key)
	_ = os.Setenv("PLAYS", "runner")
	playServer([]string{"--model", c.Model, "--port", strconv.Itoa(c.Port), "--host", "127.0.0.1", "--ctx-size", strconv.Itoa(c.Context)})
}

// writeRunner installs a runner beside llama-server, as scripts/local-model does.
func writeRunner(t *testing.T, cache string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	venv := filepath.Join(cache, "local-model", "venv")
	for _, dir := range []string{"bin", "lib/python3.12/site-packages/xllamacpp"} {
		if err := os.MkdirAll(filepath.Join(venv, filepath.FromSlash(dir)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' play-runner\n", self)
	if err := os.WriteFile(filepath.Join(venv, "bin", "python"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// playServer speaks the few paths that matter. How it misbehaves stands in a file beside the model.
func playServer(args []string) {
	flags := flag.NewFlagSet("llama-server", flag.ContinueOnError)
	model := flags.String("model", "", "")
	port := flags.String("port", "", "")
	host := flags.String("host", "", "")
	context := flags.Int("ctx-size", 0, "")
	for _, name := range []string{"alias", "parallel", "threads", "threads-batch"} {
		flags.String(name, "", "")
	}
	flags.Bool("jinja", false, "")
	if err := flags.Parse(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	behaviour, _ := os.ReadFile(*model + ".behaviour")
	if string(behaviour) == "crash" || string(behaviour) == "crash as llama-server" && os.Getenv("PLAYS") == "" {
		fmt.Fprintln(os.Stderr, "cannot read the tensors")
		os.Exit(3)
	}
	key := os.Getenv("LLAMA_API_KEY")
	started := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if string(behaviour) == "hang" || time.Since(started) < 50*time.Millisecond {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/props", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+key || key == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprintf(w, `{"n_ctx":%d,"secret":%q}`, *context, os.Getenv("OPENAI_API_KEY"))
	})
	mux.HandleFunc("/burn", func(http.ResponseWriter, *http.Request) {
		for end := time.Now().Add(150 * time.Millisecond); time.Now().Before(end); {
			_ = bytes.Repeat([]byte("x"), 1000)
		}
	})
	mux.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { os.Exit(9) })
	fmt.Println("listening on", *port)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(*host+":"+*port, mux))
	os.Exit(1)
}

// writeModel puts a file with a GGUF header into the cache.
func writeModel(t *testing.T, cache, name, behaviour string) {
	t.Helper()
	dir := filepath.Join(cache, "models")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".gguf")
	if err := os.WriteFile(path, ggufFile("{{ messages }}", 2048), 0o600); err != nil {
		t.Fatal(err)
	}
	if behaviour != "" {
		if err := os.WriteFile(path+".behaviour", []byte(behaviour), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// ggufFile is a header as llama.cpp writes it, without tensors.
func ggufFile(template string, context uint32) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string) {
		put(uint64(len(s)))
		b.WriteString(s)
	}
	b.WriteString("GGUF")
	put(uint32(3))
	put(uint64(0))
	put(uint64(6))
	text("general.architecture")
	put(uint32(8))
	text("llama")
	text("general.name")
	put(uint32(8))
	text("Tiny")
	text("llama.context_length")
	put(uint32(4))
	put(context)
	text("tokenizer.ggml.tokens")
	put(uint32(9))
	put(uint32(8))
	put(uint64(2))
	text("a")
	text("bc")
	text("tokenizer.ggml.scores")
	put(uint32(9))
	put(uint32(6))
	put(uint64(2))
	put([]float32{1, 2})
	text("tokenizer.chat_template")
	put(uint32(8))
	text(template)
	return b.Bytes()
}

// fakeServerOnPath makes a directory whose llama-server is this test binary.
func fakeServerOnPath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' play-llama-server \"$@\"\n", self)
	if err := os.WriteFile(filepath.Join(dir, "llama-server"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + string(os.PathListSeparator) + "/usr/bin" + string(os.PathListSeparator) + "/bin"
}
