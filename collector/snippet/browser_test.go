//go:build browser

package snippet_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/collector/snippet"
)

const (
	agree  = "sluis.consent({analytics: true, identity: true, marketing: true, advertising: true, sale: true});"
	refuse = "sluis.consent({analytics: false, identity: false, marketing: false, advertising: false, sale: false});"
)

// check compares what should have been sent with what was.
func (s *site) check(t testing.TB, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.names()); diff != "" {
		t.Errorf("the collector got (-want +got):\n%s", diff)
	}
}

// count is how many requests of a kind the collector got.
func (s *site) count(path string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if r.Path == path {
			n++
		}
	}
	return n
}

// ids are the pseudonyms of the anonymous ids by event that landed.
func (s *site) ids() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make(map[string]string)
	for _, e := range s.rows.Events {
		ids[e.Event] = e.AnonymousID
	}
	return ids
}

// TestCallsBeforeTheScript: the stub keeps calls with their times while the
// script is on its way.
func TestCallsBeforeTheScript(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	s.gate = make(chan struct{})
	s.pages["/"] = s.usual("", `<script>
		sluis.track('Early', {n: 1}); sluis.ready(() => window.isReady = true); `+agree+`
		window.early = Date.now(); setTimeout(() => { window.released = Date.now(); fetch('/open') }, 1500)</script>`)
	b := s.visit(t)
	b.open(t, "/")
	s.untilEvent(t, "Early")
	s.check(t, "Early", "page /")
	early := time.UnixMilli(value[int64](t, b, "window.early"))
	if at := s.messages()[0].OriginalTimestamp; at.After(early.Add(time.Millisecond)) || early.Sub(at) > 1400*time.Millisecond {
		t.Errorf("it was called at %s and has the time %s", early, at)
	}
	if !value[bool](t, b, "window.isReady") {
		t.Error("ready was not called")
	}
	if e := s.landed().Events[0]; e.ReceivedAt.Sub(e.OccurredAt) < 1490*time.Millisecond {
		t.Errorf("it occurred at %s and was received at %s", e.OccurredAt, e.ReceivedAt)
	}
}

// TestHeldUntilAgreed: before the choice nothing leaves and nothing is stored;
// with it everything arrives, as of when it happened.
func TestHeldUntilAgreed(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/landing?utm_source=news")
	b.do(t, "sluis.identify('u-1', {plan: 'free'}); sluis.track('Held'); await new Promise(done => setTimeout(done, 400))")
	if stored, cookies := b.stored(t), b.cookies(t); len(stored)+len(cookies)+s.count("v1/batch")+s.count("v1/consent") > 0 || value[bool](t, b, "sluis.consent() !== undefined") {
		t.Errorf("before the choice: %v, %v, %+v", stored, cookies, s.got())
	}
	agreed := time.UnixMilli(value[int64](t, b, "Date.now()"))
	b.do(t, agree)
	s.untilEvent(t, "Held")
	s.check(t, "page /landing", "identify", "Held")
	for _, m := range s.messages() {
		if agreed.Sub(m.OriginalTimestamp) < 390*time.Millisecond || m.AnonymousID != "" {
			t.Errorf("%s: %+v", m.Type, m)
		}
	}
	if r := s.got()[0]; r.Path != "v1/consent" || !r.Body.Purposes["analytics"] || r.Body.UserID != "u-1" {
		t.Errorf("the first request is %+v", r)
	}
	if sent := s.got()[1].Body.SentAt; sent.Before(agreed) {
		t.Errorf("agreed at %s and sent at %s", agreed, sent)
	}
	row := s.landed().Events[0]
	if row.UTMSource != "news" || row.PagePath != "/landing" || row.PageTitle != "Shop" || row.ReceivedAt.Sub(row.OccurredAt) < 390*time.Millisecond || !strings.Contains(row.Context, snippet.Version) {
		t.Errorf("landed as %+v", row)
	}
	if ids := s.ids(); ids["page"] == "" || ids["page"] != ids["Held"] || ids["identify"] != ids["Held"] {
		t.Errorf("the ids are %v", ids)
	}
	if !slices.ContainsFunc(s.landed().Consents, func(c collector.ConsentRow) bool { return c.Pseudonym == s.ids()["Held"] && c.Granted }) {
		t.Errorf("the proof is %+v", s.landed().Consents)
	}
	b.untilAnswered(t)
	if stored := b.stored(t); !slices.Equal(stored, []string{"sluis"}) {
		t.Errorf("on the device are %v", stored)
	}
	if cookies := b.cookies(t); len(cookies) != 2 || cookies[collector.IdentityCookieName] == "" || cookies[collector.ConsentCookie] == "" {
		t.Errorf("the cookies are %v", cookies)
	}
}

