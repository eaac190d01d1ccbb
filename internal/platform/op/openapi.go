package op

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"flywheel/internal/platform/httpx"
)

// OpenAPI is the OpenAPI 3.1 document of the operations, as JSON.
func OpenAPI(title, version string, ops ...Op) ([]byte, error) {
	types := []reflect.Type{reflect.TypeFor[httpx.Problem]()}
	for _, o := range ops {
		impl := o.implementation()
		types = append(types, impl.in, impl.out, impl.event)
	}
	r := newRegistry(types...)
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: title, Version: version},
		Components: &huma.Components{
			Schemas:         r,
			SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}},
		},
		Security: []map[string][]string{{"token": {}}},
	}
	problem := &huma.Response{
		Description: "Error",
		Content: map[string]*huma.MediaType{
			httpx.ProblemType: {Schema: r.Schema(reflect.TypeFor[httpx.Problem](), true, "Problem")},
		},
	}
	for _, o := range ops {
		doc.AddOperation(o.implementation().describe(r, problem))
	}
	return json.Marshal(doc)
}

func (o *operation) describe(r huma.Registry, problem *huma.Response) *huma.Operation {
	noun, verb, _ := strings.Cut(o.meta.ID, ".")
	hint := noun + strings.ReplaceAll(verb, ".", "")
	answer := &huma.Response{Description: "Result", Content: map[string]*huma.MediaType{
		"application/json": {Schema: r.Schema(o.out, true, hint+"Result")},
	}}
	extensions := map[string]any{"x-permission": o.meta.Permission}
	if o.meta.CLI != "" {
		extensions["x-cli"] = o.meta.CLI
	}
	if o.event != nil {
		answer.Description = "Result; or, when accepted, server-sent events: `event` each with x-event, then `result` or `error`"
		answer.Content["text/event-stream"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
		extensions["x-event"] = r.Schema(o.event, true, hint+"Event")
	}
	d := &huma.Operation{
		OperationID: o.meta.ID, Method: o.meta.Method, Path: o.meta.Path, Summary: o.meta.Summary, Tags: []string{noun},
		Responses:  map[string]*huma.Response{"200": answer, "default": problem},
		Extensions: extensions,
	}
	for _, f := range o.fields {
		if f.Place != InBody {
			d.Parameters = append(d.Parameters, &huma.Param{
				Name: f.Name, In: string(f.Place), Description: f.Doc, Required: f.Required, Schema: fieldSchema(r, f),
			})
		}
	}
	if body := o.bodySchema(r); len(body.Properties) > 0 {
		d.RequestBody = &huma.RequestBody{
			Required: len(body.Required) > 0,
			Content:  map[string]*huma.MediaType{"application/json": {Schema: body}},
		}
	}
	return d
}
