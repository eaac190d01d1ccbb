package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// maxLine bounds one line of an event stream, which holds one whole JSON text.
const maxLine = 256 << 20

// reader parses server-sent events.
type reader struct{ r *bufio.Reader }

func newReader(r io.Reader) *reader { return &reader{r: bufio.NewReaderSize(r, 32<<10)} }

// next reads one event; comments are skipped. The error is io.EOF at the end.
func (r *reader) next() (Event, error) {
	var e Event
	var data bytes.Buffer
	some := false
	for {
		line, err := r.line()
		if err != nil {
			return Event{}, err
		}
		if line == "" {
			if !some {
				continue
			}
			e.Data = data.Bytes()
			return e, nil
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.Name, some = value, true
		case "id":
			e.ID = value
		case "data":
			if data.Len() > 0 {
				data.WriteByte('\n')
			}
			data.WriteString(value)
			some = true
		}
	}
}

func (r *reader) line() (string, error) {
	var whole []byte
	for {
		part, err := r.r.ReadSlice('\n')
		whole = append(whole, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(whole), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case len(whole) > maxLine:
			return "", errors.New("an event is too large")
		}
	}
}
