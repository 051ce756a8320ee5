// Package consent decides what may be done with an event: it turns signals of
// a person's choice into a Decision per purpose.
//
// It fails closed everywhere. The zero Decision denies all, a purpose nobody
// spoke about is denied, what cannot be parsed denies, and any denial outweighs
// any grant. The package imports no other part of the product.
package consent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Purpose is a reason to process personal data, for which a person can be
// asked. A workspace may add purposes of its own.
type Purpose string

// The purposes every workspace has.
const (
	// Necessary is what the law or the service itself requires, such as keeping
	// the proof of a choice. It is not asked for and cannot be refused.
	Necessary       Purpose = "necessary"
	Identity        Purpose = "identity"        // recognise one person across devices and channels
	Analytics       Purpose = "analytics"       // understand how the site is used
	Personalization Purpose = "personalization" // adapt the site to the person
	Marketing       Purpose = "marketing"       // own messages: e-mail, chat
	Advertising     Purpose = "advertising"     // other companies' ad platforms
	Sale            Purpose = "sale"            // CCPA sale or sharing
)

// Standard lists the purposes every workspace has, [Necessary] first.
func Standard() []Purpose {
	return []Purpose{Necessary, Identity, Analytics, Personalization, Marketing, Advertising, Sale}
}

// Verdict is what a signal says about one purpose. The zero value is Unknown,
// which is treated as a denial by everything that asks, but is not evidence
// of one.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota
	Granted
	Denied
)

// Kind names where a signal came from; it is stored with the evidence.
type Kind string

// The kinds of signal.
const (
	SegmentConsent Kind = "segment_consent" // context.consent.categoryPreferences of the event
	GPC            Kind = "gpc"             // Sec-GPC: 1, Global Privacy Control
	Stored         Kind = "stored"          // a decision made earlier, from our signed cookie
	Choice         Kind = "choice"          // a choice made just now, POST /v1/consent
)

// Signal is evidence of a choice. Make one with the methods of [Policy].
type Signal struct {
	Kind     Kind
	Verdicts map[Purpose]Verdict
	// Unreadable says that the signal was there but could not be understood; it
	// denies every purpose.
	Unreadable bool
}

