package spec

import "embed"

// Schemas are JSON Schemas (2020-12) of the files of a package, for editors: schema/KIND.json, where KIND
// is flywheel, agent and prompt (their front matter), flow, tool, memory or suite. What they refuse, the
// check refuses; the check knows more.
//
//go:embed schema/*.json
var Schemas embed.FS
