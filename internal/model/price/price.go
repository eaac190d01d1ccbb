// Package price knows what model calls cost, from one versioned table in the binary. Each row names its
// source and the day on which that price was published; a model without a row costs nothing here and is
// reported as unknown, never guessed. Dearer tiers for very long prompts, and the writing of a cache, are not
// in the table.
package price

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
)

//go:embed prices.json
var raw []byte

// Versions that name no table.
const (
	Unknown = "unknown" // the model has no row
	Local   = "local"   // the model runs on the caller's machine: compute is counted instead of money
)

// Row is the price of one model, in USD per million tokens.
type Row struct {
	Model  string  `json:"model"` // provider/name
	In     float64 `json:"in"`
	Cached float64 `json:"cached"` // prompt tokens read from the provider's cache
	Out    float64 `json:"out"`
	Source string  `json:"source"`
	Date   string  `json:"date"` // YYYY-MM-DD
}

type table struct {
	Version string `json:"version"`
	Rows    []Row  `json:"rows"`
}

var load = sync.OnceValue(func() map[string]Row {
	rows := map[string]Row{}
	for _, r := range parsed().Rows {
		rows[r.Model] = r
	}
	return rows
})

var parsed = sync.OnceValue(func() table {
	var t table
	if err := json.Unmarshal(raw, &t); err != nil {
		panic(fmt.Sprintf("the price table in the binary is broken: %v", err))
	}
	return t
})

// Version names the table.
func Version() string { return parsed().Version }

// Rows lists the table.
func Rows() []Row { return parsed().Rows }

// Find is the row of a model. A name that ends with a date is the same model: gpt-5-2025-08-07,
// claude-sonnet-4-5-20250929.
func Find(ref string) (Row, bool) {
	if r, ok := load()[ref]; ok {
		return r, true
	}
	r, ok := load()[withoutDate(ref)]
	return r, ok
}

// Cost is the price of a call in nano-USD, and the version of the table that said so.
func Cost(ref string, in, cached, out int) (nano int64, version string) {
	if strings.HasPrefix(ref, "local/") || strings.HasPrefix(ref, "ollama/") {
		return 0, Local
	}
	if strings.HasPrefix(ref, "scripted/") {
		return 0, "scripted"
	}
	r, ok := Find(ref)
	if !ok {
		return 0, Unknown
	}
	cached = min(max(cached, 0), max(in, 0))
	// USD per million tokens is a thousand nano-USD per token.
	usd := float64(in-cached)*r.In + float64(cached)*r.Cached + float64(out)*r.Out
	return int64(math.Round(usd * 1000)), Version()
}

func withoutDate(ref string) string {
	for _, width := range []int{len("-2025-08-07"), len("-20250929")} {
		cut := len(ref) - width
		if cut <= 0 || ref[cut] != '-' {
			continue
		}
		date := strings.ReplaceAll(ref[cut:], "-", "")
		if len(date) == 8 && strings.Trim(date, "0123456789") == "" {
			return ref[:cut]
		}
	}
	return ref
}
