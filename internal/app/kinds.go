package app

import (
	"flywheel/internal/agent"
	"flywheel/internal/lab"
)

// suiteKinds are the kinds of package files that other domains give meaning to.
func suiteKinds() []agent.Kind { return []agent.Kind{lab.SuiteKind()} }
