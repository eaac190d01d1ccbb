// Package agent is the agent package, format 1: plain files in a directory, and everything that can be
// said about them without running them. It parses, checks with all errors at once, computes the
// identity, edits sources so that comments survive, locks, and compares.
//
// Data walks one way: files (op.Dir) → tree (normalised values) → spec.Package. The identity is the
// sha256 of the canonical tree, whose exact bytes are stored as a blob; comments, order of keys, line
// ends and layout are not in it, nor are suites, README, flywheel.lock and .flywheel/.
//
// Other domains register the kinds of files that they give meaning to (Kind), so Check knows all kinds
// while this package imports none of them.
package agent
