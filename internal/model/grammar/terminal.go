package grammar

import (
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// plainString is any JSON string. Of the escapes a model needs four; \u is left out because every
// character can be written itself, and half a surrogate pair would be no text.
func (b *builder) plainString() string {
	char := b.char()
	return b.add("string", `"\"" `+char+`* "\""`)
}

func (b *builder) char() string {
	return b.add("char", `[^"\\\x00-\x1F\x7F] | "\\" ["\\nt]`)
}

func (b *builder) stringValue(s *Schema) (string, error) {
	if s.Pattern != "" {
		return b.pattern(s.Pattern)
	}
	digits := func(n int) string { return "[0-9]{" + strconv.Itoa(n) + "}" }
	date := digits(4) + ` "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])`
	clock := `([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]`
	switch s.Format {
	case "date":
		return b.add("date", `"\"" `+date+` "\""`), nil
	case "time":
		return b.add("time", `"\"" `+clock+` "Z\""`), nil
	case "date-time":
		return b.add("date-time", `"\"" `+date+` "T" `+clock+` "Z\""`), nil
	}
	if s.MinLen == 0 && s.MaxLen < 0 {
		return b.plainString(), nil
	}
	if s.MaxLen >= 0 && s.MinLen > s.MaxLen {
		return "", fmt.Errorf("minLength %d is more than maxLength %d", s.MinLen, s.MaxLen)
	}
	return b.add("string-of", `"\"" `+b.char()+repeat(s.MinLen, s.MaxLen, s.MaxLen >= 0)+` "\""`), nil
}

// number is any JSON number of ordinary size. A minimum of zero or more takes the sign away; other
// bounds are for the validator.
func (b *builder) number(s *Schema) string {
	sign := `"-"? `
	if s.Min != nil && *s.Min >= 0 {
		sign = ""
	}
	return b.add("number", sign+`("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?`)
}

// integer is a whole number between the bounds, in decimal digits.
func (b *builder) integer(from, to *int64) (string, error) {
	low, high := -limit, limit
	if from != nil {
		low = max(*from, low)
	}
	if to != nil {
		high = min(*to, high)
	}
	if low > high {
		return "", fmt.Errorf("minimum %d is more than maximum %d", low, high)
	}
	var options []string
	if low < 0 {
		options = append(options, `"-" `+group(digitRanges(max(1, -high), -low)))
	}
	if high >= 0 {
		options = append(options, digitRanges(max(0, low), high)...)
	}
	return b.add("integer", strings.Join(options, " | ")), nil
}

// digitRanges writes the whole numbers low…high as alternatives of fixed digits, a range and free digits.
func digitRanges(low, high int64) []string {
	var out []string
	for low <= high {
		end := lastOfBlock(low, high)
		out = append(out, digitBlock(low, end))
		low = end + 1
	}
	return mergeWidths(out, high)
}

// lastOfBlock is the end of the longest block from low whose numbers differ in a digit and the free
// digits after it.
func lastOfBlock(low, high int64) int64 {
	end := low
	for span := int64(1); span <= limit; span *= 10 {
		if low%span != 0 {
			break
		}
		// the digit at this place may run from its value to 9, while the numbers stay inside
		digit := (low / span) % 10
		for last := int64(9); last >= digit; last-- {
			candidate := low + (last-digit+1)*span - 1
			if candidate <= high && len(strconv.FormatInt(candidate, 10)) == len(strconv.FormatInt(low, 10)) {
				end = max(end, candidate)
				break
			}
		}
		if low == 0 {
			break
		}
	}
	return end
}

func digitBlock(low, high int64) string {
	a, z := strconv.FormatInt(low, 10), strconv.FormatInt(high, 10)
	i := 0
	for i < len(a) && a[i] == z[i] {
		i++
	}
	var parts []string
	if i > 0 {
		parts = append(parts, literal(a[:i]))
	}
	if i < len(a) {
		parts = append(parts, fmt.Sprintf("[%c-%c]", a[i], z[i]))
		if rest := len(a) - i - 1; rest > 0 {
			parts = append(parts, fmt.Sprintf("[0-9]{%d}", rest))
		}
	}
	return strings.Join(parts, " ")
}

// mergeWidths joins the blocks [1-9] [0-9]{1}, [1-9] [0-9]{2}… of open ranges into one.
func mergeWidths(blocks []string, high int64) []string {
	if high != limit {
		return blocks
	}
	var out []string
	from, to := -1, -1
	for _, block := range blocks {
		width := 0
		if block != "[1-9]" {
			if n, _ := fmt.Sscanf(block, "[1-9] [0-9]{%d}", &width); n != 1 {
				out = append(out, block)
				continue
			}
		}
		if from < 0 {
			from = width
		}
		to = width
	}
	if from >= 0 {
		out = append(out, "[1-9] [0-9]"+repeat(from, to, true))
	}
	return out
}

// pattern turns a regular expression into the body of a JSON string. JSON Schema patterns match
// anywhere, so an end without an anchor is open.
func (b *builder) pattern(expr string) (string, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("pattern %s: %w", expr, err)
	}
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	open := [2]bool{true, true}
	if len(parts) > 0 && (parts[0].Op == syntax.OpBeginText || parts[0].Op == syntax.OpBeginLine) {
		parts, open[0] = parts[1:], false
	}
	if n := len(parts); n > 0 && (parts[n-1].Op == syntax.OpEndText || parts[n-1].Op == syntax.OpEndLine) {
		parts, open[1] = parts[:n-1], false
	}
	var out []string
	if open[0] {
		out = append(out, b.char()+"*")
	}
	for _, p := range parts {
		e, err := b.regexp(p)
		if err != nil {
			return "", fmt.Errorf("pattern %s: %w", expr, err)
		}
		out = append(out, e)
	}
	if open[1] {
		out = append(out, b.char()+"*")
	}
	return b.add("pattern", `"\"" `+strings.Join(out, " ")+` "\""`), nil
}

