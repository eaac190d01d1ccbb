// Package cli is the command line. Commands come from the operations: positional arguments and flags
// from the input struct, text from the operation's renderer. It talks through the API client only, to
// the server that holds the home, or to the home opened in this process when nobody holds it.
//
// The process border is Process: nothing here touches arguments, environment, streams or signals of
// the real process, so the whole command line runs inside tests.
package cli
