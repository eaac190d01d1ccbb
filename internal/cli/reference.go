package cli

import (
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is a command as the reference describes it.
type Command struct {
	Words   string // without flywheel, as in "release diff"
	Use     string // the whole line, as in "flywheel release diff <from> <to>"
	Summary string
	Long    string // more than the summary, or empty
	Example string
	Stage   int // 1 to 8; 0 is the system
	Flags   []*pflag.Flag
}

// Reference lists all commands in the order of the help, and the flags that each of them has.
func Reference(app App) (commands []Command, everywhere []*pflag.Flag) {
	root := (&shell{app: app}).root()
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { everywhere = append(everywhere, f) })
	var walk func(parent *cobra.Command, words string, stage int)
	walk = func(parent *cobra.Command, words string, stage int) {
		for _, c := range parent.Commands() {
			if c.Hidden {
				continue
			}
			at := stage
			if n, err := strconv.Atoi(c.Annotations[stageKey]); err == nil {
				at = n
			}
			name := words + c.Name()
			if c.Annotations["generated"] != "group" {
				d := Command{Words: name, Use: "flywheel " + words + c.Use, Summary: c.Short, Long: c.Long, Example: c.Example, Stage: at}
				c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { d.Flags = append(d.Flags, f) })
				commands = append(commands, d)
			}
			walk(c, name+" ", at)
		}
	}
	walk(root, "", 0)
	return commands, everywhere
}

// StageName is the name of a group of the help: Prompt … Retrain, and System for 0.
func StageName(stage int) string { return stages[stage] }
