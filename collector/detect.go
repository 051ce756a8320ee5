package collector

import (
	"cmp"
	"iter"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// A finding is personal data in a place where it should not be.
type finding struct {
	start, end int // bytes of the text
	kind       string
}

// detector finds personal data in free text. It first looks, in one pass, for
// bytes that could be the start of something, and verifies only those: nearly
// all text is passed over at the cost of that pass.
type detector struct {
	region string // where phone numbers without a country prefix belong; empty if unknown
}

// mask replaces what looks personal by its kind in brackets, and lists the
// kinds found. Text in which it is percent-encoded is replaced whole.
func (d detector) mask(text string) (masked string, kinds []string) {
	return replace(text, d.all(text))
}

// all finds what is in a text or, as one finding of the whole, in what it encodes.
func (d detector) all(text string) []finding {
	signs := signsOf(text)
	if signs == 0 {
		return nil
	}
	if signs&percent != 0 {
		for decoded := range decodings(text) {
			if found := d.find(decoded, signsOf(decoded)); len(found) > 0 {
				return []finding{{0, len(text), found[0].kind}}
			}
		}
	}
	return d.find(text, signs)
}

// decodings are what a percent-encoded text stands for, and what that does, some
// times over. What is no encoding is taken as it is.
func decodings(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		const most = 3
		for range most {
			decoded := decode(text)
			if decoded == text || !yield(decoded) {
				return
			}
			text = decoded
		}
	}
}

func decode(text string) string {
	if decoded, err := url.QueryUnescape(text); err == nil {
		return decoded
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]):
			n, _ := strconv.ParseUint(text[i+1:i+3], 16, 8) // two hexadecimal digits
			b = append(b, byte(n))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// replace puts the kinds of findings in their place, and lists them.
func replace(text string, found []finding) (masked string, kinds []string) {
	if len(found) == 0 {
		return text, nil
	}
	var b strings.Builder
	at := 0
	for _, f := range found {
		b.WriteString(text[at:f.start])
		b.WriteString("[" + f.kind + "]")
		at = f.end
	}
	b.WriteString(text[at:])
	return b.String(), kindsOf(found)
}

func kindsOf(found []finding) []string {
	var kinds []string
	for _, f := range found {
		if !slices.Contains(kinds, f.kind) {
			kinds = append(kinds, f.kind)
		}
	}
	return kinds
}

// sign is a mark without which some personal data cannot be in a text.
type sign uint8

const (
	at      sign = 1 << iota // of an address
	percent                  // of an encoded text
	colons                   // two, of an IPv6 address
	token                    // how a JSON Web Token begins
	digits                   // four, of a number
)

// signsOf looks once at each byte; nearly all text has none of the signs.
func signsOf(text string) (signs sign) {
	nDigits, nColons := 0, 0
	for i := range len(text) {
		c := text[i]
		if !marks[c] {
			continue
		}
		switch c {
		case '@':
			signs |= at
		case '%':
			signs |= percent
		case ':':
			if nColons++; nColons == 2 {
				signs |= colons
			}
		case 'J':
			if i >= 2 && text[i-2:i] == "ey" {
				signs |= token
			}
		default:
			if nDigits++; nDigits == 4 {
				signs |= digits
			}
		}
	}
	return signs
}

// marks are the bytes that signsOf has to look at.
var marks = func() (table [256]bool) {
	for _, c := range []byte("@%:J0123456789") {
		table[c] = true
	}
	return table
}()

// find returns findings in order, without overlap.
func (d detector) find(text string, signs sign) []finding {
	var all []finding
	if signs&at != 0 {
		all = findEmails(all, text)
	}
	if signs&token != 0 {
		all = findTokens(all, text)
	}
	if signs&colons != 0 {
		all = findIPv6(all, text)
	}
	if signs&digits != 0 {
		all = findIBANs(all, text)
		all = d.findNumbers(all, text)
	}
	return joined(all)
}

