package run

import "flywheel/spec"

func compilePrompt(pkg *spec.Package, a *spec.Agent) (template, error) { return plain(a.Prompt), nil }

type plain string

func (p plain) Render(map[string]any) (string, error) { return string(p), nil }
