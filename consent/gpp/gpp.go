// Package gpp decodes strings of the IAB Global Privacy Platform ("Consent
// String Specification", header version 1), with the sections for the EU, Canada
// and the United States, and the older US Privacy string.
//
// The decoder is strict: a section in another version than those known here, a
// value that is not defined, bits that are missing and bits that are left over
// are errors, and then there is no String. Sections of other ids are listed and
// not looked into. It takes time in proportion to the text, and allocates nothing
// in proportion to sizes that it claims.
//
// What a string means for a purpose of the workspace is for package consent to
// say. No error has a part of the text.
package gpp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluis-cdp/sluis/consent/bits"
	"github.com/sluis-cdp/sluis/consent/tcf"
)

const (
	// MaxLength is the longest text, in bytes, that is looked at.
	MaxLength = 8 << 10
	// MaxSections is the largest number of sections that is looked at.
	MaxSections = 64
)

// ErrUnreadable is wrapped by all errors of this package.
var ErrUnreadable = errors.New("unreadable GPP string")

// The sections that are not of a state of the US, by their ids. The others are
// 8 to 27: see [SectionName].
const (
	SectionTCFEU = 2
	SectionTCFCA = 5
	SectionUSP   = 6 // the US Privacy string
	SectionUSNat = 7
)

// SectionName is the name that the GPP's API gives a section, such as "usca"; ""
// if it is not known here.
func SectionName(id int) string {
	switch id {
	case SectionTCFEU:
		return "tcfeuv2"
	case SectionTCFCA:
		return "tcfcav1"
	case SectionUSP:
		return "uspv1"
	}
	if l := layouts[id]; l != nil {
		return l[0].name
	}
	return ""
}

// String is a decoded GPP string. Treat it as immutable; then it is safe for
// concurrent use.
type String struct {
	Sections []Section // by id, ascending
}

// Section is one jurisdiction's part. Of the pointers one is set, or none if the
// section is not known here.
type Section struct {
	ID     int
	Name   string // see [SectionName]
	TCF    *tcf.String
	Canada *Canada
	US     *US // also of the US Privacy string
}

// Known tells whether the section was decoded.
func (s Section) Known() bool { return s.Name != "" }

// Section is the section of an id; ok is false if the string has none.
func (s *String) Section(id int) (section Section, ok bool) {
	for _, section := range s.Sections {
		if section.ID == id {
			return section, true
		}
	}
	return Section{}, false
}

// Parse decodes a GPP string of at most [MaxLength] bytes and [MaxSections]
// sections. Its error wraps [ErrUnreadable].
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
	header, rest, more := strings.Cut(text, "~")
	ids, err := parseHeader(header)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var s String
	for id := range ids.All() {
		if len(s.Sections) == MaxSections {
			return nil, fmt.Errorf("more than %d sections", MaxSections)
		}
		if !more {
			return nil, errors.New("header has more sections than follow")
		}
		var part string
		part, rest, more = strings.Cut(rest, "~")
		section, err := parseSection(id, part)
		if err != nil {
			return nil, fmt.Errorf("section %d: %w", id, err)
		}
		s.Sections = append(s.Sections, section)
	}
	if more {
		return nil, errors.New("header has fewer sections than follow")
	}
	return &s, nil
}

func parseHeader(text string) (bits.Set, error) {
	r := bits.NewReader(text)
	kind, version := r.Uint(6), r.Uint(6)
	if r.Err() == nil && (kind != 3 || version != 1) {
		return bits.Set{}, fmt.Errorf("type %d, version %d; known is 3, 1", kind, version)
	}
	ids := r.FibonacciRanges()
	return ids, r.Close()
}

func parseSection(id int, text string) (Section, error) {
	s := Section{ID: id, Name: SectionName(id)}
	var err error
	switch {
	case text == "":
		err = errors.New("empty")
	case id == SectionTCFEU:
		s.TCF, err = tcf.Parse(text)
	case id == SectionTCFCA:
		s.Canada, err = parseCanada(text)
	case id == SectionUSP:
		s.US, err = parseUSPrivacy(text)
	case s.Known():
		s.US, err = parseUS(layouts[id], text)
	}
	return s, err
}
