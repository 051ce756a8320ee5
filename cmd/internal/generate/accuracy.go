package generate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Accuracy is how well identifiers were joined into profiles, by pairs of
// identifiers.
//
// A pair is right if one person used both. It can be known if that person alone
// used them, and they were seen together with a consent to be recognised that
// stands. What others use too, such as a device at home, proves nothing, so that
// no pair with it must be found; with a profile of somebody who never used it, it
// is wrong.
type Accuracy struct {
	Identifiers int64 `json:"identifiers"` // that the truth knows, and landed
	Missing     int64 `json:"missing"`     // of them without a profile
	Strangers   int64 `json:"strangers"`   // with a profile, of whom the truth knows nothing
	Bots        int64 `json:"bots"`        // of bots that have a profile
	People      int64 `json:"people"`
	Profiles    int64 `json:"profiles"`

	Joined    int64   `json:"joined_pairs"`
	Right     int64   `json:"right_pairs"`
	Precision float64 `json:"precision"`

	Knowable    int64   `json:"knowable_pairs"`
	Found       int64   `json:"found_pairs"`
	Recall      float64 `json:"recall"`
	All         int64   `json:"all_pairs"` // of one person's own identifiers, whatever was agreed to
	AllFound    int64   `json:"all_found_pairs"`
	RecallOfAll float64 `json:"recall_of_all"`

	ProfilesPerPerson float64 `json:"profiles_per_person"`
	PeoplePerProfile  float64 `json:"people_per_profile"`
	Largest           int64   `json:"largest_profile"` // its identifiers

	Shared SharedIdentifiers `json:"shared"`
}

// SharedIdentifiers are those that several people used.
type SharedIdentifiers struct {
	Identifiers int64 `json:"identifiers"`
	WithOwner   int64 `json:"with_one_of_them"`
	Alone       int64 `json:"alone"`
	Wrong       int64 `json:"with_strangers"`
}

// Pseudonyms makes the one of an identifier, as the warehouse has it.
type Pseudonyms func(kind, id string) (string, error)

// Measure compares profiles, by their identifiers, with the truth in a folder.
// What people were erased of is passed over.
func Measure(dir string, profiles map[string]string, erased map[string]bool, pseudonym Pseudonyms) (Accuracy, error) {
	m := measurement{
		profiles: profiles, erased: erased, passed: make(map[string]bool), sizes: make(map[string]int64), people: make(map[string]int64),
		shared: make(map[string]*sharedOne), of: make(map[personIn]int64), sharers: make(map[string]bool),
	}
	err := readTruth(dir, PersonFile, func(row []string) error { return m.read(row, pseudonym) })
	if err != nil {
		return Accuracy{}, err
	}
	m.endPerson()
	return m.result(), nil
}

// sharedOne is an identifier that several people may have used.
type sharedOne struct {
	profile string
	people  []string
	right   int64 // pairs
}

type personIn struct{ person, profile string }

// measurement adds up. Rows of one person stand together.
type measurement struct {
	Accuracy
	profiles map[string]string
	erased   map[string]bool
	passed   map[string]bool  // identifiers of the erased, which others may use too
	sizes    map[string]int64 // of profiles, of what the truth knows
	people   map[string]int64 // people by profile, by what they alone used
	shared   map[string]*sharedOne
	of       map[personIn]int64 // how many a person has in a profile, of all people
	sharers  map[string]bool

	person  string
	nodes   []node
	matched int64 // rows of the truth that are in profiles
	pairs   int64 // of person and profile
	owners  int64 // people with a profile
}

type node struct{ profile, evidence string }

func (m *measurement) read(row []string, pseudonym Pseudonyms) error {
	kind, id, person, shared, evidence := row[0], row[1], row[2], row[3] == "true", row[4]
	token, err := pseudonym(kind, id)
	if err != nil {
		return err
	}
	profile, ok := m.profiles[token]
	if m.erased[person] {
		m.passed[token] = true
		return nil
	}
	if len(person) > 4 && person[:4] == "bot-" {
		if ok {
			m.Bots++
			m.matched++
		}
		return nil
	}
	if person != m.person {
		m.endPerson()
		m.person = person
		m.People++
	}
	if shared {
		m.sharers[person] = true
		one := m.shared[token]
		if one == nil {
			one = &sharedOne{profile: profile}
			m.shared[token] = one
			m.Identifiers++
			m.count(profile)
		}
		one.people = append(one.people, person)
		return nil
	}
	m.Identifiers++
	m.count(profile)
	m.nodes = append(m.nodes, node{profile, evidence})
	return nil
}

// count takes note of where an identifier is.
func (m *measurement) count(profile string) {
	if profile == "" {
		m.Missing++
		return
	}
	m.matched++
	m.sizes[profile]++
}

