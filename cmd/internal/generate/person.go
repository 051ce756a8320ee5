package generate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// grants are the purposes that a person agrees to, a bit each.
type grants uint8

// The purposes, in the order of their bits.
var purposes = []string{"identity", "analytics", "personalization", "marketing", "advertising", "sale"}

const (
	identity grants = 1 << iota
	analytics
	personalization
	marketing
	advertising
	sale

	everything = identity | analytics | personalization | marketing | advertising | sale
	nothing    = grants(0)
)

// Sizes of the groups that share something: devices at home, devices at work,
// and what a company has.
const (
	household = 2
	office    = 8
	company   = 5
)

// person is somebody, or a bot.
type person struct {
	n   int
	bot bool

	userID, email string // empty if they never give one
	mailbox       bool   // others give the same address
	group, plan   string // of a business customer
	agrees        grants
	answers       bool // to the question what they agree to
	later         grants
	withdraws     time.Time // from when on it is later that counts; zero for never
	erased        bool

	devices []device
	visits  []visit
}

// device is one that a person uses.
type device struct {
	id     string
	agent  string
	shared bool
	skew   time.Duration
}

// visit is what a person does on one device without a long pause.
type visit struct {
	n      int
	device int
	start  time.Time
	late   time.Duration
	first  bool // on this device: the question what they agree to is asked

	chooses  bool // what they agree to is told, here for the first time or anew
	agrees   grants
	answered bool // before the visit: events carry agreed
	agreed   grants

	user   bool // signed in from its first event on
	signIn bool // signs in
	gives  bool // gives an address without an account
}

func (w *World) person(n int) *person {
	r := w.random(ofPerson, uint64(n), 0)
	p := &person{n: n, bot: n >= w.People}
	if p.bot {
		w.program(p, r)
		return p
	}
	w.character(p, r)
	p.devices = w.sharedDevices(p) // the first one is used most
	for i := range pick(r, 0.6, 0.3, 0.1) + 1 {
		p.devices = append(p.devices, w.device(uint64(n), uint64(i)))
	}
	w.plan(p, r)
	return p
}

// pick is an index, by its share.
func pick(r *rand.Rand, shares ...float64) int {
	x := r.Float64()
	for i, share := range shares {
		if x < share {
			return i
		}
		x -= share
	}
	return len(shares) - 1
}

// character is who somebody is: with an account or without, and what they agree to.
func (w *World) character(p *person, r *rand.Rand) {
	signsUp, business := chance(r, 0.5), p.n%4 == 0
	p.answers = !chance(r, 0.05)
	p.agrees = []grants{everything, identity | analytics | personalization, analytics, nothing}[pick(r, 0.66, 0.14, 0.08, 0.12)]
	withdraws, how, when := chance(r, w.Withdrawals), pick(r, 0.4, 0.4, 0.2), r.Float64()
	if p.answers && p.agrees != nothing && withdraws {
		p.later = []grants{nothing, p.agrees &^ (marketing | advertising | sale), p.agrees &^ identity}[how]
		p.withdraws = w.From.Add(time.Duration(when * float64(w.end.Sub(w.From))))
	}
	p.erased = chance(r, w.Erasures) && signsUp
	address := chance(r, 0.08)
	mistyped := chance(r, w.Roles/10)
	if signsUp {
		p.userID = fmt.Sprintf("u-%d-%d", w.Seed, p.n)
		p.plan = []string{"free", "basic", "pro"}[pick(r, 0.6, 0.3, 0.1)]
	}
	if signsUp || address {
		p.email = fmt.Sprintf("visitor%d.s%d@example.com", p.n, w.Seed)
	}
	switch {
	case mistyped && p.email != "":
		p.email, p.mailbox = "test@example.com", true
	case business && signsUp:
		number := p.n / 4 / company
		p.group = fmt.Sprintf("acct-%d-%d", w.Seed, number)
		// A quarter is business: so many companies must have such an address.
		if chance(w.random(ofCompany, uint64(number), 0), min(1, 4*w.Roles)) {
			p.email, p.mailbox = fmt.Sprintf("info@c%d.s%d.example.com", number, w.Seed), true
		}
	}
}

var agents = []string{
	"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
}

const robot = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36"

