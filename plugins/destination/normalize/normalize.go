// Package normalize brings values into the forms that advertising platforms
// match people by: normalised and hashed exactly as each documents it. The host
// applies a form before a destination's process sees the value, so that no
// plugin for an ad platform is handed an address in clear.
//
// testdata/vectors.tsv has the platforms' published examples, with their
// sources.
package normalize

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// errs say what a value is not. None repeats it.
var (
	errEmail   = errors.New("is not an e-mail address")
	errPhone   = errors.New("is not a phone number with its country code, such as +31612345678")
	errEmpty   = errors.New("has nothing left when it is normalised")
	errGender  = errors.New("is neither f, female, m nor male")
	errDate    = errors.New("is not a date such as 1997-02-16")
	errCountry = errors.New("is not a country's code of two letters, such as NL")
)

// form is how a value gets its form.
type form struct {
	normalize func(string) (string, error)
	hashed    bool
}

// forms are all that there are. A form never changes its meaning: what a
// platform documents anew gets a new name.
func forms() map[string]form {
	return map[string]form{
		"email": {normalize: address},
		"e164":  {normalize: phone("+")},

		"google.email":       {googleEmail, true},
		"google.phone":       {phone("+"), true},
		"google.given_name":  {lower, true},
		"google.family_name": {lower, true},
		"google.region":      {upperCountry, false},
		"google.postal_code": {trim, false},

		"meta.email":         {address, true},
		"meta.phone":         {phone(""), true},
		"meta.name":          {only(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || r == ' ' }), true},
		"meta.first_initial": {initial, true},
		"meta.gender":        {gender, true},
		"meta.birth_date":    {date("20060102"), true},
		"meta.birth_year":    {part("2006", 1900, 9999), true},
		"meta.birth_month":   {part("01", 1, 12), true},
		"meta.birth_day":     {part("02", 1, 31), true},
		"meta.city":          {only(letterOrDigit), true},
		"meta.state":         {only(letterOrDigit), true},
		"meta.zip":           {zip, true},
		"meta.country":       {country, true},
		"meta.madid":         {lower, false},
		"meta.external_id":   {trim, true},
	}
}

// Known reports whether there is a form of that name.
func Known(name string) bool {
	_, ok := forms()[name]
	return ok
}

// Apply brings a value into a form. A value that is hashed already, which is 64
// hexadecimal digits, stays as it is where the form is a hash. An error says
// what the value is not, without repeating it.
func Apply(name, value string) (string, error) {
	f, ok := forms()[name]
	if !ok {
		return "", fmt.Errorf("there is no form %q", name)
	}
	if f.hashed && IsHash(strings.ToLower(value)) {
		return strings.ToLower(value), nil
	}
	value, err := f.normalize(strings.ToValidUTF8(value, ""))
	if err != nil {
		return "", err
	}
	if value == "" {
		return "", errEmpty
	}
	if !f.hashed {
		return value, nil
	}
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:]), nil
}

