// Package corpus gives tests the public data that nobody on this project wrote: BFCL, BANKING77, tau-bench.
// It lies outside the repository, in the folder that FLYWHEEL_TESTDATA names, by default ../shared/data
// beside the repository root; a test that finds nothing there is skipped and says so.
package corpus

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// File is the content of a file of the public data, as in banking77/train.csv. Without it tb is skipped.
func File(tb testing.TB, path string) []byte {
	tb.Helper()
	dir := os.Getenv("FLYWHEEL_TESTDATA") //nolint:forbidigo // a setting of the tests, not of the program
	if dir == "" {
		dir = filepath.Join(root(tb), "..", "shared", "data")
	}
	content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
	if err != nil {
		tb.Skipf("no public test data, set FLYWHEEL_TESTDATA: %v", err)
	}
	return content
}

// root is the nearest directory upwards that holds go.mod.
func root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			tb.Fatal("there is no go.mod above the test")
		}
		dir = above
	}
}

// Function is a function of BFCL. Parameters is JSON Schema in the order of the document.
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"`
}

// Question is a question of BFCL with the functions to choose from. Accepted is function → argument → the
// accepted values, where the empty text says that the argument may be left out; nil when no function fits.
type Question struct {
	ID        string     `json:"id"`
	Functions []Function `json:"function"`
	Accepted  map[string]map[string][]any
}

// BFCL names its types as Python does; these are the names of JSON Schema. "any" becomes an annotation.
var (
	pythonType  = regexp.MustCompile(`"type": "(dict|float|tuple|any)"`)
	schemaTypes = map[string]string{
		`"type": "dict"`: `"type": "object"`, `"type": "float"`: `"type": "number"`,
		`"type": "tuple"`: `"type": "array"`, `"type": "any"`: `"$comment": "any"`,
	}
)

// Questions reads all files of BFCL.
func Questions(tb testing.TB) []Question {
	tb.Helper()
	var out []Question
	for _, name := range []string{"simple_python", "multiple", "irrelevance"} {
		at := map[string]int{}
		for _, line := range lines(File(tb, "bfcl/"+name+".jsonl")) {
			line = pythonType.ReplaceAllStringFunc(line, func(s string) string { return schemaTypes[s] })
			var q Question
			decode(tb, line, &q)
			at[q.ID] = len(out)
			out = append(out, q)
		}
		if name == "irrelevance" {
			continue
		}
		for _, line := range lines(File(tb, "bfcl/"+name+".answers.jsonl")) {
			var a struct {
				ID    string                        `json:"id"`
				Truth []map[string]map[string][]any `json:"ground_truth"`
			}
			decode(tb, line, &a)
			out[at[a.ID]].Accepted = a.Truth[0]
		}
	}
	return out
}

func lines(content []byte) []string {
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

func decode(tb testing.TB, line string, into any) {
	tb.Helper()
	if err := json.Unmarshal([]byte(line), into); err != nil {
		tb.Fatalf("%.80s: %v", line, err)
	}
}

// Message is a question of a bank customer and its intent.
type Message struct{ Text, Intent string }

// Banking77 reads the training questions of BANKING77, in the order of the file.
func Banking77(tb testing.TB) []Message {
	tb.Helper()
	rows, err := csv.NewReader(strings.NewReader(string(File(tb, "banking77/train.csv")))).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	var out []Message
	for _, r := range rows[1:] {
		out = append(out, Message{Text: strings.TrimSpace(r[0]), Intent: r[1]})
	}
	return out
}

// Airline is the database of the airline domain of tau-bench as one JSON object of flights, reservations
// and users, reconstructed from its three files.
func Airline(tb testing.TB) []byte {
	tb.Helper()
	all := map[string]json.RawMessage{}
	for _, name := range []string{"flights", "reservations", "users"} {
		all[name] = File(tb, "tau-v1/airline/"+name+".json")
	}
	var users map[string]map[string]any
	decode(tb, string(all["users"]), &users)
	for id, u := range users {
		u["user_id"] = id
	}
	var err error
	if all["users"], err = json.Marshal(users); err != nil {
		tb.Fatal(err)
	}
	out, err := json.Marshal(all)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
