package op

import "fmt"

// Count writes a number with its noun: 1 run, 2 runs.
func Count[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Money writes nano-USD for people: a fraction of a cent in full, more in hundredths of a cent.
func Money(nano int64) string {
	switch {
	case nano == 0:
		return "$0"
	case nano < 10_000_000: // a cent
		return fmt.Sprintf("$%.6f", float64(nano)/1e9)
	}
	return fmt.Sprintf("$%.4f", float64(nano)/1e9)
}
