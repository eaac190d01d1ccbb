// Package deploy serves channels: a deployment is a channel with the values of its environment, behind an
// endpoint that speaks OpenAI's chat completions. The model name agent/NAME@CHANNEL chooses it.
//
// Invariants:
//   - A request runs the digest that its channel points to at that moment, never the files of a package:
//     changing them changes nothing that is served.
//   - With a canary, the side of a session is a function of the session and the canary alone. When the
//     share grows, sessions move to the canary and none moves back.
//   - Whoever calls gets OpenAI's shapes, errors included; what a request asks for and an agent cannot
//     give is named in X-Flywheel-Dropped.
package deploy
