package model

import (
	"encoding/json"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"flywheel/internal/model/grammar"
	"flywheel/internal/model/openai"
	"flywheel/internal/platform/fault"
)

// constrain makes a llama server answer with a value of the schema and nothing else. A schema beyond the
// grammar's subset is left to the server's own, looser, grammar.
func constrain(w *openai.Request, schema json.RawMessage) {
	g, err := grammar.ForSchema(schema)
	if err != nil {
		w.ResponseFormat = responseFormat(outputName, schema)
		return
	}
	w.Grammar = g
}

// validators keeps resolved schemas: a lab asks for the same few over and over.
var validators sync.Map // schema text → *jsonschema.Resolved or error

const maxValidators = 1024

var numValidators struct {
	sync.Mutex
	n int
}

func validator(schema json.RawMessage) (*jsonschema.Resolved, error) {
	if v, ok := validators.Load(string(schema)); ok {
		return v.(*jsonschema.Resolved), nil
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		return nil, err
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return nil, err
	}
	numValidators.Lock()
	defer numValidators.Unlock()
	if numValidators.n++; numValidators.n > maxValidators {
		validators.Clear()
		numValidators.n = 1
	}
	validators.Store(string(schema), resolved)
	return resolved, nil
}

// checkOutput says whether an answer follows the schema that was asked for; without one everything does.
func checkOutput(schema json.RawMessage, content, finish string) error {
	if len(schema) == 0 {
		return nil
	}
	v, err := validator(schema)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "model.bad_schema", "the output schema cannot be used")
	}
	var value any
	if err := json.Unmarshal([]byte(content), &value); err != nil {
		if finish == FinishLength {
			return fault.New(fault.Invalid, CodeMalformed, "the answer was cut off before its JSON was whole").WithHint("raise max_tokens of the agent")
		}
		return fault.Wrap(err, fault.Invalid, CodeMalformed, "the answer is no JSON: %s", clip(content))
	}
	if err := v.Validate(value); err != nil {
		return fault.Wrap(err, fault.Invalid, CodeMalformed, "the answer does not follow the output schema: %s", clip(content))
	}
	return nil
}
