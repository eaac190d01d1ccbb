package agent

import (
	"maps"
	"path"
	"slices"
	"strings"

	"flywheel/internal/platform/op"
	"flywheel/spec"
)

// Check reads a package and reports everything that is wrong with it at once, ordered by place. The
// package is nil when any problem is an error; warnings are in its Problems too.
func (c *Checker) Check(files op.Dir) (*Resolved, []Problem) {
	problems := checkPaths(files)
	safe := op.Dir{}
	for file, content := range files {
		if safePath(file) {
			safe[file] = content
		}
	}
	b := &builder{sources: map[string]*source{}, files: safe}
	suites := map[string]*source{}
	others := tree{}
	extra := map[string]*source{}
	broken := false // a file that could not be read at all
	for _, file := range slices.Sorted(maps.Keys(safe)) {
		kind, known := kindOf(file, c.kinds)
		suite, _ := path.Match(suiteGlob, file)
		if !known && suite {
			kind, known = fileKind{glob: suiteGlob, dir: "suites", format: formatYAML}, true
		}
		if !known {
			problems = append(problems, strayFile(file)...)
			continue
		}
		s, found := parseSource(file, kind, safe[file])
		problems = append(problems, found...)
		switch {
		case s == nil:
			broken = true
			b.sources[file] = nil
		case suite:
			suites[file] = s
		case kind.dir == "" && file != "flywheel.yaml":
			extra[file], others[file] = s, s.value
		default:
			b.sources[file] = s
		}
	}
	problems = append(problems, b.missingRoot()...)
	b.dropBroken()
	b.build()
	problems = append(problems, unsaid(b.quieten(broken), problems)...)
	kindSuites, found := c.checkKinds(b.pkg, safe, suites, extra)
	problems = append(problems, found...)
	problems = append(problems, findSecrets(safe)...)
	problems = sortProblems(problems)
	if len(Errors(problems)) > 0 {
		return nil, problems
	}
	r := b.resolved(others)
	r.Suites = kindSuites
	if text, ok := safe[LockFile]; ok {
		problems = sortProblems(append(problems, lockProblems(r, text)...))
	}
	if len(Errors(problems)) > 0 {
		return nil, problems
	}
	r.Problems = problems
	return r, problems
}

func (b *builder) missingRoot() []Problem {
	if _, ok := b.sources["flywheel.yaml"]; ok {
		return nil
	}
	p := Problem{
		File: "flywheel.yaml", Code: "package.not_found", Message: "there is no flywheel.yaml, so this is not a package",
		Hint: "flywheel init NAME --template help-desk",
	}
	if _, ok := b.files["flywheel.yml"]; ok {
		p.Hint = "rename flywheel.yml to flywheel.yaml"
	}
	return []Problem{p}
}

// dropBroken puts an empty file in the place of one that cannot be read, so that the names it would
// declare are known and are not reported once more by everything that refers to them.
func (b *builder) dropBroken() {
	for file, s := range b.sources {
		if s == nil {
			delete(b.sources, file)
			b.unread = append(b.unread, file)
		}
	}
}

// quieten gives the problems of the builder, without those that only follow from unreadable files.
func (b *builder) quieten(broken bool) []Problem {
	list := b.list()
	if !broken {
		if _, ok := b.sources["flywheel.yaml"]; ok {
			return list
		}
	}
	unread := strings.Join(b.unread, "\n")
	var out []Problem
	for _, p := range list {
		switch {
		case p.File == "flywheel.yaml" && b.sources["flywheel.yaml"] == nil,
			(p.Code == "package.unknown_tool" || p.Code == "package.unknown_server") && strings.Contains(unread, "tools/"),
			(p.Code == "package.unknown_agent" || p.Code == "package.unknown_entry") && strings.Contains(unread, "agents/"),
			p.Code == "package.unknown_entry" && strings.Contains(unread, "flows/"),
			p.Code == "package.unknown_prompt" && strings.Contains(unread, "prompts/"),
			p.Code == "package.unknown_memory" && strings.Contains(unread, "memory/"),
			(p.Code == "package.unknown_model" || p.Code == "package.unknown_env") && b.sources["flywheel.yaml"] == nil:
			continue
		}
		out = append(out, p)
	}
	return out
}

// unsaid drops problems of values that could not be read: that has been said at the same place.
func unsaid(list, said []Problem) []Problem {
	at := map[string]bool{}
	for _, p := range said {
		at[p.Place()] = p.Line > 0
	}
	var out []Problem
	for _, p := range list {
		if !at[p.Place()] {
			out = append(out, p)
		}
	}
	return out
}

// strayFile notices files that look as if they were meant to be read.
func strayFile(file string) []Problem {
	dir, _, nested := strings.Cut(file, "/")
	ext := path.Ext(file)
	structured := ext == ".md" || ext == ".yaml" || ext == ".yml"
	if !nested || !structured || strings.EqualFold(path.Base(file), "README.md") {
		return nil
	}
	if dir == "policies" {
		return []Problem{{
			File: file, Code: "package.unsupported", Message: "policies are not in this version, and would not be enforced",
			Hint: "remove the file",
		}}
	}
	for _, k := range formatKinds {
		if k.dir == dir {
			return []Problem{{
				File: file, Code: "package.unknown_file", Warning: true,
				Message: "the file is not read", Hint: "name it " + k.dir + "/" + strayStem(file) + k.suffix,
			}}
		}
	}
	if dir == "suites" && ext != ".md" && strings.Count(file, "/") == 1 {
		return []Problem{{
			File: file, Code: "package.unknown_file", Warning: true,
			Message: "the file is not read", Hint: "name it suites/" + strayStem(file) + ".suite.yaml",
		}}
	}
	return nil
}

func strayStem(file string) string { return strings.ToLower(stem(file)) }

// checkKinds lets the other domains look at their files.
func (c *Checker) checkKinds(pkg *spec.Package, files op.Dir, suites, extra map[string]*source) (map[string]*SuiteSource, []Problem) {
	out := map[string]*SuiteSource{}
	var problems []Problem
	check := func(file string, s *source) *KindFile {
		kf := &KindFile{
			File: file, Name: stem(file), Value: s.value, Package: pkg, files: files, source: s,
			read: map[string][]byte{},
		}
		for _, k := range c.kinds {
			if ok, _ := path.Match(k.Glob, file); !ok {
				continue
			}
			if s.value == nil {
				kf.Errorf(nil, "package.empty", "the file is empty")
				continue
			}
			if len(k.Keys) > 0 {
				kf.Keys(nil, k.Keys...)
			}
			if k.Check != nil {
				problems = append(problems, k.Check(kf)...)
			}
		}
		for _, p := range kf.problems {
			problems = append(problems, *p)
		}
		return kf
	}
	for _, file := range slices.Sorted(maps.Keys(suites)) {
		kf := check(file, suites[file])
		out[kf.Name] = &SuiteSource{Name: kf.Name, File: file, Source: compact(kf.Value), Files: kf.read}
	}
	for _, file := range slices.Sorted(maps.Keys(extra)) {
		check(file, extra[file])
	}
	return out, problems
}
