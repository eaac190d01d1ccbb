package agent

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '\n' && r != '\t' && (unicode.IsControl(r) || !unicode.IsPrint(r) && r != ' ' || r == utf8.RuneError || r == '\uFEFF')
	})
}

// printKey leaves words such as on plain: they are keys of the format, and no reader takes them for
// anything else here.
func printKey(key string) string {
	switch key {
	case "on", "off", "yes", "no", "y", "n":
		return key
	}
	return printText(key, true)
}

func printScalar(v any, top bool) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return printText(v, !top)
	case float64:
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if len(s) > 24 {
			s = strconv.FormatFloat(v, 'e', -1, 64)
		}
		return s
	}
	return fmt.Sprint(v)
}

// printText is a text without quotes where it reads the same without them.
func printText(s string, inFlow bool) string {
	if plainSafe(s, inFlow) {
		return s
	}
	return quoteText(s)
}

const plainStart = "-?:,[]{}#&*!|>'\"%@`=<"

func plainSafe(s string, inFlow bool) bool {
	if s == "" || s != strings.TrimSpace(s) || !printable(s) || strings.ContainsAny(s, "\n\t") ||
		strings.Contains(s, ": ") || strings.HasSuffix(s, ":") || strings.Contains(s, " #") || strings.Contains(s, "---") {
		return false
	}
	if strings.ContainsRune(plainStart, rune(s[0])) || strings.ContainsAny(s, "\"'\\") && inFlow {
		return false
	}
	if inFlow && strings.ContainsAny(s, ",[]{}:#") {
		return false
	}
	if strings.Contains(s, "${") || strings.Contains(s, "{{") {
		return false // quoted, so that nobody wonders
	}
	switch strings.ToLower(s) {
	case "yes", "no", "on", "off", "y", "n", "true", "false", "null", "~", ".nan", ".inf":
		return false
	}
	return !numberForm.MatchString(s)
}

// numberForm is what some reader of YAML takes for a number, a date or a time.
var numberForm = regexp.MustCompile(`^[-+]?(0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0[bB][01_]+|[0-9][0-9_,]*\.?[0-9_]*([eE][-+]?[0-9]*)?|\.[0-9_]+([eE][-+]?[0-9]+)?|[0-9]+(:[0-9.]+)+|[0-9]{4}-[0-9]{1,2}-[0-9].*)$`)

func quoteText(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case r == '\r':
			out.WriteString(`\r`)
		case unicode.IsPrint(r) && r != '\uFEFF':
			out.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
	}
	out.WriteByte('"')
	return out.String()
}
