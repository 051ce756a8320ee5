package consent

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluis-cdp/sluis/consent/gpp"
)

// Mappings say what the words of each kind of signal mean for the workspace's
// purposes. What is mapped to nothing says nothing.
type Mappings struct {
	// TCF has, for each purpose, the TCF's purposes by their numbers and its special
	// features as "sf1" and "sf2". All of them are needed.
	TCF map[Purpose][]string
	// TCFVendor is the operator's number in the Global Vendor List. With it a grant
	// needs the consent for that vendor too, who must have been disclosed to the
	// person where the string says who was, or has to. 0 is none.
	TCFVendor int
	// GPP has the purposes that an opt-out denies, by the names of the sections'
	// fields. No field of it grants.
	GPP map[string][]Purpose
	// ConsentMode has the purposes of each signal of Google's.
	ConsentMode map[string][]Purpose
	// ConsentModeGrants lets Google Consent Mode grant, not only deny. It says what
	// a page told Google's tags, which is little evidence of a choice.
	ConsentModeGrants bool
	// Tools have the purposes of the categories, services or purposes of each consent
	// tool, in any case of letters.
	Tools map[Kind]map[string][]Purpose
	// Categories are the same for all tools, and come before those of Tools. A
	// category that is in neither means the purpose that is spelt like it, if any.
	Categories map[string][]Purpose
}

// DefaultMappings are the mappings unless a workspace says something else.
//
// The TCF's purposes are those of sluis.js, which reads the same signals in the
// page: a person's choice means the same wherever it is heard. Nothing of the TCF
// is about an operator's own messages or about sale.
func DefaultMappings() Mappings {
	return Mappings{
		TCF: map[Purpose][]string{
			Identity:        {"1"},                // store and access information on a device
			Analytics:       {"8", "9"},           // measure content, understand audiences
			Personalization: {"5", "6"},           // profiles for content, and their use
			Advertising:     {"2", "3", "4", "7"}, // limited data, profiles for advertising, their use, measurement
		},
		GPP: map[string][]Purpose{
			gpp.SaleOptOut.String():                {Sale},
			gpp.SharingOptOut.String():             {Sale, Advertising}, // CCPA: for cross-context behavioral advertising
			gpp.TargetedAdvertisingOptOut.String(): {Advertising, Sale},
			gpp.KnownChildConsents.String():        {Advertising, Sale, Personalization},
			gpp.PersonalDataConsent.String():       {Advertising, Sale},
			gpp.AdditionalDataConsent.String():     {Advertising, Sale},
			gppGPC:                                 {Advertising, Sale},
		},
		ConsentMode: map[string][]Purpose{
			"ad_storage":              {Advertising},
			"ad_user_data":            {Advertising},
			"ad_personalization":      {Advertising},
			"analytics_storage":       {Analytics, Identity},
			"personalization_storage": {Personalization},
		},
		Tools: map[Kind]map[string][]Purpose{
			OneTrust: {
				"C0001": {},                  // strictly necessary
				"C0002": {Analytics},         // performance
				"C0003": {Personalization},   // functional
				"C0004": {Advertising, Sale}, // targeting
				"C0005": {Advertising, Sale}, // social media
			},
			Cookiebot: {
				"preferences": {Personalization},
				"statistics":  {Analytics},
				"marketing":   {Advertising, Sale}, // cookies of advertisers, not messages of one's own
			},
			Didomi: {
				"cookies":                     {Identity},
				"create_content_profile":      {Personalization},
				"select_personalized_content": {Personalization},
				"measure_content_performance": {Analytics},
				"market_research":             {Analytics},
				"select_basic_ads":            {Advertising},
				"create_ads_profile":          {Advertising},
				"select_personalized_ads":     {Advertising},
				"measure_ad_performance":      {Advertising},
			},
			CookieConsentJS: {
				"functionality": {Personalization},
				"preferences":   {Personalization},
				"analytics":     {Analytics},
				"statistics":    {Analytics},
				"performance":   {Analytics},
				"ads":           {Advertising, Sale},
				"targeting":     {Advertising, Sale},
				"marketing":     {Advertising, Sale},
			},
			Usercentrics: {
				"functional":  {Personalization},
				"statistics":  {Analytics},
				"performance": {Analytics},
				"marketing":   {Advertising, Sale},
			},
		},
	}
}

// Tools lists the kinds of consent tools whose words can be mapped.
func Tools() []Kind {
	return []Kind{SegmentConsent, RudderStack, OneTrust, Cookiebot, Didomi, Klaro, Usercentrics, CookieConsentJS, Zaraz}
}

