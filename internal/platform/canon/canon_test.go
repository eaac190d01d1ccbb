package canon_test

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"

	"flywheel/internal/platform/canon"
)

func TestOneForm(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		`{"a":"<b> & c","b":[1,null]}`: map[string]any{"b": []any{1, nil}, "a": "<b> & c"},
		`"\n"`:                         "\n",
		`{"raw":{"z":1,"a":2}}`:        map[string]any{"raw": json.RawMessage(`{ "z": 1, "a": 2 }`)},
	} {
		if got, err := canon.JSON(v); err != nil || string(got) != want {
			t.Errorf("%s: %v, want %s", got, err, want)
		}
	}
	if _, err := canon.JSON(math.NaN()); err == nil {
		t.Error("NaN has no JSON")
	}
}

func TestASecondPassChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.String())).Draw(t, "v")
		once, err := canon.JSON(v)
		if err != nil {
			t.Fatal(err)
		}
		var back any
		if err := json.Unmarshal(once, &back); err != nil {
			t.Fatal(err)
		}
		if twice, err := canon.JSON(back); err != nil || string(twice) != string(once) {
			t.Fatalf("%s became %s: %v", once, twice, err)
		}
	})
}
