// Package canon writes JSON in the one form that is digested, journaled and shown: fields as declared, map
// keys sorted, no spaces, no final newline, and <, > and & as they are.
package canon

import (
	"bytes"
	"encoding/json"
)

// JSON is the JSON of a value. Decoding it and encoding it again gives the same bytes.
func JSON(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
