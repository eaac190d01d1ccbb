// Package identity knows who calls. On one machine that is its owner: the token file of the home
// (mode 0600) for programs, and for a browser a session that a one-time link opens.
//
// Invariants: secrets are stored only as hashes, apart from the token file itself; comparisons take
// constant time; a link works once and for ten minutes.
//
// The seam for more people: Authenticate names an actor, Allow asks whether that actor has a
// permission. Today there is one actor, the owner, who may do everything.
package identity
