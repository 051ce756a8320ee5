package canary_test

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/sluis-cdp/sluis/cmd/internal/canary"
	"github.com/sluis-cdp/sluis/collector/personal"
)

// makers are all kinds of canaries.
var makers = map[string]func(*canary.Set, string, int) string{
	"word": (*canary.Set).Token, "email": (*canary.Set).Email, "phone": (*canary.Set).Phone, "name": (*canary.Set).Name,
	"address": (*canary.Set).Address, "card": (*canary.Set).Card, "iban": (*canary.Set).IBAN, "ip": (*canary.Set).IP,
}

// TestEveryFormIsFound writes each kind of canary down as others would, by means
// of their own, in the middle of other bytes.
func TestEveryFormIsFound(t *testing.T) {
	utf16Of := func(order func(unit uint16) []byte) func(string) string {
		return func(v string) string {
			var b []byte
			for _, unit := range utf16.Encode([]rune(v)) {
				b = append(b, order(unit)...)
			}
			return string(b)
		}
	}
	percent := func(v string) string {
		var b strings.Builder
		for _, c := range []byte(v) {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
		return b.String()
	}
	for name, write := range map[string]func(string) string{
		"as it is":         func(v string) string { return v },
		"capitals":         strings.ToUpper,
		"query":            url.QueryEscape,
		"path":             url.PathEscape,
		"percent":          percent,
		"JSON":             func(v string) string { b, _ := json.Marshal(map[string]string{"a": v}); return string(b) },
		"base64":           func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) },
		"base64, 1 before": func(v string) string { return base64.StdEncoding.EncodeToString([]byte("a" + v + "zzz")) },
		"base64, 2 before": func(v string) string { return base64.URLEncoding.EncodeToString([]byte("ab" + v + "zzzz")) },
		"base64, capitals": func(v string) string { return base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(v))) },
		"hex":              func(v string) string { return strings.ToUpper(hex.EncodeToString([]byte(v))) },
		"MD5":              func(v string) string { sum := md5.Sum([]byte(v)); return hex.EncodeToString(sum[:]) },
		"SHA-1":            func(v string) string { sum := sha1.Sum([]byte(v)); return hex.EncodeToString(sum[:]) },
		"SHA-256":          func(v string) string { sum := sha256.Sum256([]byte(v)); return hex.EncodeToString(sum[:]) },
		"SHA-256 of small letters": func(v string) string {
			sum := sha256.Sum256([]byte(strings.ToLower(v)))
			return base64.StdEncoding.EncodeToString(sum[:])
		},
		"UTF-16, big end first":    utf16Of(func(u uint16) []byte { return []byte{byte(u >> 8), byte(u)} }),
		"UTF-16, little end first": utf16Of(func(u uint16) []byte { return []byte{byte(u), byte(u >> 8)} }),
	} {
		t.Run(name, func(t *testing.T) {
			for kind, make := range makers {
				var set canary.Set
				value := make(&set, "here", 1)
				make(&set, "elsewhere", 2)
				search := canary.NewSearch(set.All())
				noise := rand.Text() + rand.Text()
				text := noise + write(value) + noise
				if hits := search.In([]byte(text)); len(hits) != 1 || hits[0].Canary != 0 {
					t.Errorf("%s: %+v", kind, hits)
				}
				if hits := search.In([]byte(noise)); len(hits) != 0 {
					t.Errorf("%s in nothing: %+v", kind, hits)
				}
			}
		})
	}
}

// TestPartsAreFound: a number without its prefix, backwards, or half a name is
// as bad as the whole.
func TestPartsAreFound(t *testing.T) {
	var set canary.Set
	phone, name, email, iban := set.Phone("", 1), set.Name("", 1), set.Email("", 1), set.IBAN("", 1)
	search := canary.NewSearch(set.All())
	backwards := []byte(phone[1:])
	for i, j := 0, len(backwards)-1; i < j; i, j = i+1, j-1 {
		backwards[i], backwards[j] = backwards[j], backwards[i]
	}
	local, _, _ := strings.Cut(email, "@")
	for what, text := range map[string]string{
		"digits": phone[1:], "national": "0" + phone[3:], "backwards": string(backwards), "first name": name[:strings.IndexByte(name, ' ')],
		"local part": local + "@elsewhere.example", "in groups": iban[:4] + " " + iban[4:8] + " " + iban[8:12] + " " + iban[12:16] + " " + iban[16:],
	} {
		if len(search.In([]byte("x "+text+" x"))) != 1 {
			t.Errorf("%s is not found", what)
		}
	}
}

// TestDetectorsKnowCanaries: what is to be masked looks like what it is.
func TestDetectorsKnowCanaries(t *testing.T) {
	for kind, make := range makers {
		var set canary.Set
		value := make(&set, "", 1)
		found := personal.Detector{}.Find("", "see "+value+" there")
		if masked := kind != "word" && kind != "name" && kind != "address"; masked != (len(found) == 1 && string(found[0].Kind) == kind) {
			t.Errorf("%s: %+v", kind, found)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	var set canary.Set
	for i := range 1000 {
		set.Email("", i)
	}
	search := canary.NewSearch(set.All())
	text := bytes.Repeat([]byte("nothing is here but words, 1234567890 and commas. "), 1<<14)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		search.In(text)
	}
}