// TestHeldUntilRefused: what was held is destroyed, and what follows is too.
func TestHeldUntilRefused(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/")
	b.do(t, "sluis.track('Held');"+refuse+"sluis.track('Refused'); sluis.identify('u-1')")
	s.until(t, "the refusal", func() bool { return len(s.requests) == 1 })
	b.open(t, "/second")
	b.do(t, "sluis.track('Still refused');"+agree+"sluis.track('Agreed')")
	s.untilEvent(t, "Agreed")
	s.check(t, "Agreed")
	if r := s.got()[0]; r.Path != "v1/consent" || len(r.Body.Purposes) != 5 || r.Body.Purposes["analytics"] || r.Body.AnonymousID != "" {
		t.Errorf("the refusal was %+v", r)
	}
	for _, row := range s.landed().Ledger {
		if row.Outcome != string(collector.Received) && row.Outcome != string(collector.Landed) {
			t.Errorf("an event that was refused left the page: %+v", row)
		}
	}
}

// TestClosedWhileHeld: a tab that is closed before the choice takes its events along.
func TestClosedWhileHeld(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/first")
	b.do(t, "sluis.track('Held')")
	other := b.another(t)
	b.close(t)
	other.open(t, "/second")
	other.do(t, agree)
	s.untilEvent(t, "page")
	s.check(t, "page /second")
}

// TestWithdrawal: an id that was agreed to is given up, by name.
func TestWithdrawal(t *testing.T) {
	for _, identity := range []collector.Identity{collector.IdentityCookie, collector.IdentityClient} {
		t.Run(string(identity), func(t *testing.T) {
			s := newSite(t, identity)
			b := s.visit(t)
			b.open(t, "/")
			b.do(t, agree+"sluis.track('Before')")
			s.untilEvent(t, "Before")
			b.do(t, refuse+"sluis.track('Refused')")
			s.until(t, "the withdrawal", func() bool { return strings.Contains(fmt.Sprint(s.rows.Consents), " false ") })
			b.until(t, "localStorage.sluis.includes('analytics,false')") // the collector has heard
			for _, row := range s.landed().Consents {
				if row.Pseudonym != s.ids()["Before"] {
					t.Errorf("%s is of %s", row.Purpose, row.Pseudonym)
				}
			}
			if device := value[string](t, b, "localStorage.sluis"); strings.Contains(device, "subject") || b.cookies(t)[collector.IdentityCookieName] != "" {
				t.Errorf("on the device are %s and %v", device, b.cookies(t))
			}
			b.do(t, agree+"sluis.track('After')")
			s.untilEvent(t, "After")
			s.check(t, "page /", "Before", "After")
			if ids := s.ids(); ids["Before"] == ids["After"] || ids["After"] == "" {
				t.Errorf("the ids are %v", ids)
			}
		})
	}
}

// TestOtherTab: a choice in one tab is heeded by the others.
func TestOtherTab(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/first")
	b.do(t, agree)
	s.untilEvent(t, "page")
	other := b.another(t)
	other.open(t, "/second")
	other.do(t, refuse)
	b.until(t, "!sluis.consent().analytics")
	s.until(t, "the refusal", func() bool { return len(s.rows.Consents) > 5 })
	b.do(t, "sluis.track('Refused')")
	other.do(t, agree+"sluis.track('Agreed')")
	s.untilEvent(t, "Agreed")
	b.until(t, "sluis.consent().analytics")
	b.do(t, "sluis.track('Agreed too')")
	s.untilEvent(t, "Agreed too")
	s.check(t, "page /first", "Agreed", "Agreed too")
	if n := s.count("v1/consent"); n != 3 {
		t.Errorf("three choices were told %d times", n)
	}
}

// TestChangeOfMind: who withdraws while the grant is still being told is named
// all the same.
func TestChangeOfMind(t *testing.T) {
	s := newSite(t, collector.IdentityClient)
	b := s.visit(t)
	b.open(t, "/")
	b.do(t, `const send = fetch; let first = true
		window.fetch = async (...args) => { const answer = await send(...args); if (first) { first = false; `+refuse+` } return answer };`+agree)
	s.until(t, "the withdrawal", func() bool { return len(s.rows.Consents) == 10 })
	grant, refusal := s.got()[0].Body, s.got()[1].Body
	if grant.AnonymousID == "" || refusal.AnonymousID != grant.AnonymousID || refusal.Purposes["identity"] {
		t.Errorf("%+v was withdrawn by %+v", grant, refusal)
	}
	b.until(t, "!localStorage.sluis.includes('subject')")
}

// TestPrivacyControl: GPC refuses what it is about, whatever the page says.
func TestPrivacyControl(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t, "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {value: true})")
	b.open(t, "/")
	b.do(t, agree)
	s.untilEvent(t, "page")
	want := map[string]bool{"analytics": true, "identity": true, "marketing": true, "advertising": false, "sale": false}
	if diff := cmp.Diff(want, s.got()[1].Body.Context.Consent.CategoryPreferences); diff != "" {
		t.Error(diff)
	}
	if denied := s.landed().Events[0].Denied; !slices.Equal(denied, []string{"advertising", "sale"}) {
		t.Errorf("it landed with %v denied", denied)
	}
}

