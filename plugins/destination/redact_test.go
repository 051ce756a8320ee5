package destination

import (
	"strings"
	"testing"
)

func TestRedactor(t *testing.T) {
	batch := Batch{Changes: []Change{
		{Values: []any{"jane@example.org", int64(31612), nil}},
		{Values: []any{"Zoë van Dam", 2.5, "ok"}},
	}}
	for words, want := range map[string]string{
		"Jane@Example.org is unknown":            "[redacted] is unknown",
		"no VAN in row 3":                        "no [redacted] in row 3",
		"row 17: 31612 is out of range":          "row 17: [redacted] is out of range",
		"somebody@else.example, 0612345678\n no": "[redacted] [redacted] no",
		"not ok":                                 "not ok",
		" \x00":                                  "no reason given",
		strings.Repeat("word ", 100):             strings.Repeat("word ", 32) + "…",
	} {
		if got := Redactor(batch)(words); got != want {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
}

// Whatever a receiver says, no value of the batch is in what is kept.
func FuzzRedact(f *testing.F) {
	f.Add("jane@example.org is unknown", "jane@example.org")
	f.Add("JOHN SMITH: no", "john smith")
	f.Add("abcabc", "abc")
	f.Fuzz(func(t *testing.T, words, value string) {
		got := Redactor(Batch{Changes: []Change{{Values: []any{"other", value}}}})(words)
		v := strings.ToLower(strings.TrimSpace(value))
		if len(v) >= minValue && !strings.Contains(redacted+" "+redacted+"no reason given…", v) && strings.Contains(got, v) {
			t.Errorf("%q in %q", v, got)
		}
		if n := len([]rune(got)); n > maxWords+1 {
			t.Errorf("%d characters", n)
		}
	})
}
