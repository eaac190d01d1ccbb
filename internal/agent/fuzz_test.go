package agent

import (
	"reflect"
	"testing"

	"flywheel/internal/platform/op"
)

// FuzzYAML: no text makes the parser fail; every problem has a place; what can be read can be laid out
// without changing what it says.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{
		"a: 1\nb: [x, {c?: d}] # e\n", "a: |\n  b\n\n  c\n# end\n", "- a\n- - b\n  - c: d\n", "a: &x 1\nb: *x\n",
		"\"a\": 'b''c'\n", "a: >-\n  b\n  c\n", "{a: 1,\n # c\n b: 2}\n", "? a\n: b\n", "a:\n\n  # x\n  b: 1\n  # y\nc:\n", "%YAML 1.2\n---\na: 1\n...\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, problems := parseSource("x.policy.yaml", fileKind{format: formatYAML}, []byte(text))
		for _, p := range problems {
			if p.Code == "" || p.Message == "" || p.Line < 1 && p.Code != "package.too_large" {
				t.Fatalf("%q: problem without a place: %+v", text, p)
			}
		}
		if s == nil || len(problems) > 0 {
			return
		}
		out, ok := s.formatted()
		if !ok {
			return // left as it is, and reported
		}
		again, problems := parseSource("x.policy.yaml", fileKind{format: formatYAML}, []byte(out))
		if again == nil || len(problems) > 0 || !reflect.DeepEqual(again.value, s.value) {
			t.Fatalf("%q reads as %#v; laid out %q as %#v", text, s.value, out, again)
		}
		want := map[string]any{"added": "x"}
		for k, v := range mapOf(s.value) {
			want[k] = v
		}
		if _, isMap := s.value.(map[string]any); isMap {
			if text, ok := s.rewrite(want); ok {
				after, _ := parseSource("x.policy.yaml", fileKind{format: formatYAML}, []byte(text))
				if after == nil || !reflect.DeepEqual(after.value, any(want)) {
					t.Fatalf("rewriting %q gives %q", s.text, text)
				}
			}
		}
	})
}

// FuzzCheck: no file of any kind makes Check fail, and what it accepts has one identity.
func FuzzCheck(f *testing.F) {
	files := sound()
	names := []string{
		"flywheel.yaml", "agents/desk.agent.md", "tools/cards.tool.yaml", "flows/f.flow.yaml", "prompts/p.prompt.md",
		"memory/m.memory.yaml", "flywheel.lock",
	}
	example, err := Template("help-desk")
	if err != nil {
		f.Fatal(err)
	}
	for i, name := range []string{"flywheel.yaml", "agents/desk.agent.md", "tools/shop.tool.yaml", "flows/desk.flow.yaml", "prompts/tone.prompt.md"} {
		f.Add(uint8(i), files[names[i]])
		f.Add(uint8(i), example[name])
	}
	f.Add(uint8(5), []byte("memory: m\nkind: episodes\nretrieve: {k: 4, by: tfidf}\n"))
	f.Add(uint8(6), []byte("package sha256:x\nmodel fast local/tiny a=b\n"))
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		dir := op.Dir{}
		for name, c := range files {
			dir[name] = c
		}
		dir[names[int(which)%len(names)]] = content
		r, problems := New().Check(dir)
		if (r == nil) != (len(Errors(problems)) > 0) {
			t.Fatalf("resolved %v with %v", r != nil, problems)
		}
		if r == nil {
			return
		}
		again, problems := fromTree(r.tree, r.Data)
		if again == nil || again.Identity != r.Identity {
			t.Fatalf("the canonical tree reads differently: %v", problems)
		}
	})
}
