// Package tcf decodes TC strings of the IAB Europe Transparency and Consent
// Framework v2.2 and v2.3 ("Transparency and Consent String with Global Vendor
// & CMP List Formats", version 2), such as the cookie euconsent-v2 has.
//
// The decoder is strict: another version, a segment that is unknown or comes
// twice, ids that do not ascend, bits that are missing and bits that are left
// over are errors, and then there is no String. It takes time in proportion to
// the text, and allocates nothing in proportion to it or to sizes it claims:
// sets of vendors are views of the text.
//
// What a string means for a purpose of the workspace is for package consent to
// say. No error has a part of the text.
package tcf

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/consent/bits"
)

// MaxLength is the longest text, in bytes, that is looked at.
const MaxLength = 8 << 10

// DisclosureRequired is when strings began to need the segment of disclosed
// vendors (TCF v2.3).
var DisclosureRequired = time.Date(2026, time.February, 28, 0, 0, 0, 0, time.UTC)

// ErrUnreadable is wrapped by all errors of [Parse].
var ErrUnreadable = errors.New("unreadable TC string")

// IDs is a set of purposes or special features by the numbers that the TCF gives
// them, from 1 on.
type IDs = bits.Field

// Vendors is a set of vendors by their ids in the Global Vendor List.
type Vendors = bits.Set

// String is a decoded TC string. Treat it as immutable; then it is safe for
// concurrent use.
type String struct {
	Version           int // of the format: 2
	Created           time.Time
	LastUpdated       time.Time
	CMPID             int
	CMPVersion        int
	ConsentScreen     int
	ConsentLanguage   string // two upper-case letters, ISO 639-1
	VendorListVersion int
	PolicyVersion     int

	IsServiceSpecific    bool
	UseNonStandardTexts  bool
	SpecialFeatureOptIns IDs
	PurposeConsents      IDs
	// PurposeLegitimateInterests has the purposes whose legitimate interest was
	// disclosed and not objected to. It is no consent.
	PurposeLegitimateInterests IDs
	PurposeOneTreatment        bool
	PublisherCountryCode       string // two upper-case letters, ISO 3166-1

	VendorConsents            Vendors
	VendorLegitimateInterests Vendors

	// DisclosedVendors are those that the person was told of; nil if the string
	// has no such segment.
	DisclosedVendors *Vendors
	// AllowedVendors is what a segment of TCF 2.0 says; nil if there is none.
	AllowedVendors *Vendors
	// Publisher is what the person agreed to for the publisher itself; nil if the
	// string has no such segment.
	Publisher *Publisher
	// Restrictions are what the publisher demands of vendors.
	Restrictions Restrictions
}

// Publisher is the segment with the publisher's own transparency and consent.
type Publisher struct {
	Consents            IDs
	LegitimateInterests IDs
	// CustomPurposes is how many purposes of its own the publisher has, up to 63;
	// bit 0 of the masks is the first.
	CustomPurposes            int
	CustomConsents            uint64
	CustomLegitimateInterests uint64
}

// RestrictionType is what a publisher demands of vendors for a purpose.
type RestrictionType int

// The types, by their numbers in the string.
const (
	NotAllowed RestrictionType = iota
	RequireConsent
	RequireLegitimateInterest
	undefined
)

// Restriction is what the publisher demands of some vendors for one purpose.
type Restriction struct {
	Purpose int
	Type    RestrictionType
	Vendors Vendors
}

// Parse decodes a TC string of at most [MaxLength] bytes. Its error wraps
// [ErrUnreadable].
func Parse(text string) (*String, error) {
	s, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return s, nil
}

