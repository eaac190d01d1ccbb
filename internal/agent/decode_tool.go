package agent

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"flywheel/spec"
)

var (
	retryForm  = regexp.MustCompile(`^([1-5][0-9][0-9]|5xx|timeout|reset|unavailable|throttled|malformed)$`)
	httpMethod = []string{"get", "post", "put", "patch", "delete"}
	callForms  = map[string]string{"openapi": "", "star": "", "wasm": "", "process": "", "agent": "", "flow": ""}
)

func (b *builder) tools(c cursor) {
	if c.v == nil {
		c.errorf("package.empty", "the file is empty")
		return
	}
	if !c.mapping("description", "mcp", "tools") {
		return
	}
	c.get("description").text()
	for _, s := range c.get("mcp").entries() {
		if first, twice := b.origin["mcp/"+s.key()]; twice {
			s.keyErrorf("package.duplicate_name", "the server %s is already declared in %s", quote(s.key()), first.src.file)
			continue
		}
		b.origin["mcp/"+s.key()] = s
		if !nameForm.MatchString(s.key()) {
			s.keyErrorf("package.name", "the server name %s is not allowed", quote(s.key()))
		}
		b.pkg.Servers[s.key()] = s.server()
	}
	tools := c.get("tools")
	if tools.v == nil {
		c.errorf("package.missing_key", `"tools" must be set`)
	}
	for _, t := range tools.entries() {
		if first, twice := b.origin["tools/"+t.key()]; twice {
			t.keyErrorf("package.duplicate_name", "the tool %s is already declared in %s", quote(t.key()), first.src.file).Hint = "rename one of them"
			continue
		}
		b.origin["tools/"+t.key()] = t
		if !toolForm.MatchString(t.key()) {
			t.keyErrorf("package.name", "the tool name %s is not allowed", quote(t.key())).Hint = "use lower-case words joined by dots, as in cards.freeze"
		}
		b.pkg.Tools[t.key()] = t.tool()
	}
}

func (c cursor) server() *spec.MCPServer {
	s := &spec.MCPServer{Name: c.key()}
	if c.v == nil {
		c.errorf("package.missing_key", `the server needs "command" or "url"`)
	}
	if !c.mapping("command", "env", "url", "headers") {
		return s
	}
	s.Command, s.URL = c.get("command").texts(), c.get("url").text()
	s.Env, s.Headers = c.get("env").textMap(), c.get("headers").textMap()
	if (len(s.Command) == 0) == (s.URL == "") {
		c.errorf("package.missing_key", `a server has either "command" or "url"`)
	}
	for _, e := range append(c.get("command").list(), c.get("url")) {
		e.checkHoles(nil)
	}
	for _, e := range append(c.get("env").entries(), c.get("headers").entries()...) {
		e.checkHoles(nil)
		e.checkSecret()
	}
	return s
}

func (c cursor) textMap() map[string]string {
	var out map[string]string
	for _, e := range c.entries() {
		if out == nil {
			out = map[string]string{}
		}
		out[e.key()] = e.scalarText()
	}
	return out
}

func (c cursor) tool() *spec.Tool {
	t := &spec.Tool{Name: c.key()}
	if c.v == nil {
		c.keyErrorf("package.empty", "the tool %s says nothing", quote(c.key()))
		return t
	}
	if !c.mapping("does", "effect", "authority", "returns", "in", "call", "timeout", "retry", "backup",
		"idempotency", "mock") {
		return t
	}
	t.Does = c.get("does").need()
	t.Effect = spec.Effect(c.get("effect").oneOf("read", "write", "irreversible"))
	if !c.has("effect") {
		c.keyErrorf("package.missing_key", `"effect" must be set`).Hint = "read, write or irreversible"
	}
	t.Returns = c.get("returns").oneOf("trusted", "untrusted")
	t.In = c.get("in").objectSchema()
	if t.In == nil {
		t.In = compact(map[string]any{"type": "object", "properties": map[string]any{}, "additionalProperties": false})
	}
	args, _ := properties(t.In)
	for _, a := range c.get("authority").list() {
		if name := a.need(); name != "" {
			t.Authority = append(t.Authority, name)
			if !slices.Contains(args, name) {
				a.errorf("package.unknown_argument", "%s is not an argument of %s", quote(name), t.Name).Hint = didYouMean(name, args)
			}
		}
	}
	t.Call = c.get("call").call(args)
	t.Timeout = c.get("timeout").duration()
	t.Retry = c.get("retry").retry()
	t.Backup = c.get("backup").text()
	t.Idempotency = c.get("idempotency").idempotency()
	t.Mock = c.get("mock").mock(t.Name)
	c.checkTool(t)
	return t
}

// checkTool looks at what the parts of a tool say together.
func (c cursor) checkTool(t *spec.Tool) {
	form, _, _ := strings.Cut(t.Idempotency, ":")
	if form == "header" && t.Call.MCP != nil || form == "meta" && t.Call.HTTP != nil {
		c.get("idempotency").errorf("package.value", "the key never reaches the tool: header: is for http, meta: for mcp").Hint = "arg:NAME works with both"
	}
	switch {
	case t.Mock == nil && !c.has("call"):
		c.keyErrorf("package.missing_key", `the tool needs "call" or "mock"`).Hint = "call: {mcp: server/tool}, call: {http: {get: URL}}, or mock: {star: mocks/FILE.star}"
	case t.Mock == nil:
		c.keyErrorf("package.no_mock", "%s has no mock, so tests, replays and forks cannot call it", t.Name).Warning = true
	}
	if t.Retry == nil || t.Effect == spec.EffectRead || t.Effect == "" || t.Idempotency != "" {
		return
	}
	p := c.get("retry").errorf("package.unsafe_retry",
		"%s changes the world and has no idempotency: a retry after a timeout may do it twice", t.Name)
	p.Hint, p.Warning = "add idempotency: header:Idempotency-Key, where the tool understands one", true
}

