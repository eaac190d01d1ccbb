// Package stat holds the few statistics that decide whether an agent is good enough and whether another is
// better: intervals, pass^k, and an exact e-value that stays valid however often one looks.
package stat

// Interval is a rate with its confidence interval.
type Interval struct {
	Rate  float64 `json:"rate"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Level float64 `json:"level"` // confidence, such as 0.95
	// N is how many independent observations the interval stands for: fewer than the trials when trials of
	// one family resemble each other.
	N float64 `json:"n"`
}

// Effect is a difference with its confidence interval.
type Effect struct {
	Diff  float64 `json:"diff"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Level float64 `json:"level"`
}
