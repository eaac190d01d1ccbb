package local

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Meta is what a GGUF file says about its model.
type Meta struct {
	Name         string
	Architecture string
	Context      int    // tokens the model was trained for
	Template     string // chat template, Jinja
}

// GGUF value types, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
const (
	ggufString = 8
	ggufArray  = 9
)

var ggufSizes = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

var errGGUF = errors.New("not a GGUF file of version 2 or 3")

// maxGGUFText bounds a text in the header; templates are some kilobytes.
const maxGGUFText = 4 << 20

// ReadMeta reads the header of a GGUF file.
func ReadMeta(path string) (Meta, error) {
	f, err := os.Open(path)
	if err != nil {
		return Meta{}, err
	}
	defer func() { _ = f.Close() }()
	r := &ggufReader{r: bufio.NewReaderSize(f, 256<<10)}
	m, err := r.meta()
	if err != nil {
		return Meta{}, fmt.Errorf("read %s: %w", path, err)
	}
	return m, nil
}

type ggufReader struct {
	r   *bufio.Reader
	err error
}

func (g *ggufReader) meta() (Meta, error) {
	magic, version := g.u32(), g.u32()
	if g.err != nil || magic != 0x46554747 || version < 2 || version > 3 {
		return Meta{}, errGGUF
	}
	g.u64() // tensors
	count := g.u64()
	var m Meta
	context := map[string]int{}
	for range count {
		key, kind := g.text(), g.u32()
		switch {
		case g.err != nil:
			return Meta{}, g.err
		case kind == ggufString:
			value := g.text()
			switch key {
			case "general.name":
				m.Name = value
			case "general.architecture":
				m.Architecture = value
			case "tokenizer.chat_template":
				m.Template = value
			}
		case kind == 4: // uint32
			context[key] = int(g.u32())
		default:
			g.skip(kind, 0)
		}
	}
	m.Context = context[m.Architecture+".context_length"]
	return m, g.err
}

func (g *ggufReader) u32() uint32 {
	var b [4]byte
	g.read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (g *ggufReader) u64() uint64 {
	var b [8]byte
	g.read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

func (g *ggufReader) read(b []byte) {
	if g.err == nil {
		_, g.err = io.ReadFull(g.r, b)
	}
}

func (g *ggufReader) text() string {
	n := g.u64()
	if n > maxGGUFText {
		g.fail("a text of %d bytes", n)
	}
	if g.err != nil {
		return ""
	}
	b := make([]byte, n)
	g.read(b)
	return string(b)
}

func (g *ggufReader) discard(n int64) {
	if g.err == nil {
		_, g.err = io.CopyN(io.Discard, g.r, n)
	}
}

func (g *ggufReader) skip(kind uint32, depth int) {
	if size, ok := ggufSizes[kind]; ok {
		g.discard(size)
		return
	}
	switch {
	case kind == ggufString:
		n := g.u64()
		if n > maxGGUFText {
			g.fail("a text of %d bytes", n)
			return
		}
		g.discard(int64(n))
	case kind == ggufArray && depth < 4:
		inner, n := g.u32(), g.u64()
		if size, ok := ggufSizes[inner]; ok && n < 1<<32 {
			g.discard(size * int64(n))
			return
		}
		for i := uint64(0); i < n && g.err == nil; i++ {
			g.skip(inner, depth+1)
		}
	default:
		g.fail("the value type %d", kind)
	}
}

func (g *ggufReader) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf("the header holds "+format, args...)
	}
}
