package consent

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Basis is what processing for a purpose rests on: one of Article 6(1) of the
// GDPR, or the lack of an objection where the law of a place asks for no more.
type Basis string

// The bases.
const (
	BasisConsent            Basis = "consent"             // Art. 6(1)(a)
	BasisContract           Basis = "contract"            // (b)
	BasisLegalObligation    Basis = "legal_obligation"    // (c)
	BasisVitalInterest      Basis = "vital_interest"      // (d)
	BasisPublicTask         Basis = "public_task"         // (e)
	BasisLegitimateInterest Basis = "legitimate_interest" // (f)
)

// Bases lists the bases that a purpose may rest on.
func Bases() []Basis {
	return []Basis{BasisConsent, BasisContract, BasisLegalObligation, BasisVitalInterest, BasisPublicTask, BasisLegitimateInterest}
}

// Definition is what a workspace says of a purpose.
type Definition struct {
	Purpose     Purpose
	Description string // in words for the people who are asked
	Basis       Basis
	// Expiry is how long a grant lasts, from when it was made.
	Expiry time.Duration
}

// definitions are what holds of the standard purposes unless a workspace says
// something else. An expiry of zero is that of [PolicyConfig.MaxAge].
func definitions() []Definition {
	return []Definition{
		{Necessary, "Run the service itself, and keep the proof of your choices.", BasisLegalObligation, 0},
		{Identity, "Recognise you across your devices and channels.", BasisConsent, 0},
		{Analytics, "Understand how our pages and products are used.", BasisConsent, 0},
		{Personalization, "Adapt what we show to you.", BasisConsent, 0},
		{Marketing, "Send you messages of our own, by e-mail or chat.", BasisConsent, 0},
		{Advertising, "Show and measure advertisements on other companies' platforms.", BasisConsent, 0},
		{Sale, "Sell or share data about you with other companies.", BasisConsent, 0},
	}
}

// DefaultMaxAge is how long a grant lasts unless a workspace says otherwise: six
// months, what the CNIL calls good practice.
const DefaultMaxAge = 180 * 24 * time.Hour

// Mode is what silence means.
type Mode string

// The modes. Under each of them a denial denies.
const (
	OptIn  Mode = "opt-in"  // silence denies; it holds wherever no rule says something else
	OptOut Mode = "opt-out" // silence grants: the law gives a right to object
	None   Mode = "none"    // silence grants: nobody is asked for these purposes
)

// Rule says which mode holds for some purposes in some regions and sources. Of
// several that fit, the first counts.
type Rule struct {
	// Regions are countries of ISO 3166-1 (with all their parts), parts of them of
	// ISO 3166-2 such as US-CA, the groups EU and EEA, or "*" for any region that is
	// known. A region that is not known is in none of them.
	Regions []string
	// Sources are the ids of sources; empty means all.
	Sources []string
	Mode    Mode
	// Purposes are those that the rule is about; empty means all.
	Purposes []Purpose
	// Law names what the rule comes from, such as "CCPA"; it is part of reasons.
	Law string
}

// groups are names for several countries.
var groups = map[string][]string{
	"EU":  strings.Fields("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"),
	"EEA": strings.Fields("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK IS LI NO"),
}

var regionForm = regexp.MustCompile(`^[A-Z]{2}(-[A-Z0-9]{1,3})?$`)

// nowhere are codes that say that the region is not known.
var nowhere = []string{"XX", "ZZ", "T1"}

// normalRegion is a region as rules have it; empty if it is not known.
func normalRegion(region string) string {
	region = strings.ToUpper(strings.TrimSpace(region))
	if !regionForm.MatchString(region) || slices.Contains(nowhere, region) {
		return ""
	}
	return region
}

func (r *Rule) fits(region, source string, purpose Purpose) bool {
	if len(r.Purposes) > 0 && !slices.Contains(r.Purposes, purpose) {
		return false
	}
	if len(r.Sources) > 0 && !slices.Contains(r.Sources, source) {
		return false
	}
	country, _, _ := strings.Cut(region, "-")
	return region != "" && slices.ContainsFunc(r.Regions, func(in string) bool {
		return in == "*" || in == region || in == country || slices.Contains(groups[in], country)
	})
}

// Policy says how a workspace reads and weighs signals. It is immutable, and safe
// for concurrent use. The zero Policy is of no use: make one with [NewPolicy].
type Policy struct {
	version     string
	purposes    []Purpose
	definitions map[Purpose]Definition
	rules       []Rule
	mappings    Mappings
	gpcDenies   []Purpose
	dntDenies   []Purpose
	maxAge      time.Duration
}

// PolicyConfig is the part of a Policy that a workspace may set.
type PolicyConfig struct {
	// Version is stored with each decision, so that one can later tell by which
	// rules it was made. Required.
	Version string
	// Purposes are the workspace's own, and what it says of those of [Standard]; a
	// field that is not set is as by default.
	Purposes []Definition
	// Rules say where silence grants. Without any it denies everywhere.
	Rules []Rule
	// Mappings are laid over [DefaultMappings], entry by entry.
	Mappings Mappings
	// GPCDenies is what Global Privacy Control refuses. The default is
	// advertising and sale, as 11 CCR § 7025 requires of sale and sharing.
	GPCDenies []Purpose
	// DNTDenies is what Do Not Track refuses. The default is nothing: it has no
	// legal force, and browsers set it without asking.
	DNTDenies []Purpose
	// MaxAge is how long a grant lasts for purposes that have no expiry of their
	// own; the default is [DefaultMaxAge].
	MaxAge time.Duration
}

// ConfigError is what is wrong with a PolicyConfig.
type ConfigError struct {
	// Path leads to the entry: "regions", "0", "mode".
	Path    []string
	Problem string
}