// A consent platform as a page has it: its API is there first, and speaks when
// a test lets it.
const (
	tcf = `window.__tcfapi = (command, version, say) => { if (command == 'addEventListener' && version == 2) window.sayTCF = say }`
	gpp = `window.__gpp = (command, say) => { if (command == 'addEventListener') window.sayGPP = pingData => say({pingData}, true) }`
	gcm = `window.dataLayer = []; window.gtag = function () { dataLayer.push(arguments) }`
)

func tcfSays(status string, purposes ...int) string {
	var consents []string
	for _, p := range purposes {
		consents = append(consents, fmt.Sprintf("%d: true", p))
	}
	return fmt.Sprintf("sayTCF({eventStatus: '%s', gdprApplies: true, purpose: {consents: {%s}, legitimateInterests: {8: true, 9: true}}}, true);", status, strings.Join(consents, ", "))
}

// TestPlatforms: what consent platforms say is read as the README tells. An
// event that is held, or destroyed, does not arrive; the marker comes last, by
// which it can be told.
func TestPlatforms(t *testing.T) {
	all := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	const gppDenies = `sayGPP({signalStatus: 'ready', parsedSections: {usnat: [{Version: 1, SaleOptOut: %d, SharingOptOut: 2, TargetedAdvertisingOptOut: %d}, {Gpc: %t}]}});`
	for name, c := range map[string]struct {
		api  string
		says string
		want map[string]bool // nil: held, or destroyed
	}{
		"TCF, all":               {tcf, tcfSays("useractioncomplete", all...), map[string]bool{"identity": true, "analytics": true, "personalization": true, "advertising": true}},
		"TCF, stored":            {tcf, tcfSays("tcloaded", 8, 9), map[string]bool{"identity": false, "analytics": true, "personalization": false, "advertising": false}},
		"TCF, in part":           {tcf, tcfSays("tcloaded", 1, 8, 2, 3, 4), map[string]bool{"identity": true, "analytics": false, "personalization": false, "advertising": false}},
		"TCF, all refused":       {tcf, tcfSays("useractioncomplete"), nil},
		"TCF, asking":            {tcf, tcfSays("cmpuishown", all...), nil},
		"TCF, asking, own grant": {tcf, tcfSays("cmpuishown") + agree, nil},
		"TCF, silent, own grant": {tcf, agree, nil},
		"TCF, failing":           {tcf, "sayTCF(null, false);" + agree, nil},
		"TCF, own refusal":       {tcf, tcfSays("tcloaded", all...) + "sluis.consent({analytics: false});", map[string]bool{"identity": true, "analytics": false, "personalization": true, "advertising": true}},
		"TCF, refused, own grant": {tcf, agree + tcfSays("tcloaded"), map[string]bool{
			"identity": false, "analytics": false, "personalization": false, "advertising": false, "marketing": true, "sale": true,
		}},
		"TCF, no GDPR":                {tcf, "sayTCF({gdprApplies: false, eventStatus: 'tcloaded'}, true);", nil},
		"TCF, no GDPR, own grant":     {tcf, "sayTCF({gdprApplies: false, eventStatus: 'tcloaded'}, true); sluis.consent({analytics: true});", map[string]bool{"analytics": true}},
		"GPP, silent, own grant":      {gpp, agree, nil},
		"GPP alone":                   {gpp, fmt.Sprintf(gppDenies, 2, 2, false), nil},
		"GPP, not opted out":          {gpp, fmt.Sprintf(gppDenies, 2, 2, false) + "sluis.consent({analytics: true, sale: true});", map[string]bool{"analytics": true, "sale": true}},
		"GPP, no sale":                {gpp, fmt.Sprintf(gppDenies, 1, 2, false) + "sluis.consent({analytics: true, sale: true, advertising: true});", map[string]bool{"analytics": true, "sale": false, "advertising": true}},
		"GPP, no advertising":         {gpp, fmt.Sprintf(gppDenies, 2, 1, false) + "sluis.consent({analytics: true, sale: true, advertising: true});", map[string]bool{"analytics": true, "sale": false, "advertising": false}},
		"GPP with GPC":                {gpp, fmt.Sprintf(gppDenies, 2, 2, true) + "sluis.consent({analytics: true});", map[string]bool{"analytics": true, "sale": false, "advertising": false}},
		"Consent Mode, default":       {gcm, "gtag('consent', 'default', {analytics_storage: 'granted'});", nil},
		"Consent Mode, granted":       {gcm, "gtag('consent', 'default', {analytics_storage: 'denied'}); gtag('event', 'x'); dataLayer.push({event: 'y'}); gtag('consent', 'update', {analytics_storage: 'granted', ad_storage: 'denied'});", map[string]bool{"identity": true, "analytics": true, "advertising": false}},
		"Consent Mode, in part":       {gcm, "gtag('consent', 'default', {analytics_storage: 'granted', ad_user_data: 'denied'}); gtag('consent', 'update', {ad_storage: 'granted', personalization_storage: 'granted'});", map[string]bool{"identity": true, "analytics": true, "advertising": false, "personalization": true}},
		"Consent Mode, by region":     {gcm, "gtag('consent', 'default', {analytics_storage: 'granted', region: ['US']}); gtag('consent', 'update', {ad_storage: 'granted'});", map[string]bool{"advertising": true}},
		"Consent Mode, refused":       {gcm, "gtag('consent', 'update', {analytics_storage: 'denied', ad_storage: 'denied'});", nil},
		"Consent Mode, two platforms": {gcm + ";" + tcf, "gtag('consent', 'update', {analytics_storage: 'granted'});", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, collector.IdentityCookie)
			b := s.visit(t, c.api)
			b.open(t, "/")
			b.do(t, c.says)
			if c.want == nil {
				// Only what happens after a grant by all may arrive. A refusal has destroyed
				// what was held; what is still held then comes along.
				refused := value[bool](t, b, "sluis.consent() !== undefined")
				if s.count("v1/batch") > 0 {
					t.Errorf("held or destroyed, and sent: %+v", s.got())
				}
				b.do(t, `window.sayTCF?.({eventStatus: 'tcloaded', gdprApplies: false}, true); window.sayGPP?.({signalStatus: 'ready', parsedSections: {}});
					window.gtag?.('consent', 'update', {analytics_storage: 'granted'});`+agree+"sluis.track('Marker')")
				s.untilEvent(t, "Marker")
				if refused {
					s.check(t, "Marker")
				} else {
					s.check(t, "page /", "Marker")
				}
				return
			}
			s.until(t, "the page view", func() bool {
				return slices.ContainsFunc(s.requests, func(r request) bool { return r.Path == "v1/batch" })
			})
			last := s.got()[len(s.got())-1]
			if diff := cmp.Diff(c.want, last.Body.Context.Consent.CategoryPreferences); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReload: a choice is asked for once, and a person is recognised by a
// cookie that no script sees.
func TestReload(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/first")
	b.do(t, agree)
	s.untilEvent(t, "page")
	b.navigate(t, chromedp.Reload())
	b.ready(t)
	b.do(t, "sluis.track('Again')")
	s.untilEvent(t, "Again")
	s.check(t, "page /first", "page /first", "Again")
	if n := s.count("v1/consent"); n != 1 {
		t.Errorf("the choice was told %d times", n)
	}
	if ids := s.ids(); ids["page"] != ids["Again"] {
		t.Errorf("the ids are %v", ids)
	}
	if seen := value[string](t, b, "document.cookie"); seen != "" {
		t.Errorf("scripts see %s", seen)
	}
	if choice := value[map[string]bool](t, b, "sluis.consent()"); !choice["analytics"] || len(choice) != 5 {
		t.Errorf("the page is told of %v", choice)
	}
}

// TestBack: a page that comes out of the back/forward cache is looked at again,
// and heeds the choice that was made since.
func TestBack(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t, "addEventListener('pageshow', e => window.restored = e.persisted)")
	b.open(t, "/first")
	b.do(t, agree)
	s.untilEvent(t, "page")
	b.open(t, "/second")
	s.until(t, "the second view", func() bool { return len(s.rows.Events) == 2 })
	b.back(t, "/first")
	b.do(t, "sluis.track('Back')")
	s.untilEvent(t, "Back")
	s.check(t, "page /first", "page /second", "page /first", "Back")

	b.open(t, "/third")
	b.do(t, refuse)
	s.until(t, "the refusal", func() bool { return s.requests[len(s.requests)-1].Path == "v1/consent" })
	b.back(t, "/first")
	b.do(t, "sluis.track('Refused');"+agree+"sluis.track('Agreed')")
	s.untilEvent(t, "Agreed")
	s.check(t, "page /first", "page /second", "page /first", "Back", "Agreed")
}

// back goes to the page before, which must come out of the cache.
func (b *tab) back(t testing.TB, path string) {
	t.Helper()
	b.do(t, "history.back()")
	eventually(t, "going back", func() bool { return value[string](t, b, "location.pathname") == path })
	b.until(t, "window.restored !== undefined")
	if !value[bool](t, b, "window.restored") {
		t.Fatal("the page did not come out of the cache")
	}
}

// TestClosedTab: an event of the last moment arrives.
func TestClosedTab(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/")
	b.do(t, agree)
	s.untilEvent(t, "page")
	b.do(t, "sluis.track('Last')")
	b.close(t)
	s.untilEvent(t, "Last")
}

// TestHandedOver: browsers differ in which of these they tell a page that ends,
// so each has to do.
func TestHandedOver(t *testing.T) {
	for name, happens := range map[string]string{
		"left":   "dispatchEvent(new Event('pagehide'))",
		"hidden": "Object.defineProperty(document, 'visibilityState', {value: 'hidden'}); document.dispatchEvent(new Event('visibilitychange'))",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, collector.IdentityCookie)
			b := s.visit(t)
			b.open(t, "/")
			b.do(t, agree)
			s.untilEvent(t, "page")
			handed := value[[]string](t, b, `(() => {
				const bodies = [], send = navigator.sendBeacon
				navigator.sendBeacon = (url, body) => { bodies.push(...JSON.parse(body).batch.map(m => m.event)); return send.call(navigator, url, body) }
				sluis.track('Last'); `+happens+`
				return bodies
			})()`)
			if !slices.Equal(handed, []string{"Last"}) {
				t.Errorf("the browser was handed %v", handed)
			}
			s.untilEvent(t, "Last")
		})
	}
}

