package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"flywheel/internal/platform/fault"
)

// FileName is the name of the settings file in the home.
const FileName = "config.yaml"

// EnvPrefix starts the name of every environment variable that is a setting.
const EnvPrefix = "FLYWHEEL_"

// Section is a struct whose fields are settings. Key is the top-level key of the section; an empty Key
// puts the fields at the top level. Into points to the struct and holds the defaults; it may have a
// method Validate() error.
type Section struct {
	Key  string
	Into any
}

// Source is where settings come from.
type Source struct {
	// File is the path of the settings file, which need not exist.
	File string
	// Env is the environment as KEY=value.
	Env []string
	// Flags are the settings given on the command line: path → value.
	Flags map[string]string
}

// Setting is one value with its origin.
type Setting struct {
	Path   string `json:"path"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Secret is a text that never shows in logs or in Explain. Reveal gives it.
type Secret string

// Reveal is the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the secret from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Config remembers where the values of the registered sections came from.
type Config struct {
	file     string
	sections []Section
	origins  map[string]string
	problems []fault.Field
}

// Load fills the sections. The error lists everything that is wrong, in the order of the file.
func Load(src Source, sections ...Section) (*Config, error) {
	c := &Config{file: src.File, sections: sections, origins: map[string]string{}}
	if err := c.readFile(src.File); err != nil {
		return nil, err
	}
	c.readEnv(src.Env)
	for _, path := range slices.Sorted(maps.Keys(src.Flags)) {
		flag := "--" + strings.ReplaceAll(path, ".", "-")
		if !c.setPath(path, src.Flags[path], flag) {
			c.problem(flag, "config.unknown", "there is no setting "+path, "")
		}
	}
	for _, s := range sections {
		if v, ok := s.Into.(interface{ Validate() error }); ok && len(c.problems) == 0 {
			if err := v.Validate(); err != nil {
				f := fault.From(err)
				c.problem(c.where(s.Key), "config.invalid", err.Error(), f.Hint)
			}
		}
	}
	if len(c.problems) > 0 {
		e := fault.New(fault.Invalid, "config.invalid", "the settings are not valid").WithFields(c.problems...)
		return nil, e.WithHint("mend %s; flywheel config explain shows all settings and where they come from", filepath.Base(src.File))
	}
	return c, nil
}

// where names the source of a section for an error of the whole.
func (c *Config) where(key string) string {
	if key == "" {
		return c.file
	}
	return key
}

func (c *Config) problem(where, code, message, hint string) {
	c.problems = append(c.problems, fault.Field{Path: where, Code: code, Message: message, Hint: hint})
}

func (c *Config) readFile(name string) error {
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		c.syntax(err)
		return nil
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentGroupType {
			continue
		}
		values := entries(doc.Body)
		if values == nil {
			c.problemAt(doc.Body, "config.type", "the settings must be keys and values", "")
			continue
		}
		for _, e := range values {
			c.topLevel(e)
		}
	}
	return nil
}

func (c *Config) topLevel(e *ast.MappingValueNode) {
	key := keyOf(e)
	var known []string
	for _, s := range c.sections {
		if s.Key != "" {
			known = append(known, s.Key)
			if s.Key == key {
				c.decode(e.Value, reflect.ValueOf(s.Into).Elem(), key)
				return
			}
			continue
		}
		v := reflect.ValueOf(s.Into).Elem()
		if f, ok := fieldNamed(v, key); ok {
			c.decode(e.Value, f, key)
			return
		}
		known = append(known, fieldNames(v.Type())...)
	}
	c.unknown(e, key, known)
}

func (c *Config) readEnv(env []string) {
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		rest, ok := strings.CutPrefix(name, EnvPrefix)
		if !ok {
			continue
		}
		for _, s := range c.sections {
			v := reflect.ValueOf(s.Into).Elem()
			if path, ok := pathOfEnv(v.Type(), s.Key, rest); ok {
				c.setPath(path, value, name)
				break
			}
		}
	}
}

// setPath sets the setting at a path from text and says whether there is such a setting.
func (c *Config) setPath(path, text, origin string) bool {
	for _, s := range c.sections {
		rest := path
		if s.Key != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(path, s.Key+"."); !ok {
				continue
			}
		}
		if found, err := setByPath(reflect.ValueOf(s.Into).Elem(), strings.Split(rest, "."), text); found {
			if err != nil {
				c.problem(origin, "config.value", err.Error(), "")
			}
			c.origins[path] = origin
			return true
		}
	}
	return false
}

// Explain lists every setting with its value and origin, sorted by path.
func (c *Config) Explain() []Setting {
	var all []Setting
	for _, s := range c.sections {
		explain(reflect.ValueOf(s.Into).Elem(), s.Key, func(path, value string) {
			origin := c.origins[path]
			if origin == "" {
				origin = "default"
			}
			all = append(all, Setting{Path: path, Value: value, Origin: origin})
		})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	return all
}
