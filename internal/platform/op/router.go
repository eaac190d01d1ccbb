package op

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
)

// Guard decides whether the caller of ctx has a permission; it returns an unauthenticated or forbidden
// fault when not.
type Guard func(ctx context.Context, permission string) error

// RouterOptions configure a router.
type RouterOptions struct {
	// Guard is asked before every operation. Without one everything is refused.
	Guard Guard
	// Heartbeat is how often an idle event stream says that it is alive; 0 means the default.
	Heartbeat time.Duration
	Log       *slog.Logger
}

// Router serves operations over HTTP and knows which requests are running.
type Router struct {
	options RouterOptions
	base    context.Context //nolint:containedctx // the life of the router
	stop    context.CancelFunc

	mu      sync.Mutex
	running map[requestKey]context.CancelCauseFunc
	work    sync.WaitGroup
}

type requestKey struct{ actor, id string }

// NewRouter makes a router.
func NewRouter(o RouterOptions) *Router {
	if o.Heartbeat == 0 {
		o.Heartbeat = httpx.HeartbeatEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Guard == nil {
		o.Guard = func(context.Context, string) error {
			return fault.New(fault.Forbidden, "request.forbidden", "nobody may do this: no guard is set")
		}
	}
	base, stop := context.WithCancel(context.Background())
	return &Router{options: o, base: base, stop: stop, running: map[requestKey]context.CancelCauseFunc{}}
}

// Close cancels what is still running and waits until it has ended or ctx is over.
func (rt *Router) Close(ctx context.Context) error {
	rt.stop()
	done := make(chan struct{})
	go func() {
		rt.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Mount adds the routes of the operations.
func (rt *Router) Mount(mux *http.ServeMux, ops ...Op) {
	for _, o := range ops {
		impl := o.implementation()
		mux.Handle(impl.meta.Method+" "+impl.meta.Path, rt.handler(impl))
	}
}

type cancelIn struct {
	Request string `path:"request" doc:"The X-Request-Id of the running request"`
}

type cancelOut struct {
	Request string `json:"request"`
}

// Ops are the operations of the router itself.
func (rt *Router) Ops() []Op {
	return []Op{New(Meta{
		ID: "request.cancel", Path: "/api/v1/requests/{request}/cancel", Permission: "request.cancel", Audit: "cancel",
		Summary: "Ask a running request of one's own to stop; it still answers with what it has",
	}, func(ctx context.Context, in *cancelIn) (*cancelOut, error) {
		rt.mu.Lock()
		cancel := rt.running[requestKey{Actor(ctx), in.Request}]
		rt.mu.Unlock()
		if cancel == nil {
			return nil, fault.New(fault.NotFound, "request.not_running", "request %s is not running", in.Request)
		}
		cancel(context.Canceled)
		return &cancelOut{Request: in.Request}, nil
	})}
}

func (rt *Router) handler(o *operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpx.Annotate(r.Context(), slog.String("op", o.meta.ID), slog.String("actor", Actor(r.Context())))
		if err := rt.options.Guard(r.Context(), o.meta.Permission); err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		in, err := o.decode(r)
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		ctx, finish := rt.begin(r, o.meta)
		defer finish()
		if o.Streaming() && accepts(r, "text/event-stream") {
			rt.stream(ctx, w, r, o, in)
			return
		}
		out, err := o.call(ctx, in, func(any) {})
		rt.audit(ctx, o.meta, err)
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		httpx.WriteJSON(w, r, out)
	})
}

// begin gives an operation its context: it ends with the router, with a cancel by request id, and,
// where the operation wants that, with its caller.
func (rt *Router) begin(r *http.Request, m Meta) (context.Context, func()) {
	parent := r.Context()
	if m.Method != http.MethodGet && !m.StopWithCaller {
		parent = context.WithoutCancel(parent)
	}
	ctx, cancel := context.WithCancelCause(parent)
	unhook := context.AfterFunc(rt.base, func() { cancel(context.Canceled) })
	key := requestKey{Actor(r.Context()), httpx.RequestID(r.Context())}
	rt.work.Add(1)
	rt.mu.Lock()
	_, taken := rt.running[key] // a caller that gives two requests one id can cancel the first
	if !taken {
		rt.running[key] = cancel
	}
	rt.mu.Unlock()
	return ctx, func() {
		if !taken {
			rt.mu.Lock()
			delete(rt.running, key)
			rt.mu.Unlock()
		}
		unhook()
		cancel(nil)
		rt.work.Done()
	}
}

func (rt *Router) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, o *operation, in any) {
	s := httpx.NewEventStream(w)
	stopHeartbeat := s.Heartbeat(rt.options.Heartbeat)
	out, err := func() (any, error) {
		defer stopHeartbeat() // also when the operation panics
		return o.call(ctx, in, func(e any) {
			body, err := json.Marshal(e)
			if err != nil {
				rt.options.Log.ErrorContext(ctx, "event not sent", slog.String("op", o.meta.ID), slog.Any("error", err))
				return
			}
			_ = s.Send("event", 0, body) // a caller that went away does not stop the work
		})
	}()
	defer s.Close()
	rt.audit(ctx, o.meta, err)
	var body []byte
	if err == nil {
		body, err = json.Marshal(out)
	}
	if err == nil {
		_ = s.Send("result", 0, body)
		return
	}
	if !s.Started() {
		httpx.WriteError(w, r, err)
		return
	}
	httpx.Note(r.Context(), err)
	problem, err := json.Marshal(httpx.ProblemOf(err, httpx.RequestID(r.Context())))
	if err == nil {
		_ = s.Send("error", 0, problem)
	}
}

func (rt *Router) audit(ctx context.Context, m Meta, err error) {
	if m.Audit == "" {
		return
	}
	line := []slog.Attr{
		slog.String("op", m.ID), slog.String("verb", m.Audit), slog.String("actor", Actor(ctx)), slog.String("request_id", httpx.RequestID(ctx)),
	}
	if err != nil {
		line = append(line, slog.String("kind", string(fault.KindOf(err))))
	}
	rt.options.Log.LogAttrs(ctx, slog.LevelInfo, "audit", line...)
}

func accepts(r *http.Request, media string) bool {
	for _, v := range r.Header.Values("Accept") {
		if strings.Contains(v, media) {
			return true
		}
	}
	return false
}