// TestManyAtTheEnd: what is more than browsers let outlive a page comes with the
// next one, each once.
func TestManyAtTheEnd(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/first")
	b.do(t, agree)
	s.untilEvent(t, "page")
	b.do(t, "for (let n = 0; n < 40; n++) sluis.track('Event ' + n, {text: 'é'.repeat(4000)}); location = '/second'")
	s.until(t, "all events", func() bool {
		names := make(map[string]bool)
		for _, e := range s.rows.Events {
			names[e.Event] = true
		}
		return len(names) == 41
	})
	seen := make(map[string]int)
	for _, m := range s.messages() {
		seen[m.MessageID]++
	}
	if len(seen) != 42 || len(s.messages()) != 42 {
		t.Errorf("%d messages with %d ids", len(s.messages()), len(seen))
	}
}

// offline cuts the tab off, or connects it again.
func (b *tab) offline(t testing.TB, yes bool) {
	t.Helper()
	call(t, b, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: yes, DownloadThroughput: -1, UploadThroughput: -1}},
	})
	call(t, b, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: yes, DownloadThroughput: -1, UploadThroughput: -1})
}

// untilAnswered waits until a page that may keep what is not answered yet keeps
// nothing but the choice.
func (b *tab) untilAnswered(t testing.TB) { b.until(t, "localStorage.length == 1") }

