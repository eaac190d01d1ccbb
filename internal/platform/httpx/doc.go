// Package httpx is what every HTTP door shares: errors as problem+json, server-sent events, and the
// middleware around all handlers (request ids, access log, panics, security headers, body limits, and
// the Host and Origin checks that keep web pages of others away from a server on this machine).
package httpx
