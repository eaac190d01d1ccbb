package cli

import (
	"runtime"

	"github.com/spf13/cobra"

	"flywheel/internal/platform/fault"
)

func (s *shell) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  flywheel version --json", Args: cobra.NoArgs,
		Annotations: map[string]string{stageKey: "0"},
		RunE: func(*cobra.Command, []string) error {
			if s.json {
				s.printJSON(map[string]string{
					"version": s.app.Version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
				return nil
			}
			s.printf("flywheel %s %s/%s\n", s.app.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

func (s *shell) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Show every setting, its value and where it comes from", Args: cobra.NoArgs,
		Example: "  flywheel config", Annotations: map[string]string{stageKey: "0"},
		RunE: func(*cobra.Command, []string) error { return s.explain() },
	}
	c.AddCommand(&cobra.Command{
		Use: "explain", Short: "The same", Args: cobra.NoArgs, Example: "  flywheel config explain", Hidden: true,
		RunE: func(*cobra.Command, []string) error { return s.explain() },
	})
	return c
}

func (s *shell) explain() error {
	home := s.homePath()
	_, settings, err := s.settings(home, nil)
	if err != nil {
		return err
	}
	if s.json {
		s.printJSON(map[string]any{"home": home, "settings": settings.Explain()})
		return nil
	}
	rows := [][]string{{"SETTING", "VALUE", "FROM"}, {"home", home, s.homeOrigin()}}
	for _, x := range settings.Explain() {
		rows = append(rows, []string{x.Path, x.Value, x.Origin})
	}
	s.table(rows)
	return nil
}

func (s *shell) homeOrigin() string {
	switch {
	case s.home != "":
		return "--home"
	case s.Getenv("FLYWHEEL_HOME") != "":
		return "FLYWHEEL_HOME"
	}
	return "default"
}

func (s *shell) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion <shell>", Short: "Print the completion script of a shell (bash, zsh, fish)",
		Example:     "  source <(flywheel completion bash)",
		Annotations: map[string]string{stageKey: "0"}, ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				switch args[0] {
				case "bash":
					return cmd.Root().GenBashCompletionV2(s.Stdout, true)
				case "zsh":
					return cmd.Root().GenZshCompletion(s.Stdout)
				case "fish":
					return cmd.Root().GenFishCompletion(s.Stdout, true)
				}
			}
			return fault.New(fault.Invalid, "cli.shell", "name one shell: bash, zsh or fish").WithHint("flywheel completion bash")
		},
	}
}
