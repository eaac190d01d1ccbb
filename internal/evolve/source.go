package evolve

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"flywheel/internal/agent"
)

// sourceFiles are the files of a package in canonical form, path → JSON.
func sourceFiles(pack *agent.Resolved) (map[string]json.RawMessage, error) {
	var canonical struct {
		Files map[string]json.RawMessage `json:"files"`
	}
	if err := json.Unmarshal(pack.Canonical, &canonical); err != nil {
		return nil, fmt.Errorf("canonical package: %w", err)
	}
	return canonical.Files, nil
}

// toolFile is the file that declares a tool, or "".
func toolFile(pack *agent.Resolved, name string) (string, error) {
	files, err := sourceFiles(pack)
	if err != nil {
		return "", err
	}
	paths := make([]string, 0, len(files))
	for path := range files {
		if strings.HasPrefix(path, "tools/") && strings.HasSuffix(path, ".tool.yaml") {
			paths = append(paths, path)
		}
	}
	sort.Strings(paths)
	for _, path := range paths {
		var file struct {
			Tools map[string]json.RawMessage `json:"tools"`
		}
		if json.Unmarshal(files[path], &file) == nil && file.Tools[name] != nil {
			return path, nil
		}
	}
	return "", nil
}