// joined sorts findings and makes one of those that overlap, of the kind of the
// first: what one of them leaves could be a part of the other.
func joined(all []finding) []finding {
	if len(all) < 2 {
		return all
	}
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Or(a.start-b.start, b.end-a.end) })
	kept := all[:1]
	for _, f := range all[1:] {
		if last := &kept[len(kept)-1]; f.start < last.end {
			last.end = max(last.end, f.end)
		} else {
			kept = append(kept, f)
		}
	}
	return kept
}

func findEmails(found []finding, text string) []finding {
	for i := 0; i < len(text); i++ {
		if text[i] != '@' {
			continue
		}
		start, end := i, i+1
		for start > 0 && isLocalPart(text[start-1]) {
			start--
		}
		for end < len(text) && isDomain(text[end]) {
			end++
		}
		if size := domainSize(text[i+1 : end]); start < i && size > 0 {
			found = append(found, finding{start, i + 1 + size, "email"})
			i += size
		}
	}
	return found
}

// domainSize is the length of the domain that a text begins with: up to the last
// label that can be a top-level domain. A sentence may go on without a space.
func domainSize(text string) int {
	for text = strings.TrimRight(text, ".-"); ; {
		dot := strings.LastIndexByte(text, '.')
		if dot <= 0 {
			return 0
		}
		if len(text)-dot > 2 {
			return len(text)
		}
		text = strings.TrimRight(text[:dot], ".-")
	}
}

// findTokens finds JSON Web Tokens: three base64url parts, the first of which
// begins like {" does.
func findTokens(found []finding, text string) []finding {
	for at := 0; ; {
		i := strings.Index(text[at:], "eyJ")
		if i < 0 {
			return found
		}
		start := at + i
		end := start
		for end < len(text) && (isBase64URL(text[end]) || text[end] == '.') {
			end++
		}
		if part := text[start:end]; len(part) > 20 && strings.Count(part, ".") >= 1 {
			found = append(found, finding{start, end, "token"})
		}
		at = max(end, start+3)
	}
}

