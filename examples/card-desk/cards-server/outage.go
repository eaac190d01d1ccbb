package main

import (
	"fmt"
	"strings"
	"time"
)

// outage says when a tool fails; the zero value never does.
type outage struct {
	tool          string
	every, length time.Duration
	mode          string
}

// The ways to fail.
const (
	modeStatus = "status"
	modeHang   = "hang"
	modeDie    = "die"
	modeLate   = "late"
	modeMixed  = "mixed"
)

var turns = []string{modeStatus, modeHang, modeDie, modeLate}

// parseOutage reads TOOL:every=DURATION,for=DURATION,mode=MODE.
func parseOutage(text string) (outage, error) {
	if text == "" || text == "none" {
		return outage{}, nil
	}
	tool, rest, _ := strings.Cut(text, ":")
	o := outage{tool: tool, mode: modeStatus}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "every":
			o.every, err = time.ParseDuration(value)
		case "for":
			o.length, err = time.ParseDuration(value)
		case "mode":
			o.mode = value
		default:
			err = fmt.Errorf("every=, for= or mode= is expected")
		}
		if err != nil {
			return o, fmt.Errorf("--outage %s: %q: %w", text, part, err)
		}
	}
	if o.every <= 0 || o.length < 0 || !strings.Contains(" status hang die late mixed ", " "+o.mode+" ") {
		return o, fmt.Errorf("--outage %s: every, for and a mode (status, hang, die, late, mixed) are needed", text)
	}
	return o, nil
}

// active says whether the tool is out at a moment.
func (o outage) active(tool string, at time.Time) bool {
	return o.tool == tool && time.Duration(at.UnixNano()%int64(o.every)) < o.length
}

// way is how the n-th failure happens, from 0.
func (o outage) way(n int) string {
	if o.mode == modeMixed {
		return turns[n%len(turns)]
	}
	return o.mode
}