func (e *ConfigError) Error() string {
	return "consent policy: " + strings.Join(e.Path, ".") + ": " + e.Problem
}

func wrong(problem string, path ...string) error { return &ConfigError{Path: path, Problem: problem} }

// NewPolicy checks a configuration. Its error is a [*ConfigError].
func NewPolicy(c PolicyConfig) (*Policy, error) {
	if c.Version == "" {
		return nil, wrong("is missing; any text that changes with the rules will do", "version")
	}
	p := &Policy{version: c.Version, maxAge: c.MaxAge, rules: slices.Clone(c.Rules), gpcDenies: c.GPCDenies, dntDenies: c.DNTDenies}
	if p.maxAge <= 0 {
		p.maxAge = DefaultMaxAge
	}
	if p.gpcDenies == nil {
		p.gpcDenies = []Purpose{Advertising, Sale}
	}
	if err := p.define(c.Purposes); err != nil {
		return nil, err
	}
	if err := p.check(p.gpcDenies, "gpc_denies"); err != nil {
		return nil, err
	}
	if err := p.check(p.dntDenies, "dnt_denies"); err != nil {
		return nil, err
	}
	for i := range p.rules {
		if err := p.checkRule(&p.rules[i], fmt.Sprint(i)); err != nil {
			return nil, err
		}
	}
	var err error
	p.mappings, err = p.layOver(DefaultMappings(), c.Mappings)
	return p, err
}

// define takes in the workspace's purposes.
func (p *Policy) define(own []Definition) error {
	p.definitions = make(map[Purpose]Definition)
	for _, d := range definitions() {
		p.purposes = append(p.purposes, d.Purpose)
		p.definitions[d.Purpose] = d
	}
	said := make(map[Purpose]bool)
	for i, d := range own {
		at := []string{"purposes", fmt.Sprint(i)}
		switch {
		case !purposeForm.MatchString(string(d.Purpose)):
			return wrong("a purpose needs a name in lower case, such as research", at...)
		case said[d.Purpose]:
			return wrong(fmt.Sprintf("%s is there twice", d.Purpose), at...)
		case d.Basis != "" && !slices.Contains(Bases(), d.Basis):
			return wrong(fmt.Sprintf("unknown basis; known are %v", Bases()), append(at, "basis")...)
		case d.Expiry < 0:
			return wrong("must not be negative", append(at, "expiry")...)
		}
		said[d.Purpose] = true
		whole, standard := p.definitions[d.Purpose]
		if !standard {
			p.purposes = append(p.purposes, d.Purpose)
			whole = Definition{Purpose: d.Purpose, Basis: BasisConsent}
		}
		if d.Description != "" {
			whole.Description = d.Description
		}
		if d.Basis != "" {
			whole.Basis = d.Basis
		}
		if d.Expiry != 0 {
			whole.Expiry = d.Expiry
		}
		p.definitions[d.Purpose] = whole
	}
	for purpose, d := range p.definitions {
		if d.Expiry == 0 {
			d.Expiry = p.maxAge
			p.definitions[purpose] = d
		}
	}
	return nil
}

var purposeForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// checkRule checks a rule, and brings its regions into the form that it is
// compared in.
func (p *Policy) checkRule(r *Rule, number string) error {
	if len(r.Regions) == 0 {
		return wrong(`a rule needs regions, such as [US-CA] or ["*"]; where the region is not known, people opt in`, "regions", number)
	}
	regions := make([]string, len(r.Regions))
	for i, region := range r.Regions {
		regions[i] = strings.ToUpper(strings.TrimSpace(region))
		if _, group := groups[regions[i]]; !group && regions[i] != "*" && normalRegion(region) == "" {
			return wrong(`not a region: a country such as NL, a part of one such as US-CA, EU, EEA or "*"`, "regions", number, "in", fmt.Sprint(i))
		}
	}
	r.Regions = regions
	if !slices.Contains([]Mode{OptIn, OptOut, None}, r.Mode) {
		return wrong("must be opt-in, opt-out or none", "regions", number, "mode")
	}
	return p.check(r.Purposes, "regions", number, "purposes")
}

// check looks whether the workspace has some purposes.
func (p *Policy) check(purposes []Purpose, path ...string) error {
	for _, purpose := range purposes {
		if !p.Knows(purpose) {
			return wrong(fmt.Sprintf("unknown purpose %q; known are %v", purpose, p.purposes), path...)
		}
	}
	return nil
}

// Knows tells whether the workspace has the purpose.
func (p *Policy) Knows(purpose Purpose) bool { return slices.Contains(p.purposes, purpose) }

// Purposes lists the workspace's purposes, [Necessary] first.
func (p *Policy) Purposes() []Purpose { return slices.Clone(p.purposes) }

// Definition is what the workspace says of a purpose; the zero value if it does
// not have it.
func (p *Policy) Definition(purpose Purpose) Definition { return p.definitions[purpose] }

// MaxAge is how long a choice is to be remembered: as long as the grant of any
// purpose lasts.
func (p *Policy) MaxAge() time.Duration {
	longest := p.maxAge
	for _, d := range p.definitions {
		longest = max(longest, d.Expiry)
	}
	return longest
}

// Version is the version that decisions carry.
func (p *Policy) Version() string { return p.version }

// Mappings are those that hold: the defaults, with the workspace's laid over them.
func (p *Policy) Mappings() Mappings { return p.mappings }

// Mode is what silence means for a purpose, and which rule says so; nil if none
// does, which is opt-in.
func (p *Policy) Mode(region, source string, purpose Purpose) (Mode, *Rule) {
	region = normalRegion(region)
	for i := range p.rules {
		if rule := &p.rules[i]; rule.fits(region, source, purpose) {
			return rule.Mode, rule
		}
	}
	return OptIn, nil
}