// untilStored waits until what could not be sent is on the device.
func (b *tab) untilStored(t testing.TB) { b.until(t, "localStorage.length == 2") }

// TestOffline: events wait for the network, on the device only where they may.
func TestOffline(t *testing.T) {
	t.Run("until it is back", func(t *testing.T) {
		s := newSite(t, collector.IdentityCookie)
		b := s.visit(t)
		b.open(t, "/")
		b.do(t, agree)
		s.untilEvent(t, "page")
		b.offline(t, true)
		b.do(t, "sluis.track('Offline')")
		b.untilStored(t)
		s.check(t, "page /")
		b.offline(t, false)
		s.untilEvent(t, "Offline")
		b.until(t, "localStorage.length == 1")
		s.check(t, "page /", "Offline")
	})
	t.Run("until the next visit", func(t *testing.T) {
		s := newSite(t, collector.IdentityCookie)
		b := s.visit(t)
		b.open(t, "/")
		b.do(t, agree)
		s.untilEvent(t, "page")
		b.offline(t, true)
		b.do(t, "sluis.track('Offline')")
		b.untilStored(t)
		other := b.another(t)
		b.close(t)
		other.open(t, "/next")
		s.untilEvent(t, "Offline")
		s.until(t, "the page view", func() bool { return len(s.rows.Events) == 3 })
		sent := make(map[string]bool) // an attempt of the closing tab may have succeeded unseen; what is sent twice has one id
		for _, m := range s.messages() {
			sent[m.MessageID] = true
		}
		if len(sent) != 3 {
			t.Errorf("three events were sent under %d ids", len(sent))
		}
		if ids := s.ids(); ids["Offline"] != ids["page"] {
			t.Errorf("the ids are %v", ids)
		}
	})
	t.Run("without identity", func(t *testing.T) {
		s := newSite(t, collector.IdentityCookie)
		b := s.visit(t)
		b.open(t, "/")
		b.do(t, "sluis.consent({analytics: true, identity: false})")
		s.untilEvent(t, "page")
		b.offline(t, true)
		b.do(t, "const failed = new Promise(done => { const original = fetch; window.fetch = (...args) => original(...args).finally(() => setTimeout(done, 50)) }); sluis.track('Offline'); await failed; dispatchEvent(new Event('pagehide'))")
		if stored := b.stored(t); !slices.Equal(stored, []string{"sluis"}) {
			t.Errorf("on the device are %v", stored)
		}
		b.offline(t, false)
		s.untilEvent(t, "Offline")
	})
	t.Run("refused meanwhile", func(t *testing.T) {
		s := newSite(t, collector.IdentityCookie)
		b := s.visit(t)
		b.open(t, "/")
		b.do(t, agree)
		s.untilEvent(t, "page")
		b.offline(t, true)
		b.do(t, "sluis.track('Offline')")
		b.untilStored(t)
		b.do(t, refuse)
		if stored := b.stored(t); !slices.Equal(stored, []string{"sluis"}) {
			t.Errorf("on the device are %v", stored)
		}
		b.offline(t, false)
		s.until(t, "the refusal", func() bool { return s.requests[len(s.requests)-1].Body.Purposes["analytics"] == false })
		b.do(t, agree+"sluis.track('Agreed')")
		s.untilEvent(t, "Agreed")
		s.check(t, "page /", "Agreed")
	})
}

