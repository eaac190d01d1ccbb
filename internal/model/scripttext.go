package model

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// template is a text with places, taken apart once.
type template struct {
	parts []string // between the places
	names []string
	json  bool // values go into JSON strings
	fixed json.RawMessage
}

// place is $1 or ${name} or ${result.path}; a longer name ends where its brace does.
var place = regexp.MustCompile(`\$(?:(\d)|\{([a-zA-Z0-9_.]+)\})`)

func compileTemplate(text string, isJSON bool) template {
	t := template{json: isJSON}
	at := 0
	for _, m := range place.FindAllStringSubmatchIndex(text, -1) {
		var name string
		if m[2] >= 0 {
			name = text[m[2]:m[3]]
		} else {
			name = text[m[4]:m[5]]
		}
		t.parts = append(t.parts, text[at:m[0]])
		t.names = append(t.names, name)
		at = m[1]
	}
	t.parts = append(t.parts, text[at:])
	if len(t.names) == 0 {
		t.fixed = json.RawMessage(text)
	}
	return t
}

func (t *template) expand(v *view, r *rule, groups []string) string {
	if len(t.names) == 0 {
		return t.parts[0]
	}
	var b strings.Builder
	for i, name := range t.names {
		b.WriteString(t.parts[i])
		value := v.value(name, r, groups)
		if t.json {
			quoted := plainJSON(value)
			value = quoted[1 : len(quoted)-1]
		}
		b.WriteString(value)
	}
	b.WriteString(t.parts[len(t.parts)-1])
	return b.String()
}

func (t *template) bytes(v *view, r *rule, groups []string) json.RawMessage {
	if t.fixed != nil {
		return t.fixed
	}
	return json.RawMessage(t.expand(v, r, groups))
}

func (v *view) value(name string, r *rule, groups []string) string {
	switch name {
	case "user":
		return v.user
	case "result":
		return v.result
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n < len(groups) {
			return groups[n]
		}
		return ""
	}
	for _, re := range []*regexp.Regexp{r.matches, r.resultMatch} {
		if re != nil {
			if i := re.SubexpIndex(name); i >= 0 && i < len(groups) {
				return groups[i]
			}
			break // groups are those of the first
		}
	}
	if path, ok := strings.CutPrefix(name, "result."); ok {
		return jsonPath(v.result, path)
	}
	return ""
}

// jsonPath is the value at a dotted path as text; empty when there is none.
func jsonPath(document, path string) string {
	raw := json.RawMessage(document)
	for key := range strings.SplitSeq(path, ".") {
		if i, err := strconv.Atoi(key); err == nil {
			var list []json.RawMessage
			if json.Unmarshal(raw, &list) == nil && i >= 0 && i < len(list) {
				raw = list[i]
				continue
			}
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil || object[key] == nil {
			return ""
		}
		raw = object[key]
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// callIDs are the usual ids, made once.
var callIDs = func() [64]string {
	var ids [64]string
	for i := range ids {
		ids[i] = "call_" + strconv.Itoa(i)
	}
	return ids
}()

func callID(n int) string {
	if n < len(callIDs) {
		return callIDs[n]
	}
	return "call_" + strconv.Itoa(n)
}
