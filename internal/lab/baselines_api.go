package lab

// Baselines are what needs no model: how often the first tool that a scenario expects is guessed right.
type Baselines struct {
	Scenarios int     `json:"scenarios"` // with an expected first tool, or none
	Majority  float64 `json:"majority"`  // the commonest tool, always
	Label     string  `json:"label"`     // that tool
	Nearest   float64 `json:"nearest"`   // nearest neighbour, TF-IDF
	Examples  int     `json:"examples"`  // that it knows
	TrainedOn string  `json:"trained_on"`
}
