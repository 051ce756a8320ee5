package consent_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent"
)

// randomSignals are signals of a request, of all kinds that the cases have, so that
// properties hold of what is parsed and not only of what is made up; and some that
// are made up.
func randomSignals(t testing.TB, random *rand.Rand, p *consent.Policy, heard []string) []consent.Signal {
	t.Helper()
	var signals []consent.Signal
	for range random.IntN(4) {
		signals = append(signals, hear(t, p, heard[random.IntN(len(heard))])...)
	}
	kinds := []consent.Kind{consent.TCF, consent.GPP, consent.SegmentConsent, consent.Stored, consent.Choice}
	for range random.IntN(3) {
		s := consent.Signal{Kind: kinds[random.IntN(len(kinds))], Verdicts: make(map[consent.Purpose]consent.Verdict)}
		for _, purpose := range p.Purposes() {
			s.Verdicts[purpose] = consent.Verdict(random.IntN(3))
		}
		if random.IntN(2) == 0 {
			s.DecidedAt = casesNow.AddDate(0, 0, -random.IntN(400))
		}
		s.Unreadable = random.IntN(20) == 0
		signals = append(signals, s)
	}
	return signals
}

// properties runs a check on random requests in random places, under all policies
// of the cases.
func properties(t *testing.T, check func(t *testing.T, random *rand.Rand, p *consent.Policy, at consent.Situation, signals []consent.Signal)) {
	t.Helper()
	var heard []string
	for _, c := range readCases(t) {
		heard = append(heard, c.heard)
	}
	regions := []string{"", "NL", "US-CA", "US", "FR", "JP", "XX", "NO"}
	sources := []string{"web", "app", "kids"}
	for name, policy := range casePolicies(t) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 1))
		for range 400 {
			at := consent.Situation{Region: regions[random.IntN(len(regions))], Source: sources[random.IntN(len(sources))], Now: casesNow}
			check(t, random, policy, at, randomSignals(t, random, policy, heard))
			if t.Failed() {
				t.Fatalf("policy %s, seed %d, %+v", name, seed, at)
			}
		}
	}
}

func within(inner, outer []consent.Purpose) bool {
	return !slices.ContainsFunc(inner, func(p consent.Purpose) bool { return !slices.Contains(outer, p) })
}

// TestAddingADenialNeverWidens adds to a request a signal that denies, or that
// nobody can read.
func TestAddingADenialNeverWidens(t *testing.T) {
	properties(t, func(t *testing.T, random *rand.Rand, p *consent.Policy, at consent.Situation, signals []consent.Signal) {
		denial := consent.Signal{Kind: consent.Choice, Unreadable: random.IntN(4) == 0, Verdicts: make(map[consent.Purpose]consent.Verdict)}
		for _, purpose := range p.Purposes() {
			if random.IntN(2) == 0 {
				denial.Verdicts[purpose] = consent.Denied
			}
		}
		before, after := p.Decide(at, signals...), p.Decide(at, append(slices.Clone(signals), denial)...)
		if !within(after.Granted(), before.Granted()) {
			t.Errorf("%v became %v", before.Granted(), after.Granted())
		}
		for purpose, verdict := range denial.Verdicts {
			if verdict == consent.Denied && purpose != consent.Necessary && after.Allows(purpose) == nil {
				t.Errorf("%s was denied and is granted", purpose)
			}
		}
	})
}

// TestUnknownNeverGrants: of signals that say nothing of a purpose, where silence
// denies, none is granted; and a signal that says nothing changes nothing.
func TestUnknownNeverGrants(t *testing.T) {
	properties(t, func(t *testing.T, _ *rand.Rand, p *consent.Policy, at consent.Situation, signals []consent.Signal) {
		d := p.Decide(at, signals...)
		for _, purpose := range p.Purposes() {
			granted := slices.ContainsFunc(signals, func(s consent.Signal) bool { return !s.Unreadable && s.Verdicts[purpose] == consent.Granted })
			mode, _ := p.Mode(at.Region, at.Source, purpose)
			if d.Allows(purpose) == nil && !granted && mode == consent.OptIn && purpose != consent.Necessary {
				t.Errorf("%s is granted, and no signal grants it", purpose)
			}
		}
		empty := consent.Signal{Kind: consent.TCF, Verdicts: map[consent.Purpose]consent.Verdict{consent.Analytics: consent.Unknown}}
		if after := p.Decide(at, append(slices.Clone(signals), empty)...); !slices.Equal(after.Granted(), d.Granted()) || !slices.Equal(after.Denied(), d.Denied()) {
			t.Errorf("a signal that says nothing made %v of %v", after.Granted(), d.Granted())
		}
	})
}

