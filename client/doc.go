// Package client talks to the Flywheel API: plain calls, calls that stream events, and errors with
// kind, code, hint and fields. The flywheel command uses nothing else. With Handler as its transport
// the same client calls a server that lives in the same process.
package client
