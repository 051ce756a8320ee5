package consent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Situation is where and when a decision is made.
type Situation struct {
	Region string // of the person; empty or unknown means that silence denies
	Source string
	Now    time.Time
}

// skew is how far ahead of ours a client's clock may be.
const skew = time.Hour

// Decide weighs the signals of one request. A denial by any of them wins, so
// no client object can widen what a header or cookie of the same request
// refuses; the order of the signals means nothing.
func (p *Policy) Decide(at Situation, signals ...Signal) Decision {
	d := Decision{policy: p, rulings: make(map[Purpose]ruling, len(p.purposes))}
	at.Region = normalRegion(at.Region)
	heard := make([]heard, len(signals))
	for i := range signals {
		heard[i].signal, heard[i].digest = &signals[i], signals[i].Digest()
	}
	for _, purpose := range p.purposes {
		d.rulings[purpose] = p.rule(purpose, at, heard)
	}
	d.id = p.decisionID(d, heard)
	return d
}

// heard is a signal with its digest.
type heard struct {
	signal *Signal
	digest string
}

// rule decides about one purpose.
func (p *Policy) rule(purpose Purpose, at Situation, signals []heard) ruling {
	if purpose == Necessary {
		return ruling{verdict: Granted, cause: isNecessary}
	}
	var r ruling
	for _, h := range signals {
		r = r.or(p.hear(purpose, h, at.Now))
	}
	if r.verdict != Unknown {
		return r
	}
	mode, rule := p.Mode(at.Region, at.Source, purpose)
	if mode == OptIn {
		r.mode, r.rule, r.unplaced = mode, rule, at.Region == ""
		return r
	}
	return ruling{verdict: Granted, by: ByPolicy, cause: bySilence, mode: mode, rule: rule}
}

// hear is what one signal says about a purpose now.
func (p *Policy) hear(purpose Purpose, h heard, now time.Time) ruling {
	s := h.signal
	r := ruling{by: s.Kind, digest: h.digest, decidedAt: s.DecidedAt}
	if s.Unreadable {
		r.verdict, r.cause = Denied, isUnreadable
		return r
	}
	r.verdict, r.cause = s.Verdicts[purpose], wasSaid
	if r.verdict != Granted || s.DecidedAt.IsZero() {
		return r
	}
	r.expiresAt = s.DecidedAt.Add(p.definitions[purpose].Expiry)
	switch {
	case s.DecidedAt.After(now.Add(skew)):
		r.verdict, r.cause = Unknown, isAhead
	case !now.Before(r.expiresAt):
		r.verdict, r.cause = Unknown, isExpired
	}
	return r
}

