package observe

import (
	"fmt"
	"regexp"
)

// The words by which an answer admits that something did not work.
var admits = regexp.MustCompile(`(?i)\b(sorry|apolog|unfortunately|could ?n[o']t|can ?n[o']t|unable|not able|fail|problem|error|try again|later|went wrong|did ?n[o']t|not (been )?(done|frozen|possible))`)

// heuristic judges a run by its facts alone; nil when they show nothing. It is the least trusted source,
// and speaks of failure only: that nothing went wrong does not mean that the task was solved.
func heuristic(f Facts) *Outcome {
	var note string
	var confidence float64
	bad := f.firstFailure()
	switch {
	case f.Status == statusFailed:
		note, confidence = "the run failed: "+f.Class, 0.95
	case f.Status != statusSucceeded:
		return nil
	case bad >= 0 && !admits.MatchString(f.Reply):
		note, confidence = fmt.Sprintf("%s failed (%s), and the answer does not say so", f.Calls[bad].Tool, f.Calls[bad].Class), 0.8
	case bad >= 0:
		note, confidence = fmt.Sprintf("%s failed (%s)", f.Calls[bad].Tool, f.Calls[bad].Class), 0.7
	case f.handedOver():
		note, confidence = "handed over to a person", 0.3
	default:
		return nil
	}
	return &Outcome{
		Run: f.Run, Session: f.Session, Verdict: Failure, Source: SourceHeuristic, Who: "flywheel",
		Note: note, Confidence: confidence, key: "heuristic/" + f.Run,
	}
}
