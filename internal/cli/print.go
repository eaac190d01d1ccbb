package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"flywheel/internal/platform/fault"
)

const (
	red  = "\x1b[1;31m"
	dim  = "\x1b[2m"
	bold = "\x1b[1m"
)

// paint colours a text for a terminal.
func (s *shell) paint(tty bool, code, text string) string {
	if !tty || s.noColor || s.Getenv("NO_COLOR") != "" || s.Getenv("TERM") == "dumb" {
		return text
	}
	return code + text + "\x1b[0m"
}

// out is where texts of operations go. What models, tools and users said must not move the cursor of a
// terminal or colour it, so control characters are dropped there.
func (s *shell) out() io.Writer {
	if !s.StdoutTTY {
		return s.Stdout
	}
	return harmless{s.Stdout}
}

type harmless struct{ w io.Writer }

// Write passes everything but control characters.
func (h harmless) Write(p []byte) (int, error) {
	_, err := io.WriteString(h.w, printable(string(p)))
	return len(p), err
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
}

// note tells a person something on the side.
func (s *shell) note(text string) {
	_, _ = fmt.Fprintln(s.Stderr, s.paint(s.StderrTTY, dim, "note: "+printable(text)))
}

func (s *shell) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.Stdout, format, args...) }

func (s *shell) table(rows [][]string) {
	var b strings.Builder
	writeTable(&b, rows, "")
	_, _ = io.WriteString(s.Stdout, b.String())
}

func (s *shell) printError(f failure) {
	var b strings.Builder
	b.WriteString(s.paint(s.StderrTTY, red, "error:") + " " + printable(f.fault.Message) + "\n")
	if f.fault.Hint != "" && f.fault.Hint != s.commandLine() { // who checks knows of check
		b.WriteString("  hint: " + printable(f.fault.Hint) + "\n")
	}
	if f.fault.Kind == fault.Internal && f.requestID != "" {
		b.WriteString("  request: " + f.requestID + " (the log of the server says more)\n")
	}
	if len(f.fault.Fields) > 1 || len(f.fault.Fields) == 1 && !strings.Contains(f.fault.Message, f.fault.Fields[0].Message) {
		for _, x := range f.fault.Fields {
			line := strings.TrimPrefix(x.Path+": ", ": ") + strings.TrimPrefix(x.Code+" ", " ") + x.Message
			if x.Hint != "" {
				line += " (" + x.Hint + ")"
			}
			b.WriteString(printable(line) + "\n")
		}
	}
	_, _ = io.WriteString(s.Stderr, b.String())
}

func (s *shell) printJSONError(f failure) {
	body := struct {
		Error struct {
			Kind      fault.Kind    `json:"kind"`
			Code      string        `json:"code"`
			Message   string        `json:"message"`
			Hint      string        `json:"hint,omitempty"`
			Fields    []fault.Field `json:"fields,omitempty"`
			RequestID string        `json:"request_id,omitempty"`
		} `json:"error"`
	}{}
	e := &body.Error
	e.Kind, e.Code, e.Message, e.Hint = f.fault.Kind, f.fault.Code, f.fault.Message, f.fault.Hint
	e.Fields, e.RequestID = f.fault.Fields, f.requestID
	s.printJSON(body)
}

func (s *shell) printJSON(v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		_, _ = fmt.Fprintln(s.Stderr, "error: encode the answer:", err)
		return
	}
	_, _ = s.Stdout.Write(b.Bytes())
}

// printAny writes the answer of an operation that has no text form of its own: keys and values, lists
// of objects as tables.
func (s *shell) printAny(body []byte) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		_, _ = s.out().Write(append(body, '\n'))
		return
	}
	var b strings.Builder
	writeAny(&b, v, "")
	_, _ = io.WriteString(s.out(), b.String())
}

func writeAny(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		writeObject(b, v, indent)
	case []any:
		writeList(b, v, indent)
	default:
		b.WriteString(indent + scalar(v) + "\n")
	}
}

func writeObject(b *strings.Builder, v map[string]any, indent string) {
	keys := make([]string, 0, len(v))
	width := 0
	for k := range v {
		keys = append(keys, k)
		width = max(width, utf8.RuneCountInString(k))
	}
	sort.Strings(keys)
	for _, k := range keys {
		switch x := v[k].(type) {
		case map[string]any, []any:
			if empty(x) {
				continue
			}
			b.WriteString(indent + k + "\n")
			writeAny(b, x, indent+"  ")
		default:
			b.WriteString(indent + pad(k, width) + "  " + strings.ReplaceAll(scalar(x), "\n", "\n"+indent+strings.Repeat(" ", width+2)) + "\n")
		}
	}
}

func writeList(b *strings.Builder, list []any, indent string) {
	columns := columnsOf(list)
	if columns == nil {
		for _, x := range list {
			writeAny(b, x, indent)
		}
		return
	}
	rows := [][]string{columns}
	for _, x := range list {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = strings.ReplaceAll(scalar(x.(map[string]any)[c]), "\n", " ")
		}
		rows = append(rows, row)
	}
	writeTable(b, rows, indent)
}

// columnsOf are the keys that hold one value in every object of a list; nil when it is not a table.
func columnsOf(list []any) []string {
	seen := map[string]bool{}
	for _, x := range list {
		o, ok := x.(map[string]any)
		if !ok {
			return nil
		}
		for k, v := range o {
			switch v.(type) {
			case map[string]any, []any:
			default:
				seen[k] = true
			}
		}
	}
	if len(seen) == 0 {
		return nil
	}
	columns := make([]string, 0, len(seen))
	for k := range seen {
		columns = append(columns, k)
	}
	first := map[string]int{"id": -3, "name": -2, "number": -1}
	sort.Slice(columns, func(i, j int) bool {
		if a, b := first[columns[i]], first[columns[j]]; a != b {
			return a < b
		}
		return columns[i] < columns[j]
	})
	return columns
}

func writeTable(b *strings.Builder, rows [][]string, indent string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		line := indent
		for i, cell := range row {
			line += pad(cell, width[i]) + "  "
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

func empty(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any, []any:
		body, _ := json.Marshal(v)
		return string(body)
	}
	return fmt.Sprint(v)
}
