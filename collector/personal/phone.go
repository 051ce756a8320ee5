package personal

import (
	"slices"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// maxChecks bounds how often the numbering plans are asked about one text, since
// each time costs as much as a page of text. What is not asked about is taken for
// a number.
const maxChecks = 24

// trunkRegions are countries whose national numbers are written with a leading
// zero. They are tried for numbers of which nobody says from where they are.
var trunkRegions = []string{"NL", "DE", "FR", "GB", "BE", "CH", "AT", "SE", "IT", "IE", "AU", "TR"}

// plainRegions are countries whose national numbers have no such mark.
var plainRegions = []string{"US", "ES", "PL", "DK", "NO", "PT", "CZ", "GR"}

// phoneWords are beside a number that has no other mark of a phone number.
var phoneWords = []string{
	"phone", "tel", "call", "mobile", "mob", "cell", "whatsapp", "sms", "fax", "reach", "ring", "dial", "contact", "msisdn",
	"bel", "mobiel", "anruf", "ruf", "handy", "mobil", "appel", "joindre", "llam", "móvil", "chiama", "zadzwo", "ring", "ligue",
}

// idWords are right before a number that is something else.
var idWords = []string{
	"order", "bestel", "invoice", "factu", "rechnung", "ticket", "sku", "ean", "isbn", "tracking", "track", "ref", "case", "batch", "serial",
	"article", "artikel", "art.", "item", "nr", "no", "num", "id", "code", "commande", "pedido", "ordine", "best", "kassa", "#", "lot", "part", "transaction", "receipt",
}

// isPhone asks the numbering plans (libphonenumber's metadata) about a number
// that is written as one, or that has a word beside it.
func (s *scan) isPhone(n *number) bool {
	size := len(n.digits)
	if size > 15 || n.isDecimal() || n.n > 6 {
		return false
	}
	text := n.text[n.start:n.end()]
	switch {
	case text[0] == '+', strings.HasPrefix(text, "(+"):
		return size >= 8 && s.asked(func() bool { return isPossible(text) })
	case strings.HasPrefix(string(n.digits), "00") && size >= 10 && n.digits[2] != '0' && n.size(0) != 1:
		return s.asked(func() bool { return isValid("+"+string(n.digits[2:]), "ZZ") })
	case size > 13 || size < 7:
		return false
	}
	spoken := s.spoken(n.start, phoneWords)
	switch {
	case n.n == 1 && !spoken && s.follows(n.start, 8, idWords):
		return false
	case !spoken && s.isMoney(n):
		return false
	case n.digits[0] == '0' && size >= 9, text[0] == '(' && size >= 9:
		return s.isNational(text, n.n > 1 || spoken, trunkRegions)
	case n.as(3, 3, 4) || n.as(1, 3, 3, 4):
		return s.asked(func() bool { return s.isOwn(text) || isValid(text, "US") })
	case spoken:
		return s.isNational(text, size >= 8, plainRegions)
	}
	// As it is written by people, in the country that the workspace is in.
	return n.n > 1 && n.n <= 5 && size >= 8 && n.groupsAre(2) && s.asked(func() bool { return s.isOwn(text) })
}

// isNational tells whether a number is valid where the workspace is or, for one
// that is certainly meant for a number, anywhere in these.
func (s *scan) isNational(text string, certain bool, regions []string) bool {
	if s.asked(func() bool { return s.isOwn(text) }) {
		return true
	}
	if s.detector.Region != "" && !certain {
		return false
	}
	return slices.ContainsFunc(regions, func(region string) bool {
		return s.asked(func() bool { return isValid(text, region) })
	})
}

// isOwn tells whether a number is valid where the workspace is.
func (s *scan) isOwn(text string) bool {
	return s.detector.Region != "" && isValid(text, s.detector.Region)
}

func (s *scan) asked(plan func() bool) bool {
	s.checks++
	return s.checks > maxChecks || plan()
}

// isPossible tells whether a number is as long as those of its country: who has
// mistyped a number has still given it.
func isPossible(text string) bool {
	parsed, err := phonenumbers.Parse(text, "ZZ")
	return err == nil && phonenumbers.IsPossibleNumber(parsed)
}

func isValid(text, region string) bool {
	parsed, err := phonenumbers.Parse(text, region)
	if err != nil {
		return false
	}
	if region == "ZZ" {
		return phonenumbers.IsValidNumber(parsed)
	}
	return phonenumbers.IsValidNumberForRegion(parsed, region)
}

// isDecimal tells whether it is one number with a point, or a version.
func (n *number) isDecimal() bool {
	if n.text[n.start] == '+' || n.n < 2 || !n.separatedBy(".") {
		return false
	}
	return n.size(0) == 1 || n.n == 2 && n.text[n.groups[0].start] != '0' || n.n == 2 && n.size(1) > 8
}

// groupsAre tells whether no group is smaller.
func (n *number) groupsAre(least int) bool {
	for i := range n.n {
		if n.size(i) < least {
			return false
		}
	}
	return true
}

// currencies are beside an amount.
var currencies = []string{"€", "$", "£", "¥", "EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "kr", "zł", "Ft", "pcs", "units", "views", "km"}

// isMoney tells whether a number in groups of three is an amount.
func (s *scan) isMoney(n *number) bool {
	for i := 1; i < n.n; i++ {
		if n.size(i) != 3 {
			return false
		}
	}
	before, after := strings.TrimRight(n.text[:n.start], " \u00a0"), strings.TrimLeft(n.text[n.end():], " \u00a0")
	return n.n > 1 && slices.ContainsFunc(currencies, func(c string) bool {
		return strings.HasSuffix(before, c) || strings.HasPrefix(after, c)
	})
}
