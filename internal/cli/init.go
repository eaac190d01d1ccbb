package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"flywheel/internal/platform/fault"
)

func (s *shell) initCommand() *cobra.Command {
	var template string
	c := &cobra.Command{
		Use: "init <directory>", Short: "Write a new package of plain files",
		Example:     "  flywheel init my-desk --template help-desk && cd my-desk",
		Annotations: map[string]string{stageKey: "1"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "name the new directory: one word")
			}
			return s.init(args[0], template)
		},
	}
	c.Flags().StringVar(&template, "template", "help-desk", "what to start from")
	return c
}

var packageName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func (s *shell) init(dir, template string) error {
	target := filepath.Join(s.workDir(), dir)
	if filepath.IsAbs(dir) {
		target = filepath.Clean(dir)
	}
	name := filepath.Base(target)
	if !packageName.MatchString(name) {
		return fault.New(fault.Invalid, "cli.package_name", "%q cannot name a package", name).
			WithHint("lower-case letters, digits and dashes, as in my-desk")
	}
	var known []string
	for _, t := range s.app.Templates() {
		known = append(known, t.Name)
	}
	files, err := s.app.Template(template, name)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return fault.New(fault.NotFound, "cli.template", "there is no template %q", template).
				WithHint("templates: %s", strings.Join(known, ", "))
		}
		return err
	}
	if entries, err := os.ReadDir(target); err == nil && len(entries) > 0 {
		return fault.New(fault.Conflict, "cli.not_empty", "%s is not empty", target).
			WithHint("init writes a new directory only; give another name")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, fault.Invalid, "cli.init", "%s cannot be used", target)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("make the package: %w", err)
	}
	written, err := writePackage(target, files)
	if err != nil {
		return err
	}
	if s.json {
		s.printJSON(map[string]any{"directory": target, "name": name, "template": template, "files": written})
		return nil
	}
	s.printf("%s is ready: %d files from the template %s.\n\n", s.paint(s.StdoutTTY, bold, name), len(written), template)
	for _, f := range written {
		s.printf("  %s\n", filepath.Join(dir, f))
	}
	s.printf("\nNext\n  cd %s\n  flywheel check\n  flywheel run \"hello\"\n", dir)
	return nil
}