func (b *builder) regexp(re *syntax.Regexp) (string, error) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return `""`, nil
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return "", fmt.Errorf("letters of either case are not supported")
		}
		inner := quote(string(re.Rune))
		return literal(inner[1 : len(inner)-1]), nil
	case syntax.OpCharClass:
		return class(re.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return b.char(), nil
	case syntax.OpCapture:
		return b.regexp(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		e, err := b.regexp(re.Sub[0])
		return "(" + e + ")" + map[syntax.Op]string{syntax.OpStar: "*", syntax.OpPlus: "+", syntax.OpQuest: "?"}[re.Op], err
	case syntax.OpRepeat:
		e, err := b.regexp(re.Sub[0])
		return "(" + e + ")" + repeat(re.Min, re.Max, re.Max >= 0), err
	case syntax.OpConcat, syntax.OpAlternate:
		var out []string
		for _, sub := range re.Sub {
			e, err := b.regexp(sub)
			if err != nil {
				return "", err
			}
			out = append(out, e)
		}
		if re.Op == syntax.OpConcat {
			return "(" + strings.Join(out, " ") + ")", nil
		}
		return "(" + strings.Join(out, " | ") + ")", nil
	}
	return "", fmt.Errorf("%s is not supported inside", re)
}

// class is a GBNF character class without what a JSON string must escape.
func class(ranges []rune) (string, error) {
	var out strings.Builder
	for i := 0; i+1 < len(ranges); i += 2 {
		for _, part := range cut(ranges[i], ranges[i+1]) {
			writeRune(&out, part[0])
			if part[1] > part[0] {
				out.WriteByte('-')
				writeRune(&out, part[1])
			}
		}
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("a class holds no character that a string may hold")
	}
	return "[" + out.String() + "]", nil
}

// cut removes control characters, quote, backslash and surrogates from a range.
func cut(low, high rune) [][2]rune {
	holes := [][2]rune{{0, 0x1f}, {'"', '"'}, {'\\', '\\'}, {0x7f, 0x7f}, {0xd800, 0xdfff}, {utf8.MaxRune + 1, 1 << 30}}
	var out [][2]rune
	for _, h := range holes {
		if low > high {
			break
		}
		if h[1] < low || h[0] > high {
			continue
		}
		if low < h[0] {
			out = append(out, [2]rune{low, h[0] - 1})
		}
		low = h[1] + 1
	}
	if low <= high {
		out = append(out, [2]rune{low, high})
	}
	return out
}

func writeRune(b *strings.Builder, r rune) {
	switch {
	case r == ']' || r == '^' || r == '-' || r == '[':
		fmt.Fprintf(b, `\x%02X`, r)
	case r < 0x7f:
		b.WriteRune(r)
	case r <= 0xffff:
		fmt.Fprintf(b, `\u%04X`, r)
	default:
		fmt.Fprintf(b, `\U%08X`, r)
	}
}
