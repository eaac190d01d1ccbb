// Package server is the HTTP surface of a home: the operations under /api/v1/, the event stream, the
// data-plane handlers that other domains give, the sign-in page, and health. Health and sign-in are
// open; everything else asks identity first, and a path nobody serves is no exception.
package server
