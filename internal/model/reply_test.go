package model

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func feedAll(document string, cut func(rest int) int) (action, text string) {
	var r replyReader
	var out strings.Builder
	for len(document) > 0 {
		n := max(1, min(cut(len(document)), len(document)))
		out.WriteString(r.feed(document[:n]))
		document = document[n:]
	}
	return r.action, out.String()
}

// What streams of a reply is what the parser reads at the end, however the stream was cut.
func TestStreamedReplyEqualsParsedReply(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		other := rapid.SampledFrom([]string{"", `"n":[1,{"text":"no"}],`, `"text2":"\"text\":",`, `"b":true, `}).Draw(t, "other")
		escaped, _ := json.Marshal(text)
		quoted := plainJSON(text)
		if rapid.Bool().Draw(t, "escapes") {
			quoted = string(escaped)
		}
		document := `{"action":"reply",` + other + `"text":` + quoted + `}`
		action, got := feedAll(document, func(n int) int { return rapid.IntRange(1, n).Draw(t, "cut") })
		if want := strings.ToValidUTF8(text, "\ufffd"); action != replyAction || got != want {
			t.Fatalf("%s gave %q %q, want %q", document, action, got, want)
		}
	})
}

func TestStreamedEscapes(t *testing.T) {
	t.Parallel()
	for quoted, want := range map[string]string{
		`"\ud83d\ude42!"`: "🙂!", `"\ud83dx"`: "\ufffdx", `"\ud83d"`: "\ufffd", `"\ud83d\n"`: "\ufffd\n",
		`"\ud83d\u0041"`: "\ufffdA", `"\u00e9\/"`: "é/", `"\uZZZZ"`: "\ufffd",
	} {
		for size := 1; size < 8; size++ {
			if _, got := feedAll(`{"action":"reply","text":`+quoted+`}`, func(int) int { return size }); got != want {
				t.Errorf("%s in pieces of %d: %q, want %q", quoted, size, got, want)
			}
		}
	}
}

func FuzzReplyReader(f *testing.F) {
	f.Add(`{"action":"reply","text":"a\ud800b"}`)
	f.Add(`{"x":[{"text":1},"]"],"text":"z"`)
	f.Fuzz(func(t *testing.T, document string) {
		_, one := feedAll(document, func(int) int { return 1 })
		_, all := feedAll(document, func(n int) int { return n })
		if one != all {
			t.Fatalf("cut %q, whole %q", one, all)
		}
	})
}
