package consent

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/consent/cmp"
	"github.com/sluis-cdp/sluis/consent/gpp"
	"github.com/sluis-cdp/sluis/consent/tcf"
)

// CookieName is the name of the signed first-party cookie with a person's own
// choice; see [Policy.Store].
const CookieName = "sluis_consent"

// Evidence is a signal as it came: where it stood, and its text.
type Evidence struct {
	Place Place
	Name  string
	Value string
}

// Place is a part of a request that signals come in.
type Place uint8

// The places.
const (
	InHeader Place = iota
	InCookie
	InQuery
)

// MaxEvidence is how many signals are taken from one request. Of one with more,
// what is left over denies.
const MaxEvidence = 16

// The names under which strings of the IAB come.
var (
	cookieKinds = func() map[string]Kind {
		kinds := map[string]Kind{
			CookieName:        Stored,
			"euconsent-v2":    TCF,
			"eupubconsent-v2": TCF, // OneTrust's
			"__gpp":           GPP,
			"OTGPPConsent":    GPP, // OneTrust's
			"usprivacy":       USPrivacy,
		}
		for _, name := range cmp.Names() {
			if !strings.HasPrefix(name, "gc") { // gcs and gcd are parameters
				kinds[name] = "" // the reader tells
			}
		}
		return kinds
	}()
	queryKinds = map[string]Kind{
		"gdpr_consent": TCF, "gpp": GPP, "us_privacy": USPrivacy, "gcs": ConsentMode, "gcd": ConsentMode,
	}
)

// String is the text of a string of the IAB, as its decoder takes it; ok is false
// if the evidence is not of that kind.
func (e Evidence) String(kind Kind) (text string, ok bool) {
	var err error
	switch {
	case e.Place == InCookie && cookieKinds[e.Name] == kind:
		text, err = url.PathUnescape(e.Value)
	case e.Place == InQuery && queryKinds[e.Name] == kind:
		text, err = url.QueryUnescape(e.Value)
	default:
		return "", false
	}
	return text, err == nil
}

// Gather finds the signals that stand around a request's body: in headers,
// cookies and the query of its address. It reads none of them.
func Gather(h http.Header, rawQuery string) []Evidence {
	var all []Evidence
	add := func(place Place, name, value string) {
		if len(all) <= MaxEvidence { // one more says that there are too many
			all = append(all, Evidence{place, name, value})
		}
	}
	for _, name := range [...]string{"Sec-Gpc", "Dnt"} {
		for _, value := range h[name] {
			add(InHeader, name, value)
		}
	}
	for _, line := range h["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			// Not by net/http, which drops what has quotes in it, and so denials.
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if _, ok := cookieKinds[name]; ok {
				add(InCookie, name, unquoted(value))
			}
		}
	}
	for rawQuery != "" {
		var pair string
		pair, rawQuery, _ = strings.Cut(rawQuery, "&")
		name, value, _ := strings.Cut(pair, "=")
		if _, ok := queryKinds[name]; ok {
			add(InQuery, name, value)
		}
	}
	return all
}

