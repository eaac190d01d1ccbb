package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// patience bounds every wait of a story.
const patience = 30 * time.Second

var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"ready":    ready,
	"kill9":    kill9,
	"setenv":   setenv,
	"copy":     copyTree,
	"http":     httpCall,
	"json":     jsonCheck,
	"until":    until,
	"rows":     rows,
	"blob":     blobFile,
	"flip":     flip,
	"replace":  replace,
	"traffic":  traffic,
	"exitcode": exitCode,
	"alljson":  allJSON,
}

// wait asks until the answer is yes, and fails with what it was waiting for.
func wait(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			ts.Fatalf("still waiting for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ready waits until the server of $FLYWHEEL_HOME answers, and sets $URL, $TOKEN and $PID.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	home := ts.Getenv("FLYWHEEL_HOME")
	wait(ts, "a server on "+home, func() bool {
		b, err := os.ReadFile(filepath.Join(home, "server.json"))
		if err != nil {
			return false
		}
		address := field(string(b), "url")
		if address == "" {
			return false
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address+"/readyz", nil)
		ts.Check(err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false
		}
		token, err := os.ReadFile(filepath.Join(home, "token"))
		ts.Check(err)
		ts.Setenv("URL", address)
		ts.Setenv("TOKEN", strings.TrimSpace(string(token)))
		ts.Setenv("PID", field(string(b), "pid"))
		return true
	})
}

// kill9 kills the process that holds $FLYWHEEL_HOME, as a power cut would.
func kill9(ts *testscript.TestScript, _ bool, _ []string) {
	b, err := os.ReadFile(filepath.Join(ts.Getenv("FLYWHEEL_HOME"), "lock"))
	ts.Check(err)
	pid, err := strconv.Atoi(field(string(b), "pid"))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
}

// setenv NAME FILE [path] sets a variable to the content of a file, or to a value of the JSON in it.
func setenv(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[1])
	if len(args) == 3 {
		text = at(ts, text, args[2])
	}
	ts.Setenv(args[0], strings.TrimSpace(text))
}

// json FILE [path [regexp]] checks that a file is JSON and that the value at a path matches.
func jsonCheck(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	if len(args) == 1 {
		if !json.Valid([]byte(text)) {
			ts.Fatalf("%s is no JSON:\n%s", args[0], text)
		}
		return
	}
	got := at(ts, text, args[1])
	want := ".+"
	if len(args) > 2 {
		want = args[2]
	}
	if regexp.MustCompile("(?s)^(?:"+want+")$").MatchString(got) == neg {
		ts.Fatalf("%s of %s is %q, want %s", args[1], args[0], got, want)
	}
}

// at is the value at a path such as runs.0.status; "length" is that of a list.
func at(ts *testscript.TestScript, text, path string) string {
	var v any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("no JSON: %v\n%s", err, text)
	}
	for key := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			if key == "length" {
				v = len(x)
				continue
			}
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(x) {
				return ""
			}
			v = x[i]
		default:
			return ""
		}
	}
	switch v := v.(type) {
	case nil:
		return ""
	case map[string]any, []any:
		b, err := json.Marshal(v)
		ts.Check(err)
		return string(b)
	}
	return fmt.Sprint(v)
}