// endPerson adds up what one person alone used.
func (m *measurement) endPerson() {
	in, by, knowable := make(map[string]int64), make(map[node]int64), make(map[string]int64)
	for _, n := range m.nodes {
		knowable[n.evidence]++
		if n.profile != "" {
			in[n.profile]++
			by[n]++
		}
	}
	m.All += pairs(int64(len(m.nodes)))
	for _, n := range knowable {
		m.Knowable += pairs(n)
	}
	for _, n := range by {
		m.Found += pairs(n)
	}
	for profile, n := range in {
		m.AllFound += pairs(n)
		m.Right += pairs(n)
		m.people[profile]++
		m.pairs++
		if m.sharers[m.person] {
			m.of[personIn{m.person, profile}] = n
		}
	}
	if len(in) > 0 {
		m.owners++
	}
	m.nodes = m.nodes[:0]
}

func pairs(n int64) int64 { return n * (n - 1) / 2 }

func (m *measurement) result() Accuracy {
	m.addShared()
	for _, n := range m.sizes {
		m.Joined += pairs(n)
		m.Largest = max(m.Largest, n)
	}
	m.Profiles = int64(len(m.sizes))
	for token := range m.passed {
		if _, ok := m.profiles[token]; ok && m.shared[token] == nil {
			m.matched++
		}
	}
	m.Strangers = int64(len(m.profiles)) - m.matched
	m.Precision = ratio(m.Right, m.Joined)
	m.Recall = ratio(m.Found, m.Knowable)
	m.RecallOfAll = ratio(m.AllFound, m.All)
	m.ProfilesPerPerson = quotient(m.pairs, m.owners)
	m.PeoplePerProfile = quotient(m.pairs, int64(len(m.people)))
	return m.Accuracy
}

// addShared adds the pairs that have an identifier which several people used.
func (m *measurement) addShared() {
	together := make(map[string][]*sharedOne) // by profile
	for _, one := range m.shared {
		m.Shared.Identifiers++
		if one.profile == "" {
			continue
		}
		for _, person := range one.people {
			one.right += m.of[personIn{person, one.profile}]
		}
		m.Right += one.right
		for _, other := range together[one.profile] {
			if haveOneInCommon(one.people, other.people) {
				m.Right++
				one.right++
				other.right++
			}
		}
		together[one.profile] = append(together[one.profile], one)
	}
	for _, one := range m.shared {
		switch {
		case one.profile == "":
		case one.right > 0:
			m.Shared.WithOwner++
		case m.sizes[one.profile] == 1:
			m.Shared.Alone++
		default:
			m.Shared.Wrong++
		}
	}
}

func haveOneInCommon(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// ratio is a share; of nothing it is all.
func ratio(part, of int64) float64 {
	if of == 0 {
		return 1
	}
	return float64(part) / float64(of)
}

func quotient(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// readTruth calls do with each row of a file of the truth. The row is valid
// until the next one.
func readTruth(dir, name string, do func(row []string) error) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("reading the truth: %w; `sluis generate` writes it", err)
	}
	defer f.Close() //nolint:errcheck // read only
	rows := csv.NewReader(f)
	rows.ReuseRecord, rows.FieldsPerRecord = true, len(headers[name])
	for n := 0; ; n++ {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && n > 0 {
			err = do(row)
		}
		if err != nil {
			return fmt.Errorf("reading the truth, %s: %w", f.Name(), err)
		}
	}
}

// Visit is a session, as a model has it.
type Visit struct {
	StartedAt, EndedAt time.Time
	Events, PageViews  int64
	Channel            string
}

// Sessions is how well visits were told.
type Sessions struct {
	Visits   int64 `json:"visits"`   // of devices that one person used, of which something landed
	Sessions int64 `json:"sessions"` // in the model, of these devices
	Exact    int64 `json:"exact"`    // that begin, end and count as the visit did
	Channels int64 `json:"channels"` // exact ones with the channel that it came by
}

// MeasureSessions compares the sessions of devices, by their pseudonyms, with the
// truth in a folder. A visit of somebody who no longer agrees to analytics is in
// no model, so that there are fewer sessions than visits.
func MeasureSessions(dir string, sessions map[string][]Visit, pseudonym Pseudonyms) (Sessions, error) {
	var s Sessions
	counted := make(map[string]bool)
	err := readTruth(dir, SessionFile, func(row []string) error {
		if row[3] == "true" {
			return nil
		}
		token, err := pseudonym("anonymous_id", row[0])
		if err != nil {
			return err
		}
		s.Visits++
		if !counted[token] {
			counted[token] = true
			s.Sessions += int64(len(sessions[token]))
		}
		for _, one := range sessions[token] {
			if stamp(one.StartedAt) == row[4] && stamp(one.EndedAt) == row[5] && fmt.Sprint(one.Events) == row[6] && fmt.Sprint(one.PageViews) == row[7] {
				s.Exact++
				if one.Channel == row[8] {
					s.Channels++
				}
			}
		}
		return nil
	})
	return s, err
}
