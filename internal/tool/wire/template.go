package wire

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Scope holds the values of templates. A missing environment value is an error; a missing argument is
// an optional one that the caller left out.
type Scope struct {
	Env map[string]string
	In  map[string]any // the arguments, numbers as json.Number
	// Secret gives the value of secret://NAME; nil: there are none.
	Secret func(name string) (string, error)
}

// NewScope reads the arguments of a call.
func NewScope(env map[string]string, args json.RawMessage) (Scope, error) {
	s := Scope{Env: env}
	if len(args) == 0 {
		return s, nil
	}
	d := json.NewDecoder(strings.NewReader(string(args)))
	d.UseNumber()
	if err := d.Decode(&s.In); err != nil {
		return s, fmt.Errorf("the arguments are not a JSON object: %w", err)
	}
	return s, nil
}

var hole = regexp.MustCompile(`\$\{\s*(env|in)((?:\.[A-Za-z0-9_-]+)*)\s*\}`)

// Text fills the holes of a text.
func (s Scope) Text(template string) (string, error) {
	return s.fill(template, func(v string, _ int) (string, error) { return v, nil })
}

var secretRef = regexp.MustCompile(`secret://([A-Za-z0-9_.-]+)`)

// Private is Text for what only the tool's server sees: a header, the environment of a process. Secrets
// are filled in here and nowhere else. Only the template can name one, never a value that is filled in.
func (s Scope) Private(template string) (text string, secrets []string, err error) {
	var b strings.Builder
	at := 0
	for _, m := range secretRef.FindAllStringSubmatchIndex(template, -1) {
		before, err := s.Text(template[at:m[0]])
		if err != nil {
			return "", nil, err
		}
		name := template[m[2]:m[3]]
		if s.Secret == nil {
			return "", nil, fmt.Errorf("the secret %s is not set", name)
		}
		value, err := s.Secret(name)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(before)
		b.WriteString(value)
		secrets = append(secrets, value)
		at = m[1]
	}
	rest, err := s.Text(template[at:])
	b.WriteString(rest)
	return b.String(), secrets, err
}

// Command fills the holes of each word; only the environment is known there.
func Command(words []string, env map[string]string) ([]string, error) {
	filled := make([]string, len(words))
	for i, w := range words {
		var err error
		if filled[i], err = (Scope{Env: env}).Text(w); err != nil {
			return nil, err
		}
	}
	return filled, nil
}

// URL fills the holes of a URL. Arguments are escaped for their place, and cannot decide the host or
// leave their part of the path; environment values are taken as they are.
func (s Scope) URL(template string) (string, error) {
	pathAt, queryAt := urlParts(template)
	return s.fill(template, func(v string, at int) (string, error) {
		switch {
		case at < pathAt:
			return "", fmt.Errorf("an argument must not decide the host of a URL")
		case at > queryAt:
			return url.QueryEscape(v), nil
		case v == "" || v == "." || v == "..":
			return "", fmt.Errorf("the argument %q cannot be part of a path", v)
		}
		return url.PathEscape(v), nil
	})
}

// urlParts is where path and query begin in a template; a leading hole counts as scheme and host.
func urlParts(template string) (path, query int) {
	path, query = len(template), len(template)
	if i := strings.IndexByte(template, '?'); i >= 0 {
		query = i
	}
	start := 0
	if i := strings.Index(template, "://"); i >= 0 {
		start = i + len("://")
	}
	if i := strings.IndexByte(template[start:], '/'); i >= 0 {
		path = start + i
	}
	return path, query
}

// fill replaces the holes; escape sees the arguments only, with their position.
func (s Scope) fill(template string, escape func(v string, at int) (string, error)) (string, error) {
	var out strings.Builder
	last := 0
	for _, m := range hole.FindAllStringSubmatchIndex(template, -1) {
		out.WriteString(template[last:m[0]])
		last = m[1]
		root, path := template[m[2]:m[3]], strings.TrimPrefix(template[m[4]:m[5]], ".")
		v, err := s.value(root, path)
		if err != nil {
			return "", err
		}
		text := plain(v)
		if root == "in" {
			if text, err = escape(text, m[0]); err != nil {
				return "", err
			}
		}
		out.WriteString(text)
	}
	out.WriteString(template[last:])
	return out.String(), nil
}

// Value fills the holes inside a JSON value. A text that is one hole keeps the type of its value; entries
// whose argument is missing are left out.
func (s Scope) Value(template any) (any, error) {
	switch t := template.(type) {
	case string:
		m := hole.FindStringSubmatch(t)
		if m == nil || m[0] != t {
			return s.Text(t)
		}
		return s.value(m[1], strings.TrimPrefix(m[2], "."))
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, v := range t {
			filled, err := s.Value(v)
			if err != nil {
				return nil, err
			}
			if filled != missing {
				out[k] = filled
			}
		}
		return out, nil
	case []any:
		out := make([]any, 0, len(t))
		for _, v := range t {
			filled, err := s.Value(v)
			if err != nil {
				return nil, err
			}
			if filled != missing {
				out = append(out, filled)
			}
		}
		return out, nil
	}
	return template, nil
}

// missing is the value of an argument that is not there.
var missing any = absent{}

type absent struct{}

// MarshalJSON is null.
func (absent) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

func (s Scope) value(root, path string) (any, error) {
	if root == "env" {
		v, ok := s.Env[path]
		if !ok {
			return nil, fmt.Errorf("the environment value %s is not set", path)
		}
		return v, nil
	}
	if path == "" {
		return s.In, nil
	}
	var at any = s.In
	for _, p := range strings.Split(path, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return missing, nil
		}
		if at, ok = m[p]; !ok {
			return missing, nil
		}
	}
	return at, nil
}

func plain(v any) string {
	switch v := v.(type) {
	case nil, absent:
		return ""
	case string:
		return v
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
