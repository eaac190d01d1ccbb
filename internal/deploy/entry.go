package deploy

import (
	"strings"

	"flywheel/internal/model"
	"flywheel/internal/run"
)

// cutEntry splits "agents/NAME" or "flows/NAME".
func cutEntry(entry string) (kind, name string) {
	kind, name, _ = strings.Cut(entry, "/")
	return kind, name
}

func setHistory(_ *run.StartRequest, _ []model.Message) {}
