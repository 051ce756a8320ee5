package destination

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxWords bounds what is kept of an outside system's own words, in characters.
	maxWords = 160
	// minValue is the shortest value, in bytes, that is looked for: shorter
	// ones are in any sentence, and tell nothing.
	minValue = 3
	redacted = "[redacted]"
)

// Redactor returns a function that makes an outside system's words fit for a
// [Result]: one short line without any value of the batch, whatever row it
// belongs to, without any word of a value, since systems quote in part, and
// without whatever looks like an address or a number of a person. Case is
// folded on both sides, since systems also normalise what they quote.
func Redactor(batch Batch) func(words string) string {
	var pairs []string
	known := map[string]bool{}
	for _, change := range batch.Changes {
		for _, v := range slices.Concat(append([][]any{change.Values}, change.Former...)...) {
			s := spelling(v)
			if len(s) < minValue {
				continue
			}
			pairs = append(pairs, s, redacted)
			for _, word := range strings.FieldsFunc(s, notWord) {
				known[word] = len(word) >= minValue
			}
		}
	}
	values := strings.NewReplacer(pairs...)
	identifying := func(field string) bool {
		for _, word := range strings.FieldsFunc(field, notWord) {
			if known[word] {
				return true
			}
		}
		return strings.Contains(field, "@") || digits(field) >= 5
	}
	return func(words string) string {
		words = values.Replace(strings.ToLower(strings.ToValidUTF8(words, "")))
		fields := strings.FieldsFunc(words, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
		for i, field := range fields {
			if identifying(field) {
				fields[i] = redacted
			}
		}
		words = strings.Join(fields, " ")
		if utf8.RuneCountInString(words) > maxWords {
			words = string([]rune(words)[:maxWords]) + "…"
		}
		if words == "" {
			return "no reason given"
		}
		return words
	}
}

// spelling is how a value stands in JSON, in lower case; "" for those that
// tell nothing.
func spelling(v any) string {
	switch v := v.(type) {
	case string:
		return strings.ToLower(strings.TrimSpace(v))
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return v.Format(time.DateOnly)
	default:
		return ""
	}
}

func notWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }

func digits(s string) (n int) {
	for _, r := range s {
		if unicode.IsDigit(r) {
			n++
		}
	}
	return n
}
