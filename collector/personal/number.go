package personal

import (
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// number is a run of digits with the separators that people use in numbers.
type number struct {
	text   string // of which the run is a part
	start  int
	groups []group
	digits []byte
}

// group is the bytes of one group of digits.
type group struct{ start, end int }

// Nothing that is looked for has more digits or groups; a longer run is looked
// at from its first group on, and from each behind a space.
const (
	maxGroups = 10
	maxDigits = 19
)

// minNumber is how many bytes the shortest number has, an IPv4 address.
const minNumber = 7

// number checks the numbers in the run of digits that begins at i: from each
// group that may begin one, the longest that is anything.
func (s *scan) number(i int) int {
	if !s.startsNumber(i) {
		return i
	}
	groups := s.groups[:]
	n := numberRun(s.text, i, groups)
	if n == 0 || s.isOpaque(i, groups[n-1].end) {
		return i
	}
	if groups[n-1].end-i < minNumber {
		return groups[n-1].end
	}
	whole := number{text: s.text, groups: groups[:n]}
	card := n > 2 && groups[n-1].end-i >= 14+n-1 && whole.groupedAsCard()
	end := i
	for first := 0; first < n; first++ {
		if first > 0 && !parts(s.text[groups[first-1].end:groups[first].start]) {
			continue
		}
		if isDate(s.text, groups[first:n]) {
			first += 2
		} else if last, kind := s.longest(groups[first:n], card); kind != "" {
			end = groups[first+last-1].end
			s.add(s.numberStart(groups[first].start, end), end, kind)
			first += last - 1
		}
	}
	return max(end, groups[n-1].end)
}

// numberStart is where a number begins whose first digit is at a place: with the
// sign before it. In a query a plus is a space, which follows a word.
func (s *scan) numberStart(place, end int) int {
	text := s.text
	if place > 0 && text[place-1] == '+' && (place < 2 || !isAlnum(text[place-2])) {
		place--
	}
	if place > 0 && text[place-1] == '(' && strings.Contains(text[place:end], ")") {
		place--
	}
	return place
}

// longest finds the most groups, from the first on, that are anything, of a run
// that looks like a card or not.
func (s *scan) longest(groups []group, card bool) (last int, kind Kind) {
	for last := len(groups); last > 0; last-- {
		if last < len(groups) && !parts(s.text[groups[last-1].end:groups[last].start]) {
			continue
		}
		n := number{text: s.text, groups: groups[:last], digits: s.digits[:0]}
		n.start = s.numberStart(groups[0].start, n.end())
		if !n.read() {
			continue
		}
		kind := s.classify(&n)
		if kind == Phone && card && s.text[n.start] != '+' {
			continue // one with a wrong digit, which has no phone number in it
		}
		if kind != "" {
			return last, kind
		}
	}
	return 0, ""
}

// parts tells whether what is between two groups may part two numbers.
func parts(separator string) bool { return strings.ContainsAny(separator, " /+(\t") }

func (s *scan) startsNumber(i int) bool {
	text := s.text
	if c := text[i]; !isDigit(c) && (i+1 >= len(text) || !isDigit(text[i+1]) && text[i+1] != '(') {
		return false
	}
	if i == 0 {
		return true
	}
	before := text[i-1]
	return !isAlnum(before)
}

// isOpaque tells whether a run is part of an id, such as a UUID.
func (s *scan) isOpaque(start, end int) bool {
	text := s.text
	if end < len(text) && (isLetter(text[end]) || text[end] == '_') {
		return true
	}
	before := start >= 2 && text[start-1] == '-' && isAlnum(text[start-2])
	after := end+1 < len(text) && text[end] == '-' && isAlnum(text[end+1])
	return before && after
}

// numberRun finds the groups of the run that begins at i, and returns how many
// there are.
func numberRun(text string, i int, groups []group) (n int) {
	separators, at := 0, -1
	for j := i; j < len(text); j++ {
		switch c := text[j]; {
		case isDigit(c):
			if at < 0 {
				if n == len(groups) {
					return n
				}
				at = j
			}
			groups[n], separators = group{at, j + 1}, 0
		case j == i && (c == '+' || c == '('), separators < 3 && strings.IndexByte(" -./()+\t", c) >= 0:
			if at >= 0 {
				n, at = n+1, -1
			}
			separators++
		default:
			if at >= 0 {
				n++
			}
			return n
		}
	}
	if at >= 0 {
		n++
	}
	return n
}

func (n *number) end() int { return n.groups[len(n.groups)-1].end }

// read collects the digits; it is false if there are too many.
func (n *number) read() bool {
	for _, g := range n.groups {
		if len(n.digits)+g.end-g.start > maxDigits {
			return false
		}
		n.digits = append(n.digits, n.text[g.start:g.end]...)
	}
	return true
}

// as tells whether these are the sizes of the groups.
func (n *number) as(sizes ...int) bool {
	if len(n.groups) != len(sizes) {
		return false
	}
	for i, size := range sizes {
		if n.size(i) != size {
			return false
		}
	}
	return true
}

func (n *number) size(i int) int { return n.groups[i].end - n.groups[i].start }

// separator is what is between group i and the next.
func (n *number) separator(i int) string { return n.text[n.groups[i].end:n.groups[i+1].start] }

// separatedBy tells whether all groups are separated by this alone.
func (n *number) separatedBy(separator string) bool {
	for i := range len(n.groups) - 1 {
		if n.separator(i) != separator {
			return false
		}
	}
	return len(n.groups) > 1
}

// classify tells what a number is; "" if nothing personal.
func (s *scan) classify(n *number) Kind {
	switch {
	case len(n.groups) == 4 && n.separatedBy("."):
		if s.isIPv4(n) {
			return IP
		}
		return s.phoneKind(n)
	case len(n.digits) < 7:
		return ""
	case s.isCard(n):
		return Card
	case s.isSSN(n):
		return SSN
	case s.isBSN(n):
		return BSN
	}
	return s.phoneKind(n)
}

func (s *scan) phoneKind(n *number) Kind {
	if len(n.digits) >= 7 && s.isPhone(n) {
		return Phone
	}
	return ""
}

// versionWords are before what looks like an IPv4 address and is a version.
var versionWords = []string{"version", "versie", "build", "release", "firmware", "driver", "ver."}

func (s *scan) isIPv4(n *number) bool {
	address, err := netip.ParseAddr(n.text[n.groups[0].start:n.end()])
	if err != nil || !isSomebodys(address) {
		return false
	}
	return !s.follows(n.start, 12, versionWords)
}

// isDate tells whether the first three groups are a date, in either order, with
// a year that there is.
func isDate(text string, groups []group) bool {
	if len(groups) < 3 || text[max(0, groups[0].start-1)] == '+' {
		return false
	}
	n := number{text: text, groups: groups[:3]}
	year := 0
	switch {
	case n.as(4, 2, 2):
	case n.size(0) <= 2 && n.size(1) <= 2 && n.size(2) == 4:
		year = 2
	default:
		return false
	}
	century := text[groups[year].start:][:2]
	return century == "19" || century == "20"
}

// An issuer's range of payment cards: the first digits, and the lengths
// (ISO/IEC 7812; what is issued, of which not all registries agree).
type issuer struct {
	from, to string // of the same length
	lengths  []int
}

var issuers = []issuer{
	{"4", "4", []int{16, 19}}, // Visa
	{"51", "55", []int{16}},   // Mastercard
	{"2221", "2720", []int{16}},
	{"34", "34", []int{15}}, // American Express
	{"37", "37", []int{15}},
	{"6011", "6011", []int{16}}, // Discover
	{"644", "659", []int{16}},
	{"3528", "3589", []int{16}}, // JCB
	{"300", "305", []int{14}},   // Diners Club
	{"36", "36", []int{14}},
	{"38", "39", []int{14}},
	{"62", "62", []int{16, 17, 18, 19}}, // UnionPay
	{"81", "81", []int{16}},
	{"5018", "5018", []int{16}}, // Maestro
	{"5020", "5020", []int{16}},
	{"5038", "5038", []int{16}},
	{"5893", "5893", []int{16}},
	{"6304", "6304", []int{16, 19}},
	{"6759", "6763", []int{16, 19}},
	{"2200", "2204", []int{16}}, // Mir
	{"508", "508", []int{16}},   // RuPay
	{"60", "60", []int{16}},
}

// isCard checks the issuer, the length and the check digit of a payment card,
// and that its digits are grouped as on a card.
func (s *scan) isCard(n *number) bool {
	size := len(n.digits)
	if size < 14 || n.text[n.start] == '+' || !luhn(n.digits) || !n.groupedAsCard() {
		return false
	}
	for _, r := range issuers {
		first := string(n.digits[:len(r.from)])
		if first < r.from || first > r.to {
			continue
		}
		if slices.Contains(r.lengths, size) {
			return true
		}
	}
	return false
}

func (n *number) groupedAsCard() bool {
	switch {
	case len(n.groups) == 1, n.as(4, 6, 5), n.as(4, 6, 4), n.as(6, 13), n.as(6, 10):
		return true
	}
	for i := range len(n.groups) - 1 {
		if n.size(i) != 4 {
			return false
		}
	}
	return true
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

var (
	bsnWords = []string{"bsn", "burgerservice", "sofi", "citizen service number"}
	ssnWords = []string{"ssn", "social security", "social-security", "socialsecurity", "taxpayer", "tax id", "tax_id", "taxid", "itin"}
)

// isBSN: one in eleven numbers passes the test, so that it takes a word beside
// it or the name of its field.
func (s *scan) isBSN(n *number) bool {
	if len(n.digits) != 9 && len(n.digits) != 8 || !s.spoken(n.start, bsnWords) {
		return false
	}
	sum, d := 0, n.digits
	for i := range d {
		weight := len(d) - i
		if weight == 1 {
			weight = -1
		}
		sum += int(d[i]-'0') * weight
	}
	return sum%11 == 0
}

// isSSN checks the parts of the number, of which some are never issued: 000, 666
// and 9xx for the area (9xx is that of a taxpayer without one), 00, 0000. With
// the dashes that are written in it it needs no word beside it.
func (s *scan) isSSN(n *number) bool {
	d := n.digits
	if len(d) != 9 || string(d[:3]) == "000" || string(d[:3]) == "666" || string(d[3:5]) == "00" || string(d[5:]) == "0000" {
		return false
	}
	if d[0] != '9' && n.as(3, 2, 4) && n.separatedBy("-") && !n.isAttached() {
		return true
	}
	return (len(n.groups) == 1 || n.as(3, 2, 4)) && s.spoken(n.start, ssnWords)
}

// isAttached tells whether a number goes on from a word, as in SKU-123.
func (n *number) isAttached() bool {
	return n.start >= 2 && n.text[n.start-1] == '-' && isAlnum(n.text[n.start-2])
}

// spoken tells whether one of the words is a little before a place of the text,
// or in the name of its field.
func (s *scan) spoken(place int, words []string) bool {
	return s.follows(place, 40, words) || containsFold(s.key, words)
}

// follows tells whether one of the words is among the bytes before a place.
func (s *scan) follows(place, bytes int, words []string) bool {
	return containsFold(s.text[max(0, place-bytes):place], words)
}

// containsFold tells whether one of the words, which are in lower case, begins a
// word of the text or, if it ends in $, is one.
func containsFold(text string, words []string) bool {
	for i := range len(text) {
		c := text[i]
		if !isLetter(c) && c < utf8.RuneSelf || i > 0 && isLetter(text[i-1]) && (!isLower(text[i-1]) || isLower(c)) {
			continue // no beginning of a word; firstName is two
		}
		for _, word := range words {
			if word[0] != c|0x20 && c < utf8.RuneSelf {
				continue
			}
			word, whole := strings.CutSuffix(word, "$")
			if end := i + len(word); end <= len(text) && strings.EqualFold(text[i:end], word) && (!whole || end == len(text) || !isLetter(text[end])) {
				return true
			}
		}
	}
	return false
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
