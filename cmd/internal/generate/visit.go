package generate

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// event is one message of a visit.
type event struct {
	id       string
	kind     string // page, track, identify or group
	name     string // of a track
	at       time.Time
	page     string // the path that it happened on
	query    string // of the page's address
	referrer string

	user, email bool // carries the user id; gives the address
	answered    bool // carries what was agreed to
	agreed      grants
	properties  string // JSON; "" for none
}

// request is what a device sends at once: events, or a choice.
type request struct {
	person *person
	visit  *visit
	n      int // of the visit's
	copy   bool
	events []event
	choice bool
	user   bool // of a choice: signed in
	at     time.Time
	touch  touch // of the visit
}

// requests calls do for each request of a person that has arrived before the
// end, visit by visit. What it gets is for it to keep.
func (w *World) requests(p *person, do func(*request)) {
	for i := range p.visits {
		for _, r := range w.visit(p, &p.visits[i]) {
			if r.at.Before(w.end) {
				do(&r)
			}
		}
	}
}

// visit is all that is sent of a visit.
func (w *World) visit(p *person, v *visit) []request {
	r := w.random(ofVisit, uint64(p.n), uint64(v.n))
	s := script{w: w, p: p, v: v, r: r, now: v.start, user: v.user, answered: v.answered, agreed: v.agreed, touch: touches[0]}
	if p.bot {
		s.crawl()
	} else {
		s.touch = w.touch(p, v, r)
		s.play()
	}
	return w.sent(p, v, s, r)
}

// script is a visit as it goes on.
type script struct {
	w        *World
	p        *person
	v        *visit
	r        *rand.Rand
	now      time.Time
	path     string
	touch    touch
	user     bool
	answered bool
	agreed   grants

	events []event
	choice int // before which event it is made; -1 for none
	signed bool
}

// touch is how somebody came to the shop.
type touch struct {
	channel, query, referrer string
}

// touches are by how often people come so.
var touches = []touch{
	{"direct", "", ""},
	{"organic search", "", "https://www.google.com/"},
	{"organic search", "", "https://duckduckgo.com/"},
	{"paid search", "utm_source=google&utm_medium=cpc&utm_campaign=brand&gclid=%s", "https://www.google.com/"},
	{"paid search", "utm_source=bing&utm_medium=cpc&utm_campaign=shoes&msclkid=%s", "https://www.bing.com/"},
	{"paid social", "utm_source=facebook&utm_medium=paid_social&utm_campaign=spring&fbclid=%s", "https://www.facebook.com/"},
	{"email", "utm_source=newsletter&utm_medium=email&utm_campaign=weekly", ""},
	{"social", "", "https://www.reddit.com/"},
	{"referral", "", "https://reviews.example.org/"},
	{"affiliate", "utm_source=partner&utm_medium=affiliate&utm_campaign=autumn", "https://partner.example.net/"},
}

func (w *World) touch(p *person, v *visit, r *rand.Rand) touch {
	shares := []float64{0.30, 0.18, 0.05, 0.12, 0.04, 0.10, 0.08, 0.05, 0.05, 0.03}
	i := pick(r, shares...)
	if touches[i].channel == "email" && p.email == "" {
		i = 0
	}
	t := touches[i]
	if t.channel == "paid search" || t.channel == "paid social" {
		t.query = fmt.Sprintf(t.query, "c"+strconv.FormatUint(r.Uint64(), 36))
	}
	return t
}

// pages are those of the shop, the most visited first.
var pages = []string{"/", "/shoes", "/pricing", "/bags", "/shoes/runner", "/bags/courier", "/about", "/contact", "/blog/fitting", "/help"}

// play is what a person does.
func (s *script) play() {
	p, v, r := s.p, s.v, s.r
	s.choice = -1
	s.arrive(pages[pick(r, 0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.05)])
	if v.chooses {
		s.wait(3, 20)
		s.choice = len(s.events)
		s.answered, s.agreed = true, v.agrees
		s.wait(1, 4)
		s.arrive(s.path) // the page tells of itself again, now that it may
	}
	for range r.IntN(3) {
		s.browse()
	}
	if v.signIn {
		s.user, s.signed = true, true
		s.wait(5, 60)
		s.add(event{kind: "identify", email: true, properties: `{"plan":"` + p.plan + `"}`})
		if p.group != "" {
			s.add(event{kind: "group", properties: `{"plan":"` + p.plan + `"}`})
		}
	}
	for range r.IntN(4) {
		s.browse()
	}
	if chance(r, 0.05) {
		s.wait(5, 120)
		s.track("Live Chat Started", "")
	}
	if s.user || v.gives {
		s.buy()
	}
}

