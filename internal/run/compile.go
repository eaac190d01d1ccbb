package run

import (
	"flywheel/internal/agent"
	"flywheel/internal/platform/fault"
)

// Compile makes a checked package ready to run.
func Compile(r *agent.Resolved) (*Program, error) {
	p, err := CompilePackage(r.Package, r.Identity, r.Data)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "run.compile", "the package cannot be run").WithHint("flywheel check")
	}
	return p, nil
}