// TestRetry: a collector that is busy is asked again, no sooner than it says.
func TestRetry(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/")
	b.do(t, agree)
	s.untilEvent(t, "page")
	s.change(func() { s.failing = true })
	b.do(t, "window.began = Date.now(); sluis.track('Patient')")
	s.until(t, "a refusal", func() bool { return s.requests[len(s.requests)-1].Status == http.StatusServiceUnavailable })
	s.change(func() { s.failing = false })
	s.untilEvent(t, "Patient")
	s.check(t, "page /", "Patient")
	if waited := value[int64](t, b, "Date.now() - began"); waited < 3000 {
		t.Errorf("asked again after %d ms", waited)
	}
}

// TestSinglePage: each address of a page that changes it is a view, once.
func TestSinglePage(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t)
	b.open(t, "/app")
	b.do(t, agree+`const tick = () => new Promise(done => setTimeout(done, 50))
		history.pushState({}, '', '/app/one'); document.title = 'One'; await tick()
		history.replaceState({scroll: 1}, ''); await tick()
		history.pushState({}, '', '#part'); await tick()
		history.replaceState({}, '', '/app/two?tab=1'); await tick()
		history.pushState({}, '', '/app/three'); await tick()
		history.back(); await new Promise(done => addEventListener('popstate', done, {once: true})); await tick()
		sluis.track('Done')`)
	s.untilEvent(t, "Done")
	s.check(t, "page /app", "page /app/one", "page /app/two", "page /app/three", "page /app/two", "Done")
	views := s.messages()
	if one := views[1].Context.Page; one["title"] != "One" || one["referrer"] != s.url+"/app" || one["url"] != s.url+"/app/one" {
		t.Errorf("the second view is of %v", one)
	}
	if two := views[2].Context.Page; two["search"] != "?tab=1" || two["referrer"] != s.url+"/app/one" {
		t.Errorf("the third view is of %v", two)
	}
}

// TestByHand: a page that counts its own views has no others.
func TestByHand(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	s.pages["/"] = strings.Replace(s.usual("", ""), "<script async", `<script data-page-views="manual" async`, 1)
	b := s.visit(t)
	b.open(t, "/")
	b.do(t, agree+"history.pushState({}, '', '/one'); sluis.page('Docs', 'Start', {depth: 3}); await new Promise(done => setTimeout(done, 50)); sluis.track('Done')")
	s.untilEvent(t, "Done")
	s.check(t, "page /one", "Done")
}

// TestStrictPolicy: the three forms of the tag, under a policy that allows
// nothing but what the tag says it needs.
func TestStrictPolicy(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	const nonce = "r4nd0m"
	external := s.tag.ExternalStub() + s.tag.Script()
	withNonce := strings.ReplaceAll(s.tag.InlineStub()+s.tag.Script(), "<script", `<script nonce="`+nonce+`"`)
	for name, c := range map[string]struct {
		tag, policy string
		blocked     bool
	}{
		"hash":               {s.tag.InlineStub() + s.tag.Script(), s.tag.Policy(true), false},
		"nonce":              {withNonce, "script-src 'nonce-" + nonce + "'; connect-src " + s.url + "/s/v1/", false},
		"file":               {external, s.tag.Policy(false), false},
		"trusted types":      {external, s.tag.Policy(false) + "; require-trusted-types-for 'script'", false},
		"nothing allowed":    {external, "connect-src " + s.url, true},
		"inline, but not so": {s.tag.InlineStub() + s.tag.Script(), s.tag.Policy(false), true},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.messages())
			s.change(func() {
				s.pages["/"] = "<!doctype html><meta charset=utf-8><title>Shop</title>" + c.tag
				s.policy = "default-src 'none'; " + c.policy
			})
			b := s.visit(t)
			b.navigate(t, chromedp.Navigate(s.url+"/"))
			if c.blocked {
				if n := value[int](t, b, "window.violations?.length || 0"); n == 0 {
					t.Error("this test would not see a violation")
				}
				return
			}
			b.ready(t)
			b.do(t, agree)
			s.until(t, "the page view", func() bool { return len(s.rows.Events) > before })
			if violations := value[[]string](t, b, "window.violations || []"); len(violations) > 0 {
				t.Errorf("violated: %v", violations)
			}
		})
	}
}

// TestTamperedScript: the integrity hash keeps another script out.
func TestTamperedScript(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	s.pages["/"] = s.tag.InlineStub() + strings.Replace(s.tag.Script(), "sluis-"+snippet.Version, "stub-"+snippet.Version, 1)
	b := s.visit(t)
	b.navigate(t, chromedp.Navigate(s.url+"/"))
	if value[bool](t, b, "!!window.sluis.version") {
		t.Error("the script was run")
	}
}