// TestOrderOfSignalsDoesNotMatter: neither for what is decided nor for why.
func TestOrderOfSignalsDoesNotMatter(t *testing.T) {
	properties(t, func(t *testing.T, random *rand.Rand, p *consent.Policy, at consent.Situation, signals []consent.Signal) {
		d := p.Decide(at, signals...)
		shuffled := slices.Clone(signals)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		other := p.Decide(at, shuffled...)
		if other.ID() != d.ID() {
			t.Error("another id")
		}
		for _, purpose := range p.Purposes() {
			if a, b := d.Explain(purpose), other.Explain(purpose); a != b {
				t.Errorf("%+v and %+v", a, b)
			}
		}
	})
}

// TestTimeOnlyNarrows: what is granted later by the same signals was granted
// before, but for what a rule grants by silence once a grant has run out; and until
// [consent.Decision.Until] nothing changes.
func TestTimeOnlyNarrows(t *testing.T) {
	properties(t, func(t *testing.T, random *rand.Rand, p *consent.Policy, at consent.Situation, signals []consent.Signal) {
		d := p.Decide(at, signals...)
		later := at
		later.Now = at.Now.Add(time.Duration(random.IntN(500*24)) * time.Hour)
		after := p.Decide(later, signals...)
		for _, purpose := range after.Granted() {
			ahead := slices.ContainsFunc(signals, func(s consent.Signal) bool { return s.DecidedAt.After(at.Now) })
			if d.Allows(purpose) != nil && !ahead {
				t.Errorf("%s is granted by nothing but time", purpose)
			}
		}
		if until, ok := d.Until(); ok {
			later.Now = until.Add(-time.Microsecond)
			ahead := slices.ContainsFunc(signals, func(s consent.Signal) bool { return s.DecidedAt.After(at.Now) })
			if same := p.Decide(later, signals...); !slices.Equal(same.Granted(), d.Granted()) && !ahead {
				t.Errorf("%v became %v before the decision ended", d.Granted(), same.Granted())
			}
			if !until.After(at.Now) {
				t.Error("the decision had ended before it was made")
			}
		}
	})
}

// TestClientObjectsNeverWiden: whatever an event's own objects say, what a header
// or cookie of its request denies stays denied.
func TestClientObjectsNeverWiden(t *testing.T) {
	properties(t, func(t *testing.T, _ *rand.Rand, p *consent.Policy, at consent.Situation, signals []consent.Signal) {
		all := make(map[string]any)
		ids := []any{}
		for _, purpose := range p.Purposes() {
			all[string(purpose)] = true
			ids = append(ids, string(purpose))
		}
		around := p.Decide(at, signals...)
		objects := append(p.FromConsentObject(map[string]any{"categoryPreferences": all}), p.FromConsentManagement(map[string]any{"allowedConsentIds": ids, "resolutionStrategy": "or"}))
		d := p.Decide(at, append(slices.Clone(signals), objects...)...)
		for _, purpose := range around.Denied() {
			if d.Allows(purpose) == nil {
				t.Errorf("%s was denied around the event and is granted by it", purpose)
			}
		}
	})
}

// FuzzGather: whatever stands in a request, it is read without a panic, and without
// the collector's key only a consent tool grants anything.
func FuzzGather(f *testing.F) {
	for _, c := range readCases(f) {
		f.Add(c.heard, "gpp="+c.heard)
	}
	f.Add("euconsent-v2=CQ; __gpp=DBAA; klaro={\"analytics\":true}", "gdpr_consent=%zz&gcs=G1")
	p := casePolicies(f)["categories"]
	f.Fuzz(func(t *testing.T, cookie, query string) {
		evidence := consent.Gather(map[string][]string{"Cookie": {cookie}, "Sec-Gpc": {cookie}, "Dnt": {query}}, query)
		signals := p.Read(evidence, casesKey)
		d := p.Decide(consent.Situation{Now: casesNow}, signals...)
		for _, s := range signals {
			for _, purpose := range p.Purposes() {
				if purpose != consent.Necessary && (s.Unreadable || s.Verdicts[purpose] == consent.Denied) && d.Allows(purpose) == nil {
					t.Fatalf("%s is granted against a denial", purpose)
				}
			}
		}
		if len(evidence) > consent.MaxEvidence+1 {
			t.Fatalf("%d signals were taken", len(evidence))
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	p := casePolicies(b)["us"]
	at := consent.Situation{Region: "NL", Source: "web", Now: casesNow}
	for name, text := range map[string]string{
		"nothing": "nothing",
		"object":  `Segment {"analytics":true,"marketing":false,"identity":true}`,
		"tcf":     "cookie-TCF 1 2 3 4 5 6 7 8 9 10 11 vendors 755 disclosed 755 made 2026-05-01",
		"all":     `GPC 1; stored analytics=yes made 2026-05-01; cookie-TCF 1 8 9 made 2026-05-01; cookie-GPP usnat SaleOptOut=1`,
	} {
		b.Run(name, func(b *testing.B) {
			signals := hear(b, p, text)
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(at, signals...)
			}
		})
	}
}
