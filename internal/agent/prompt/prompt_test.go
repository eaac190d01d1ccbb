package prompt

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func must(t *testing.T, src string) *Template {
	t.Helper()
	tmpl, err := Parse(src)
	if err != nil {
		t.Fatalf("Parse(%q): %v", src, err)
	}
	return tmpl
}

func TestRender(t *testing.T) {
	t.Parallel()
	vars := map[string]any{
		"input": map[string]any{"message": "I <lost> it & more", "n": 3, "tags": []any{"a", "b"}},
		"shop":  "Corner", "yes": true, "no": false, "empty": []any{},
		"cards": []any{map[string]any{"id": "1", "tags": []any{"x"}}, map[string]any{"id": "2"}},
	}
	parts := map[string]*Template{
		"tone":  must(t, "Be kind.\nBe short."),
		"about": must(t, "from {{shop}}: {{> tone}}"),
	}
	for _, c := range []struct{ name, src, want string }{
		{"plain", "Hello.\n", "Hello.\n"},
		{"nothing is escaped", "{{input.message}}", "I <lost> it & more"},
		{"values are JSON", "{{input.n}} {{input.tags}} {{cards}}", `3 ["a","b"] [{"id":"1","tags":["x"]},{"id":"2"}]`},
		{"what is not there is nothing", "a{{nothing.at.all}}b", "ab"},
		{"index", "{{input.tags.1}}", "b"},
		{"part", "{{> tone}}!", "Be kind.\nBe short.!"},
		{"part on its own line", "A\n{{> tone}}\nB", "A\nBe kind.\nBe short.\nB"},
		{"part is indented", "A\n  {{> tone}}\nB", "A\n  Be kind.\n  Be short.\nB"},
		{"part in part", "{{> about}}", "from Corner: Be kind.\nBe short."},
		{"each", "{{#each input.tags}}<{{this}}>{{/each}}", "<a><b>"},
		{"each with index", "{{#each input.tags}}{{@index}}={{this}};{{/each}}", "0=a;1=b;"},
		{"each of nothing", "{{#each empty}}x{{else}}none{{/each}}", "none"},
		{"fields of elements", "{{#each cards}}{{id}} at {{shop}} {{/each}}", "1 at Corner 2 at Corner "},
		{"each in each", "{{#each cards}}{{id}}:{{#each tags}}{{this}}{{id}}{{/each}};{{/each}}", "1:x1;2:;"},
		{"if", "{{#if yes}}A{{else}}B{{/if}}{{#if no}}C{{else}}D{{/if}}{{#if empty}}E{{/if}}{{#if nothing}}F{{/if}}", "AD"},
		{"blocks leave no lines", "A\n{{#if yes}}\nB\n{{else}}\nC\n{{/if}}\nD\n", "A\nB\nD\n"},
		{"each leaves no lines", "{{#each input.tags}}\n- {{this}}\n{{/each}}\nend", "- a\n- b\nend"},
		{"note", "A\n{{! not for the model }}\nB{{! x }}C", "A\nBC"},
		{"braces", `\{{x}} and { x } and }}`, "{{x}} and { x } and }}"},
		{"spaces inside", "{{  shop  }}", "Corner"},
	} {
		got, err := must(t, c.src).Render(vars, parts)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestErrorsHaveTheirPlace(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"a\n é {{x":                    "2:4: {{ has no }}",
		"{{}}":                         "1:1: {{}} is empty",
		"{{{x}}}":                      "1:1: {{{ is not needed: nothing is escaped",
		"{{#each xs}}":                 "1:1: {{#each}} has no {{/each}}",
		"a\nb {{#if x}}\nc":            "2:3: {{#if}} has no {{/if}}",
		"{{#if x}}{{/each}}":           "1:10: {{/each}} closes nothing",
		"{{/if}}":                      "1:1: {{/if}} closes nothing",
		"{{else}}":                     "1:1: {{else}} closes nothing",
		"{{#with x}}{{/with}}":         "1:1: {{#with}} is not known; there are each and if",
		"{{> }}":                       "1:1: {{> }} does not name a part",
		"{{> a b}}":                    "1:1: {{> a b}} does not name a part",
		"{{helper x}}":                 `1:1: "helper x" is not a variable: a path such as input.message is needed`,
		"{{a..b}}":                     `1:1: "a..b" is not a variable: a path such as input.message is needed`,
		"{{this}}":                     "1:1: {{this}} is known inside {{#each}} only",
		"{{#each x}}{{@key}}{{/each}}": "1:12: {{@key}} is not known; there is @index",
	} {
		_, err := Parse(src)
		var e *Error
		if !errors.As(err, &e) || e.Error() != want {
			t.Errorf("Parse(%q): %v\nwant %s", src, err, want)
		}
	}
	if _, err := Parse(strings.Repeat("{{#if x}}", 100) + strings.Repeat("{{/if}}", 100)); err == nil {
		t.Error("blocks nest without end")
	}
}

func TestPartsThatContainThemselvesAreErrors(t *testing.T) {
	t.Parallel()
	parts := map[string]*Template{"a": must(t, "{{> b}}"), "b": must(t, "{{> a}}")}
	if _, err := must(t, "{{> a}}").Render(nil, parts); err == nil || !strings.Contains(err.Error(), "contains itself") {
		t.Errorf("error = %v", err)
	}
	if _, err := must(t, "{{> c}}").Render(nil, parts); err == nil {
		t.Error("a part that is not there was rendered")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	tmpl := must(t, "{{input.message}}\n{{> tone}}{{#each xs}}{{this}}{{inner}}{{/each}}")
	if diff := cmp.Diff([]Ref{{"input.message", 1, 1}, {"xs", 2, 11}}, tmpl.Vars()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Ref{{"tone", 2, 1}}, tmpl.Parts()); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"{{a.b}}", "{{#each xs}}\n{{this}}\n{{/each}}", "{{#if a}}b{{else}}c{{/if}}", "  {{> p}}\n", "\\{{", "{{!", "{{{"} {
		f.Add(s)
	}
	part := &Template{body: []element{{kind: literal, text: "one\ntwo"}}}
	f.Fuzz(func(t *testing.T, src string) {
		tmpl, err := Parse(src)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 {
				t.Fatalf("Parse(%q): %v has no place", src, err)
			}
			return
		}
		vars := map[string]any{"a": map[string]any{"b": "c"}, "xs": []any{1.0, "x", map[string]any{"a": true}}}
		parts := map[string]*Template{}
		for _, p := range tmpl.Parts() {
			parts[p.Name] = part
		}
		first, err := tmpl.Render(vars, parts)
		if err != nil {
			t.Fatalf("Render(%q): %v", src, err)
		}
		if second, _ := tmpl.Render(vars, parts); second != first {
			t.Fatalf("%q renders as %q and %q", src, first, second)
		}
		if !strings.Contains(src, "{{") && first != src {
			t.Fatalf("%q has no tags and renders as %q", src, first)
		}
	})
}
