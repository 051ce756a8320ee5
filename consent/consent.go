// Package consent decides what may be done with an event: it turns signals of
// a person's choice into a Decision per purpose.
//
// A [Policy] has the workspace's purposes, with what they rest on and how long
// a grant lasts; the rules of regions and sources; and the mappings from what
// each kind of [Signal] says to purposes, all of it as data. Signals are read
// with [Policy.Read] and weighed with [Policy.Decide].
//
// It fails closed everywhere. The zero Decision denies all; a purpose nobody
// spoke about is denied, unless a rule of the region says that people opt out;
// what cannot be parsed denies; a grant expires and a denial does not; and any
// denial outweighs any grant. The package imports no other part of the product.
package consent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
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
	TCF             Kind = "tcf"                 // a TC string of the IAB's Transparency and Consent Framework
	GPP             Kind = "gpp"                 // a string of the IAB's Global Privacy Platform
	USPrivacy       Kind = "us_privacy"          // the IAB's older US Privacy string, such as 1YNN
	GPC             Kind = "gpc"                 // Sec-GPC: 1, Global Privacy Control
	DNT             Kind = "dnt"                 // DNT: 1, Do Not Track
	ConsentMode     Kind = "google_consent_mode" // Google Consent Mode: gcs, gcd
	SegmentConsent  Kind = "segment_consent"     // context.consent.categoryPreferences of the event
	RudderStack     Kind = "rudderstack"         // context.consentManagement of the event
	OneTrust        Kind = "onetrust"            // the cookies of consent tools, from here on
	Cookiebot       Kind = "cookiebot"
	Didomi          Kind = "didomi"
	Klaro           Kind = "klaro"
	Usercentrics    Kind = "usercentrics"
	CookieConsentJS Kind = "vanilla-cookieconsent"
	Zaraz           Kind = "zaraz"
	Stored          Kind = "stored" // a decision made earlier, from our signed cookie
	Choice          Kind = "choice" // a choice made just now, POST /v1/consent
	// TooMany is for a request with more signals than anybody has reason to send.
	TooMany Kind = "too_many_signals"
	// ByPolicy is no signal: nobody spoke, and a rule of the region decides.
	ByPolicy Kind = "policy"
)

// Signal is evidence of a choice. Make one with the methods of [Policy].
type Signal struct {
	Kind     Kind
	Verdicts map[Purpose]Verdict
	// Unreadable says that the signal was there but could not be understood; it
	// denies every purpose.
	Unreadable bool
	// DecidedAt is when the person chose, from which grants expire; zero where the
	// signal is a statement about the present, or does not tell.
	DecidedAt time.Time
	// Evidence is the SHA-256 of the signal's text, as hexadecimal characters; empty
	// if it had none.
	Evidence string
}

// Digest identifies the content of the signal for the evidence, as 32
// hexadecimal characters. It depends on nothing but what the signal says and
// the text it was read from.
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
	if !s.DecidedAt.IsZero() || s.Evidence != "" {
		fmt.Fprintf(h, "\x00%d\x00%s", s.DecidedAt.UnixMilli(), s.Evidence)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func newSignal(kind Kind) Signal {
	return Signal{Kind: kind, Verdicts: make(map[Purpose]Verdict)}
}

// unreadable is a signal of a text that cannot be understood.
func unreadable(kind Kind, text string) Signal {
	return Signal{Kind: kind, Unreadable: true, Evidence: evidenceOf(text)}
}

func evidenceOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
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

// deny is add for signals that never grant.
func (s *Signal) deny(purposes []Purpose) {
	for _, purpose := range purposes {
		s.Verdicts[purpose] = Denied
	}
}
