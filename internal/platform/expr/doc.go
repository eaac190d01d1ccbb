// Package expr evaluates the expressions of a package: CEL, and texts that hold CEL in ${…}.
//
// Values are JSON-like Go values: map[string]any, []any, string, bool, int64, float64, nil. Numbers
// without a fraction are integers, as JSON does not tell 3 from 3.0; write double(x) where an integer
// must not stay one. Evaluation is deterministic: there is no clock and no randomness, maps are walked
// in the order of their keys, and the cost of one evaluation is limited.
//
// A root that is declared but not given is an empty map, so has(node.out) is false for a node that has
// not run; ${?node.out.x} is null then, and ${node.out.x} is an error.
package expr