func (w *World) device(owner, number uint64) device {
	r := w.random(ofDevice, owner, number)
	d := device{id: uuid(r), agent: agents[r.IntN(len(agents))]}
	if chance(r, w.Skew) {
		d.skew = time.Duration((r.Float64()*4 - 2) * float64(24*time.Hour)).Truncate(time.Second)
	}
	return d
}

// sharedDevices are those that the person uses and others too: nine of ten at
// home, by two, and one of ten at work, by eight. A person comes to use 1.2 devices
// on average, and two of three who could share one do.
func (w *World) sharedDevices(p *person) []device {
	const own, atHome = 1.2 * 3 / 2, 0.9
	var devices []device
	add := func(topic, members uint64, share float64) {
		group := uint64(p.n) / members
		if !chance(w.random(topic, group, 0), min(1, share*own*float64(members))) || group*members+members > uint64(w.People) {
			return
		}
		d := w.device(group<<8|members, topic<<32)
		d.shared, d.skew = true, 0
		devices = append(devices, d)
	}
	add(ofHousehold, household, w.Shared*atHome)
	add(ofOffice, office, w.Shared*(1-atHome))
	return devices
}

// plan is when the person comes, on which device, and in which state that is.
func (w *World) plan(p *person, r *rand.Rand) {
	mean := 1.2
	if p.userID != "" {
		mean = 7
	}
	starts := w.starts(r, 1+min(400, int(r.ExpFloat64()*mean)))
	signUp := r.IntN(min(3, len(starts)))
	seen, signedIn := make([]bool, len(p.devices)), make([]bool, len(p.devices))
	answered, agreed := false, nothing
	for i, start := range starts {
		v := visit{n: i, start: start, device: w.deviceOf(p, r)}
		d := v.device
		v.first, seen[d] = !seen[d], true
		v.agrees = p.agrees
		if !p.withdraws.IsZero() && !start.Before(p.withdraws) {
			v.agrees = p.later
		}
		v.answered, v.agreed = !v.first, agreed
		v.chooses = p.answers && (v.first || answered && v.agrees != agreed)
		if !v.chooses && answered {
			v.agreed = v.agrees
		}
		if !p.answers {
			v.answered = false
		}
		if v.chooses {
			answered, agreed = true, v.agrees
		}
		if chance(r, w.Late) {
			v.late = time.Hour + time.Duration(r.Float64()*r.Float64()*float64(longestLate-time.Hour)).Truncate(time.Second)
		}
		signs := chance(r, 0.85)
		switch {
		case p.userID == "" && p.email != "":
			v.gives = i == len(starts)-1
		case p.userID == "" || i < signUp:
		case p.devices[d].shared: // one does not stay signed in there
			v.signIn = signs || i == signUp
		case signedIn[d]:
			v.user = true
		case i == signUp || signs:
			v.signIn, signedIn[d] = true, true
		}
		p.visits = append(p.visits, v)
	}
}

// starts are the times of visits, in order, each some hours after the one before.
func (w *World) starts(r *rand.Rand, n int) []time.Time {
	from := r.Float64() * float64(w.Days)
	starts := make([]time.Time, n)
	for i := range starts {
		day := int(from + r.Float64()*(float64(w.Days)-from))
		hour := 6 + 18*(r.Float64()+r.Float64())/2
		starts[i] = w.From.AddDate(0, 0, day).Add(time.Duration(hour * float64(time.Hour))).Truncate(time.Millisecond)
	}
	slices.SortFunc(starts, time.Time.Compare)
	last := time.Time{}
	return slices.DeleteFunc(starts, func(t time.Time) bool {
		near := t.Sub(last) < 6*time.Hour
		if !near {
			last = t
		}
		return near
	})
}

// deviceOf is mostly the person's first one.
func (w *World) deviceOf(p *person, r *rand.Rand) int {
	if len(p.devices) == 1 || chance(r, 0.55) {
		return 0
	}
	return 1 + r.IntN(len(p.devices)-1)
}

// program is a bot: it agrees to what it is asked, or is not asked.
func (w *World) program(p *person, r *rand.Rand) {
	p.answers, p.agrees = chance(r, 0.5), everything
	p.devices = []device{{id: uuid(r), agent: robot}}
	for i, start := range w.starts(r, 1+r.IntN(3)) {
		p.visits = append(p.visits, visit{n: i, start: start, answered: p.answers, agreed: everything})
	}
}