func (c cursor) call(args []string) spec.ToolCall {
	var out spec.ToolCall
	m, ok := c.v.(map[string]any)
	if !ok {
		c.mapping("http", "mcp")
		return out
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if _, later := callForms[k]; later {
			c.get(k).keyErrorf("package.unsupported", "calls by %s are not in this version", k).Hint = "use mcp or http"
			return out
		}
	}
	c.mapping("http", "mcp")
	if c.has("http") == c.has("mcp") {
		c.errorf("package.missing_key", "a call has either http or mcp")
	}
	if c.has("mcp") {
		text := c.get("mcp").need()
		server, tool, ok := strings.Cut(text, "/")
		if text != "" && (!ok || server == "" || tool == "") {
			c.get("mcp").errorf("package.value", "%s is not server/tool", quote(text))
		}
		out.MCP = &spec.MCPCall{Server: server, Tool: tool}
	}
	if c.has("http") {
		out.HTTP = c.get("http").httpCall(args)
	}
	return out
}

func (c cursor) httpCall(args []string) *spec.HTTPCall {
	if args == nil {
		args = []string{} // none, but ${in.…} may be meant
	}
	h := &spec.HTTPCall{}
	if c.v == nil {
		c.errorf("package.missing_key", "the request needs a method and a URL, as in post: URL")
	}
	if !c.mapping(append([]string{"headers", "body"}, httpMethod...)...) {
		return h
	}
	for _, method := range httpMethod {
		if !c.has(method) {
			continue
		}
		if h.Method != "" {
			c.get(method).keyErrorf("package.value", "a request has one method")
		}
		h.Method, h.URL = strings.ToUpper(method), c.get(method).need()
		c.get(method).checkHoles(args)
	}
	if h.Method == "" {
		c.errorf("package.missing_key", "the request needs a method and a URL").Hint =
			"write " + strings.Join(httpMethod, ", ") + ", as in post: URL"
	}
	h.Headers = c.get("headers").textMap()
	for _, e := range c.get("headers").entries() {
		e.checkHoles(args)
		e.checkSecret()
	}
	h.Body = c.get("body").v
	c.get("body").checkHoles(args)
	return h
}

func (c cursor) retry() *spec.Retry {
	if c.v == nil {
		return nil
	}
	if !c.mapping("max", "for", "backoff") {
		return nil
	}
	r := &spec.Retry{Max: c.get("max").integer(20)}
	if !c.has("max") {
		c.errorf("package.missing_key", `"max" must be set`).Hint = "how often it is tried again, as in max: 3"
	}
	for _, f := range c.get("for").list() {
		class := f.scalarText()
		if class != "" && !retryForm.MatchString(class) {
			f.errorf("package.value", "%s is not something to retry for", quote(class)).Hint = didYouMean(class, []string{"timeout", "5xx", "429", "reset", "unavailable", "throttled", "malformed"})
			continue
		}
		r.For = append(r.For, class)
	}
	r.Backoff = c.get("backoff").backoff()
	return r
}

// backoff reads 200ms..5s, one duration for both ends, or {from, to}.
func (c cursor) backoff() spec.Backoff {
	if _, ok := c.v.(map[string]any); ok {
		c.mapping("from", "to")
		c.v = c.get("from").text() + ".." + c.get("to").text()
	}
	text := c.text()
	if text == "" {
		return spec.Backoff{}
	}
	from, to, ok := strings.Cut(text, "..")
	if !ok {
		to = from
	}
	first, err1 := time.ParseDuration(strings.TrimSpace(from))
	last, err2 := time.ParseDuration(strings.TrimSpace(to))
	if err1 != nil || err2 != nil || first <= 0 || last < first {
		c.errorf("package.value", "%s is not a backoff", quote(text)).Hint = "write the first and the longest wait, as in 200ms..5s"
		return spec.Backoff{}
	}
	return spec.Backoff{From: spec.Duration(first), To: spec.Duration(last)}
}

func (c cursor) idempotency() string {
	text := c.text()
	form, name, _ := strings.Cut(text, ":")
	switch {
	case text == "", text == "natural":
	case (form == "header" || form == "arg" || form == "meta") && name != "":
	default:
		c.errorf("package.value", "%s does not say where the key goes", quote(text)).Hint = "write header:NAME, arg:NAME or meta:NAME, or natural when doing it twice is the same as once"
		return ""
	}
	return text
}

func (c cursor) mock(tool string) *spec.Mock {
	if c.v == nil {
		return nil
	}
	if !c.mapping("star", "func", "out") {
		return nil
	}
	m := &spec.Mock{Star: c.get("star").text(), Func: c.get("func").text(), Out: c.get("out").v}
	if (m.Star == "") == !c.has("out") {
		c.errorf("package.missing_key", "a mock has either star or out")
		return m
	}
	if m.Star != "" {
		if m.Func == "" {
			m.Func = strings.NewReplacer(".", "_", "-", "_").Replace(tool)
		}
		if content, ok := c.get("star").useData(m.Star); ok {
			c.checkStar(m, content)
		}
	}
	return m
}
