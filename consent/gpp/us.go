package gpp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/consent/bits"
)

// Field is a field of the sections for the United States.
type Field uint8

// The fields. Not every section has each: sections.txt has which.
const (
	// What the person was told of. Yes and no.
	SharingNotice Field = iota
	ProcessingNotice
	SaleOptOutNotice
	SharingOptOutNotice
	TargetedAdvertisingOptOutNotice
	SensitiveDataOptOutNotice
	SensitiveDataLimitUseNotice

	// What the person said. Refused and allowed.
	SaleOptOut
	SharingOptOut
	TargetedAdvertisingOptOut
	SensitiveData         // by category, in the order of the section's specification
	KnownChildConsents    // by age group and kind of processing, in that order
	PersonalDataConsent   // to processing that is incompatible with what was disclosed
	AdditionalDataConsent // the same, as sections of states since 2024 call it

	// The Multi-State Privacy Agreement of the IAB. Yes and no.
	MSPACoveredTransaction // of the US Privacy string: the agreement before it, LSPA
	MSPAOptOutOptionMode
	MSPAServiceProviderMode
	MSPAMode // 1: opt-out option, 2: service provider

	fields
)

// fieldNames are those of the IAB's API.
var fieldNames = [fields]string{
	SharingNotice:                   "SharingNotice",
	ProcessingNotice:                "ProcessingNotice",
	SaleOptOutNotice:                "SaleOptOutNotice",
	SharingOptOutNotice:             "SharingOptOutNotice",
	TargetedAdvertisingOptOutNotice: "TargetedAdvertisingOptOutNotice",
	SensitiveDataOptOutNotice:       "SensitiveDataOptOutNotice",
	SensitiveDataLimitUseNotice:     "SensitiveDataLimitUseNotice",
	SaleOptOut:                      "SaleOptOut",
	SharingOptOut:                   "SharingOptOut",
	TargetedAdvertisingOptOut:       "TargetedAdvertisingOptOut",
	SensitiveData:                   "SensitiveDataProcessing",
	KnownChildConsents:              "KnownChildSensitiveDataConsents",
	PersonalDataConsent:             "PersonalDataConsents",
	AdditionalDataConsent:           "AdditionalDataProcessingConsent",
	MSPACoveredTransaction:          "MspaCoveredTransaction",
	MSPAOptOutOptionMode:            "MspaOptOutOptionMode",
	MSPAServiceProviderMode:         "MspaServiceProviderMode",
	MSPAMode:                        "MspaMode",
}

// String is the field's name in the IAB's API.
func (f Field) String() string {
	if f < fields {
		return fieldNames[f]
	}
	return fmt.Sprintf("Field(%d)", f)
}

// Answer is the value of a field.
type Answer uint8

// The answers. In fields about what a person was told, and about the MSPA, 1 is
// yes and 2 is no.
const (
	NotApplicable Answer = iota
	Refused              // opted out, or did not consent
	Allowed              // did not opt out, or consented
	undefined

	Yes = Refused
	No  = Allowed
)

// String is "-", "refused" or "allowed".
func (a Answer) String() string {
	switch a {
	case NotApplicable:
		return "-"
	case Refused:
		return "refused"
	case Allowed:
		return "allowed"
	case undefined:
	}
	return fmt.Sprintf("Answer(%d)", uint8(a))
}

// US is a section for the United States, or one of its states. Treat it as
// immutable; the zero US has no fields.
type US struct {
	Version int
	// GPC is what the Global Privacy Control said when the section was made; nil
	// if the section does not tell.
	GPC *bool

	values []value // in the order of the section
}

// value is one value of a field.
type value struct {
	field  Field
	answer Answer
}

// Answers are the values of a field, in order; none if the section has no such
// field, or leaves out the part that has it.
func (u *US) Answers(f Field) []Answer {
	var list []Answer
	for _, v := range u.values {
		if v.field == f {
			list = append(list, v.answer)
		}
	}
	return list
}

// Refuses tells whether any value of a field is [Refused]. It is no question to
// ask of fields whose values are yes and no.
func (u *US) Refuses(f Field) bool {
	return slices.Contains(u.values, value{f, Refused})
}

// parseUS decodes the text of a section that has a layout.
func parseUS(layouts []*layout, text string) (*US, error) {
	core, extra, more := strings.Cut(text, ".")
	r := bits.NewReader(core)
	u := &US{Version: r.Uint(6)}
	if err := r.Err(); err != nil {
		return nil, err
	}
	l := choose(layouts, u.Version, len(core))
	if l == nil {
		return nil, fmt.Errorf("version %d is not known", u.Version)
	}
	u.values = make([]value, 0, l.size)
	if err := u.read(r, l.core); err != nil {
		return nil, err
	}
	if !more {
		return u, nil
	}
	if err := u.parseExtra(l, extra); err != nil {
		return nil, fmt.Errorf("second segment: %w", err)
	}
	return u, nil
}

// choose is the layout of a version. Version 1 of the national section has been
// written with the longer fields of version 2 as well, which its length tells.
func choose(layouts []*layout, version, length int) *layout {
	for i, l := range layouts {
		if l.version == version {
			if more := i + 1; more < len(layouts) && length > l.longest {
				return layouts[more]
			}
			return l
		}
	}
	return nil
}

func (u *US) read(r *bits.Reader, columns []column) error {
	for _, c := range columns {
		for range c.n {
			answer := Answer(r.Uint(2))
			if answer == undefined {
				r.Fail(bits.ErrRange)
			}
			u.values = append(u.values, value{c.field, answer})
		}
	}
	return r.Close()
}

func (u *US) parseExtra(l *layout, text string) error {
	r := bits.NewReader(text)
	switch {
	case l.extra != nil:
		return u.read(r, l.extra)
	case l.gpc:
		if kind := r.Uint(2); r.Err() == nil && kind != 1 {
			return fmt.Errorf("unknown type %d", kind)
		}
		gpc := r.Bool()
		u.GPC = &gpc
		return r.Close()
	default:
		return errors.New("the section has none")
	}
}

// ParseUSPrivacy decodes a US Privacy string such as "1YNN", which the cookie
// usprivacy and the section 6 have. Its error wraps [ErrUnreadable].
func ParseUSPrivacy(text string) (*US, error) {
	u, err := parseUSPrivacy(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return u, nil
}

func parseUSPrivacy(text string) (*US, error) {
	if len(text) != 4 || text[0] != '1' {
		return nil, errors.New("not a US Privacy string of version 1")
	}
	u := &US{Version: 1}
	for i, field := range []Field{SaleOptOutNotice, SaleOptOut, MSPACoveredTransaction} {
		answer, ok := map[byte]Answer{'-': NotApplicable, 'Y': Yes, 'N': No}[text[i+1]]
		if !ok {
			return nil, errors.New("a US Privacy string has Y, N and - alone")
		}
		u.values = append(u.values, value{field, answer})
	}
	return u, nil
}

// Fields are the fields that the section has, in its order.
func (u *US) Fields() []Field {
	var list []Field
	for _, v := range u.values {
		if !slices.Contains(list, v.field) {
			list = append(list, v.field)
		}
	}
	return list
}
