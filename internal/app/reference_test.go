package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"flywheel/internal/app"
	"flywheel/internal/cli"
	"flywheel/internal/platform/op"
)

const generated = "<!-- Written by make gen. -->\n"

// golden compares a generated page of the reference with what the program says now.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "reference", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is out of date; make gen writes it anew:\n%s", name, diff)
	}
}

// cell makes a text safe in a table of Markdown.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "*", `\*`).Replace(s)
}

func flagRow(f *pflag.Flag) string {
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	value, help := pflag.UnquoteUsage(f)
	if value == "string" {
		value = "text"
	}
	if value != "" && f.Value.Type() != "bool" {
		name += " " + value
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && !strings.Contains(help, "default") {
		help += " (default " + f.DefValue + ")"
	}
	return fmt.Sprintf("| `%s` | %s |\n", name, cell(help))
}

// TestCommandReference writes docs/reference/commands.md: every command with what it takes, an example,
// and the operation behind it.
func TestCommandReference(t *testing.T) {
	t.Parallel()
	byWords := map[string]op.Op{}
	var apiOnly []op.Op
	for _, o := range (app.Program{}).Ops() {
		if o.Meta().CLI == "" {
			apiOnly = append(apiOnly, o)
			continue
		}
		byWords[o.Meta().CLI] = o
	}
	commands, everywhere := cli.Reference(app.Program{})
	var b strings.Builder
	b.WriteString("# Commands\n" + generated + "By stage of the loop. Every command also works without a server, and takes:\n\n| flag | |\n|---|---|\n")
	for _, f := range everywhere {
		b.WriteString(flagRow(f))
	}
	for i := range 9 {
		stage := (i + 1) % 9 // 1 … 8, then 0
		fmt.Fprintf(&b, "\n## %s\n", cli.StageName(stage))
		for _, c := range commands {
			if c.Stage == stage {
				writeCommand(&b, c, byWords[c.Words])
				delete(byWords, c.Words)
			}
		}
	}
	b.WriteString("\n## Over HTTP only\n| operation | | request | permission |\n|---|---|---|---|\n")
	for _, o := range apiOnly {
		m := o.Meta()
		fmt.Fprintf(&b, "| `%s` | %s | `%s %s` | `%s` |\n", m.ID, cell(m.Summary), m.Method, m.Path, m.Permission)
	}
	for words := range byWords {
		t.Errorf("flywheel %s is an operation and no command", words)
	}
	golden(t, "commands.md", b.String())
}

func writeCommand(b *strings.Builder, c cli.Command, o op.Op) {
	about := c.Summary + "."
	if c.Long != "" {
		about = c.Long
	}
	fmt.Fprintf(b, "\n### `%s`\n%s\n", c.Use, about)
	rows := ""
	if o != nil {
		for _, f := range o.Fields() {
			switch f.CLI {
			case op.Arg, op.Rest:
				rows += fmt.Sprintf("| `%s` | %s |\n", f.Flag, cell(f.Doc))
			case op.PkgDir:
				rows += fmt.Sprintf("| the package | %s |\n", cell(f.Doc))
			}
		}
	}
	for _, f := range c.Flags {
		rows += flagRow(f)
	}
	if rows != "" {
		b.WriteString("\n| | |\n|---|---|\n" + rows)
	}
	if c.Example != "" {
		b.WriteString("\n```\n")
		for line := range strings.SplitSeq(c.Example, "\n") {
			b.WriteString(strings.TrimPrefix(line, "  ") + "\n")
		}
		b.WriteString("```\n")
	}
	if o != nil {
		m := o.Meta()
		fmt.Fprintf(b, "\n`%s %s` · permission `%s`\n", m.Method, m.Path, m.Permission)
	}
}