// IsHash reports whether a value is a SHA-256 in lower-case hexadecimal.
func IsHash(value string) bool {
	for _, r := range value {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return len(value) == 2*sha256.Size
}

// Batch applies the forms of the target's fields to a batch: it returns one
// whose columns with a form are strings in it. A value that cannot be brought
// into its form is left out, as if it were NULL, so that a bad phone number does
// not keep an e-mail address from being sent. dropped has a sentence about it
// for each such row, by its index.
func Batch(target destination.Target, batch destination.Batch) (out destination.Batch, dropped map[int]string) {
	named := map[string]string{}
	for _, f := range target.Fields {
		if f.Form != "" {
			named[f.Name] = f.Form
		}
	}
	if len(named) == 0 {
		return batch, nil
	}
	out, dropped = batch, map[int]string{}
	out.Columns = append([]destination.Column(nil), batch.Columns...)
	out.Changes = append([]destination.Change(nil), batch.Changes...)
	for i, c := range batch.Changes {
		out.Changes[i].Values = append([]any(nil), c.Values...)
		out.Changes[i].Former = nil
		for _, values := range c.Former {
			out.Changes[i].Former = append(out.Changes[i].Former, append([]any(nil), values...))
		}
	}
	for col, column := range batch.Columns {
		name, ok := named[column.Name]
		if !ok {
			continue
		}
		out.Columns[col].Type = destination.String
		for i, c := range batch.Changes {
			value, err := applyAny(name, c.Values[col])
			out.Changes[i].Values[col] = value
			if err != nil {
				dropped[i] += "; " + column.Name + " " + err.Error()
			}
			for n, values := range c.Former { // what had no form was not sent then, either
				out.Changes[i].Former[n][col], _ = applyAny(name, values[col])
			}
		}
	}
	for i, what := range dropped {
		dropped[i] = "sent without what is not in its form: " + strings.TrimPrefix(what, "; ")
	}
	return out, dropped
}

// applyAny is Apply for a value of any type of column; nil stays nil, and so
// does the empty text, which says nothing of a person.
func applyAny(name string, value any) (any, error) {
	var text string
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		text = v
	case time.Time:
		text = v.Format(time.DateOnly)
	default:
		text = fmt.Sprint(v)
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	got, err := Apply(name, text)
	if err != nil {
		return nil, err
	}
	return got, nil
}

func trim(s string) (string, error)  { return strings.TrimSpace(s), nil }
func lower(s string) (string, error) { return strings.ToLower(strings.TrimSpace(s)), nil }

// address checks that there is one @ with something on either side: more is
// not for us to know.
func address(s string) (string, error) {
	s, _ = lower(s)
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || strings.ContainsAny(domain, "@ \t\r\n") {
		return "", errEmail
	}
	return s, nil
}

// googleEmail drops what Gmail does not look at.
func googleEmail(s string) (string, error) {
	s, err := address(strings.Join(strings.Fields(s), ""))
	if err != nil {
		return "", err
	}
	local, domain, _ := strings.Cut(s, "@")
	if domain == "gmail.com" || domain == "googlemail.com" {
		local, _, _ = strings.Cut(local, "+")
		local = strings.ReplaceAll(local, ".", "")
	}
	if local == "" {
		return "", errEmail
	}
	return local + "@" + domain, nil
}

// phone takes a number with its country code: after + or 00, or so long that it
// must have one. A national number is refused: to guess its country would send
// somebody else's number.
func phone(prefix string) func(string) (string, error) {
	return func(s string) (string, error) {
		s = strings.TrimSpace(s)
		var digits strings.Builder
		for _, r := range s {
			switch {
			case r >= '0' && r <= '9':
				digits.WriteRune(r)
			case unicode.IsLetter(r):
				return "", errPhone
			}
		}
		number := digits.String()
		international := strings.HasPrefix(s, "+")
		if rest, ok := strings.CutPrefix(number, "00"); ok && !international {
			number, international = rest, true
		}
		if !international && (len(number) < 11 || number[0] == '0') {
			return "", errPhone
		}
		number = strings.TrimLeft(number, "0")
		if len(number) < 7 || len(number) > 15 {
			return "", errPhone
		}
		return prefix + number, nil
	}
}

func letterOrDigit(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)
}

// only keeps some characters, in lower case, whatever their alphabet.
func only(keep func(rune) bool) func(string) (string, error) {
	return func(s string) (string, error) {
		s = strings.Map(func(r rune) rune {
			if keep(r) {
				return r
			}
			return -1
		}, strings.ToLower(s))
		return strings.TrimSpace(s), nil
	}
}

func initial(s string) (string, error) {
	s, err := only(letterOrDigit)(s)
	for _, r := range s {
		return string(r), err
	}
	return "", err
}

func gender(s string) (string, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "f", "female":
		return "f", nil
	case "m", "male":
		return "m", nil
	}
	return "", errGender
}

func date(layout string) func(string) (string, error) {
	return func(s string) (string, error) {
		for _, known := range []string{time.DateOnly, "20060102", time.RFC3339} {
			if d, err := time.Parse(known, strings.TrimSpace(s)); err == nil && d.Year() >= 1900 {
				return d.Format(layout), nil
			}
		}
		return "", errDate
	}
}

// part takes a year, month or day alone, or that of a date.
func part(layout string, least, most int) func(string) (string, error) {
	return func(s string) (string, error) {
		s = strings.TrimSpace(s)
		if n, err := strconv.Atoi(s); err == nil && n >= least && n <= most && len(s) <= len(layout) {
			return fmt.Sprintf("%0*d", len(layout), n), nil
		}
		return date(layout)(s)
	}
}

// zip drops spaces and dashes, and of nine digits of the United States the last
// four.
func zip(s string) (string, error) {
	plain, err := only(letterOrDigit)(s)
	digits := strings.IndexFunc(plain, func(r rune) bool { return r < '0' || r > '9' }) < 0
	if digits && len(plain) == 9 {
		plain = plain[:5]
	}
	return plain, err
}

func country(s string) (string, error) {
	s, _ = lower(s)
	if len(s) != 2 || s[0] < 'a' || s[0] > 'z' || s[1] < 'a' || s[1] > 'z' {
		return "", errCountry
	}
	return s, nil
}

func upperCountry(s string) (string, error) {
	s, err := country(s)
	return strings.ToUpper(s), err
}
