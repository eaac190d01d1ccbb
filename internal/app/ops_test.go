package app_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/app"
)

var update = flag.Bool("update", false, "write the golden files")

// The API is what /openapi.json says: a change of it shows in this file.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), nil)
	status, body := h.do(t, "GET", "/openapi.json", "")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, []byte(body), "", "\t"); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("the API has changed; make gen writes it anew:\n%s", diff)
	}
}

// noCommand are the operations without a command of their own, and why.
var noCommand = map[string]string{
	"package.init":   "flywheel init writes the directory itself",
	"package.diff":   "a command has one package directory at hand",
	"run.journal":    "flywheel show says the same for people",
	"outcome.create": "systems report outcomes; a person uses flywheel outcome",
}

func TestOperationsAreToldApartGuardedAndExplained(t *testing.T) {
	t.Parallel()
	silent := maps.Clone(noCommand)
	ids, routes, commands := map[string]bool{}, map[string]string{}, map[string]string{}
	for _, o := range (app.Program{}).Ops() {
		m := o.Meta()
		if ids[m.ID] {
			t.Errorf("there are two operations %s", m.ID)
		}
		ids[m.ID] = true
		if other := routes[m.Method+" "+m.Path]; other != "" {
			t.Errorf("%s and %s are both %s %s", other, m.ID, m.Method, m.Path)
		}
		routes[m.Method+" "+m.Path] = m.ID
		if m.Permission == "" {
			t.Errorf("%s has no permission", m.ID)
		}
		if m.CLI == "" {
			if silent[m.ID] == "" {
				t.Errorf("%s has no command; say why in noCommand", m.ID)
			}
			delete(silent, m.ID)
			continue
		}
		if other := commands[m.CLI]; other != "" {
			t.Errorf("%s and %s are both flywheel %s", other, m.ID, m.CLI)
		}
		commands[m.CLI] = m.ID
		if m.Example != "flywheel "+m.CLI && !strings.HasPrefix(m.Example, "flywheel "+m.CLI+" ") {
			t.Errorf("the example of %s is %q", m.ID, m.Example)
		}
	}
	for id := range silent {
		t.Errorf("noCommand knows %s, which has a command or is gone", id)
	}
}