// decisionID identifies policy version, evidence and outcome.
func (p *Policy) decisionID(d Decision, signals []heard) string {
	digests := make([]string, len(signals))
	for i, h := range signals {
		digests[i] = h.digest
	}
	slices.Sort(digests)
	h := sha256.New()
	fmt.Fprintf(h, "sluis/decision/v2\x00%s\x00%q", p.version, slices.Compact(digests))
	for _, purpose := range p.purposes {
		fmt.Fprintf(h, "\x00%s\x00%d", purpose, d.rulings[purpose].verdict)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Decision is the outcome per purpose. The zero value denies everything.
type Decision struct {
	id      string
	policy  *Policy
	rulings map[Purpose]ruling
}

// ruling is what was decided about one purpose, and why.
type ruling struct {
	verdict   Verdict
	by        Kind
	cause     cause
	digest    string    // of the signal; empty if none decided
	decidedAt time.Time // when the person chose, if the signal tells
	expiresAt time.Time // of a grant, or of what was one; zero if it does not
	mode      Mode      // where silence decides
	rule      *Rule     // that said what silence means, if one did
	unplaced  bool      // the region is not known
}

// cause is why a verdict is what it is.
type cause uint8

const (
	notSaid cause = iota
	wasSaid
	isUnreadable
	isExpired
	isAhead
	bySilence
	isNecessary
	wasTaken
)

// weight orders rulings about one purpose: the heavier one counts. Of denials
// one that was said explains more than one of a text that nobody could read.
func (r ruling) weight() int {
	switch {
	case r.verdict == Denied && r.cause == wasSaid:
		return 5
	case r.verdict == Denied:
		return 4
	case r.verdict == Granted:
		return 3
	case r.cause == isExpired:
		return 2
	case r.cause == isAhead:
		return 1
	default:
		return 0
	}
}

// or is the ruling that counts of two, whichever of them comes first. Of two
// grants that is the one that lasts longer, so that what follows from it does
// not depend on the order of signals.
func (r ruling) or(other ruling) ruling {
	switch a, b := r.weight(), other.weight(); {
	case b == 0 && other.cause == wasSaid: // a signal that says nothing of the purpose
		return r
	case a != b:
		if a > b {
			return r
		}
		return other
	case r.cause == notSaid:
		return other
	case r.outlasts(other):
		return r
	default:
		return other
	}
}

// outlasts orders rulings of one weight, so that each pair has one order.
func (r ruling) outlasts(other ruling) bool {
	if !r.expiresAt.Equal(other.expiresAt) {
		return r.expiresAt.IsZero() || !other.expiresAt.IsZero() && r.expiresAt.After(other.expiresAt)
	}
	if r.by != other.by {
		return r.by < other.by
	}
	return r.digest <= other.digest
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
		if r := d.rulings[purpose]; r.verdict != Granted {
			refusal := &Refusal{Purpose: purpose, Verdict: r.verdict}
			if r.verdict == Denied {
				refusal.By = r.by
			}
			return refusal
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
		if d.rulings[purpose].verdict == v {
			list = append(list, purpose)
		}
	}
	return list
}

// Until is when the first grant of the decision ends: from then on the same
// signals are to be weighed again. ok is false if none does.
func (d Decision) Until() (at time.Time, ok bool) {
	for _, r := range d.rulings {
		if r.verdict == Granted && !r.expiresAt.IsZero() && (!ok || r.expiresAt.Before(at)) {
			at, ok = r.expiresAt, true
		}
	}
	return at, ok
}

// Only is the decision without the grants that allowed does not allow: what is
// taken away is unknown, since no signal of the decision refuses it. The result
// has an id of its own, unless nothing was taken away.
func (d Decision) Only(allowed func(Purpose) bool) Decision {
	left := Decision{id: d.id, policy: d.policy, rulings: maps.Clone(d.rulings)}
	for _, purpose := range d.Granted() {
		if purpose != Necessary && !allowed(purpose) {
			left.rulings[purpose] = ruling{cause: wasTaken}
			sum := sha256.Sum256([]byte("sluis/decision/v2/only\x00" + left.id + "\x00" + string(purpose)))
			left.id = hex.EncodeToString(sum[:16])
		}
	}
	return left
}

// Reason is what was decided about one purpose, and why.
type Reason struct {
	Purpose Purpose `json:"purpose"`
	Granted bool    `json:"granted"`
	// By is the kind of signal that decided, or [ByPolicy]; empty if silence denied.
	By Kind `json:"by,omitempty"`
	// Text says why, in words. It repeats nothing of a signal.
	Text string `json:"reason"`
	// SignalDigest is that of the signal that decided; see [Signal.Digest].
	SignalDigest string `json:"signal_digest,omitempty"`
	// DecidedAt is when the person chose, if the signal tells; ExpiresAt is when a
	// grant ends, if it does.
	DecidedAt time.Time `json:"decided_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Explain says why a purpose was granted or not.
func (d Decision) Explain(purpose Purpose) Reason {
	r, known := d.rulings[purpose]
	reason := Reason{Purpose: purpose, Granted: r.verdict == Granted, By: r.by, Text: r.text(), SignalDigest: r.digest, DecidedAt: r.decidedAt}
	if r.verdict == Granted {
		reason.ExpiresAt = r.expiresAt
	}
	if !known {
		reason.Text = "there is no such purpose"
	}
	return reason
}

func (r ruling) text() string {
	const day = time.DateOnly
	switch r.cause {
	case isNecessary:
		return "necessary: not asked for"
	case isUnreadable:
		return fmt.Sprintf("denied: %s could not be read", r.by)
	case isExpired:
		return fmt.Sprintf("not granted: the grant by %s of %s expired on %s", r.by, r.decidedAt.UTC().Format(day), r.expiresAt.UTC().Format(day))
	case isAhead:
		return fmt.Sprintf("not granted: the grant by %s says that it was made later than now", r.by)
	case bySilence:
		return "granted: " + r.silence()
	case wasTaken:
		return "not granted: taken away since"
	case wasSaid:
		if r.verdict == Denied {
			return fmt.Sprintf("denied by %s", r.by)
		}
		if !r.expiresAt.IsZero() {
			return fmt.Sprintf("granted by %s on %s, until %s", r.by, r.decidedAt.UTC().Format(day), r.expiresAt.UTC().Format(day))
		}
		return fmt.Sprintf("granted by %s", r.by)
	case notSaid:
		switch {
		case r.unplaced:
			return "not granted: nobody granted it, and in an unknown region that is opt-in"
		case r.rule != nil:
			return "not granted: " + r.silence()
		}
		return "not granted: nobody granted it, and no rule of the region or source says otherwise"
	default:
		return ""
	}
}

// silence says what a rule makes of it.
func (r ruling) silence() string {
	text := map[Mode]string{
		OptIn:  "nobody granted it (opt-in",
		OptOut: "nobody refused it (opt-out",
		None:   "nobody is asked for it (none",
	}[r.mode]
	if r.rule.Law != "" {
		text += ", " + r.rule.Law
	}
	return text + ")"
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
