package agent

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"flywheel/internal/platform/op"
)

// Format lays the files of the package out in the one canonical way, with all comments, and gives those
// that change. What a file says stays the same; formatting twice changes nothing. A file that cannot be
// read is left alone and reported.
func Format(files op.Dir) (changed op.Dir, problems []Problem) {
	changed = op.Dir{}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if !safePath(file) {
			continue
		}
		kind, known := kindOf(file, nil)
		if !known && (strings.HasSuffix(file, ".suite.yaml") || strings.HasSuffix(file, ".policy.yaml")) {
			kind, known = fileKind{format: formatYAML}, true
		}
		if !known {
			continue
		}
		s, found := parseSource(file, kind, files[file])
		if s == nil || len(Errors(found)) > 0 {
			problems = append(problems, found...)
			continue
		}
		text, ok := s.formatted()
		if !ok {
			problems = append(problems, Problem{
				File: file, Code: "package.format", Warning: true,
				Message: "the file is left as it is, because a comment or value might not survive",
			})
			continue
		}
		if text != string(files[file]) {
			changed[file] = []byte(text)
		}
	}
	return changed, sortProblems(problems)
}

// formatted is the canonical layout. It is checked to say the same, to keep every comment, and to be
// its own canonical layout.
func (s *source) formatted() (string, bool) {
	text := s.layout()
	for range 3 {
		again, problems := parseSource(s.file, s.kind, []byte(text))
		if again == nil || len(problems) > 0 || !reflect.DeepEqual(again.value, s.value) ||
			losesComments(s.doc.comments, again.doc.comments) {
			return "", false
		}
		next := again.layout()
		if next == text {
			return text, true
		}
		text = next
	}
	return "", false
}

func (s *source) layout() string {
	if s.kind.format != formatMarkdown {
		return printDocument(s.text, s.doc)
	}
	front := printDocument(s.front, s.doc)
	body := normalBody(s.body)
	if body != "" {
		body += "\n"
	}
	if strings.TrimSpace(front) == "" {
		return body
	}
	return "---\n" + front + "---\n" + body
}

// Formatted gives the whole directory after Format.
func Formatted(files op.Dir) (op.Dir, []Problem) {
	changed, problems := Format(files)
	out := maps.Clone(files)
	maps.Copy(out, changed)
	return out, problems
}
