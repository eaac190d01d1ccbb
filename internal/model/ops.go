package model

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"flywheel/internal/platform/op"
)

// ListIn asks for the models.
type ListIn struct {
	Provider string `query:"provider" doc:"Only this provider"`
}

// ListOut is every model that can be called now, and the providers that cannot.
type ListOut struct {
	Providers []ProviderReport `json:"providers"`
}

// Ops are the operations of the domain.
func (s *Service) Ops() []op.Op {
	return []op.Op{
		op.WithText(op.New(op.Meta{
			ID: "model.list", Method: "GET", Path: "/api/v1/models",
			Summary:    "List the models that can be called, with how they take tools and what they cost",
			Permission: "model.read", Stage: 2, CLI: "models", Example: "flywheel models --provider local",
		}, func(ctx context.Context, in *ListIn) (*ListOut, error) {
			if in.Provider != "" && in.Provider != providerLocal && in.Provider != providerScripted {
				if _, err := s.provider(in.Provider); err != nil {
					return nil, err
				}
			}
			out := &ListOut{Providers: []ProviderReport{}}
			for _, p := range s.Doctor(ctx) {
				if in.Provider == "" || p.Name == in.Provider {
					out.Providers = append(out.Providers, p)
				}
			}
			return out, nil
		}), func(w io.Writer, out *ListOut) { WriteReports(w, out.Providers) }),
	}
}

// WriteReports prints reports for a terminal.
func WriteReports(w io.Writer, reports []ProviderReport) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range reports {
		for _, m := range p.Models {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", m.Ref, m.Form, m.priceText(), m.Server)
		}
	}
	_ = t.Flush()
	for _, p := range reports {
		mark := "ok"
		if !p.Reachable {
			mark = "no"
		}
		line := []string{p.Detail}
		if p.Key != "" {
			line = append(line, "key from "+p.Key)
		}
		if p.Hint != "" {
			line = append(line, p.Hint)
		}
		_, _ = fmt.Fprintf(w, "%s  %-10s %s\n", mark, p.Name, strings.Join(line, "; "))
	}
}

func (m Report) priceText() string {
	if m.PriceIn == 0 {
		switch m.Prices {
		case "":
			return ""
		case "unknown":
			return "price unknown"
		}
		return "no money"
	}
	return fmt.Sprintf("$%.2f in, $%.2f out per million tokens", float64(m.PriceIn)/1e6, float64(m.PriceOut)/1e6)
}
