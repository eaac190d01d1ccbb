package cli

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"flywheel/internal/platform/fault"
	"flywheel/internal/platform/op"
)

// stageKey is the annotation that says in which group of the help a command stands.
const stageKey = "stage"

// generate adds the commands of the operations. Words that a hand-written command has are left to it.
func (s *shell) generate(root *cobra.Command) {
	for _, o := range s.app.Ops() {
		words := strings.Fields(o.Meta().CLI)
		if len(words) == 0 {
			continue
		}
		parent, parentStage := root, o.Meta().Stage
		for _, w := range words[:len(words)-1] {
			parent = child(parent, w, parentStage)
		}
		name := words[len(words)-1]
		if c := find(parent, name); c != nil {
			if c.Annotations["generated"] != "group" {
				continue
			}
			s.fill(c, o)
			continue
		}
		c := &cobra.Command{Use: name}
		s.fill(c, o)
		parent.AddCommand(c)
	}
}

func find(parent *cobra.Command, name string) *cobra.Command {
	for _, c := range parent.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// child is the command that groups others; it may become a command of its own when its operation comes.
func child(parent *cobra.Command, name string, stage int) *cobra.Command {
	if c := find(parent, name); c != nil {
		return c
	}
	c := group(name, "")
	c.Annotations[stageKey] = fmt.Sprint(stage)
	c.Annotations["generated"] = "group"
	parent.AddCommand(c)
	return c
}

// group is a command that only holds others.
func group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Annotations: map[string]string{},
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	e := fault.New(fault.Invalid, "cli.unknown_command", "there is no command %q", strings.TrimSpace(cmd.CommandPath()+" "+word))
	if near := fault.Suggest(word, names); near != "" {
		return e.WithHint("did you mean %s %s?", cmd.CommandPath(), near)
	}
	return e.WithHint("%s --help lists the commands", cmd.CommandPath())
}

// fill makes a command run an operation.
func (s *shell) fill(c *cobra.Command, o op.Op) {
	m := o.Meta()
	c.Use = c.Name()
	c.Short = m.Summary
	c.Example = indentLines(m.Example)
	c.Annotations = map[string]string{stageKey: fmt.Sprint(m.Stage), "generated": "op"}
	c.Args = cobra.ArbitraryArgs // checked with better words below
	c.SilenceUsage = true
	flags := map[string]*flagValue{}
	c.Flags().SortFlags = false
	for _, f := range o.Fields() {
		switch f.CLI {
		case op.Arg, op.Rest:
			c.Use += " " + argument(f)
		case op.Flag, op.File:
			v := &flagValue{field: f}
			flags[f.Name] = v
			added := c.Flags().VarPF(v, f.Flag, f.Short, describe(f))
			if deref(f.Type).Kind() == reflect.Bool {
				added.NoOptDefVal = "true"
			}
			if len(f.Enum) > 0 {
				_ = c.RegisterFlagCompletionFunc(f.Flag, cobra.FixedCompletions(f.Enum, cobra.ShellCompDirectiveNoFileComp))
			}
		}
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := s.gather(cmd, o, flags, args)
		if err != nil {
			return err
		}
		return s.invoke(cmd.Context(), o, in)
	}
}

func argument(f op.Field) string {
	word := f.Flag
	if f.CLI == op.Rest {
		word += "..."
	}
	if f.Required {
		return "<" + word + ">"
	}
	return "[" + word + "]"
}

func describe(f op.Field) string {
	text := lowerFirst(f.Doc)
	if len(f.Enum) > 0 {
		text += " (" + strings.Join(f.Enum, ", ") + ")"
	}
	if f.Required {
		text += " (required)"
	}
	return strings.TrimSpace(text)
}

// lowerFirst begins a text with a small letter, as the texts of all flags do; names keep theirs.
func lowerFirst(text string) string {
	runes := []rune(text)
	if len(runes) > 1 && unicode.IsUpper(runes[0]) && !unicode.IsUpper(runes[1]) {
		runes[0] = unicode.ToLower(runes[0])
	}
	return string(runes)
}

func indentLines(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

// input is what a command sends.
type input struct {
	path string
	body map[string]any // nil for a GET
	root string         // of the package that was sent, "" when none was
}

// gather reads arguments, flags and the package into the input of an operation.
func (s *shell) gather(cmd *cobra.Command, o op.Op, flags map[string]*flagValue, args []string) (*input, error) {
	g := newGathering(o)
	left := args
	for _, f := range o.Fields() {
		var words []string
		switch f.CLI {
		case op.Arg:
			if len(left) > 0 {
				words, left = left[:1], left[1:]
			}
		case op.Rest:
			words, left = left, nil
			if len(words) > 0 && !isList(f.Type) {
				words = []string{strings.Join(words, " ")}
			}
		case op.Flag, op.File:
			if cmd.Flags().Changed(f.Flag) {
				words = flags[f.Name].values
			}
		case op.PkgDir:
			if err := s.gatherPackage(cmd, g, f); err != nil {
				return nil, err
			}
			continue
		}
		if len(words) == 0 {
			if f.Required && f.CLI != op.NoCLI {
				return nil, missing(cmd, f)
			}
			continue
		}
		if err := s.put(g, f, words); err != nil {
			return nil, err
		}
	}
	if len(left) > 0 {
		if cmd.HasAvailableSubCommands() && len(args) == len(left) {
			return nil, unknownCommand(cmd, left[0])
		}
		return nil, usage(cmd, "%q is one word too many", left[0])
	}
	return g.input(), nil
}

func missing(cmd *cobra.Command, f op.Field) error {
	name := "--" + f.Flag
	if f.CLI == op.Arg || f.CLI == op.Rest {
		name = "<" + f.Flag + ">"
	}
	e := fault.New(fault.Invalid, "cli.missing", "%s is missing", name)
	if example := strings.TrimSpace(cmd.Example); example != "" {
		return e.WithHint("%s", strings.SplitN(example, "\n", 2)[0])
	}
	return e.WithHint("%s --help", cmd.CommandPath())
}

func (s *shell) gatherPackage(cmd *cobra.Command, g *gathering, f op.Field) error {
	root, err := s.packageRoot()
	if err != nil {
		if f.Required || cmd.Flags().Changed("dir") {
			return err
		}
		return nil
	}
	files, err := s.readPackage(root)
	if err != nil {
		return err
	}
	g.root = root
	g.body[f.Name] = files
	return nil
}

func (s *shell) put(g *gathering, f op.Field, words []string) error {
	switch f.Place {
	case op.InPath:
		g.setPath(f.Name, words[len(words)-1])
		return nil
	case op.InQuery:
		for _, w := range words {
			g.query.Add(f.Name, w)
		}
		return nil
	}
	v, err := s.value(f, words)
	if err != nil {
		return err
	}
	g.body[f.Name] = v
	return nil
}
