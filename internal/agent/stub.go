package agent

import (
	"context"
	"errors"

	"flywheel/internal/platform/blob"
	"flywheel/internal/platform/op"
)

type tree map[string]any

func (c *Checker) Check(files op.Dir) (*Resolved, []Problem)         { return nil, nil }
func Store(ctx context.Context, blobs blob.Store, r *Resolved) error { return errors.ErrUnsupported }
func Load(ctx context.Context, blobs blob.Store, identity blob.Digest) (*Resolved, error) {
	return nil, errors.ErrUnsupported
}
func Format(files op.Dir) (op.Dir, []Problem)                    { return nil, nil }
func Apply(r *Resolved, changes []Change) (*Resolved, []Problem) { return nil, nil }
func Patch(files op.Dir, changes []Change) (op.Dir, []Problem)   { return nil, nil }

type Component struct {
	Kind, Name string
	Content    []byte
}

func Components(r *Resolved) []Component { return nil }

type FieldDiff struct {
	Path          string
	Before, After any
}
type Word struct{ Op, Text string }
type ComponentDiff struct {
	Kind, Name, Change string
	Fields             []FieldDiff
	Words              []Word
}

func Diff(a, b *Resolved) []ComponentDiff  { return nil }
func Template(name string) (op.Dir, error) { return nil, errors.ErrUnsupported }

type Lock struct{}

func ParseLock(text []byte) (*Lock, []Problem) { return nil, nil }
func (l *Lock) Text() []byte                   { return nil }

type Deps struct{}

func Ops(d Deps) []op.Op { return nil }
