// Package canary makes personal values that occur nowhere else, and finds them
// in bytes, in whatever form somebody could have written them down.
package canary

import (
	"crypto/rand"
	"encoding/base32"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Canary is a value that was given to the product. It belongs to nobody.
type Canary struct {
	Kind  string // such as "email"
	Where string // it was sent, such as "page.title of a refused event"
	Value string
	Owner int // the person whose it is, as the caller numbers them

	needles []string // beside the value: parts of it and other ways to write it
}

// Set makes canaries and remembers them. It may be used concurrently.
type Set struct {
	mu  sync.Mutex
	all []Canary
}

// All are the canaries made so far.
func (s *Set) All() []Canary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clip(s.all)
}

func (s *Set) add(kind, where string, owner int, value string, needles ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, Canary{kind, where, value, owner, needles})
	return value
}

// token is a word that is nowhere else: 80 random bits.
func token() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

func digits(n int) string {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
	number, _ := rand.Int(rand.Reader, limit) // never fails
	text := number.String()
	return strings.Repeat("0", n-len(text)) + text
}

// Token makes a word, such as an id or the name of a field.
func (s *Set) Token(where string, owner int) string {
	return s.add("word", where, owner, "c"+token())
}

// Email makes an e-mail address. Its local part alone counts as found, too.
func (s *Set) Email(where string, owner int) string {
	local := "c." + token()
	return s.add("email", where, owner, local+"@mail.example", local[2:])
}

// Phone makes a phone number (a Dutch mobile one, in E.164).
func (s *Set) Phone(where string, owner int) string {
	digit, _ := rand.Int(rand.Reader, big.NewInt(5)) // never fails
	national := "6" + strconv.FormatInt(1+digit.Int64(), 10) + digits(7)
	number := "31" + national
	return s.add("phone", where, owner, "+"+number, number, reversed(number), "0"+national, reversed("0"+national))
}

// Name makes a first and a last name.
func (s *Set) Name(where string, owner int) string {
	first, last := "C"+token(), "C"+token()
	return s.add("name", where, owner, first+" "+last, first, last, last+", "+first)
}

// Address makes a street with a number.
func (s *Set) Address(where string, owner int) string {
	street := "C" + token() + "straat"
	return s.add("address", where, owner, street+" 12", street)
}

// Card makes the number of a payment card.
func (s *Set) Card(where string, owner int) string {
	number := "4" + digits(14)
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 0 {
			d = d*2/10 + d*2%10
		}
		sum += d
	}
	number += strconv.Itoa((10 - sum%10) % 10)
	return s.add("card", where, owner, number, spaced(number))
}

// IBAN makes a Dutch one.
func (s *Set) IBAN(where string, owner int) string {
	account := "CANA" + digits(10)
	rest := 0
	for _, c := range account + "NL00" {
		if c >= 'A' {
			rest = (rest*100 + int(c-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(c-'0')) % 97
		}
	}
	check := strconv.Itoa(98 - rest)
	if len(check) == 1 {
		check = "0" + check
	}
	iban := "NL" + check + account
	return s.add("iban", where, owner, iban, spaced(iban))
}

// IP makes an IPv6 address.
func (s *Set) IP(where string, owner int) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0], b[1] = 0x2a, 0x02
	address := netip.AddrFrom16(b)
	return s.add("ip", where, owner, address.String(), address.StringExpanded())
}

// spaced is a number in groups of four.
func spaced(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// reversed is an ASCII text backwards.
func reversed(text string) string {
	b := []byte(text)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// Mark makes a canary of a word that the caller made.
func (s *Set) Mark(where string, owner int, word string) { s.add("word", where, owner, word) }
