package generate

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The files of the truth, by their names. Identifiers are as they were sent; the
// keys of a workspace make pseudonyms of them.
const (
	// AboutFile has the Config.
	AboutFile = "truth.json"
	// PersonFile: who is behind each identifier of an event that landed. Two of the
	// same evidence were seen together, perhaps through others of the same person,
	// with a consent to be recognised that stands: so much can be known. A shared
	// one has none, and a row for each person.
	PersonFile = "truth_person.csv"
	// SessionFile: the visits, as far as their events landed.
	SessionFile = "truth_session.csv"
	// TouchFile: how each visit came about, whether that landed or not.
	TouchFile = "truth_touch.csv"
	// ConsentFile: each choice, and who made it.
	ConsentFile = "truth_consent.csv"
	// ErasureFile: the identifiers of those who are to be erased.
	ErasureFile = "truth_erasure.csv"
)

var headers = map[string][]string{
	PersonFile:  {"kind", "id", "person", "shared", "evidence"},
	SessionFile: {"anonymous_id", "person", "visit", "shared", "started_at", "ended_at", "events", "page_views", "channel"},
	TouchFile:   {"anonymous_id", "person", "visit", "touched_at", "channel", "utm_source", "utm_medium", "utm_campaign", "click_id_kind", "referrer_host"},
	ConsentFile: {"anonymous_id", "user_id", "person", "decided_at", "granted", "denied"},
	ErasureFile: {"kind", "id", "person"},
}

// Truth writes what is true of those who are made up.
type Truth struct {
	dir   string
	files map[string]*truthFile
	err   error
}

type truthFile struct {
	file   *os.File
	buffer *bufio.Writer
	rows   *csv.Writer
}

// CreateTruth begins the files in a directory, which is made if there is none.
// Files that are there are replaced.
func CreateTruth(dir string) (*Truth, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the truth: %w", err)
	}
	t := &Truth{dir: dir, files: make(map[string]*truthFile)}
	for name, header := range headers {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("writing the truth: %w", err), t.Close())
		}
		buffer := bufio.NewWriterSize(f, 1<<18)
		t.files[name] = &truthFile{f, buffer, csv.NewWriter(buffer)}
		t.row(name, header...)
	}
	return t, nil
}

// about writes down of what world it is the truth.
func (t *Truth) about(c Config) {
	text, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(t.dir, AboutFile), append(text, '\n'), 0o644)
	}
	t.err = cmp.Or(t.err, err)
}

// About reads what was made up.
func About(dir string) (c Config, err error) {
	text, err := os.ReadFile(filepath.Join(dir, AboutFile))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return c, fmt.Errorf("reading the truth: %w; `sluis generate` writes it", err)
	}
	return c, nil
}

func (t *Truth) row(file string, values ...string) {
	t.err = cmp.Or(t.err, t.files[file].rows.Write(values))
}

// Close completes the files.
func (t *Truth) Close() error {
	err := t.err
	for _, f := range t.files {
		f.rows.Flush()
		err = errors.Join(err, f.rows.Error(), f.buffer.Flush(), f.file.Close())
	}
	if err != nil {
		return fmt.Errorf("writing the truth: %w", err)
	}
	return nil
}

// identifier is one of a person's.
type identifier struct{ kind, id string }

// known is what a collector and models could know of a person.
type known struct {
	p        *person
	seen     []identifier // on events that landed, in the order of the first
	together [][2]identifier
	word     map[identifier]word // the last one on being recognised
}

type word struct {
	granted bool
	at      time.Time
}

// tell writes what is true of a person, of whom these requests arrived.
func (t *Truth) tell(p *person, arrived []request) {
	t.visits(arrived)
	t.choices(arrived)
	k := known{p: p, word: make(map[identifier]word)}
	slices.SortStableFunc(arrived, func(a, b request) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(entryOf(&a), entryOf(&b)))
	})
	for i := range arrived {
		k.hear(&arrived[i])
	}
	evidence := k.evidence()
	for _, id := range k.seen {
		t.row(PersonFile, id.kind, id.id, t.person(p), strconv.FormatBool(k.shared(id)), evidence[id])
		if p.erased && !k.shared(id) {
			t.row(ErasureFile, id.kind, id.id, t.person(p))
		}
	}
}

func (t *Truth) person(p *person) string {
	if p.bot {
		return "bot-" + strconv.Itoa(p.n)
	}
	return "p-" + strconv.Itoa(p.n)
}

// shared tells whether others use it too.
func (k *known) shared(id identifier) bool {
	if id.kind == "email" {
		return k.p.mailbox
	}
	return slices.ContainsFunc(k.p.devices, func(d device) bool { return d.shared && d.id == id.id })
}

