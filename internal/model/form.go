package model

import (
	"context"
	"strings"
	"time"

	"flywheel/internal/model/local"
	"flywheel/internal/model/openai"
	"flywheel/internal/platform/fault"
)

// Ability is what a model on its server can do. It is found out once per model.
type Ability struct {
	Form      Form `json:"form"`
	Grammar   bool `json:"grammar,omitempty"`   // the server takes a GBNF grammar
	Alternate bool `json:"alternate,omitempty"` // the chat template insists on user and assistant in turns
	// Found says how this is known: configured, chat template, server, default.
	Found string `json:"found"`
}

// probeTime bounds the questions about a model's abilities.
const probeTime = 5 * time.Second

// ability is what is known about a model, asked from the server the first time.
func (s *Service) ability(ctx context.Context, p *provider, ref, name string) (Ability, error) {
	s.mu.RLock()
	a, ok := s.abilities[ref]
	s.mu.RUnlock()
	if ok {
		return a, nil
	}
	a, err := probe(ctx, p, name)
	if err != nil {
		return Ability{}, err
	}
	s.remember(ref, a)
	return a, nil
}

func (s *Service) remember(ref string, a Ability) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abilities[ref] = a
}

// props is what llama-server says at /props.
type props struct {
	Template string           `json:"chat_template"`
	Caps     *map[string]bool `json:"chat_template_caps"`
}

// probe asks a server how a model takes tools: llama-server by its chat template, Ollama by the model's
// capabilities. A server that says nothing is taken to call tools as OpenAI does.
func probe(ctx context.Context, p *provider, name string) (Ability, error) {
	if p.form != "" && (p.name == providerOpenAI || p.name == providerAnthropic) {
		return Ability{Form: p.form, Found: "default"}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	root := p.client
	root.Base = strings.TrimSuffix(root.Base, "/v1")
	a := Ability{Form: FormNative, Found: "default"}
	if p.name == providerOllama {
		if err := probeOllama(ctx, &root, name, &a); err != nil {
			return Ability{}, err
		}
	} else if err := probeLlama(ctx, &root, &a); err != nil {
		return Ability{}, err
	}
	if p.form != "" {
		a.Form, a.Found = p.form, "configured"
	}
	return a, nil
}

func probeLlama(ctx context.Context, root *openai.Client, a *Ability) error {
	var answer props
	if err := root.Get(ctx, "/props", &answer); err != nil {
		return passing(err)
	}
	if answer.Template == "" {
		return nil
	}
	*a = templateAbility(answer.Template)
	if answer.Caps != nil {
		if tools, ok := (*answer.Caps)["supports_tools"]; ok && !tools {
			a.Form = FormAction
		}
	}
	return nil
}

func probeOllama(ctx context.Context, root *openai.Client, name string, a *Ability) error {
	var show struct {
		Capabilities []string `json:"capabilities"`
	}
	if err := root.Post(ctx, "/api/show", map[string]string{"model": name}, &show); err != nil {
		return passing(err)
	}
	if show.Capabilities == nil {
		return nil
	}
	a.Form, a.Found = FormAction, "server"
	for _, c := range show.Capabilities {
		if c == "tools" {
			a.Form = FormNative
		}
	}
	return nil
}

// passing drops the answers of servers that do not know the question: any refusal will come again, with
// better words, from the call itself.
func passing(err error) error {
	if fault.HasCode(err, CodeRefused) || fault.HasCode(err, CodeMalformed) {
		return nil
	}
	return err
}

// templateAbility reads a Jinja chat template: one that never mentions tools drops them silently.
func templateAbility(template string) Ability {
	a := Ability{Form: FormAction, Grammar: true, Found: "chat template"}
	if strings.Contains(template, "tools") {
		a.Form = FormNative
	}
	a.Alternate = strings.Contains(template, "must alternate")
	return a
}

// localAbility reads the template in the model file, so that nothing has to be started to know it.
func (s *Service) localAbility(f local.File) (Ability, error) {
	ref := providerLocal + "/" + f.Name
	s.mu.RLock()
	a, ok := s.abilities[ref]
	s.mu.RUnlock()
	if ok {
		return a, nil
	}
	meta, err := local.ReadMeta(f.Path)
	if err != nil {
		return Ability{}, fault.Wrap(err, fault.Invalid, CodeUnreachable, "the model file of %s cannot be read", ref).
			WithHint("replace %s, or remove it", f.Path)
	}
	a = templateAbility(meta.Template)
	s.remember(ref, a)
	return a, nil
}
