package op_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flywheel/internal/platform/op"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"1 run": op.Count(1, "run"), "0 runs": op.Count(0, "run"), "2 steps": op.Count(int64(2), "step"),
		"$0": op.Money(0), "$0.000003": op.Money(3000), "$0.009999": op.Money(9_999_000), "$0.0100": op.Money(10_000_000), "$12.3457": op.Money(12_345_678_900),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestTextAndFilesOfAResult(t *testing.T) {
	t.Parallel()
	type out struct {
		N     int    `json:"n"`
		Files op.Dir `json:"files" write:"true"`
		Other op.Dir `json:"other"`
	}
	o := op.WithText(op.New(meta("POST", "/api/v1/x"), func(context.Context, *struct{}) (*out, error) { return nil, nil }),
		func(w io.Writer, o *out) { fmt.Fprintf(w, "n is %d", o.N) })
	var b strings.Builder
	if ok, err := o.RenderResult(&b, []byte(`{"n":7}`)); !ok || err != nil || b.String() != "n is 7" {
		t.Errorf("%v %v %q", ok, err, b.String())
	}
	files, err := o.Written([]byte(`{"files":{"a":"aGk="},"other":{"b":"aGk="}}`))
	if d := cmp.Diff(op.Dir{"a": []byte("hi")}, files); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}