// hear takes in what a request tells of who is who, and of who may be recognised.
// It follows what is documented: an event without the purpose analytics does not
// land; without identity it has one identifier; a grant counts from when the event
// happened and a refusal from when it was heard; a customer's refusal is heard
// though the event does not land.
func (k *known) hear(r *request) {
	device := identifier{"anonymous_id", k.p.devices[r.visit.device].id}
	user := identifier{"user_id", k.p.userID}
	if r.choice {
		k.say(device, r.visit.agrees&identity != 0, r.at)
		if r.user {
			k.say(user, r.visit.agrees&identity != 0, r.at)
		}
		return
	}
	for i := range r.events {
		e := &r.events[i]
		granted := e.agreed&identity != 0
		switch {
		case !e.answered:
		case e.agreed&analytics == 0:
			if e.user {
				k.say(user, granted, r.at)
			}
		case r.copy: // the first one counts
		case !granted:
			k.see(device)
			k.say(device, false, r.at)
		default:
			ids := []identifier{device}
			if e.user {
				ids = append(ids, user)
			}
			if e.email {
				ids = append(ids, identifier{"email", k.p.email})
			}
			for _, id := range ids {
				k.see(id)
				k.say(id, true, e.at)
			}
			k.link(ids)
		}
	}
}

func (k *known) see(id identifier) {
	if !slices.Contains(k.seen, id) {
		k.seen = append(k.seen, id)
	}
}

func (k *known) say(id identifier, granted bool, at time.Time) {
	last, ok := k.word[id]
	if !ok || at.After(last.at) || at.Equal(last.at) && !granted {
		k.word[id] = word{granted, at}
	}
}

// link notes which of a person's own identifiers came together.
func (k *known) link(ids []identifier) {
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			if pair := [2]identifier{a, b}; !k.shared(a) && !k.shared(b) && !slices.Contains(k.together, pair) {
				k.together = append(k.together, pair)
			}
		}
	}
}

// evidence gives those that can be known to belong together one name. A bot is
// nobody, and what others use too proves nothing.
func (k *known) evidence() map[identifier]string {
	group := make(map[identifier]int)
	for i, id := range k.seen {
		group[id] = i
	}
	for _, pair := range k.together {
		if !k.word[pair[0]].granted || !k.word[pair[1]].granted {
			continue // withdrawn
		}
		from, to := max(group[pair[0]], group[pair[1]]), min(group[pair[0]], group[pair[1]])
		for id, g := range group {
			if g == from {
				group[id] = to
			}
		}
	}
	names := make(map[identifier]string)
	for id, g := range group {
		if !k.p.bot && !k.shared(id) {
			names[id] = strconv.Itoa(k.p.n) + "." + strconv.Itoa(g)
		}
	}
	return names
}

// visits writes where each came from, and what of it landed.
func (t *Truth) visits(arrived []request) {
	for len(arrived) > 0 {
		v := arrived[0].visit
		n := slices.IndexFunc(arrived, func(r request) bool { return r.visit != v })
		if n < 0 {
			n = len(arrived)
		}
		if p := arrived[0].person; !p.bot {
			t.touch(p, v, arrived[0].touch)
			t.session(p, v, arrived[:n])
		}
		arrived = arrived[n:]
	}
}

func (t *Truth) touch(p *person, v *visit, how touch) {
	query, _ := url.ParseQuery(how.query) // made up here
	click := ""
	for _, kind := range []string{"gclid", "msclkid", "fbclid"} {
		if query.Has(kind) {
			click = kind
		}
	}
	host := ""
	if u, err := url.Parse(how.referrer); err == nil {
		host = u.Hostname()
	}
	t.row(TouchFile, p.devices[v.device].id, t.person(p), strconv.Itoa(v.n), stamp(v.start), how.channel,
		query.Get("utm_source"), query.Get("utm_medium"), query.Get("utm_campaign"), click, host)
}

func (t *Truth) session(p *person, v *visit, arrived []request) {
	var first, last time.Time
	n, pages := 0, 0
	for i := range arrived {
		if arrived[i].copy {
			continue
		}
		for _, e := range arrived[i].events {
			if !e.answered || e.agreed&analytics == 0 {
				continue
			}
			if n == 0 || e.at.Before(first) {
				first = e.at
			}
			if n == 0 || e.at.After(last) {
				last = e.at
			}
			if n++; e.kind == "page" {
				pages++
			}
		}
	}
	if n > 0 {
		d := p.devices[v.device]
		t.row(SessionFile, d.id, t.person(p), strconv.Itoa(v.n), strconv.FormatBool(d.shared), stamp(first), stamp(last),
			strconv.Itoa(n), strconv.Itoa(pages), arrived[0].touch.channel)
	}
}

func (t *Truth) choices(arrived []request) {
	for i := range arrived {
		r := &arrived[i]
		if !r.choice {
			continue
		}
		user := ""
		if r.user {
			user = r.person.userID
		}
		var granted, denied []string
		for bit, purpose := range purposes {
			if r.visit.agrees>>bit&1 == 1 {
				granted = append(granted, purpose)
			} else {
				denied = append(denied, purpose)
			}
		}
		t.row(ConsentFile, r.person.devices[r.visit.device].id, user, t.person(r.person), stamp(r.at), strings.Join(granted, " "), strings.Join(denied, " "))
	}
}

// Erased are those who are to be erased.
type Erased struct {
	People map[string]bool     // as the truth calls them
	IDs    map[string][]string // by kind: those that nobody else uses
}

// Erasures reads who is to be erased.
func Erasures(dir string) (Erased, error) {
	e := Erased{People: make(map[string]bool), IDs: make(map[string][]string)}
	err := readTruth(dir, ErasureFile, func(row []string) error {
		e.IDs[row[0]] = append(e.IDs[row[0]], row[1])
		e.People[row[2]] = true
		return nil
	})
	return e, err
}
