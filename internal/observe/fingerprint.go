package observe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// The components that a finding may suspect.
const (
	SuspectTool   = "tool"
	SuspectModel  = "model"
	SuspectPrompt = "prompt"
	SuspectLimits = "limits"
	SuspectLogic  = "logic"
	SuspectNone   = "unknown"
)

// Suspect is the component that a rule points at. Evolve attributes by intervention; this is where it
// begins to look.
type Suspect struct {
	Component string `json:"component"`
	Name      string `json:"name,omitempty"`
	Why       string `json:"why"`
}

// failing is what a failed run is grouped by.
type failing struct {
	Agent string
	Node  string // of the first bad step
	Class string // error class, or wrong_action, no_action, unexplained
	What  string // the tool, or the action that was taken
	Path  string // nodes up to the bad step
	Want  string // action that would have been right, when the business said so

	title   string
	suspect Suspect
}

// Classes of failures in which nothing broke.
const (
	classWrongAction = "wrong_action"
	classNoAction    = "no_action"
	classHandover    = "handed_over"
	classUnexplained = "unexplained"
)

// diagnose finds the first bad step of a failed run: what the business says should have happened, then
// the first call that failed for good, then how the run itself ended.
func diagnose(f *Facts, o Outcome) failing {
	bad := f.firstFailure()
	got := o.Got
	if got == "" && len(f.Calls) > 0 {
		got = f.Calls[len(f.Calls)-1].Tool
	}
	tried := false // the right tool was called and failed: that is the tool's failure, not a wrong choice
	for i, c := range f.Calls {
		if c.Tool == o.Expected && !c.OK && !f.recovered(i) {
			bad, tried = i, true
			break
		}
	}
	switch {
	case o.Expected != "" && !tried && got != o.Expected:
		return wrongAction(f, o.Expected, got)
	case bad >= 0:
		return failedCall(f, f.Calls[bad])
	case f.Status == statusFailed:
		return failedRun(f)
	}
	return silent(f)
}

func wrongAction(f *Facts, expected, got string) failing {
	x := failing{Agent: f.Agent, Class: classWrongAction, Want: expected, What: got, Node: f.lastNode()}
	said := got
	for _, c := range f.Calls {
		if c.Tool == got {
			x.Node = c.Node
			break
		}
	}
	if got == "" {
		x.Class, said = classNoAction, "nothing"
	}
	x.Path = f.pathTo(x.Node)
	x.title = fmt.Sprintf("%s did %s where %s was right", x.Node, said, expected)
	x.suspect = Suspect{Component: SuspectPrompt, Name: x.Node, Why: "nothing broke: the model chose another action than the business expected"}
	return x
}

func failedCall(f *Facts, c Call) failing {
	x := failing{Agent: f.Agent, Node: c.Node, Class: "tool." + c.Class, What: c.Tool, Path: f.pathTo(c.Node)}
	x.title = fmt.Sprintf("%s: %s", c.Tool, words(c.Class))
	switch c.Class {
	case "rejected":
		x.suspect = Suspect{Component: SuspectModel, Name: c.Node, Why: "the tool refused the arguments that were chosen for it"}
	case "canceled":
		x.suspect = Suspect{Component: SuspectLimits, Name: c.Node, Why: "the call was cancelled before it ended"}
	default:
		x.suspect = Suspect{Component: SuspectTool, Name: c.Tool, Why: fmt.Sprintf("%s after %s: the call was right, the tool did not answer it", words(c.Class), attempts(c.Attempts))}
	}
	return x
}

func failedRun(f *Facts) failing {
	x := failing{Agent: f.Agent, Node: f.Node, Class: f.Class, Path: f.pathTo(f.Node)}
	if x.Node == "" {
		x.Node = f.lastNode()
	}
	x.title = strings.TrimSpace(fmt.Sprintf("%s: %s", x.Node, words(f.Class)))
	group, _, _ := strings.Cut(f.Class, ".")
	switch group {
	case "limit":
		x.suspect = Suspect{Component: SuspectLimits, Name: f.Class, Why: "the run reached a limit before its end"}
	case "model":
		x.suspect = Suspect{Component: SuspectModel, Name: x.Node, Why: "the model did not give an answer that could be used"}
	case "tool":
		x.suspect = Suspect{Component: SuspectTool, Name: x.Node, Why: "a tool node failed and nothing caught it"}
	case "flow":
		x.suspect = Suspect{Component: SuspectLogic, Name: x.Node, Why: "the flow had no way to go on"}
	default:
		x.suspect = Suspect{Component: SuspectNone, Why: "no rule knows " + f.Class}
	}
	return x
}

// silent is a run in which nothing broke and nobody said what would have been right.
func silent(f *Facts) failing {
	x := failing{Agent: f.Agent, Node: f.lastNode(), Class: classUnexplained}
	x.suspect = Suspect{Component: SuspectNone, Why: "nothing broke, and no outcome names the right action"}
	last := "no tool"
	if n := len(f.Calls); n > 0 {
		x.What, x.Node = f.Calls[n-1].Tool, f.Calls[n-1].Node
		last = x.What
	}
	switch {
	case f.handedOver():
		x.Class = classHandover
		x.title = fmt.Sprintf("%s handed over to a person", x.Node)
		x.suspect = Suspect{Component: SuspectPrompt, Name: x.Node, Why: "the agent could not do it itself"}
	case len(f.Calls) == 0:
		x.Class = classNoAction
		x.title = fmt.Sprintf("%s ended without calling a tool", x.Node)
		x.suspect = Suspect{Component: SuspectPrompt, Name: x.Node, Why: "the model answered without acting"}
	default:
		x.title = fmt.Sprintf("%s ended with %s and did not solve the task", x.Node, last)
	}
	x.Path = f.pathTo(x.Node)
	return x
}

// fingerprint names the group.
func (x failing) fingerprint() string {
	h := sha256.Sum256([]byte(strings.Join([]string{x.Agent, x.Node, x.Class, x.What, x.Want, x.Path}, "\x00")))
	return "fnd_" + hex.EncodeToString(h[:6])
}

// pathTo is the signature of the way to a node: the nodes visited up to its first visit, repetitions in a
// row written once. A node that was not visited gives the whole way.
func (f *Facts) pathTo(node string) string {
	var way []string
	for _, n := range f.Path {
		if len(way) == 0 || way[len(way)-1] != n {
			way = append(way, n)
		}
		if n == node {
			break
		}
	}
	return strings.Join(way, " > ")
}

func (f *Facts) lastNode() string {
	if len(f.Path) == 0 {
		return f.Node
	}
	return f.Path[len(f.Path)-1]
}

var classWords = map[string]string{
	"timeout": "no answer in time", "unavailable": "not available", "throttled": "too many requests",
	"reset": "connection broke in mid-call", "malformed": "answer could not be read", "rejected": "arguments refused",
	"drift": "schema is not the pinned one", "uncertain": "nobody knows whether it happened", "canceled": "cancelled",
	"limit.steps": "step limit reached", "limit.cost": "cost limit reached", "limit.time": "time limit reached",
	"limit.visits": "visit limit reached", "model.malformed": "model answers could not be read",
	"model.unknown_tool": "model called a tool that does not exist", "model.unreachable": "model not reachable",
	"model.interrupted": "model answer broke off", "model.refused": "model refused",
}

func words(class string) string {
	if w, ok := classWords[class]; ok {
		return w
	}
	return class
}

func attempts(n int) string {
	if n <= 1 {
		return "one attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}
