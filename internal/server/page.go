package server

import (
	"html/template"
	"net/http"
	"sync"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/httpx"
	"flywheel/internal/platform/op"
)

// The pages are parsed at their first use.
var pages = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Parse(`
{{define "head"}}<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Flywheel</title>
<meta name="viewport" content="width=device-width"><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color:#1c2430;background:#fff}
code{background:#eef1f5;padding:.1rem .3rem;border-radius:4px}a{color:#0b5cad}
@media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#14181f}code{background:#262d38}a{color:#7db7f5}}
</style></head><body><main><h1>Flywheel</h1>{{end}}
{{define "foot"}}</main></body></html>{{end}}
{{define "signin"}}{{template "head"}}<p>You are not signed in. In a terminal of this machine run</p>
<p><code>flywheel login</code></p><p>and open the link that it prints. It works once, for ten minutes.</p>{{template "foot"}}{{end}}
{{define "home"}}{{template "head"}}<p>Flywheel {{.Version}} is running, and you are signed in as {{.Actor}}.</p>
<p>The web app comes with a later version. Until then everything is in the terminal: <code>flywheel help</code> lists the eight stages.</p>
<p>For programs: <a href="/openapi.json">the API</a> ({{.Ops}} operations) and <code>GET /api/v1/events</code>, the live events.</p>{{template "foot"}}{{end}}`))
})

const (
	signInPage = "signin"
	homePage   = "home"
)

func writePage(w http.ResponseWriter, status int, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = pages().ExecuteTemplate(w, name, data)
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		httpx.WriteError(w, r, fault.New(fault.NotFound, "request.no_route", "nothing is served at %s %s", r.Method, r.URL.Path).
			WithHint("GET /openapi.json lists all routes"))
		return
	}
	writePage(w, http.StatusOK, homePage, map[string]any{
		"Version": s.deps.Version, "Actor": op.Actor(r.Context()), "Ops": len(s.deps.Ops),
	})
}
