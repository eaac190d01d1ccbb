package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/config"
	"flywheel/internal/platform/fault"
)

func load(t *testing.T, text string, env []string, flags map[string]string) (*config.Settings, *config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), config.FileName)
	if text != "" {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := config.Default()
	c, err := config.Load(config.Source{File: file, Env: env, Flags: flags}, config.Section{Into: s})
	return s, c, err
}

func TestLaterSourcesWinAndOriginsAreKept(t *testing.T) {
	t.Parallel()
	s, c, err := load(t, `
listen: 127.0.0.1:1
log:
  level: debug
hosts: [a.test, b.test]
providers:
  work:
    base_url: https://x.test/v1
    api_key: s3cret
`, []string{"FLYWHEEL_LISTEN=127.0.0.1:2", "FLYWHEEL_LOG_FORMAT=json", "FLYWHEEL_PROVIDERS_HOME_BASE_URL=http://y.test", "PATH=/"},
		map[string]string{"listen": "127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != "127.0.0.1:3" || s.Providers["work"].APIKey.Reveal() != "s3cret" || s.Providers["home"].BaseURL != "http://y.test" {
		t.Errorf("settings: %#v", s)
	}
	got := map[string]string{}
	for _, x := range c.Explain() {
		got[x.Path] = x.Value + " · " + x.Origin
	}
	want := map[string]string{
		"listen": "127.0.0.1:3 · --listen", "hosts": "a.test, b.test · config.yaml:5",
		"log.level": "DEBUG · config.yaml:4", "log.format": "json · FLYWHEEL_LOG_FORMAT",
		"models.cache":            " · default",
		"models.context":          "0 · default",
		"models.threads":          "0 · default",
		"providers.home.base_url": "http://y.test · FLYWHEEL_PROVIDERS_HOME_BASE_URL",
		"providers.home.api_key":  " · default", "providers.home.api_key_env": " · default", "providers.home.form": " · default",
		"providers.work.base_url": "https://x.test/v1 · config.yaml:8",
		"providers.work.api_key":  "[redacted] · config.yaml:9", "providers.work.api_key_env": " · default", "providers.work.form": " · default",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAllErrorsAreReportedWithTheirPlace(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, "lisen: x\nlog:\n  level: loud\n  colour: red\nhosts: {a: b}\nlog: 3\n", nil, map[string]string{"nothing": "1"})
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error: %v", err)
	}
	var got []string
	for _, x := range f.Fields {
		got = append(got, strings.TrimSpace(filepath.Base(x.Path)+" "+x.Code+" "+x.Hint))
	}
	want := []string{
		`config.yaml:6:1 config.yaml`, // a duplicate key stops the parser
		`--nothing config.unknown`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	_, _, err = load(t, "lisen: x\nlog:\n  level: loud\n  colour: red\nhosts: {a: b}\n", nil, nil)
	if !errors.As(err, &f) {
		t.Fatalf("error: %v", err)
	}
	got = nil
	for _, x := range f.Fields {
		got = append(got, strings.TrimSpace(filepath.Base(x.Path)+" "+x.Code+" "+x.Hint))
	}
	want = []string{
		`config.yaml:1:1 config.unknown_key did you mean "listen"?`,
		`config.yaml:3:10 config.value`,
		`config.yaml:4:3 config.unknown_key`,
		`config.yaml:5:8 config.type`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSyntaxErrorHasALine(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, "listen: [\n", nil, nil)
	var f *fault.Error
	if !errors.As(err, &f) || len(f.Fields) != 1 || !strings.Contains(f.Fields[0].Path, "config.yaml:1:") {
		t.Errorf("error: %v %+v", err, f)
	}
}

func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	s := config.Secret("hunter2")
	if got := fmt.Sprintf("%v %s %#v %q", s, s, s, []config.Secret{s}); strings.Contains(got, "hunter2") {
		t.Error(got)
	}
}

func TestValueThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	if _, _, err := load(t, "listen: here\n", nil, nil); err == nil {
		t.Error("listen without a port was taken")
	}
	if _, _, err := load(t, "", []string{"FLYWHEEL_LOG_FORMAT=xml"}, nil); err == nil {
		t.Error("unknown log format was taken")
	}
}
