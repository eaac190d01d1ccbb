package app

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"flywheel/internal/model"
	"flywheel/internal/platform/op"
)

type doctorIn struct{}

type doctorOut struct {
	Version   string                 `json:"version"`
	Go        string                 `json:"go"`
	Platform  string                 `json:"platform"`
	Agents    int                    `json:"agents"`
	Programs  map[string]string      `json:"programs"` // name → path, empty when it is missing
	Providers []model.ProviderReport `json:"providers"`
	Ready     bool                   `json:"ready"` // some model can be reached
}

// doctorOp says what works here, and for each thing that does not, how to get it.
func (h *home) doctorOp() op.Op {
	o := op.New(op.Meta{
		ID: "system.doctor", Method: "GET", Path: "/api/v1/doctor", CLI: "doctor", Permission: "system.read",
		Summary: "Say what works on this machine and how to get what does not", Example: "flywheel doctor",
	}, func(ctx context.Context, _ *doctorIn) (*doctorOut, error) {
		out := &doctorOut{
			Version: Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
			Programs: map[string]string{}, Providers: h.models.Doctor(ctx),
		}
		agents, err := h.releases.Agents(ctx)
		if err != nil {
			return nil, err
		}
		out.Agents = len(agents)
		for _, name := range []string{"git", "llama-server"} {
			path, err := exec.LookPath(name)
			if err != nil {
				path = ""
			}
			out.Programs[name] = path
		}
		for _, p := range out.Providers {
			out.Ready = out.Ready || p.Reachable && p.Name != "scripted"
		}
		return out, nil
	})
	return op.WithText(o, func(w io.Writer, out *doctorOut) {
		_, _ = fmt.Fprintf(w, "flywheel %s on %s, %s\n\nmodels\n", out.Version, out.Platform, op.Count(out.Agents, "released agent"))
		model.WriteReports(w, out.Providers)
		if !out.Ready {
			_, _ = fmt.Fprintln(w, "\nno model can be reached: run make local-model, or set OPENAI_API_KEY or ANTHROPIC_API_KEY")
		}
		_, _ = fmt.Fprintln(w, "\nprograms")
		for _, name := range []string{"git", "llama-server"} {
			path := out.Programs[name]
			if path == "" {
				path = "not installed (optional)"
			}
			_, _ = fmt.Fprintf(w, "  %-13s %s\n", name, path)
		}
	})
}
