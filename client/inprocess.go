package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Handler is a transport that calls a handler of the same process. The answer streams: what the
// handler writes can be read at once.
func Handler(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ handler http.Handler }

// RoundTrip runs the handler until it has ended, or until the body of the answer is closed.
func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	r := req.Clone(ctx)
	r.RequestURI = r.URL.RequestURI()
	r.Host = r.URL.Host
	r.RemoteAddr = "in-process"
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if r.Body == nil {
		r.Body = http.NoBody
	}
	read, write := io.Pipe()
	w := &pipeWriter{header: http.Header{}, pipe: write, ready: make(chan struct{})}
	go func() {
		defer cancel()
		err := serve(t.handler, w, r)
		w.WriteHeader(http.StatusOK) // a handler that wrote nothing
		_ = r.Body.Close()
		_ = write.CloseWithError(err)
	}()
	select {
	case <-w.ready:
	case <-ctx.Done():
		select {
		case <-w.ready: // the handler may have ended just now
		default:
			cancel()
			_ = read.CloseWithError(ctx.Err())
			return nil, ctx.Err()
		}
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.sent, ContentLength: -1,
		Body: &pipeBody{PipeReader: read, cancel: cancel, ctx: req.Context()}, Request: req,
	}, nil
}

// serve answers a panic as a server does: the connection is cut.
func serve(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = io.ErrUnexpectedEOF
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

type pipeWriter struct {
	header http.Header
	pipe   *io.PipeWriter
	once   sync.Once
	ready  chan struct{}
	status int
	sent   http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	})
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}

// Flush has nothing to do: a pipe keeps nothing back. Headers are sent.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // that of the request, which a body lives as long as
}

// Read ends when the request is cancelled, as over a real connection.
func (b *pipeBody) Read(p []byte) (int, error) {
	stop := context.AfterFunc(b.ctx, func() { _ = b.CloseWithError(b.ctx.Err()) })
	defer stop()
	return b.PipeReader.Read(p)
}

// Close tells the handler that its caller went away.
func (b *pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