func unquoted(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// Read reads what [Gather] found. keys are those by one of which a stored choice
// must be signed.
func (p *Policy) Read(all []Evidence, keys ...[]byte) []Signal {
	var signals []Signal
	for i, e := range all {
		if i == MaxEvidence {
			return append(signals, Signal{Kind: TooMany, Unreadable: true})
		}
		signals = append(signals, p.read(keys, e)...)
	}
	return signals
}

// read is empty where the evidence says nothing.
func (p *Policy) read(keys [][]byte, e Evidence) []Signal {
	switch e.Place {
	case InHeader:
		return p.readHeader(e)
	case InQuery:
		value, err := url.QueryUnescape(e.Value)
		if err != nil {
			return []Signal{unreadable(queryKinds[e.Name], e.Value)}
		}
		if kind := queryKinds[e.Name]; kind != ConsentMode {
			return p.readString(kind, value)
		}
		return p.readTool(e.Name, value)
	case InCookie:
		return p.readCookie(e, keys)
	default:
		return []Signal{unreadable(TooMany, e.Value)}
	}
}

func (p *Policy) readCookie(e Evidence, keys [][]byte) []Signal {
	kind := cookieKinds[e.Name]
	if kind == Stored {
		return []Signal{p.FromStored(e.Value, keys...)}
	}
	if kind == "" {
		return p.readTool(e.Name, e.Value)
	}
	value, err := url.PathUnescape(e.Value)
	if err != nil {
		return []Signal{unreadable(kind, e.Value)}
	}
	return p.readString(kind, value)
}

func (p *Policy) readHeader(e Evidence) []Signal {
	if e.Name == "Dnt" {
		if strings.TrimSpace(e.Value) != "1" || len(p.dntDenies) == 0 {
			return nil
		}
		s := newSignal(DNT)
		s.deny(p.dntDenies)
		return []Signal{s}
	}
	if s, ok := p.FromGPC([]string{e.Value}); ok {
		return []Signal{s}
	}
	return nil
}

// readString reads a string of the IAB.
func (p *Policy) readString(kind Kind, text string) []Signal {
	if kind == TCF {
		return []Signal{p.FromTCF(text)}
	}
	if kind == GPP {
		return p.FromGPP(text)
	}
	return []Signal{p.FromUSPrivacy(text)}
}

// FromGPC reads the values of the Sec-GPC header. Only "1" is defined (W3C
// Global Privacy Control); it denies and never grants. ok is false where the
// header says nothing.
func (p *Policy) FromGPC(values []string) (s Signal, ok bool) {
	if !slices.ContainsFunc(values, func(v string) bool { return strings.TrimSpace(v) == "1" }) {
		return Signal{}, false
	}
	s = newSignal(GPC)
	s.deny(p.gpcDenies)
	return s, true
}

// FromTCF reads a TC string. A purpose is granted if all that it needs is; see
// [Mappings].
func (p *Policy) FromTCF(text string) Signal {
	parsed, err := tcf.Parse(text)
	if err != nil {
		return unreadable(TCF, text)
	}
	return p.fromTCF(parsed, text)
}

func (p *Policy) fromTCF(parsed *tcf.String, text string) Signal {
	s := newSignal(TCF)
	s.Evidence = evidenceOf(text)
	s.DecidedAt = parsed.LastUpdated
	if parsed.Created.After(s.DecidedAt) {
		s.DecidedAt = parsed.Created
	}
	for purpose, needs := range p.mappings.TCF {
		interest := p.definitions[purpose].Basis == BasisLegitimateInterest
		met := func(need string) bool {
			number, feature, err := tcfNeed(need)
			switch {
			case err != nil:
				return false
			case feature:
				return parsed.SpecialFeatureOptIns.Has(number)
			case p.consented(parsed, number):
				return true
			default:
				return interest && p.unopposed(parsed, number)
			}
		}
		if len(needs) > 0 {
			s.add(purpose, !slices.ContainsFunc(needs, func(need string) bool { return !met(need) }))
		}
	}
	return s
}

// consented tells whether one of the TCF's purposes has consent, and the
// workspace's vendor has it for it.
func (p *Policy) consented(parsed *tcf.String, number int) bool {
	if p.mappings.TCFVendor != 0 {
		return parsed.MayVendor(p.mappings.TCFVendor, number)
	}
	return parsed.PurposeConsents.Has(number)
}

// unopposed tells whether one of the TCF's purposes has a legitimate interest
// that was disclosed and not objected to. The TCF's policies have it for neither
// storage on the device nor profiles.
func (p *Policy) unopposed(parsed *tcf.String, number int) bool {
	if number == 1 || number >= 3 && number <= 6 || !parsed.PurposeLegitimateInterests.Has(number) {
		return false
	}
	vendor := p.mappings.TCFVendor
	if vendor == 0 {
		return true
	}
	for r := range parsed.Restrictions.All() {
		if r.Purpose == number && r.Type != tcf.RequireLegitimateInterest && r.Vendors.Has(vendor) {
			return false
		}
	}
	return parsed.VendorLegitimateInterest(vendor)
}

// FromGPP reads a GPP string: a signal for each of its sections that says
// something. One section that cannot be read makes the whole unreadable, and so
// does one that is not known, which may be of an opt-out.
func (p *Policy) FromGPP(text string) []Signal {
	parsed, err := gpp.Parse(text)
	if err != nil {
		return []Signal{unreadable(GPP, text)}
	}
	var signals []Signal
	for _, section := range parsed.Sections {
		switch {
		case section.TCF != nil:
			signals = append(signals, p.fromTCF(section.TCF, text))
		case section.Canada != nil:
			signals = append(signals, p.fromCanada(section.Canada, text))
		case section.US != nil:
			s := p.fromUS(GPP, section.US, text)
			if section.ID == gpp.SectionUSP {
				p.meanSharing(&s, section.US)
			}
			signals = append(signals, s)
		default:
			return []Signal{unreadable(GPP, text)}
		}
	}
	return signals
}

// fromUS reads a section of the United States: an opt-out denies, and the lack of
// one is no consent.
func (p *Policy) fromUS(kind Kind, us *gpp.US, text string) Signal {
	s := newSignal(kind)
	s.Evidence = evidenceOf(text)
	for _, field := range refusals {
		if us.Refuses(field) {
			s.deny(p.mappings.GPP[field.String()])
		}
	}
	if us.GPC != nil && *us.GPC {
		s.deny(p.mappings.GPP[gppGPC])
	}
	return s
}

// fromCanada reads the section of Canada. Express consent grants; implied consent
// is no act, and says nothing here; what has neither was refused.
func (p *Policy) fromCanada(ca *gpp.Canada, text string) Signal {
	s := newSignal(GPP)
	s.Evidence = evidenceOf(text)
	s.DecidedAt = ca.LastUpdated
	if ca.Created.After(s.DecidedAt) {
		s.DecidedAt = ca.Created
	}
	for purpose, needs := range p.mappings.TCF {
		express, either := len(needs) > 0, true
		for _, need := range needs {
			number, feature, err := tcfNeed(need)
			given, implied := ca.PurposesExpress.Has(number), ca.PurposesImplied.Has(number)
			if feature {
				given, implied = ca.SpecialFeatures.Has(number), false
			}
			if vendor := p.mappings.TCFVendor; vendor != 0 && !feature {
				given = given && ca.VendorsExpress.Has(vendor)
				implied = implied && ca.VendorsImplied.Has(vendor)
			}
			express = express && given && err == nil
			either = either && (given || implied) && err == nil
		}
		if express || !either {
			s.add(purpose, express)
		}
	}
	return s
}

// FromUSPrivacy reads a US Privacy string, such as "1YNN".
func (p *Policy) FromUSPrivacy(text string) Signal {
	us, err := gpp.ParseUSPrivacy(text)
	if err != nil {
		return unreadable(USPrivacy, text)
	}
	s := p.fromUS(USPrivacy, us, text)
	p.meanSharing(&s, us)
	return s
}

// meanSharing: a US Privacy string has no word for sharing, so that its opt-out of
// sale means both.
func (p *Policy) meanSharing(s *Signal, us *gpp.US) {
	if us.Refuses(gpp.SaleOptOut) {
		s.deny(p.mappings.GPP[gpp.SharingOptOut.String()])
	}
}

// readTool reads the cookie of a consent tool, or a parameter of Google Consent
// Mode.
func (p *Policy) readTool(name, value string) []Signal {
	choice, known := cmp.Parse(name, value)
	if !known {
		return []Signal{unreadable(TooMany, value)}
	}
	kind := Kind(choice.Platform)
	if kind == "google" {
		kind = ConsentMode
	}
	if choice.Unreadable {
		return []Signal{unreadable(kind, value)}
	}
	s := newSignal(kind)
	s.Evidence, s.DecidedAt = evidenceOf(value), choice.At
	// A default is nobody's choice. It may deny, and does not grant.
	grants := choice.Made == cmp.Explicit
	if kind == ConsentMode {
		grants = p.mappings.ConsentModeGrants && choice.Made != cmp.NoChoice
	}
	for word, granted := range choice.Categories {
		if !granted || grants {
			p.hearWord(&s, word, granted)
		}
	}
	if choice.OnlyGrants {
		p.refuseRest(&s)
	}
	if choice.GPC {
		s.deny(p.gpcDenies)
	}
	return []Signal{s}
}

// hearWord adds what one word of a tool means.
func (p *Policy) hearWord(s *Signal, word string, granted bool) {
	purposes := p.meaning(s.Kind, word)
	if s.Kind == ConsentMode {
		purposes = p.mappings.ConsentMode[word]
	}
	for _, purpose := range purposes {
		s.add(purpose, granted)
	}
}

// refuseRest denies what a tool could have granted, and did not: it writes down
// nothing but grants.
func (p *Policy) refuseRest(s *Signal) {
	for _, purposes := range p.mappings.Tools[s.Kind] {
		for _, purpose := range purposes {
			if s.Verdicts[purpose] != Granted {
				s.Verdicts[purpose] = Denied
			}
		}
	}
}
