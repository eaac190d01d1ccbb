package model

import (
	"fmt"
	"net/url"
	"strings"

	"flywheel/internal/model/openai"
	"flywheel/internal/platform/fault"
)

// Names of the built-in providers.
const (
	providerLocal     = "local"
	providerScripted  = "scripted"
	providerOpenAI    = "openai"
	providerAnthropic = "anthropic"
	providerOllama    = "ollama"
)

// Config is what a person sets about models. The zero value is fine.
type Config struct {
	Providers []Provider  `json:"providers,omitempty"`
	Local     LocalConfig `json:"local,omitzero"`
}

// LocalConfig is about the servers that Flywheel starts itself.
type LocalConfig struct {
	Context int `json:"context,omitempty"` // tokens; default 4096
	Threads int `json:"threads,omitempty"` // default: one per processor but one
}

// Provider is an OpenAI-compatible server that a person has configured; NAME/MODEL reaches it.
type Provider struct {
	Name    string `json:"name"`
	BaseURL string `json:"base_url"`          // up to and including /v1
	Key     string `json:"key,omitempty"`     // bearer token
	KeyEnv  string `json:"key_env,omitempty"` // variable that holds it
	Form    Form   `json:"form,omitempty"`    // native or action; default: asked from the server
}

// Check says what is wrong with a configuration.
func (c Config) Check() error {
	seen := map[string]bool{}
	var fields []fault.Field
	bad := func(i int, key, format string, args ...any) {
		fields = append(fields, fault.Field{Path: fmt.Sprintf("providers[%d].%s", i, key), Code: "model.bad_provider", Message: fmt.Sprintf(format, args...)})
	}
	for i, p := range c.Providers {
		u, err := url.Parse(p.BaseURL)
		switch {
		case p.Name == "" || strings.Contains(p.Name, "/"):
			bad(i, "name", "%q cannot be the first part of provider/name", p.Name)
		case p.Name == providerLocal || p.Name == providerScripted:
			bad(i, "name", "%s is built in", p.Name)
		case seen[p.Name]:
			bad(i, "name", "%s is there twice", p.Name)
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			bad(i, "base_url", "%q is no http URL", p.BaseURL)
		case p.Form != "" && p.Form != FormNative && p.Form != FormAction:
			bad(i, "form", "%q is neither %s nor %s", p.Form, FormNative, FormAction)
		}
		seen[p.Name] = true
	}
	if fields == nil {
		return nil
	}
	return fault.New(fault.Invalid, "model.bad_provider", "the configured model providers have %d errors", len(fields)).WithFields(fields...)
}

// provider is a server behind a name.
type provider struct {
	name      string
	client    openai.Client
	dialect   dialect
	form      Form   // fixed, or "" to ask the server
	needsKey  string // the variable that must hold a key, when it does not
	keyFrom   string // where the key came from, for doctor
	startHint string // how to make it reachable
}

// dialect is how a server departs from the rest.
type dialect struct {
	completionTokens bool                   // max_completion_tokens instead of max_tokens
	outputByTool     bool                   // no response_format: the answer is a forced tool call
	noSeed           bool                   // seed is not known
	fixedSampling    func(name string) bool // models that refuse a temperature
}

// settings writes the sampling of a request.
func (d dialect) settings(w *openai.Request, req Request, name string) {
	if d.fixedSampling == nil || !d.fixedSampling(name) {
		w.Temperature = &req.Temperature
	}
	if req.Seed != 0 && !d.noSeed {
		w.Seed = &req.Seed
	}
	if d.completionTokens {
		w.MaxCompletionTokens = req.MaxTokens
	} else {
		w.MaxTokens = req.MaxTokens
	}
}

// reasoning are OpenAI's models that sample in one way only: the o series, and GPT from 5 on.
func reasoning(name string) bool {
	if len(name) > 1 && name[0] == 'o' && name[1] >= '1' && name[1] <= '9' {
		return true
	}
	version, ok := strings.CutPrefix(name, "gpt-")
	return ok && version != "" && version[0] >= '5' && version[0] <= '9' && !strings.Contains(version, "-chat")
}

func providers(c Config, getenv func(string) string) map[string]*provider {
	out := map[string]*provider{}
	base := func(variable, fallback string) string {
		if v := getenv(variable); v != "" {
			return strings.TrimSuffix(v, "/")
		}
		return fallback
	}
	keyed := func(name, variable, url string, d dialect) {
		p := &provider{name: name, form: FormNative, dialect: d, keyFrom: variable, startHint: "check " + url + " and the network; or "}
		p.client = openai.Client{Base: url, Key: getenv(variable), Name: name}
		if p.client.Key == "" {
			p.needsKey, p.keyFrom = variable, ""
		}
		out[name] = p
	}
	keyed(providerOpenAI, "OPENAI_API_KEY", base("OPENAI_BASE_URL", "https://api.openai.com/v1"),
		dialect{completionTokens: true, fixedSampling: reasoning})
	anthropic := strings.TrimSuffix(base("ANTHROPIC_BASE_URL", "https://api.anthropic.com"), "/v1") + "/v1"
	keyed(providerAnthropic, "ANTHROPIC_API_KEY", anthropic, dialect{outputByTool: true, noSeed: true})
	out[providerOllama] = &provider{
		name: providerOllama, startHint: "start it with ollama serve, or set OLLAMA_HOST; or ",
		client: openai.Client{Base: ollamaBase(getenv("OLLAMA_HOST")), Name: providerOllama},
	}
	for _, p := range c.Providers {
		key, from := p.Key, "configuration"
		if p.KeyEnv != "" {
			key, from = getenv(p.KeyEnv), p.KeyEnv
		}
		configured := &provider{
			name: p.Name, form: p.Form, startHint: "check its base_url in the configuration; or ",
			client: openai.Client{Base: strings.TrimSuffix(p.BaseURL, "/"), Key: key, Name: p.Name},
		}
		if p.Name == providerAnthropic { // the same server by another address
			configured.dialect = out[providerAnthropic].dialect
		}
		switch {
		case key != "":
			configured.keyFrom = from
		case p.KeyEnv != "":
			configured.needsKey = p.KeyEnv
		}
		out[p.Name] = configured
	}
	return out
}

// ollamaBase reads OLLAMA_HOST as Ollama does: a host, a host with port, or a URL.
func ollamaBase(host string) string {
	if host == "" {
		host = "127.0.0.1:11434"
	}
	if !strings.Contains(host, "://") {
		host = "http://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
		return "http://127.0.0.1:11434/v1"
	}
	name, port := u.Hostname(), u.Port()
	if name == "0.0.0.0" || name == "" || name == "::" {
		name = "127.0.0.1"
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	switch {
	case port == "" && u.Scheme == "http":
		port = ":11434"
	case port != "":
		port = ":" + port
	}
	return u.Scheme + "://" + name + port + strings.TrimSuffix(u.Path, "/") + "/v1"
}

// usable says what keeps a provider from being called at all.
func (s *Service) usable(p *provider) error {
	if p.needsKey != "" {
		return s.unreachable("%s needs a key in %s", p.name, p.needsKey)
	}
	return nil
}