// ibanLength is the length per country of an IBAN (ISO 13616 registry).
var ibanLength = map[string]int{
	"AD": 24, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24,
	"FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27,
	"LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
	"SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}

func findIBANs(found []finding, text string) []finding {
	for i := 0; i+15 <= len(text); i++ {
		if i > 0 && isAlnum(text[i-1]) || !isLetter(text[i]) || !isLetter(text[i+1]) || !isDigit(text[i+2]) {
			continue
		}
		want, ok := ibanLength[strings.ToUpper(text[i:i+2])]
		if !ok {
			continue
		}
		var iban []byte
		end := i
		for ; end < len(text) && len(iban) < want; end++ {
			switch c := text[end]; {
			case isAlnum(c):
				iban = append(iban, c)
			case c == ' ' || c == '-':
			default:
				end = len(text)
			}
		}
		if len(iban) == want && mod97(strings.ToUpper(string(iban))) {
			found = append(found, finding{i, end, "iban"})
			i = end - 1
		}
	}
	return found
}

// mod97 is the check of ISO 7064 on an IBAN.
func mod97(iban string) bool {
	rest := 0
	for _, c := range []byte(iban[4:] + iban[:4]) {
		if isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}

func findIPv6(found []finding, text string) []finding {
	for i := 0; i < len(text); i++ {
		if !isHex(text[i]) && text[i] != ':' || i > 0 && isAlnum(text[i-1]) {
			continue
		}
		end := i
		for end < len(text) && (isHex(text[end]) || text[end] == ':' || text[end] == '.') {
			end++
		}
		part := strings.TrimRight(text[i:end], ".")
		if strings.Count(part, ":") >= 2 && len(part) > 3 {
			if _, err := netip.ParseAddr(part); err == nil {
				found = append(found, finding{i, i + len(part), "ip"})
			}
		}
		i = end
	}
	return found
}

// findNumbers finds phone numbers, payment cards, social security numbers and
// IPv4 addresses: runs of digits with the separators people use.
func (d detector) findNumbers(found []finding, text string) []finding {
	for i := 0; i < len(text); i++ {
		if !startsNumber(text, i) {
			continue
		}
		run := numberRun(text, i)
		if run.end < len(text) && isLetter(text[run.end]) {
			i = run.end
			continue // part of an opaque id, such as a UUID
		}
		if kind := d.classifyNumber(&run); kind != "" {
			found = append(found, finding{i, run.end, kind})
		}
		i = max(run.end-1, i)
	}
	return found
}

func startsNumber(text string, i int) bool {
	if i > 0 && (isAlnum(text[i-1]) || text[i-1] == '_') {
		return false
	}
	c := text[i]
	next := i+1 < len(text) && (isDigit(text[i+1]) || text[i+1] == '(')
	return isDigit(c) || (c == '+' || c == '(') && next
}

// number is a run of digits: the digits alone, and the sizes of its groups. No
// kind of number has more of either; longer runs are of no kind.
type number struct {
	text    string
	digits  [20]byte
	groups  [8]int
	nDigits int
	nGroups int
	end     int
}

// grouped tells whether these are the sizes of the groups.
func (n *number) grouped(sizes ...int) bool {
	return n.nGroups == len(sizes) && slices.Equal(n.groups[:n.nGroups], sizes)
}

func (n *number) endGroup(size int) {
	if size == 0 {
		return
	}
	if n.nGroups < len(n.groups) {
		n.groups[n.nGroups] = size
	}
	n.nGroups++
}

func numberRun(text string, start int) (n number) {
	n.end = start
	group, separators := 0, 0
	for i := start; i < len(text); i++ {
		c := text[i]
		switch {
		case isDigit(c):
			if n.nDigits < len(n.digits) {
				n.digits[n.nDigits] = c
			}
			n.nDigits++
			group++
			separators = 0
			n.end = i + 1
		case c == '+' && i == start:
		case strings.IndexByte(" -./()", c) >= 0 && separators < 3:
			n.endGroup(group)
			group = 0
			separators++
		default:
			i = len(text)
		}
	}
	n.endGroup(group)
	n.text = text[start:n.end]
	return n
}

func (d detector) classifyNumber(n *number) string {
	size := n.nDigits
	switch {
	case n.nGroups == 4 && strings.Count(n.text, ".") == 3:
		if _, err := netip.ParseAddr(n.text); err == nil {
			return "ip"
		}
	case size < 8 || size > 19: // of no kind
	case size >= 13 && n.digits[0] >= '2' && n.digits[0] <= '6' && luhn(n.digits[:size]):
		return "card"
	case n.isDate():
		return ""
	case n.grouped(3, 2, 4):
		return "ssn"
	case n.text[0] == '+' && size <= 15,
		n.digits[0] == '0' && n.digits[1] == '0' && size >= 10 && size <= 15,
		n.digits[0] == '0' && size >= 9 && size <= 11,
		n.grouped(3, 3, 4), n.grouped(1, 3, 3, 4),
		d.nationalPhone(n):
		return "phone"
	}
	return ""
}

// nationalPhone asks the numbering plan of the region, for numbers without any
// other mark of a phone number.
func (d detector) nationalPhone(n *number) bool {
	if d.region == "" || n.nDigits < 9 || n.nDigits > 11 {
		return false
	}
	parsed, err := phonenumbers.Parse(n.text, d.region)
	return err == nil && phonenumbers.IsValidNumberForRegion(parsed, d.region)
}

// isDate tells whether the groups begin as a date does, in either order.
func (n *number) isDate() bool {
	if n.nGroups < 3 {
		return false
	}
	first := [3]int(n.groups[:3])
	return first == [3]int{4, 2, 2} || first == [3]int{2, 2, 4}
}

// luhn is the check digit of payment cards (ISO/IEC 7812-1).
func luhn(digits []byte) bool {
	sum := 0
	for i := range len(digits) {
		n := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isDigit(c) || isLetter(c) }
func isHex(c byte) bool    { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isBase64URL(c byte) bool { return isAlnum(c) || c == '-' || c == '_' || c == '=' }

func isLocalPart(c byte) bool {
	return isAlnum(c) || c >= utf8.RuneSelf || strings.IndexByte("._%+-'!#$&*/=?^`{|}~", c) >= 0
}

func isDomain(c byte) bool { return isAlnum(c) || c >= utf8.RuneSelf || c == '.' || c == '-' }
