package generate

import (
	"cmp"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// small is a world of some hundred people, with all noise there is.
func small(people int) Config {
	c := Defaults()
	c.People, c.From = people, time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)
	c.Shared, c.Roles, c.Withdrawals, c.Erasures = 0.05, 0.05, 0.1, 0.02
	return c
}

// everythingOf sends a world nowhere, and reads its truth.
func everythingOf(t *testing.T, c Config) (sent []Request, truth map[string][][]string) {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files, err := CreateTruth(dir)
	if err != nil {
		t.Fatal(err)
	}
	total, err := w.Send(t.Context(), Way{WriteKey: "wk", Truth: files}, func(r Request) error {
		r.Body = slices.Clone(r.Body)
		sent = append(sent, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if total.Requests != len(sent) {
		t.Errorf("%d requests, and %d were sent", total.Requests, len(sent))
	}
	truth = make(map[string][][]string)
	for name := range headers {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(f).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		truth[name] = rows[1:]
	}
	return sent, truth
}

func TestSameSeedSameBytes(t *testing.T) {
	digest := func(c Config) string {
		sent, truth := everythingOf(t, c)
		h := sha256.New()
		for _, r := range sent {
			fmt.Fprintln(h, r.Path, r.At, r.Agent, r.Address, string(r.Body))
		}
		fmt.Fprintln(h, truth) // maps are printed in the order of their keys
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	first := digest(small(150))
	if again := digest(small(150)); again != first {
		t.Error("the same seed made something else")
	}
	other := small(150)
	other.Seed = 2
	if digest(other) == first {
		t.Error("another seed made the same")
	}
}

// A person does not depend on who else is made up, or on who was asked for before.
func TestPeopleStandAlone(t *testing.T) {
	few, err := New(small(16))
	if err != nil {
		t.Fatal(err)
	}
	many, err := New(small(4000))
	if err != nil {
		t.Fatal(err)
	}
	many.person(77)
	if a, b := fmt.Sprint(*few.person(3)), fmt.Sprint(*many.person(3)); a != b {
		t.Errorf("person 3 is\n%s\nand among more people\n%s", a, b)
	}
}

// said is a request's body as the collector reads it.
type said struct {
	WriteKey    string
	SentAt      time.Time
	AnonymousID string
	UserID      string
	Purposes    map[string]bool
	Batch       []message
}

type message struct {
	Type, Event, MessageID, AnonymousID, UserID, GroupID string
	Timestamp                                            time.Time
	Traits, Properties                                   map[string]any
	Context                                              struct {
		Page    struct{ URL, Referrer string }
		Consent *struct{ CategoryPreferences map[string]bool }
		GroupID string
	}
}

func (m *message) agrees(purpose string) bool {
	return m.Context.Consent != nil && m.Context.Consent.CategoryPreferences[purpose]
}

// recount is what a reader of the requests finds, who knows the rules of consent and
// nothing of how people are made up.
type recount struct {
	at      map[string]time.Time           // events by message id, when they happened by a right clock
	events  map[string][]*message          // that land, by device, each once
	ids     map[string]bool                // kind and id of those
	links   map[string]map[string]bool     // between them
	choices []string                       // as ConsentFile has them, but for the person
	devices map[string]map[string]struct{} // people by device
	copies  int
}

func recountOf(t *testing.T, sent []Request) *recount {
	t.Helper()
	c := &recount{
		at: make(map[string]time.Time), events: make(map[string][]*message), ids: make(map[string]bool),
		links: make(map[string]map[string]bool), devices: make(map[string]map[string]struct{}),
	}
	last := time.Time{}
	for _, r := range sent {
		if r.At.Before(last) {
			t.Fatal("requests are not in the order in which they arrive")
		}
		last = r.At
		var s said
		if err := json.Unmarshal(r.Body, &s); err != nil {
			t.Fatalf("%v in %s", err, r.Body)
		}
		if s.WriteKey != "wk" {
			t.Fatalf("the write key is %q", s.WriteKey)
		}
		if r.Path == "/v1/consent" {
			c.choose(&s, r.At)
			continue
		}
		for i := range s.Batch {
			c.take(t, &s.Batch[i], &s, r)
		}
	}
	return c
}

func (c *recount) choose(s *said, at time.Time) {
	var granted, denied []string
	for _, purpose := range purposes {
		if s.Purposes[purpose] {
			granted = append(granted, purpose)
		} else {
			denied = append(denied, purpose)
		}
	}
	c.choices = append(c.choices, strings.Join([]string{s.AnonymousID, s.UserID, stamp(at), strings.Join(granted, " "), strings.Join(denied, " ")}, ","))
}

func (c *recount) take(t *testing.T, m *message, s *said, r Request) {
	at := m.Timestamp
	if !s.SentAt.IsZero() {
		at = at.Add(r.At.Sub(s.SentAt))
	}
	if at.After(r.At) {
		t.Errorf("an event happens at %s and is received at %s", at, r.At)
	}
	if _, again := c.at[m.MessageID]; again {
		c.copies++
		return
	}
	c.at[m.MessageID] = at
	if c.devices[m.AnonymousID] == nil {
		c.devices[m.AnonymousID] = make(map[string]struct{})
	}
	c.devices[m.AnonymousID][fmt.Sprint(r.Person)] = struct{}{}
	if !m.agrees("analytics") || r.Agent == robot {
		return
	}
	c.events[m.AnonymousID] = append(c.events[m.AnonymousID], m)
	ids := []string{"anonymous_id " + m.AnonymousID}
	if m.agrees("identity") {
		if m.UserID != "" {
			ids = append(ids, "user_id "+m.UserID)
		}
		if email, ok := m.Traits["email"]; ok {
			ids = append(ids, fmt.Sprint("email ", email))
		}
	}
	for _, a := range ids {
		c.ids[a] = true
		for _, b := range ids {
			if c.links[a] == nil {
				c.links[a] = make(map[string]bool)
			}
			c.links[a][b] = true
		}
	}
}

// reach are the identifiers that lead from one to others, through none of these.
func (c *recount) reach(from string, closed map[string]bool) map[string]bool {
	reached, todo := map[string]bool{from: true}, []string{from}
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		for other := range c.links[next] {
			if !reached[other] && !closed[other] {
				reached[other] = true
				todo = append(todo, other)
			}
		}
	}
	return reached
}

// The truth says what a reader of the requests finds who does not know it.
func TestTruthIsOfWhatIsSent(t *testing.T) {
	config := small(400)
	config.Withdrawals = 0 // so that links stand; with them, see TestGenerate of the command
	sent, truth := everythingOf(t, config)
	c := recountOf(t, sent)
	if c.copies == 0 || len(c.choices) == 0 {
		t.Errorf("%d events were sent again, and %d choices were made", c.copies, len(c.choices))
	}
	checkPeople(t, c, truth[PersonFile])
	checkSessions(t, c, truth[SessionFile])

	var choices []string
	for _, row := range truth[ConsentFile] {
		choices = append(choices, strings.Join([]string{row[0], row[1], row[3], row[4], row[5]}, ","))
	}
	slices.Sort(choices)
	slices.Sort(c.choices)
	if !slices.Equal(choices, c.choices) {
		t.Errorf("the truth has %d choices that are not those %d that were sent", len(choices), len(c.choices))
	}
}

func checkPeople(t *testing.T, c *recount, rows [][]string) {
	t.Helper()
	people, evidence, shared := make(map[string][]string), make(map[string]string), make(map[string]bool)
	for _, row := range rows {
		if strings.HasPrefix(row[2], "bot-") {
			continue
		}
		id := row[0] + " " + row[1]
		people[id] = append(people[id], row[2])
		shared[id] = row[3] == "true"
		evidence[id] = row[4]
	}
	if len(people) != len(c.ids) {
		t.Errorf("the truth has %d identifiers, and %d were sent", len(people), len(c.ids))
	}
	joined := 0
	for id := range c.ids {
		switch {
		case len(people[id]) == 0:
			t.Error("an identifier was sent that the truth does not have")
		case len(people[id]) > 1 && !shared[id]:
			t.Error("several people used an identifier that is not said to be shared")
		case shared[id] != (evidence[id] == ""):
			t.Error("an identifier that is shared is evidence, or one that is not is none")
		case shared[id]:
		default:
			reached := c.reach(id, shared)
			for other, e := range evidence {
				if (e == evidence[id]) != reached[other] && !shared[other] {
					t.Errorf("%s and %s: of the same evidence is %t, linked is %t", id, other, e == evidence[id], reached[other])
				}
			}
			joined += len(reached) - 1
		}
	}
	if joined == 0 {
		t.Error("nothing is linked to anything")
	}
}

func checkSessions(t *testing.T, c *recount, rows [][]string) {
	t.Helper()
	var want, got []string
	for device, events := range c.events {
		if len(c.devices[device]) > 1 {
			continue
		}
		slices.SortFunc(events, func(a, b *message) int {
			return cmp.Or(c.at[a.MessageID].Compare(c.at[b.MessageID]), strings.Compare(a.MessageID, b.MessageID))
		})
		for len(events) > 0 {
			n, pages := 1, 0
			for n < len(events) && c.at[events[n].MessageID].Sub(c.at[events[n-1].MessageID]) <= 30*time.Minute {
				n++
			}
			for _, e := range events[:n] {
				if e.Type == "page" {
					pages++
				}
			}
			want = append(want, fmt.Sprintln(device, stamp(c.at[events[0].MessageID]), stamp(c.at[events[n-1].MessageID]), n, pages))
			events = events[n:]
		}
	}
	for _, row := range rows {
		if len(c.devices[row[0]]) < 2 {
			got = append(got, fmt.Sprintln(row[0], row[4], row[5], row[6], row[7]))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("the truth has %d visits that are not those %d that were sent", len(got), len(want))
	}
}

// Each knob does what it says, and 0 turns it off.
func TestNoise(t *testing.T) {
	quiet := Config{People: 1500, From: time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC), Days: 60, Seed: 3}
	type counts struct{ devices, shared, copies, late, skewed, bots, events, withdrawn, mailboxes, erased float64 }
	count := func(c Config) (n counts) {
		sent, truth := everythingOf(t, c)
		r := recountOf(t, sent)
		for _, people := range r.devices {
			n.devices++
			if len(people) > 1 {
				n.shared++
			}
		}
		n.copies, n.events = float64(r.copies), float64(len(r.at))
		skewed, addresses := make(map[string]bool), make(map[any]map[int]bool)
		for _, one := range sent {
			var s said
			if err := json.Unmarshal(one.Body, &s); err != nil {
				t.Fatal(err)
			}
			for _, m := range s.Batch {
				if one.Agent == robot {
					n.bots++
				}
				if one.At.Sub(r.at[m.MessageID]) > time.Hour {
					n.late++
				}
				if !s.SentAt.IsZero() {
					skewed[m.AnonymousID] = true
				}
				if email := m.Traits["email"]; email != nil {
					if addresses[email] == nil {
						addresses[email] = make(map[int]bool)
					}
					addresses[email][one.Person] = true
				}
			}
		}
		n.skewed = float64(len(skewed))
		for _, people := range addresses {
			if len(people) > 1 {
				n.mailboxes++
			}
		}
		before := make(map[string]int)
		for _, row := range truth[ConsentFile] {
			granted := len(strings.Fields(row[4]))
			if was, ok := before[row[2]]; ok && granted < was {
				n.withdrawn++
			}
			before[row[2]] = granted
		}
		n.erased = float64(len(truth[ErasureFile]))
		return n
	}
	if n := count(quiet); n.shared+n.copies+n.late+n.skewed+n.bots+n.withdrawn+n.mailboxes+n.erased > 0 {
		t.Errorf("a world without noise has %+v", n)
	}
	loud := quiet
	loud.Shared, loud.Roles, loud.Duplicates, loud.Late, loud.Skew, loud.Withdrawals, loud.Erasures, loud.Bots = 0.05, 0.05, 0.1, 0.2, 0.3, 0.3, 0.1, 0.1
	n := count(loud)
	for _, share := range []struct {
		what             string
		got, least, most float64
	}{
		{"shared devices", n.shared / n.devices, 0.02, 0.06},
		{"copies", n.copies / n.events, 0.05, 0.15},
		{"late", n.late / n.events, 0.1, 0.3},
		{"wrong clocks", n.skewed / n.devices, 0.2, 0.4},
		{"bots", n.bots / n.events, 0.01, 0.3},
		{"withdrawn", n.withdrawn, 20, 400},
		{"mailboxes", n.mailboxes, 3, 100},
		{"erased", n.erased, 50, 500},
	} {
		if share.got < share.least || share.got > share.most {
			t.Errorf("%s: %.4f, expected from %g to %g", share.what, share.got, share.least, share.most)
		}
	}
}

func TestPeopleForEvents(t *testing.T) {
	c := small(0)
	const want = 60_000
	people, err := PeopleFor(c, want)
	if err != nil {
		t.Fatal(err)
	}
	c.People = people
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	total, err := w.Send(t.Context(), Way{}, func(Request) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if total.Events < want*9/10 || total.Events > want*11/10 {
		t.Errorf("%d people made %d events, %d were asked for", people, total.Events, want)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"people":   func(c *Config) { c.People = 0 },
		"days":     func(c *Config) { c.Days = 0 },
		"first":    func(c *Config) { c.From = c.From.Add(time.Hour) },
		"a share":  func(c *Config) { c.Late = 1.5 },
		"negative": func(c *Config) { c.Bots = -0.1 },
	} {
		c := small(10)
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: nothing was found wrong", what)
		}
	}
}
