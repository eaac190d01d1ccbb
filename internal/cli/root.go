package cli

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"flywheel/internal/platform/fault"
)

// stages are the groups of the help, in their order; the system comes last.
var stages = [9]string{1: "Prompt", 2: "Code", 3: "Agent", 4: "Test", 5: "Release", 6: "Deploy", 7: "Operate", 8: "Retrain", 0: "System"}

// keepOrder makes cobra list commands in the order in which they were added. It is a variable of that
// package.
var keepOrder = sync.OnceFunc(func() { cobra.EnableCommandSorting = false })

// root is the tree of all commands.
func (s *shell) root() *cobra.Command {
	keepOrder()
	root := group("flywheel", "DevOps for AI agents, in one loop")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(s.Args)
	root.SetIn(s.Stdin)
	root.SetOut(s.Stdout)
	root.SetErr(s.Stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVar(&s.home, "home", "", "where the data is (default ~/.local/share/flywheel, or FLYWHEEL_HOME)")
	f.StringVar(&s.dir, "dir", ".", "the package, or a directory in it")
	f.BoolVar(&s.json, "json", false, "print the result as JSON")
	f.BoolVar(&s.noColor, "no-color", false, "no colours (also: NO_COLOR)")
	f.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error (short commands: warn)")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(s.initCommand(), s.upCommand(), s.versionCommand(), s.configCommand(), s.completionCommand())
	s.generate(root)
	s.addChat(root)
	root.SetHelpCommand(s.helpCommand(root))
	inherited := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd == root {
			writeHelp(s.Stdout, root)
			return
		}
		if cmd.Short != "" && cmd.Long == "" {
			cmd.Long = cmd.Short + "."
		}
		inherited(cmd, args)
	})
	return root
}

// writeHelp lists the commands by the eight stages of the loop.
func writeHelp(w io.Writer, root *cobra.Command) {
	var b strings.Builder
	b.WriteString("Flywheel is DevOps for AI agents: Prompt, Code, Agent, Test, Release, Deploy, Operate, Retrain, and again.\n")
	groups := map[string][]*cobra.Command{}
	width := 0
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			stage := c.Annotations[stageKey]
			groups[stage] = append(groups[stage], c)
			width = max(width, len(c.Name()))
		}
	}
	for i := range stages {
		number := (i + 1) % len(stages) // 1 … 8, then 0
		commands := groups[fmt.Sprint(number)]
		if len(commands) == 0 {
			continue
		}
		title := fmt.Sprintf("%d %s", number, stages[number])
		if number == 0 {
			title = stages[0]
			sort.SliceStable(commands, func(i, j int) bool { return commands[i].Name() < commands[j].Name() })
		}
		b.WriteString("\n" + title + "\n")
		for _, c := range commands {
			b.WriteString("  " + pad(c.Name(), width) + "  " + summary(c) + "\n")
		}
	}
	b.WriteString("\nFlags of every command\n" + root.PersistentFlags().FlagUsages())
	b.WriteString("\nflywheel COMMAND --help shows the arguments and an example.\n")
	_, _ = io.WriteString(w, b.String())
}

func summary(c *cobra.Command) string {
	if c.Short != "" {
		return c.Short
	}
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	return strings.Join(names, ", ")
}

// flagError explains a flag that is not known or has a wrong value.
func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	name, ok := strings.CutPrefix(text, "unknown flag: --")
	if !ok {
		return fault.New(fault.Invalid, "cli.flag", "%s", text).WithHint("%s --help", cmd.CommandPath())
	}
	var known []string
	collect := func(f *pflag.Flag) { known = append(known, f.Name) }
	cmd.Flags().VisitAll(collect)
	cmd.InheritedFlags().VisitAll(collect)
	e := fault.New(fault.Invalid, "cli.flag", "%s has no flag --%s", cmd.CommandPath(), name)
	if near := fault.Suggest(name, known); near != "" {
		return e.WithHint("did you mean --%s?", near)
	}
	return e.WithHint("%s --help", cmd.CommandPath())
}

func (s *shell) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Show the commands, or the help of one", Example: "  flywheel help test",
		Annotations: map[string]string{stageKey: "0"},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(root, strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