func parse(text string) (*String, error) {
	if len(text) > MaxLength {
		return nil, fmt.Errorf("longer than %d bytes", MaxLength)
	}
	core, rest, more := strings.Cut(text, ".")
	s, err := parseCore(core)
	if err != nil {
		return nil, fmt.Errorf("core: %w", err)
	}
	for more {
		var segment string
		segment, rest, more = strings.Cut(rest, ".")
		if err := s.parseSegment(segment); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func parseCore(text string) (*String, error) {
	r := bits.NewReader(text)
	s := &String{Version: r.Uint(6)}
	if r.Err() == nil && s.Version != 2 {
		return nil, fmt.Errorf("version %d; known is 2", s.Version)
	}
	s.Created = ReadTime(r)
	s.LastUpdated = ReadTime(r)
	s.CMPID = r.Uint(12)
	s.CMPVersion = r.Uint(12)
	s.ConsentScreen = r.Uint(6)
	s.ConsentLanguage = r.Letters(2)
	s.VendorListVersion = r.Uint(12)
	s.PolicyVersion = r.Uint(6)
	s.IsServiceSpecific = r.Bool()
	s.UseNonStandardTexts = r.Bool()
	s.SpecialFeatureOptIns = r.Field(12)
	s.PurposeConsents = r.Field(24)
	s.PurposeLegitimateInterests = r.Field(24)
	s.PurposeOneTreatment = r.Bool()
	s.PublisherCountryCode = r.Letters(2)
	s.VendorConsents = r.Set()
	s.VendorLegitimateInterests = r.Set()
	s.Restrictions = ReadRestrictions(r, false)
	return s, r.Close()
}

// ReadTime reads a time in tenths of a second since 1970, of 36 bits.
func ReadTime(r *bits.Reader) time.Time {
	return time.UnixMilli(int64(r.Uint(36)) * 100).UTC()
}

func (s *String) parseSegment(text string) error {
	r := bits.NewReader(text)
	switch kind := r.Uint(3); {
	case r.Err() != nil:
		return fmt.Errorf("segment: %w", r.Err())
	case kind == 1:
		return setOnce("disclosed vendors", r, &s.DisclosedVendors, readVendors)
	case kind == 2:
		return setOnce("allowed vendors", r, &s.AllowedVendors, readVendors)
	case kind == 3:
		return setOnce("publisher", r, &s.Publisher, ReadPublisher)
	default:
		return fmt.Errorf("segment of unknown type %d", kind)
	}
}

func setOnce[T any](name string, r *bits.Reader, to **T, read func(*bits.Reader) *T) error {
	if *to != nil {
		return fmt.Errorf("%s: segment comes twice", name)
	}
	*to = read(r)
	if err := r.Close(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func readVendors(r *bits.Reader) *Vendors {
	v := r.Set()
	return &v
}

// ReadPublisher reads that segment behind its type.
func ReadPublisher(r *bits.Reader) *Publisher {
	p := &Publisher{Consents: r.Field(24), LegitimateInterests: r.Field(24), CustomPurposes: r.Uint(6)}
	p.CustomConsents = mask(r, p.CustomPurposes)
	p.CustomLegitimateInterests = mask(r, p.CustomPurposes)
	return p
}

func mask(r *bits.Reader, n int) (m uint64) {
	for i := range n {
		if r.Bool() {
			m |= 1 << i
		}
	}
	return m
}

// Restrictions are what a publisher demands of vendors: a view of the text, as
// sets are. The zero Restrictions are none.
type Restrictions struct {
	text      string
	at        int // the bit behind their number
	n         int
	fibonacci bool
}

// ReadRestrictions reads restrictions at the reader's place. In the TCF for
// Canada their vendors are sets of their own, with ranges in Fibonacci coding
// (fibonacci); in that for Europe they are ranges of 16-bit ids.
func ReadRestrictions(r *bits.Reader, fibonacci bool) Restrictions {
	n := r.Uint(12)
	list := Restrictions{text: r.Text(), at: r.At(), n: n, fibonacci: fibonacci}
	for range n {
		if list.read(r); r.Err() != nil {
			break
		}
	}
	return list
}

func (list Restrictions) read(r *bits.Reader) Restriction {
	one := Restriction{Purpose: r.Uint(6), Type: RestrictionType(r.Uint(2))}
	if list.fibonacci {
		one.Vendors = r.FibonacciSet()
	} else {
		one.Vendors = r.Ranges()
	}
	if one.Purpose == 0 || one.Type == undefined {
		r.Fail(bits.ErrRange)
	}
	return one
}

// All are the restrictions in the string's order.
func (list Restrictions) All() iter.Seq[Restriction] {
	return func(yield func(Restriction) bool) {
		r := bits.ReaderAt(list.text, list.at)
		for range list.n {
			if !yield(list.read(r)) {
				return
			}
		}
	}
}

// LacksDisclosure tells whether the string was made or changed since
// [DisclosureRequired] without the segment of disclosed vendors. It then grants
// nothing to any vendor; what it says of purposes is not touched by that.
func (s *String) LacksDisclosure() bool {
	made := s.Created
	if s.LastUpdated.After(made) {
		made = s.LastUpdated
	}
	return s.DisclosedVendors == nil && !made.Before(DisclosureRequired)
}

// VendorConsent tells whether a vendor has consent: its bit is set, and it was
// disclosed, if the string says who was or has to say so. Whether it has consent
// for a purpose takes that purpose's bit and the restrictions too.
func (s *String) VendorConsent(id int) bool {
	return s.VendorConsents.Has(id) && s.disclosed(id)
}

// VendorLegitimateInterest is the same for legitimate interest.
func (s *String) VendorLegitimateInterest(id int) bool {
	return s.VendorLegitimateInterests.Has(id) && s.disclosed(id)
}

func (s *String) disclosed(id int) bool {
	if s.DisclosedVendors == nil {
		return !s.LacksDisclosure()
	}
	return s.DisclosedVendors.Has(id)
}

// MayVendor tells whether a vendor may process for a purpose by consent: consent
// was given to both, and the publisher neither forbids it nor demands legitimate
// interest for it.
func (s *String) MayVendor(id, purpose int) bool {
	if !s.PurposeConsents.Has(purpose) || !s.VendorConsent(id) {
		return false
	}
	for r := range s.Restrictions.All() {
		if r.Purpose == purpose && r.Type != RequireConsent && r.Vendors.Has(id) {
			return false
		}
	}
	return true
}
