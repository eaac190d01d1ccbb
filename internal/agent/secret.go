package agent

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"flywheel/internal/platform/op"
)

// secretForms are the shapes of keys that well-known services give out.
var secretForms = []struct {
	what  string
	holds string // a cheap test before the form
	form  *regexp.Regexp
}{
	{"an Anthropic key", "sk-ant-", regexp.MustCompile(`\bsk-ant-[A-Za-z0-9_-]{16,}`)},
	{"an OpenAI key", "sk-", regexp.MustCompile(`\bsk-(proj-|svcacct-)?[A-Za-z0-9_-]{20,}`)},
	{"a GitHub token", "gh", regexp.MustCompile(`\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})`)},
	{"a GitLab token", "glpat-", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20,}`)},
	{"a Slack token", "xox", regexp.MustCompile(`\bxox[abposr]-[A-Za-z0-9-]{10,}`)},
	{"an AWS key id", "IA", regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{16}\b`)},
	{"a Google key", "AIza", regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{35}`)},
	{"a Hugging Face token", "hf_", regexp.MustCompile(`\bhf_[A-Za-z0-9]{30,}`)},
	{"a Stripe key", "k_", regexp.MustCompile(`\b[sr]k_(live|test)_[A-Za-z0-9]{16,}`)},
	{"a private key", "PRIVATE KEY", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)},
	{"a signed token", "eyJ", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`)},
	{"a password in a URL", "://", regexp.MustCompile(`\b[a-z][a-z0-9+.-]*://[^/\s:@"'${}]+:[^/\s@"'${}]{3,}@`)},
}

const secretHint = "write secret://NAME or ${env.NAME} in its place; a key that was in git must be revoked"

// findSecrets looks at every text of the package, comments and data files included. It never repeats
// what it found.
func findSecrets(files op.Dir) []Problem {
	var out []Problem
	for _, file := range slices.Sorted(maps.Keys(files)) {
		content := files[file]
		if len(content) > maxText || !utf8.Valid(content) {
			continue
		}
		for i, line := range strings.Split(normalText(content), "\n") {
			for _, s := range secretForms {
				if !strings.Contains(line, s.holds) {
					continue
				}
				at := s.form.FindStringIndex(line)
				if at == nil {
					continue
				}
				out = append(out, Problem{
					File: file, Line: i + 1, Column: utf8.RuneCountInString(line[:at[0]]) + 1,
					Code: "package.secret", Message: "this looks like " + s.what + " in clear text", Hint: secretHint,
				})
				break
			}
		}
	}
	return out
}

var (
	secretName  = regexp.MustCompile(`(?i)(password|passwd|secret|token([^s]|$)|api[_-]?key|private[_-]?key|authorization|credential)`)
	secretValue = regexp.MustCompile(`^(?i:bearer |basic |token )?(secret://[a-z0-9][a-z0-9_.-]*|\$\{[^}]*\})$`)
	secretRef   = regexp.MustCompile(`secret://([^\s"']*)`)
	secretForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*$`)
)

// checkSecret reports a value in clear text under a name that says that it is a secret.
func (c cursor) checkSecret() {
	s, ok := c.v.(string)
	if !ok || s == "" {
		return
	}
	if m := secretRef.FindStringSubmatch(s); m != nil && !secretForm.MatchString(m[1]) {
		c.errorf("package.value", "the name of the secret is not allowed").Hint = "write secret://NAME with lower-case letters, digits and -"
		return
	}
	if secretName.MatchString(c.key()) && !secretValue.MatchString(s) {
		c.errorf("package.secret", "%s is a secret in clear text", quote(c.key())).Hint = secretHint
	}
}