// TestOtherOrigin: pages of another origin load the script with its hash, and
// send without a preflight.
func TestOtherOrigin(t *testing.T) {
	var s *site
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, s.usual("", ""))
	}))
	t.Cleanup(pages.Close)
	s = newSite(t, collector.IdentityCookie, pages.URL)
	s.elsewhere = pages.URL
	b := s.visit(t)
	b.navigate(t, chromedp.Navigate(pages.URL+"/shop"))
	b.ready(t)
	b.do(t, agree+"sluis.track('Elsewhere')")
	s.untilEvent(t, "Elsewhere")
	b.do(t, "sluis.track('Last'); dispatchEvent(new Event('pagehide'))")
	s.untilEvent(t, "Last")
	s.check(t, "page /shop", "Elsewhere", "Last")
	for _, r := range s.got() {
		if r.Path != "v1/batch" && r.Path != "v1/consent" {
			t.Errorf("there was a %s", r.Path)
		}
	}
	if ids := s.ids(); ids["Last"] != ids["Elsewhere"] || ids["Last"] == "" {
		t.Errorf("the ids are %v", ids)
	}
}

// TestReset: after it there is somebody else.
func TestReset(t *testing.T) {
	for _, identity := range []collector.Identity{collector.IdentityCookie, collector.IdentityClient, collector.IdentityNone} {
		t.Run(string(identity), func(t *testing.T) {
			s := newSite(t, identity)
			b := s.visit(t)
			b.open(t, "/")
			b.do(t, agree+"sluis.identify('u-1'); sluis.track('Signed in')")
			s.untilEvent(t, "Signed in")
			b.do(t, "sluis.track('Signing out'); sluis.reset()")
			s.untilEvent(t, "Signing out")
			eventually(t, "the cookie is gone", func() bool { return b.cookies(t)[collector.IdentityCookieName] == "" })
			b.do(t, "sluis.track('Signed out')")
			s.untilEvent(t, "Signed out")
			ids := s.ids()
			if ids["Signed in"] != ids["Signing out"] || ids["Signed in"] == ids["Signed out"] || ids["Signed out"] == "" {
				t.Errorf("the ids are %v", ids)
			}
			messages := s.messages()
			if before, after := messages[len(messages)-2], messages[len(messages)-1]; before.UserID != "u-1" || after.UserID != "" {
				t.Errorf("the user ids are %q and %q", before.UserID, after.UserID)
			}
		})
	}
}

// TestCookieless: nothing is on the device, ever; an id lives as long as a page.
func TestCookieless(t *testing.T) {
	s := newSite(t, collector.IdentityNone)
	b := s.visit(t)
	empty := func(when string) {
		t.Helper()
		if stored, cookies := b.stored(t), b.cookies(t); len(stored)+len(cookies) > 0 {
			t.Errorf("%s: %v, %v", when, stored, cookies)
		}
	}
	b.open(t, "/first")
	empty("before the choice")
	b.do(t, agree+"sluis.identify('u-1'); sluis.track('One'); sluis.track('Two')")
	s.untilEvent(t, "Two")
	empty("agreed")
	b.open(t, "/second")
	empty("on the next page")
	b.do(t, agree+"sluis.track('Three')")
	s.untilEvent(t, "Three")
	b.do(t, "sluis.reset();"+refuse)
	empty("refused")
	ids := s.ids()
	if ids["One"] != ids["Two"] || ids["One"] == ids["Three"] || ids["One"] == "" {
		t.Errorf("the ids are %v", ids)
	}
	if s.count("v1/consent") > 0 {
		t.Error("a choice was told that cannot be kept")
	}
}

// TestClientIdentity: the page keeps the id, where the person agreed.
func TestClientIdentity(t *testing.T) {
	s := newSite(t, collector.IdentityClient)
	b := s.visit(t)
	b.open(t, "/first")
	b.do(t, "sluis.consent({analytics: true}); sluis.track('Unknown')")
	s.untilEvent(t, "Unknown")
	b.open(t, "/second")
	b.do(t, "sluis.track('Stranger'); sluis.consent({identity: true}); sluis.track('Known')")
	s.untilEvent(t, "Known")
	b.open(t, "/third")
	b.do(t, "sluis.track('Known again')")
	s.untilEvent(t, "Known again")
	ids := s.ids()
	if ids["Unknown"] == ids["Stranger"] || ids["Known"] != ids["Known again"] || ids["Known"] == "" {
		t.Errorf("the ids are %v", ids)
	}
	if cookies := b.cookies(t); cookies[collector.IdentityCookieName] != "" {
		t.Errorf("the cookies are %v", cookies)
	}
}

// TestStaleChoice: after its time a choice is asked for again.
func TestStaleChoice(t *testing.T) {
	s := newSite(t, collector.IdentityClient)
	s.pages["/plain"] = "<!doctype html><h1>No snippet here</h1>"
	b := s.visit(t)
	b.open(t, "/")
	b.do(t, agree)
	s.untilEvent(t, "page")
	b.navigate(t, chromedp.Navigate(s.url+"/plain"))
	b.do(t, "localStorage.sluis = localStorage.sluis.replace(/\"at\":(\\d+)/, (_, at) => '\"at\":' + (at - 181 * 864e5))")
	b.open(t, "/later")
	if value[bool](t, b, "sluis.consent() !== undefined") {
		t.Error("the choice still holds")
	}
	b.do(t, agree)
	s.until(t, "the page view", func() bool { return len(s.rows.Events) == 2 })
	if s.landed().Events[0].AnonymousID == s.landed().Events[1].AnonymousID {
		t.Error("the id has outlived the choice")
	}
}

