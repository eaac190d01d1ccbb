package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"flywheel/client"
	"flywheel/internal/platform/op"
)

// gathering is an input on its way.
type gathering struct {
	method string
	path   string
	query  url.Values
	body   map[string]any
	root   string
}

func newGathering(o op.Op) *gathering {
	return &gathering{method: o.Meta().Method, path: o.Meta().Path, query: url.Values{}, body: map[string]any{}}
}

func (g *gathering) setPath(name, value string) {
	g.path = strings.Replace(g.path, "{"+name+"}", url.PathEscape(value), 1)
}

func (g *gathering) input() *input {
	in := &input{path: g.path, root: g.root}
	if len(g.query) > 0 {
		in.path += "?" + g.query.Encode()
	}
	if g.method != http.MethodGet {
		in.body = g.body
	}
	return in
}

// invoke runs an operation and shows its events and its result.
func (s *shell) invoke(ctx context.Context, o op.Op, in *input) error {
	var conn *connection
	var err error
	if o.Meta().Local {
		conn = s.local(o)
	} else if conn, err = s.connect(ctx); err != nil {
		return err
	}
	return conn.with(func(c *client.Client) error {
		result, err := s.call(ctx, c, o, in)
		if err != nil {
			return err
		}
		return s.show(o, in, result)
	})
}

// call runs an operation. The first Ctrl-C asks it to stop and waits for what it has.
func (s *shell) call(ctx context.Context, c *client.Client, o op.Op, in *input) (json.RawMessage, error) {
	var result json.RawMessage
	m := o.Meta()
	if m.Method == http.MethodGet {
		err := c.Call(ctx, m.Method, in.path, nil, &result)
		return result, err
	}
	id := client.NewRequestID()
	reset := s.onInterrupt(func() {
		cancelCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = c.Cancel(cancelCtx, id) // when it has ended meanwhile there is nothing to cancel
	})
	defer reset()
	named := client.WithRequestID(ctx, id)
	if !o.Streaming() {
		err := c.Call(named, m.Method, in.path, in.body, &result)
		return result, err
	}
	err := c.Stream(named, m.Method, in.path, in.body, &result, func(event json.RawMessage) error {
		return s.showEvent(o, event)
	})
	return result, err
}

func (s *shell) showEvent(o op.Op, event json.RawMessage) error {
	if s.json {
		return nil
	}
	w := s.out()
	if o.Meta().Progress {
		if !s.StderrTTY {
			return nil
		}
		w = s.Stderr
	}
	var b bytes.Buffer
	if _, err := o.RenderEvent(&b, event); err != nil {
		return err
	}
	if bytes.HasPrefix(b.Bytes(), []byte("\r")) { // a line that the next one overwrites
		if !s.StderrTTY {
			return nil
		}
		w = s.Stderr
	}
	_, err := w.Write(b.Bytes())
	return err
}

// show prints a result, writes its files, and fails when the result says so.
func (s *shell) show(o op.Op, in *input, result json.RawMessage) error {
	written, err := s.write(o, in, result)
	if err != nil {
		return err
	}
	if s.json {
		s.printJSON(result)
		return s.quiet(o.Failure(result))
	}
	rendered, err := o.RenderResult(s.out(), result)
	if err != nil {
		return err
	}
	if !rendered {
		s.printAny(result)
	}
	for _, name := range written {
		s.printf("wrote %s\n", name)
	}
	return o.Failure(result)
}

// quiet keeps the exit code of a failure whose JSON was printed already.
func (s *shell) quiet(err error) error {
	if err == nil {
		return nil
	}
	return printed{err}
}

// printed is an error that has been shown.
type printed struct{ error }

// Unwrap gives the error.
func (p printed) Unwrap() error { return p.error }

func (s *shell) write(o op.Op, in *input, result json.RawMessage) ([]string, error) {
	files, err := o.Written(result)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	root := in.root
	if root == "" {
		if root, err = s.packageRoot(); err != nil {
			return nil, err
		}
	}
	changed, err := writePackage(root, files)
	if err != nil {
		return nil, err
	}
	for i, name := range changed {
		if rel, err := filepath.Rel(s.Dir, filepath.Join(root, name)); err == nil {
			changed[i] = rel
		}
	}
	return changed, nil
}
