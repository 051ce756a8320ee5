package personal

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// email checks an address around the '@' at i (RFC 5322 without what nobody
// uses: quoted local parts, comments, literals), whose domain ends in a public
// suffix.
func (s *scan) email(i int) int {
	text := s.text
	start, end := i, i+1
	for start > 0 && isLocalPart(text[start-1]) {
		start--
	}
	start += localStart(text[start:i])
	for end < len(text) && isDomain(text[end]) {
		end++
	}
	size := domainSize(text[i+1 : end])
	if start == i || size == 0 {
		return i
	}
	end = i + 1 + size
	if text[start:i] == "git" && end < len(text) && text[end] == ':' {
		return i // git@host:path is the address of a repository
	}
	s.add(start, end, Email)
	return end
}

// localStart is where the local part begins in the letters before an '@': behind
// what is the name of a parameter, or a sign around the address.
func localStart(text string) int {
	start := 0
	if i := strings.IndexByte(text, '='); i > 0 && !strings.ContainsFunc(text[:i], func(r rune) bool { return !isName(r) }) {
		start = i + 1
	}
	for start < len(text) && strings.IndexByte("'`*|{}~^!#$.-", text[start]) >= 0 {
		start++
	}
	if i := strings.LastIndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf && !unicode.In(r, unicode.L, unicode.N, unicode.M) }); i >= start {
		_, size := utf8.DecodeRuneInString(text[i:])
		start = i + size
	}
	return start
}

func isName(r rune) bool { return r < utf8.RuneSelf && isAlnum(byte(r)) || r == '_' || r == '-' }

// maxLabels is of how many labels a domain is looked at.
const maxLabels = 10

// domainSize is the length of the domain that a text begins with; 0 if it is
// none. A sentence may go on behind it without a space.
func domainSize(text string) int {
	end, labels := 0, 1
	for end < len(text) && labels <= maxLabels {
		if text[end] == '.' {
			labels++
		}
		end++
	}
	for text = strings.TrimRight(text[:end], ".-"); ; {
		if isListed(text) {
			return len(text)
		}
		label := text[strings.LastIndexByte(text, '.')+1:]
		if i := strings.IndexFunc(label, func(r rune) bool { return r >= utf8.RuneSelf }); i > 0 {
			if ascii := text[:len(text)-len(label)+i]; isListed(ascii) { // the next word is written without a space
				return len(ascii)
			}
		}
		dot := strings.LastIndexByte(text, '.')
		if dot <= 0 {
			return 0
		}
		text = strings.TrimRight(text[:dot], ".-")
	}
}

// inside are the top-level domains of networks that are nobody else's business,
// and of examples (RFC 2606, RFC 6762, and what ICANN reserved).
var inside = []string{"example", "test", "invalid", "local", "internal", "intranet", "intra", "lan", "corp", "home", "private", "localdomain"}

// isListed tells whether a domain is one below a public suffix.
func isListed(domain string) bool {
	dot := strings.LastIndexByte(domain, '.')
	if dot <= 0 || strings.Contains(domain, "..") || domain[0] == '-' {
		return false
	}
	domain = strings.ToLower(domain)
	if strings.ContainsFunc(domain, func(r rune) bool { return r >= utf8.RuneSelf }) {
		ascii, err := idna.Punycode.ToASCII(domain)
		if err != nil {
			return false
		}
		domain = ascii
	}
	if slices.Contains(inside, domain[strings.LastIndexByte(domain, '.')+1:]) {
		return true
	}
	suffix, icann := publicsuffix.PublicSuffix(domain)
	if strings.Contains(suffix, ".") && !icann {
		return true // of one company, which may have mail below it or there
	}
	return icann && len(suffix) < len(domain)
}

func isLocalPart(c byte) bool {
	return isAlnum(c) || c >= utf8.RuneSelf || strings.IndexByte("._%+-'!#$*=^`{|}~", c) >= 0
}

func isDomain(c byte) bool { return isAlnum(c) || c >= utf8.RuneSelf || c == '.' || c == '-' }
