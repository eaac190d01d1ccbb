package db

import "time"

const timeFormat = "2006-01-02T15:04:05.000000Z"

// FormatTime is how moments are stored: UTC text with fixed width, so that it sorts.
func FormatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// FormatOptional is FormatTime, and "" for the zero time.
func FormatOptional(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return FormatTime(t)
}

// ParseTime reads what FormatTime or FormatOptional wrote; the zero time for "".
func ParseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(timeFormat, s)
}

// Flag is how yes and no are stored: 1 and 0.
func Flag(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