// buy is what few visits lead to.
func (s *script) buy() {
	r, v := s.r, s.v
	if chance(r, 0.35) {
		s.browse()
		s.track("Product Added", `{"sku":"S-`+strconv.Itoa(r.IntN(500))+`"}`)
	}
	ordered := chance(r, 0.15)
	if v.gives {
		s.wait(20, 120)
		s.add(event{kind: "identify", email: true})
	}
	if ordered || v.gives && chance(r, 0.5) {
		s.wait(20, 200)
		currency := "EUR"
		if chance(r, 0.05) {
			currency = "USD"
		}
		s.path = "/checkout"
		s.track("Order Completed", fmt.Sprintf(`{"order_id":"o-%d-%d-%d","total":%d.%02d,"currency":%q}`,
			s.w.Seed, s.p.n, v.n, 5+r.IntN(60)+r.IntN(60), r.IntN(100), currency))
	}
}

// crawl is what a bot does.
func (s *script) crawl() {
	s.choice = -1
	s.arrive("/")
	for range 4 + s.r.IntN(20) {
		s.now = s.now.Add(time.Second)
		s.visitPage(pages[s.r.IntN(len(pages))])
	}
}

func (s *script) browse() {
	s.wait(8, 240)
	s.visitPage(pages[pick(s.r, 0.1, 0.2, 0.12, 0.15, 0.12, 0.1, 0.03, 0.05, 0.08, 0.05)])
}

// wait lets some seconds pass, in milliseconds.
func (s *script) wait(least, most int) {
	s.now = s.now.Add(time.Duration(least*1000+s.r.IntN((most-least)*1000)) * time.Millisecond)
}

// arrive is the first page, with where the visitor comes from.
func (s *script) arrive(path string) {
	s.path = path
	s.add(event{kind: "page", query: s.touch.query, referrer: s.touch.referrer})
}

func (s *script) visitPage(path string) {
	before := s.path
	s.path = path
	s.add(event{kind: "page", referrer: site + before})
}

func (s *script) track(name, properties string) {
	s.wait(1, 5)
	s.add(event{kind: "track", name: name, properties: properties})
}

// add completes an event by how things are.
func (s *script) add(e event) {
	e.id, e.at, e.page, e.user, e.answered, e.agreed = uuid(s.r), s.now, s.path, s.user, s.answered, s.agreed
	s.events = append(s.events, e)
}

// sent is a visit cut into requests, with when each arrives; the copies of those
// that are sent again, too.
func (w *World) sent(p *person, v *visit, s script, r *rand.Rand) []request {
	var all []request
	add := func(events []event, choice bool, last time.Time) {
		all = append(all, request{
			person: p, visit: v, n: len(all), events: events, choice: choice, user: s.user && !s.signed, touch: s.touch,
			at: last.Add(v.late + time.Duration(200+r.IntN(3000))*time.Millisecond),
		})
	}
	rest := s.events
	if s.choice >= 0 {
		before := rest[:s.choice]
		add(before, false, before[len(before)-1].at)
		rest = rest[s.choice:]
		add(nil, true, before[len(before)-1].at.Add(3*time.Second))
	}
	for len(rest) > 0 {
		size := min(len(rest), 3+r.IntN(8))
		add(rest[:size], false, rest[size-1].at)
		rest = rest[size:]
	}
	// A request is not before the one it follows, unless they are the wrong way round.
	for i := range all[1:] {
		if all[i+1].at.Before(all[i].at) {
			all[i+1].at = all[i].at.Add(time.Millisecond)
		}
	}
	if n := len(all); n > 1 && !all[n-2].choice && chance(r, w.Disorder) {
		all[n-2].at = all[n-1].at.Add(time.Duration(1+r.IntN(60)) * time.Second)
	}
	return append(all, w.copies(p, v, all)...)
}

// copies are requests that are sent again, since no answer came: mostly at once.
func (w *World) copies(p *person, v *visit, all []request) []request {
	if w.Duplicates == 0 {
		return nil
	}
	r := w.random(ofCopies, uint64(p.n), uint64(v.n))
	var copies []request
	for _, one := range all {
		again := time.Duration(1+r.IntN(600)) * time.Second
		if chance(r, 0.3) {
			again = time.Duration(1+r.IntN(10*24)) * time.Hour
		}
		if chance(r, w.Duplicates) && !one.choice {
			one.copy, one.at = true, one.at.Add(again)
			copies = append(copies, one)
		}
	}
	return copies
}
