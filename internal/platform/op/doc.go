// Package op holds one definition per operation. From it come the HTTP route, the OpenAPI document,
// the CLI command and the permission matrix; a domain exports func Ops(*Service) []op.Op and nothing else.
//
// An input struct names its fields once:
//
//	type showIn struct {
//		Run   string `path:"run" doc:"The run" cli:"arg"`            // in the path; always required
//		Full  bool   `query:"full" doc:"Show whole bodies"`          // in the query of a GET
//		Text  string `json:"text" cli:"rest" doc:"What to say"`      // in the JSON body of a POST
//		Files op.Dir `json:"files" cli:"dir"`                        // the CLI sends the package directory
//		Seed  int    `json:"seed" short:"s" default:"7" minimum:"1"` // a flag: --seed, -s
//	}
//
// Query and body fields are optional unless they say required:"true"; a field with cli:"arg", "rest"
// or "dir" is required unless its json or query tag says omitempty (then it shows as [name]).
// cli:"file" is a flag with a path whose content is sent; cli:"-" is not offered by the CLI.
// An output field of type Dir with write:"true" is written into the package directory by the CLI.
//
// Invariants: an operation without a permission cannot be made; nothing is served without its guard;
// unknown fields of a request are refused; every error leaves as problem+json.
package op