// http [-anonymous] [-token T] [-H 'Name: value']... STATUS METHOD PATH [BODY] calls the server. What it
// answers is the standard output, its headers are the error output. A body @FILE is read.
func httpCall(ts *testscript.TestScript, _ bool, args []string) {
	token, headers := ts.Getenv("TOKEN"), [][2]string{}
	for strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-anonymous":
			token = ""
			args = args[1:]
			continue
		case "-token":
			token = args[1]
		case "-H":
			name, value, _ := strings.Cut(args[1], ":")
			headers = append(headers, [2]string{name, strings.TrimSpace(value)})
		default:
			ts.Fatalf("http has no option %s", args[0])
		}
		args = args[2:]
	}
	var body io.Reader
	if len(args) > 3 {
		text := args[3]
		if file, ok := strings.CutPrefix(text, "@"); ok {
			text = ts.ReadFile(file)
		}
		body = strings.NewReader(text)
	}
	address := args[2]
	if strings.HasPrefix(address, "/") {
		address = ts.Getenv("URL") + address
	}
	req, err := http.NewRequestWithContext(context.Background(), args[1], address, body)
	ts.Check(err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, h := range headers {
		req.Header.Set(h[0], h[1])
		if h[0] == "Host" {
			req.Host = h[1]
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, _ = ts.Stdout().Write(answer)
	ts.Check(resp.Header.Write(ts.Stderr()))
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%s %s: status %d, want %s\n%s", args[1], args[2], resp.StatusCode, args[0], answer)
	}
}

// traffic N MODEL MESSAGE WANT sends N messages of N sessions through the endpoint and reports each
// outcome as an event: success when the reply contains WANT.
func traffic(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	solved := 0
	call := func(path string, in, out any) *http.Response {
		b, err := json.Marshal(in)
		ts.Check(err)
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, ts.Getenv("URL")+path, bytes.NewReader(b))
		ts.Check(err)
		req.Header.Set("Authorization", "Bearer "+ts.Getenv("TOKEN"))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		ts.Check(err)
		if resp.StatusCode >= 500 || path != "/v1/chat/completions" && resp.StatusCode >= 300 {
			ts.Fatalf("%s: status %d\n%s", path, resp.StatusCode, body)
		}
		ts.Check(json.Unmarshal(body, out))
		return resp
	}
	for i := range n {
		var answer struct {
			Choices []struct{ Message struct{ Content string } }
		}
		resp := call("/v1/chat/completions", map[string]any{
			"model": args[1], "messages": []map[string]string{{"role": "user", "content": args[2]}}, "user": fmt.Sprintf("customer-%d-%d", time.Now().UnixNano(), i),
		}, &answer)
		verdict := "failure"
		if len(answer.Choices) == 1 && strings.Contains(answer.Choices[0].Message.Content, args[3]) {
			verdict = "success"
			solved++
		}
		call("/api/v1/outcomes", map[string]any{"run": resp.Header.Get("X-Flywheel-Run"), "verdict": verdict, "source": "event", "who": "bank"}, &struct{}{})
	}
	_, _ = fmt.Fprintf(ts.Stdout(), "%d sent, %d solved\n", n, solved)
}

// until REGEXP PROGRAM ARGS... runs a program until its output matches.
func until(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	wait(ts, args[0]+" from "+strings.Join(args[1:], " "), func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && want.MatchString(ts.ReadFile("stdout"))
	})
}

// rows N SQL waits until a query on the data of the home gives at least N (or, with =N, exactly N now). It
// reads beside whoever holds the home.
func rows(ts *testscript.TestScript, _ bool, args []string) {
	text, exact := strings.CutPrefix(args[0], "=")
	want, err := strconv.Atoi(text)
	ts.Check(err)
	file := filepath.Join(ts.Getenv("FLYWHEEL_HOME"), "flywheel.db")
	count := func() (n int) {
		if _, err := os.Stat(file); err != nil {
			return -1
		}
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(5000)")
		ts.Check(err)
		defer func() { _ = db.Close() }()
		if err := db.QueryRowContext(context.Background(), args[1]).Scan(&n); err != nil {
			return -1 // not migrated yet
		}
		return n
	}
	if exact {
		if n := count(); n != want {
			ts.Fatalf("%s: %d, want %d", args[1], n, want)
		}
		return
	}
	wait(ts, args[0]+" of "+args[1], func() bool { return count() >= want })
}

// blob NAME DIGEST sets a variable to the file that holds a blob of the home.
func blobFile(ts *testscript.TestScript, _ bool, args []string) {
	hex := strings.TrimPrefix(args[1], "sha256:")
	ts.Setenv(args[0], filepath.Join(ts.Getenv("FLYWHEEL_HOME"), "cas", "sha256", hex[:2], hex[2:4], hex))
}

// flip changes one byte in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// replace FILE OLD NEW changes a text that must be there.
func replace(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o600))
}

// exitcode N PROGRAM ARGS... runs a program that must end with that code.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		got = -1
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			got = exit.ExitCode()
		}
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s ended with %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// alljson FILE runs each line of a file as a flywheel command with --json: what it prints must be one JSON
// value, whether it succeeds or fails.
func allJSON(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		words := strings.Fields(os.Expand(line, ts.Getenv))
		_ = ts.Exec("flywheel", append(words, "--json")...)
		if out := ts.ReadFile("stdout"); !json.Valid([]byte(out)) {
			ts.Fatalf("flywheel %s --json is no JSON:\n%s\n%s", strings.TrimSpace(line), out, ts.ReadFile("stderr"))
		}
	}
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
