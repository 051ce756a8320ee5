package canary

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // looked for, not used
	"crypto/sha1" //nolint:gosec // looked for, not used
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"unicode/utf16"
)

// Form is a way to write a value down.
type Form struct {
	Name string
	of   func(value string) []string
}

// Forms are all that are looked for. The case of letters never matters: neither
// that of the value, of which digests and encodings are tried for all three, nor
// that of what is found.
func Forms() []Form {
	return []Form{
		{"as it is", one(func(v string) string { return v })},
		{"backwards", one(reversed)},
		{"percent-encoded", func(v string) []string {
			return []string{url.QueryEscape(v), url.PathEscape(v), each(v, "%%%02x")}
		}},
		{"escaped in JSON", func(v string) []string {
			text, _ := json.Marshal(v) // a text
			return []string{strings.Trim(string(text), `"`), each(v, `\u%04x`), strings.ReplaceAll(v, "@", `\u0040`), strings.ReplaceAll(v, "+", `\u002b`)}
		}},
		{"escaped in HTML", func(v string) []string {
			return []string{html.EscapeString(v), each(v, "&#%d;"), each(v, "&#x%02x;"), strings.ReplaceAll(v, "@", "&#64;"), strings.ReplaceAll(v, "@", "&#x40;")}
		}},
		{"UTF-16", one(wide)},
		{"hex", cased(func(v string) []string { return []string{hex.EncodeToString([]byte(v))} })},
		{"base64", cased(base64Forms)},
		{"MD5", cased(digest(func(b []byte) []byte { sum := md5.Sum(b); return sum[:] }))},    //nolint:gosec // looked for, not used
		{"SHA-1", cased(digest(func(b []byte) []byte { sum := sha1.Sum(b); return sum[:] }))}, //nolint:gosec // looked for, not used
		{"SHA-256", cased(digest(func(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }))},
	}
}

func one(f func(string) string) func(string) []string {
	return func(v string) []string { return []string{f(v)} }
}

// cased does the same to a value in capitals and in small letters.
func cased(f func(string) []string) func(string) []string {
	return func(v string) []string {
		return append(append(f(v), f(strings.ToLower(v))...), f(strings.ToUpper(v))...)
	}
}

func each(v, format string) string {
	var b strings.Builder
	for _, c := range []byte(v) {
		fmt.Fprintf(&b, format, c)
	}
	return b.String()
}

// wide is the part of UTF-16 that both orders of bytes have in common.
func wide(v string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(v)) {
		b = binary.BigEndian.AppendUint16(b, unit)
	}
	return string(b[1:])
}

// base64Forms are the letters that depend on nothing but the value, wherever in
// an encoded text it begins.
func base64Forms(v string) []string {
	var forms []string
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := encoding.EncodeToString(append(bytes.Repeat([]byte{'x'}, before), v...))
			first := (before*8 + 5) / 6
			forms = append(forms, text[first:(before+len(v))*8/6])
		}
	}
	return forms
}

func digest(sum func([]byte) []byte) func(string) []string {
	return func(v string) []string {
		d := sum([]byte(v))
		return []string{hex.EncodeToString(d), base64.RawStdEncoding.EncodeToString(d), base64.RawURLEncoding.EncodeToString(d), string(d)}
	}
}
