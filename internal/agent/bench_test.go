package agent

import "testing"

// BenchmarkCheck is a whole package, as each save in an editor checks it.
func BenchmarkCheck(b *testing.B) {
	files, err := Template("help-desk")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if r, problems := New().Check(files); r == nil {
			b.Fatal(problems)
		}
	}
}
