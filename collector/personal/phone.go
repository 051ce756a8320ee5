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
	"phone", "tel", "tél", "call", "mobile", "mob", "cell", "celular", "whatsapp", "sms", "text$", "fax", "reach", "ring", "dial", "contact", "msisdn",
	"bel$", "bellen$", "mobiel", "gsm", "anruf", "ruf", "handy", "mobil", "appel", "joindre", "llam", "llám", "móvil", "movil", "chiam", "zadzwo", "ligue", "電話",
}

// idWords are right before a number that is something else.
var idWords = []string{
	"order", "bestel", "invoice", "factu", "rechnung", "ticket", "sku$", "ean$", "isbn$", "track", "ref", "case", "batch", "serial", "seri", "klantn",
	"article", "artikel", "art$", "item", "id$", "code", "commande", "pedido", "ordine", "lot$", "part", "transaction", "receipt", "product",
}

// isPhone asks the numbering plans (libphonenumber's metadata) about a number
// that is written as one, or that has a word beside it.
func (s *scan) isPhone(n *number) bool {
	size := len(n.digits)
	if size > 15 || len(n.groups) > 6 || n.isDecimal() {
		return false
	}
	text := n.written()
	switch {
	case text[0] == '+', strings.HasPrefix(text, "(+"):
		return size >= 8 && s.asked(func() bool { return isPossible(text, "ZZ") })
	case strings.HasPrefix(string(n.digits), "00") && size >= 10 && n.digits[2] != '0' && n.size(0) != 1:
		return s.asked(func() bool { return isAnywhere("+" + string(n.digits[2:])) }) // and no number with zeros before it
	case size > 13:
		return false
	}
	spoken := s.spoken(n.start, phoneWords)
	if !spoken && (n.isAttached() || s.isMoney(n)) || len(n.groups) == 1 && s.follows(n.start, 16, idWords) && !s.follows(n.start, 16, phoneWords) {
		return false
	}
	switch {
	case n.digits[0] == '0' && size >= 9 && size <= 12:
		return spoken || s.isNational(text, len(n.groups) > 1)
	case text[0] == '(' && size >= 9:
		return s.isNational(text, true)
	case n.as(3, 3, 4) || n.as(1, 3, 3, 4):
		return s.asked(func() bool { return s.isOwn(text) || isValid(text, "US") })
	case spoken && size >= 8 && s.detector.Region != "" && s.asked(func() bool { return isPossible(text, s.detector.Region) }):
		return true
	case spoken && size >= 8:
		return s.isAnyones(text, plainRegions)
	}
	// As it is written by people, in the country that the workspace is in.
	people := len(n.groups) > 2 || len(n.groups) == 2 && (n.separator(0) == " " || n.size(0) <= 3 && n.size(1) >= 6)
	return people && size >= 8 && n.groupsAre(2) && s.asked(func() bool { return s.isOwn(text) })
}

// written is the number as people write it: a plus within it is a space, as in a
// query.
func (n *number) written() string {
	text := n.text[n.start:n.end()]
	if i := strings.LastIndexByte(text, '+'); i > 1 {
		return text[:2] + strings.ReplaceAll(text[2:], "+", " ")
	}
	return text
}

// isNational tells whether a number is valid where the workspace is or, for one
// that is certainly meant for a number or if nobody says where that is, anywhere.
func (s *scan) isNational(text string, certain bool) bool {
	if s.asked(func() bool { return s.isOwn(text) }) {
		return true
	}
	return (certain || s.detector.Region == "") && s.isAnyones(text, trunkRegions)
}

func (s *scan) isAnyones(text string, regions []string) bool {
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
func isPossible(text, region string) bool {
	parsed, err := phonenumbers.Parse(text, region)
	return err == nil && phonenumbers.IsPossibleNumber(parsed)
}

// isAnywhere tells whether a number with its country is valid.
func isAnywhere(text string) bool {
	parsed, err := phonenumbers.Parse(text, "ZZ")
	return err == nil && phonenumbers.IsValidNumber(parsed)
}

func isValid(text, region string) bool {
	parsed, err := phonenumbers.Parse(text, region)
	return err == nil && phonenumbers.IsValidNumberForRegion(parsed, region)
}

// isDecimal tells whether it is one number with a point, or a version.
func (n *number) isDecimal() bool {
	if n.text[n.start] == '+' || len(n.groups) < 2 || !n.separatedBy(".") {
		return false
	}
	return n.size(0) == 1 || len(n.groups) == 2 && n.text[n.groups[0].start] != '0' || len(n.groups) == 2 && n.size(1) > 8
}

// groupsAre tells whether no group is smaller.
func (n *number) groupsAre(least int) bool {
	for i := range n.groups {
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
	for i := 1; i < len(n.groups); i++ {
		if n.size(i) != 3 {
			return false
		}
	}
	before, after := strings.TrimRight(n.text[:n.start], " +"), strings.TrimLeft(n.text[n.end():], " +")
	return len(n.groups) > 1 && slices.ContainsFunc(currencies, func(c string) bool {
		return strings.HasSuffix(before, c) || strings.HasPrefix(after, c)
	})
}