// TestMistakes: what a page or a platform does wrong breaks neither it nor what
// others send.
func TestMistakes(t *testing.T) {
	s := newSite(t, collector.IdentityCookie)
	b := s.visit(t, gcm, "window.__gpp = (command, say) => { window.sayGPP = say }", "window.__tcfapi = (command, version, say) => { window.sayTCF = say }")
	b.open(t, "/")
	b.do(t, `const circle = {}; circle.circle = circle
		sluis.track('Circle', circle)
		sluis.track('Big', {n: 1n})
		const properties = {price: 1}
		sluis.track('Fine', properties)
		properties.price = 2
		gtag('consent'); gtag('consent', 'update'); dataLayer.push(null, undefined, 7)
		sayGPP(null, false); sayGPP({}, true)
		sayTCF(undefined, false); sayTCF({eventStatus: 'tcloaded'}, true)
		sluis.consent({analytics: 'yes', identity: 1})
		sayGPP({pingData: {signalStatus: 'ready'}}, true)`)
	if choice := value[map[string]bool](t, b, "sluis.consent()"); choice["analytics"] || choice["identity"] {
		t.Errorf("that was taken for %v", choice)
	}
	b.do(t, "sluis.track('Refused')")

	b = s.visit(t)
	b.open(t, "/")
	b.do(t, `const circle = {}; circle.circle = circle
		sluis.track('Circle', circle)
		const properties = {price: 1}
		sluis.track('Fine', properties)
		properties.price = 2;`+agree)
	s.untilEvent(t, "Fine")
	s.check(t, "page /", "Fine")
	if price := s.messages()[1].Properties["price"]; price != 1.0 {
		t.Errorf("the price has become %v", price)
	}
}

// TestCalls: the forms that analytics.js takes.
func TestCalls(t *testing.T) {
	s := newSite(t, collector.IdentityClient)
	s.tag.Global = "analytics"
	s.pages["/"] = strings.Replace(s.usual("", ""), "<script async", `<script data-page-views="manual" async`, 1)
	b := s.visit(t)
	b.navigate(t, chromedp.Navigate(s.url+"/"))
	b.do(t, `await new Promise(done => analytics.ready(done)); analytics.consent({analytics: true, identity: true})
		analytics.identify({plan: 'guest'})
		analytics.identify('u-1', {plan: 'pro'}, {context: {ip: '0.0.0.0'}})
		analytics.identify('u-7')
		analytics.track('A')
		analytics.track('B', {price: 1}, {integrations: {Mail: false}, timestamp: new Date(0)})
		analytics.track('C', null, {integrations: {All: false}})
		await new Promise(done => analytics.track('D', done))
		analytics.page()
		analytics.page('Home')
		analytics.page('Docs', 'Start', {depth: 3})
		analytics.page({depth: 4})
		analytics.group('g-1', {size: 9})
		analytics.alias('u-2')
		analytics.alias('u-2', 'u-0')
		analytics.track('Done')`)
	s.untilEvent(t, "Done")
	var got []string
	for _, m := range s.messages() {
		got = append(got, strings.Join(strings.Fields(fmt.Sprint(m.Type, " ", m.UserID, " ", m.Event, m.Name, " ", m.Category, m.GroupID, m.PreviousID, m.Context.IP, " ", m.Properties, m.Traits, m.Integrations)), " "))
		if len(m.MessageID) != 36 || len(m.AnonymousID) != 36 {
			t.Errorf("%s has the ids %q and %q", m.Type, m.MessageID, m.AnonymousID)
		}
	}
	want := []string{
		"identify map[] map[plan:guest] map[]",
		"identify u-1 0.0.0.0 map[] map[plan:pro] map[]",
		"identify u-7 map[] map[] map[]",
		"track u-7 A map[] map[] map[]",
		"track u-7 B map[price:1] map[] map[Mail:false]",
		"track u-7 C map[] map[] map[All:false]",
		"track u-7 D map[] map[] map[]",
		"page u-7 map[] map[] map[]",
		"page u-7 Home map[] map[] map[]",
		"page u-7 Start Docs map[depth:3] map[] map[]",
		"page u-7 map[depth:4] map[] map[]",
		"group u-7 g-1 map[] map[size:9] map[]",
		"alias u-2 u-7 map[] map[] map[]",
		"alias u-2 u-0 map[] map[] map[]",
		"track u-7 Done map[] map[] map[]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if at := s.messages()[4].OriginalTimestamp; !at.Equal(time.Unix(0, 0)) {
		t.Errorf("B has the time %s", at)
	}
}
