package openai

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxEvent bounds one event, so that a server gone mad cannot fill the memory.
const maxEvent = 8 << 20

var errEventTooBig = errors.New("an event is larger than 8 MiB")

// events reads server-sent events as https://html.spec.whatwg.org/multipage/server-sent-events.html
// says, of which only the data matters here. Lines may end in LF or CRLF.
type events struct {
	r       *bufio.Reader
	data    []byte
	strange bool // a line was no field of an event
}

func newEvents(r io.Reader) *events {
	return &events{r: bufio.NewReaderSize(r, 32<<10)}
}

// next is the data of the next event, valid until the following call. io.EOF means that the stream ended
// between events; io.ErrUnexpectedEOF never occurs: data without its blank line counts as an event,
// because several servers leave it out at the end.
func (e *events) next() ([]byte, error) {
	e.data = e.data[:0]
	has := false
	for {
		line, err := e.line()
		if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
			if errors.Is(err, io.EOF) && has {
				return e.data, nil
			}
			return nil, err
		}
		if len(line) == 0 {
			if has {
				return e.data, nil
			}
			continue
		}
		value, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			e.strange = e.strange || !known(line)
			continue
		}
		value = bytes.TrimPrefix(value, []byte(" "))
		if has {
			e.data = append(e.data, '\n')
		}
		has = true
		if len(e.data)+len(value) > maxEvent {
			return nil, errEventTooBig
		}
		e.data = append(e.data, value...)
	}
}

// known says whether a line is a comment or a field that does not matter here.
func known(line []byte) bool {
	name, _, _ := bytes.Cut(line, []byte(":"))
	switch string(name) {
	case "", "event", "id", "retry":
		return true
	}
	return false
}

// line is the next line without its end.
func (e *events) line() ([]byte, error) {
	line, err := e.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(long) > maxEvent {
				return nil, errEventTooBig
			}
			line, err = e.r.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), err
}
