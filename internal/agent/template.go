package agent

import (
	"embed"
	"io/fs"
	"strings"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

//go:embed all:templates
var templates embed.FS

// Templates are the names that Template knows, sorted.
func Templates() []string {
	entries, err := fs.ReadDir(templates, "templates")
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// Template gives the files of a template; fault package.unknown_template when there is none of that name.
func Template(name string) (op.Dir, error) {
	root := "templates/" + name
	info, err := fs.Stat(templates, root)
	if err != nil || !info.IsDir() || strings.Contains(name, "/") || name == "." {
		return nil, fault.New(fault.NotFound, "package.unknown_template", "there is no template %q", name).
			WithHint("known: %s", strings.Join(Templates(), ", "))
	}
	files := op.Dir{}
	err = fs.WalkDir(templates, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := templates.ReadFile(path)
		files[strings.TrimPrefix(path, root+"/")] = content
		return err
	})
	return files, err
}