// Digest identifies the content of the signal for the evidence, as 32
// hexadecimal characters. It depends on nothing but the kind and the verdicts.
func (s Signal) Digest() string {
	keys := make([]string, 0, len(s.Verdicts))
	for p := range s.Verdicts {
		keys = append(keys, string(p))
	}
	slices.Sort(keys)
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%t\x00", s.Kind, s.Unreadable)
	for _, k := range keys {
		fmt.Fprintf(h, "%s\x00%d\x00", k, s.Verdicts[Purpose(k)])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Policy says how a workspace reads signals. The zero Policy is of no use:
// make one with [NewPolicy].
type Policy struct {
	version    string
	purposes   []Purpose
	categories map[string][]Purpose
	gpcDenies  []Purpose
	maxAge     time.Duration
}

// PolicyConfig is the part of a Policy that a workspace may set.
type PolicyConfig struct {
	// Version is stored with each decision, so that one can later tell by which
	// rules it was made. Required.
	Version string
	// Extra purposes, beside those of [Standard].
	Extra []Purpose
	// Categories maps the category of a consent tool to purposes. A category that
	// is spelt like a purpose, in any case, means that purpose without being listed.
	Categories map[string][]Purpose
	// GPCDenies is what Global Privacy Control refuses. The default is
	// advertising and sale, as 11 CCR § 7025 requires of sale and sharing.
	GPCDenies []Purpose
	// MaxAge is how long a stored choice counts; the default is 180 days.
	MaxAge time.Duration
}

// NewPolicy checks a configuration. Its errors name the offending entry.
func NewPolicy(c PolicyConfig) (*Policy, error) {
	if c.Version == "" {
		return nil, fmt.Errorf("consent policy: version is missing; any text that changes with the rules will do")
	}
	p := &Policy{
		version:    c.Version,
		purposes:   append(Standard(), c.Extra...),
		categories: make(map[string][]Purpose),
		gpcDenies:  c.GPCDenies,
		maxAge:     c.MaxAge,
	}
	if p.gpcDenies == nil {
		p.gpcDenies = []Purpose{Advertising, Sale}
	}
	if p.maxAge <= 0 {
		p.maxAge = 180 * 24 * time.Hour
	}
	for _, purpose := range p.purposes {
		p.categories[strings.ToLower(string(purpose))] = []Purpose{purpose}
	}
	for category, purposes := range c.Categories {
		if err := p.check(purposes); err != nil {
			return nil, fmt.Errorf("consent policy: category %q: %w", category, err)
		}
		p.categories[strings.ToLower(category)] = purposes
	}
	if err := p.check(p.gpcDenies); err != nil {
		return nil, fmt.Errorf("consent policy: gpc_denies: %w", err)
	}
	return p, nil
}

func (p *Policy) check(purposes []Purpose) error {
	for _, purpose := range purposes {
		if !p.Knows(purpose) {
			return fmt.Errorf("unknown purpose %q; known are %v", purpose, p.purposes)
		}
	}
	return nil
}

// Knows tells whether the workspace has the purpose.
func (p *Policy) Knows(purpose Purpose) bool { return slices.Contains(p.purposes, purpose) }

// Purposes lists the workspace's purposes, [Necessary] first.
func (p *Policy) Purposes() []Purpose { return slices.Clone(p.purposes) }

// MaxAge is how long a stored choice counts.
func (p *Policy) MaxAge() time.Duration { return p.maxAge }

// Version is the version that decisions carry.
func (p *Policy) Version() string { return p.version }

// FromCategories reads the categoryPreferences object of Segment's consent
// management. A value that is not a boolean makes the signal unreadable.
// Categories that map to no purpose are passed over.
func (p *Policy) FromCategories(preferences map[string]any) Signal {
	s := Signal{Kind: SegmentConsent, Verdicts: make(map[Purpose]Verdict)}
	for category, value := range preferences {
		granted, ok := value.(bool)
		if !ok {
			s.Unreadable = true
			continue
		}
		for _, purpose := range p.categories[strings.ToLower(category)] {
			s.add(purpose, granted)
		}
	}
	return s
}

// FromChoice reads a choice made per purpose. An unknown purpose is an error,
// since silence would leave the person believing that it had been heard.
func (p *Policy) FromChoice(purposes map[string]bool) (Signal, error) {
	s := Signal{Kind: Choice, Verdicts: make(map[Purpose]Verdict)}
	for name, granted := range purposes {
		purpose := Purpose(name)
		if !p.Knows(purpose) {
			return Signal{}, fmt.Errorf("unknown purpose; known are %v", p.purposes)
		}
		s.add(purpose, granted)
	}
	return s, nil
}

// FromGPC reads the values of the Sec-GPC header. Only "1" is defined (W3C
// Global Privacy Control); it denies and never grants. ok is false where the
// header says nothing.
func (p *Policy) FromGPC(values []string) (s Signal, ok bool) {
	if !slices.ContainsFunc(values, func(v string) bool { return strings.TrimSpace(v) == "1" }) {
		return Signal{}, false
	}
	s = Signal{Kind: GPC, Verdicts: make(map[Purpose]Verdict)}
	for _, purpose := range p.gpcDenies {
		s.Verdicts[purpose] = Denied
	}
	return s, true
}

// add keeps the stricter verdict where two entries speak of one purpose.
func (s *Signal) add(purpose Purpose, granted bool) {
	switch {
	case !granted:
		s.Verdicts[purpose] = Denied
	case s.Verdicts[purpose] != Denied:
		s.Verdicts[purpose] = Granted
	}
}

// Decide weighs the signals of one request. A denial by any of them wins, so
// no client object can widen what a header or cookie of the same request
// refuses.
func (p *Policy) Decide(signals ...Signal) Decision {
	d := Decision{policy: p, verdicts: make(map[Purpose]ruling, len(p.purposes))}
	digest := sha256.New()
	fmt.Fprintf(digest, "sluis/decision/v1\x00%s\x00", p.version)
	for _, s := range signals {
		fmt.Fprintf(digest, "%s\x00", s.Digest())
		for _, purpose := range p.purposes {
			verdict := s.Verdicts[purpose]
			if s.Unreadable {
				verdict = Denied
			}
			if verdict == Denied || verdict == Granted && d.verdicts[purpose].verdict == Unknown {
				d.verdicts[purpose] = ruling{verdict, s.Kind}
			}
		}
	}
	d.verdicts[Necessary] = ruling{verdict: Granted}
	d.id = hex.EncodeToString(digest.Sum(nil)[:16])
	return d
}

// Decision is the outcome per purpose. The zero value denies everything.
type Decision struct {
	id       string
	policy   *Policy
	verdicts map[Purpose]ruling
}

type ruling struct {
	verdict Verdict
	by      Kind
}

// ID identifies policy version, signals and outcome: equal evidence gives an
// equal id. Empty for the zero Decision.
func (d Decision) ID() string { return d.id }

// Allows returns nil if every purpose is granted, and otherwise a *Refusal
// for the first that is not. To ask for no purpose is refused too.
func (d Decision) Allows(purposes ...Purpose) error {
	if len(purposes) == 0 {
		return &Refusal{}
	}
	for _, purpose := range purposes {
		if r := d.verdicts[purpose]; r.verdict != Granted {
			return &Refusal{Purpose: purpose, Verdict: r.verdict, By: r.by}
		}
	}
	return nil
}

// Granted lists the granted purposes in the policy's order.
func (d Decision) Granted() []Purpose { return d.with(Granted) }

// Denied lists the purposes that a signal refused. A purpose in neither list
// is unknown: it may not be used, but nobody has refused it.
func (d Decision) Denied() []Purpose { return d.with(Denied) }

func (d Decision) with(v Verdict) []Purpose {
	if d.policy == nil {
		return nil
	}
	var list []Purpose
	for _, purpose := range d.policy.purposes {
		if d.verdicts[purpose].verdict == v {
			list = append(list, purpose)
		}
	}
	return list
}

// Only is the decision without the grants that allowed does not allow: what is
// taken away is unknown, since no signal of the decision refuses it. The result
// has an id of its own, unless nothing was taken away.
func (d Decision) Only(allowed func(Purpose) bool) Decision {
	left := Decision{id: d.id, policy: d.policy, verdicts: maps.Clone(d.verdicts)}
	for _, purpose := range d.Granted() {
		if purpose != Necessary && !allowed(purpose) {
			left.verdicts[purpose] = ruling{}
			sum := sha256.Sum256([]byte("sluis/decision/v1/only\x00" + left.id + "\x00" + string(purpose)))
			left.id = hex.EncodeToString(sum[:16])
		}
	}
	return left
}

// Refusal says which purpose was not granted, and who refused it.
type Refusal struct {
	Purpose Purpose
	Verdict Verdict
	By      Kind
}

// Error is fit for the ledger: it holds no value of the event.
func (r *Refusal) Error() string {
	switch {
	case r.Purpose == "":
		return "no purpose given"
	case r.Verdict == Denied:
		return fmt.Sprintf("%s denied by %s", r.Purpose, r.By)
	default:
		return fmt.Sprintf("%s not granted", r.Purpose)
	}
}
