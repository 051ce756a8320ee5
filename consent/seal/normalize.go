package seal

import (
	"errors"
	"strings"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Kind is the kind of an identifier.
type Kind string

// The kinds.
const (
	Email       Kind = "email"
	Phone       Kind = "phone"
	UserID      Kind = "user_id"
	AnonymousID Kind = "anonymous_id"
	GroupID     Kind = "group_id"
)

// normVersion is part of every pseudonym's input: values normalised by other
// rules would give other pseudonyms, never wrong matches.
const normVersion = "1"

// MaxIdentifier is the length in bytes that a normalised identifier may have.
const MaxIdentifier = 1024

// ErrNotAnIdentifier is returned for a value that is not of its kind. It does
// not repeat the value.
var ErrNotAnIdentifier = errors.New("the value is not a valid identifier of its kind")

// Normalize returns the one form under which a value is recognised again.
//
// An e-mail address is trimmed, NFC, lower case, its domain in ASCII (IDNA);
// dots and +tags stay, since removing them can join two people. A phone number
// becomes E.164; one without a country prefix needs region (ISO 3166-1 alpha-2),
// else it is refused. Other identifiers are opaque and only trimmed.
func Normalize(kind Kind, value, region string) (string, error) {
	value = strings.TrimSpace(value)
	switch kind {
	case Email:
		return normalizeEmail(value)
	case Phone:
		return normalizePhone(value, region)
	case UserID, AnonymousID, GroupID:
		if value == "" || len(value) > MaxIdentifier {
			return "", ErrNotAnIdentifier
		}
		return value, nil
	default:
		return "", ErrNotAnIdentifier
	}
}

func normalizeEmail(value string) (string, error) {
	value = strings.ToLower(norm.NFC.String(value))
	at := strings.LastIndexByte(value, '@')
	if at < 1 || strings.ContainsAny(value, " \t\r\n<>,;\"()") || strings.Contains(value[:at], "@") {
		return "", ErrNotAnIdentifier
	}
	domain, err := idna.Lookup.ToASCII(value[at+1:])
	if err != nil || !strings.Contains(domain, ".") || strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") {
		return "", ErrNotAnIdentifier
	}
	value = value[:at+1] + domain
	if len(value) > 254 { // RFC 5321 §4.5.3.1.3
		return "", ErrNotAnIdentifier
	}
	return value, nil
}

func normalizePhone(value, region string) (string, error) {
	if len(value) > 64 { // the parser's cost grows with length
		return "", ErrNotAnIdentifier
	}
	if region == "" {
		region = "ZZ" // unknown: only numbers with a country prefix parse
	}
	number, err := phonenumbers.Parse(value, region)
	// Only numbers that can exist: placeholders such as 0000000 are typed by many
	// people, and would join them.
	if err != nil || !phonenumbers.IsValidNumber(number) {
		return "", ErrNotAnIdentifier
	}
	return phonenumbers.Format(number, phonenumbers.E164), nil
}