// ConsentModeSignals lists the signals of Google Consent Mode.
func ConsentModeSignals() []string {
	return []string{"ad_storage", "ad_user_data", "ad_personalization", "analytics_storage", "personalization_storage", "functionality_storage", "security_storage"}
}

// refusals are the fields of GPP's sections by which people refuse something.
var refusals = []gpp.Field{
	gpp.SaleOptOut, gpp.SharingOptOut, gpp.TargetedAdvertisingOptOut, gpp.SensitiveData,
	gpp.KnownChildConsents, gpp.PersonalDataConsent, gpp.AdditionalDataConsent,
}

// gppGPC is the entry of [Mappings.GPP] for the Global Privacy Control of a section.
const gppGPC = "Gpc"

func gppFields() []string {
	names := []string{gppGPC}
	for _, field := range refusals {
		names = append(names, field.String())
	}
	return names
}

// layOver checks the workspace's mappings, and lays them over others.
func (p *Policy) layOver(under, own Mappings) (Mappings, error) {
	if err := p.checkMappings(own); err != nil {
		return Mappings{}, err
	}
	maps.Copy(under.TCF, own.TCF)
	maps.Copy(under.GPP, own.GPP)
	maps.Copy(under.ConsentMode, own.ConsentMode)
	under.TCFVendor, under.ConsentModeGrants = own.TCFVendor, own.ConsentModeGrants
	under.Categories = folded(own.Categories)
	for _, tool := range Tools() {
		words := folded(under.Tools[tool])
		maps.Copy(words, folded(own.Tools[tool]))
		under.Tools[tool] = words
	}
	return under, nil
}

// folded has its keys in lower case.
func folded(words map[string][]Purpose) map[string][]Purpose {
	lower := make(map[string][]Purpose, len(words))
	for word, purposes := range words {
		lower[strings.ToLower(word)] = purposes
	}
	return lower
}

func (p *Policy) checkMappings(m Mappings) error {
	for purpose, needs := range m.TCF {
		if !p.Knows(purpose) {
			return wrong(fmt.Sprintf("unknown purpose; known are %v", p.purposes), "mappings", "tcf", string(purpose))
		}
		for _, need := range needs {
			if _, _, err := tcfNeed(need); err != nil {
				return wrong(err.Error(), "mappings", "tcf", string(purpose))
			}
		}
	}
	if m.TCFVendor < 0 || m.TCFVendor > 65535 {
		return wrong("must be a number of the Global Vendor List, or 0", "mappings", "tcf_vendor")
	}
	if err := p.checkWords(m.GPP, gppFields(), "gpp"); err != nil {
		return err
	}
	if err := p.checkWords(m.ConsentMode, ConsentModeSignals(), "google_consent_mode"); err != nil {
		return err
	}
	for tool, words := range m.Tools {
		if !slices.Contains(Tools(), tool) {
			return wrong(fmt.Sprintf("unknown tool; known are %v", Tools()), "mappings", string(tool))
		}
		if err := p.checkWords(words, nil, string(tool)); err != nil {
			return err
		}
	}
	for category, purposes := range m.Categories {
		if err := p.check(purposes, "categories", category); err != nil {
			return err
		}
	}
	return nil
}

// checkWords looks at the words of one kind of signal; known is nil if they can be
// any.
func (p *Policy) checkWords(words map[string][]Purpose, known []string, kind string) error {
	for word, purposes := range words {
		if known != nil && !slices.Contains(known, word) {
			return wrong(fmt.Sprintf("is not one of %s", strings.Join(known, ", ")), "mappings", kind, word)
		}
		if err := p.check(purposes, "mappings", kind, word); err != nil {
			return err
		}
	}
	return nil
}

// The highest numbers of the TCF, policy version 5.
const (
	tcfPurposes        = 11
	tcfSpecialFeatures = 2
)

// tcfNeed reads an entry of [Mappings.TCF].
func tcfNeed(text string) (number int, feature bool, err error) {
	digits, feature := strings.CutPrefix(text, "sf")
	number, err = strconv.Atoi(digits)
	most := tcfPurposes
	if feature {
		most = tcfSpecialFeatures
	}
	if err != nil || number < 1 || number > most {
		return 0, false, fmt.Errorf("%q is neither one of the TCF's purposes, 1 to %d, nor of its special features, sf1 and sf2", text, tcfPurposes)
	}
	return number, feature, nil
}

// meaning is what a word of a consent tool means.
func (p *Policy) meaning(tool Kind, word string) []Purpose {
	word = strings.ToLower(word)
	if purposes, ok := p.mappings.Categories[word]; ok {
		return purposes
	}
	if purposes, ok := p.mappings.Tools[tool][word]; ok {
		return purposes
	}
	if purpose := Purpose(word); p.Knows(purpose) {
		return []Purpose{purpose}
	}
	return nil
}
