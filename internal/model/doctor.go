package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"flywheel/internal/model/local"
	"flywheel/internal/model/price"
	"flywheel/internal/platform/fault"
)

// ProviderReport is what doctor says about one provider.
type ProviderReport struct {
	Name      string   `json:"name"`
	Reachable bool     `json:"reachable"`
	Detail    string   `json:"detail"`         // what is there, or what is missing
	Base      string   `json:"base,omitempty"` // where it is
	Key       string   `json:"key,omitempty"`  // where its key comes from; never the key
	Hint      string   `json:"hint,omitempty"` // what would make it reachable
	Models    []Report `json:"models,omitempty"`
}

// Report is one model of a provider.
type Report struct {
	Ref    string `json:"ref"`
	Form   Form   `json:"form,omitempty"`  // how it takes tools; empty until it has been asked
	Found  string `json:"found,omitempty"` // how the form is known
	Size   int64  `json:"size,omitempty"`  // bytes of weights on this machine
	Server string `json:"server,omitempty"`
	Log    string `json:"log,omitempty"`
	// Prices in nano-USD per thousand tokens; Prices names the table, or says unknown or local.
	PriceIn  int64  `json:"price_in,omitempty"`
	PriceOut int64  `json:"price_out,omitempty"`
	Prices   string `json:"prices,omitempty"`
}

// Doctor looks at every provider, at all of them at once, and asks no model anything.
func (s *Service) Doctor(ctx context.Context) []ProviderReport {
	names := s.providerNames()
	out := make([]ProviderReport, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			switch name {
			case providerLocal:
				out[i] = s.doctorLocal()
			case providerScripted:
				out[i] = s.doctorScripted()
			default:
				out[i] = s.doctorRemote(ctx, s.providers[name])
			}
		})
	}
	all.Wait()
	return slices.DeleteFunc(out, func(r ProviderReport) bool { return r.Name == "" })
}

func (s *Service) doctorLocal() ProviderReport {
	r := ProviderReport{Name: providerLocal, Base: s.deps.CacheDir, Hint: "make local-model"}
	engines, files := s.local.Engines(), s.local.Files()
	running := map[string]local.Status{}
	for _, st := range s.local.Running() {
		running[st.Name] = st
	}
	for _, f := range files {
		m := Report{Ref: providerLocal + "/" + f.Name, Size: f.Size, Prices: price.Local}
		a, err := s.localAbility(f)
		if err != nil {
			m.Found = err.Error()
		} else {
			m.Form, m.Found = a.Form, a.Found
		}
		if st, ok := running[f.Name]; ok {
			m.Server, m.Log = serverLine(st), st.LogPath
		}
		r.Models = append(r.Models, m)
	}
	switch {
	case len(files) == 0 && len(engines) == 0:
		r.Detail = "not installed"
	case len(files) == 0:
		r.Detail = "a server (" + engines[0].Kind + "), but no model"
	case len(engines) == 0:
		r.Detail = "models, but no server to run them"
	default:
		r.Reachable, r.Hint = true, ""
		r.Detail = engines[0].Kind + " at " + engines[0].Path
	}
	return r
}

func serverLine(st local.Status) string {
	line := st.State
	if st.PID != 0 {
		line += fmt.Sprintf(", pid %d at %s", st.PID, st.Base)
	}
	if st.Restarts > 0 {
		line += fmt.Sprintf(", restarted %d times", st.Restarts)
	}
	if st.Err != nil {
		line += ": " + st.Err.Error()
	}
	return line
}

// doctorScripted reports scripts only where there are some: they are for tests.
func (s *Service) doctorScripted() ProviderReport {
	r := ProviderReport{Reachable: true, Detail: "answers by rules from a file, no model"}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for ref := range s.registered {
		r.Name = providerScripted
		r.Models = append(r.Models, Report{Ref: ref, Form: FormScripted, Found: "script"})
	}
	slices.SortFunc(r.Models, func(a, b Report) int { return strings.Compare(a.Ref, b.Ref) })
	return r
}

func (s *Service) doctorRemote(ctx context.Context, p *provider) ProviderReport {
	r := ProviderReport{Name: p.name, Base: p.client.Base, Key: p.keyFrom}
	if p.needsKey != "" {
		r.Detail, r.Hint = "no key", "set "+p.needsKey
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	names, err := p.client.Models(ctx)
	var f *fault.Error
	if errors.As(err, &f) {
		r.Detail = f.Message
		r.Hint = strings.TrimSuffix(p.startHint, "; or ")
		if f.Code != CodeUnreachable && f.Hint != "" {
			r.Hint = f.Hint
		}
		return r
	}
	r.Reachable, r.Detail = true, fmt.Sprintf("%d models", len(names))
	slices.Sort(names)
	for _, n := range names {
		r.Models = append(r.Models, s.remoteModel(ctx, p, n))
	}
	return r
}

func (s *Service) remoteModel(ctx context.Context, p *provider, name string) Report {
	m := Report{Ref: p.name + "/" + name}
	if a, err := s.ability(ctx, p, m.Ref, name); err == nil {
		m.Form, m.Found = a.Form, a.Found
	}
	_, m.Prices = Price(m.Ref, Usage{})
	if row, ok := price.Find(m.Ref); ok {
		m.PriceIn, m.PriceOut = int64(row.In*1e6), int64(row.Out*1e6)
	}
	return m
}
