package openai_test

import (
	"bytes"
	"io"
	"net/http"
	"testing/iotest"
)

// replay answers every request with the same bytes, one at a time.
type replay []byte

func (r replay) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}},
		Body: io.NopCloser(iotest.OneByteReader(bytes.NewReader(r))),
	}, nil
}
