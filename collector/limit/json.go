package limit

import "net/http"

// JSON looks at a text that should be JSON before it becomes values, which take
// many times its room: it has at most so many levels and values, keys included.
// It does not judge whether it is JSON. Its error is a [Refusal].
func JSON(text []byte, levels, values int) error {
	depth, n := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			n++
			if depth++; depth > levels {
				return &Refusal{Status: http.StatusBadRequest, Code: "too_deep", Message: "the body has more levels than the collector reads"}
			}
		case '}', ']':
			depth--
		case ',', ':':
			n++
		}
		if n > values {
			return &Refusal{Status: http.StatusBadRequest, Code: "too_many_fields", Message: "the body has more fields than the collector reads"}
		}
	}
	return nil
}
