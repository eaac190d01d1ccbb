package agent

// Change is one edit of a package.
type Change struct {
	File string `json:"file"`
	// Path leads to a value of a YAML file or of front matter by keys and indexes; ["body"] is the text of
	// a Markdown file; empty is the whole file.
	Path []string `json:"path,omitempty"`
	// Value is what is set there; nil removes it.
	Value any `json:"value,omitempty"`
	// Content is the new text of a body or of a data file; nil with an empty Path and no Value removes it.
	Content []byte `json:"content,omitempty"`
}
