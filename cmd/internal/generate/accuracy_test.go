package generate

import (
	"encoding/csv"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// truthOf writes a file of the truth.
func truthOf(t *testing.T, name string, rows [][]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := csv.NewWriter(f).WriteAll(append([][]string{headers[name]}, rows...)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func plain(_, id string) (string, error) { return id, nil }

// Sums of cluster sizes give what counting each pair gives.
func TestMeasureIsCountingPairs(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var rows [][]string
		people, evidence, profiles := make(map[string][]string), make(map[string]string), make(map[string]string)
		place := func(id string) {
			if _, ok := profiles[id]; !ok && r.IntN(8) > 0 {
				profiles[id] = fmt.Sprint("pr_", r.IntN(6))
			}
		}
		for p := range 1 + r.IntN(6) {
			person := fmt.Sprint("p-", p)
			for i := range r.IntN(5) {
				id, e := fmt.Sprint(p, "-", i), fmt.Sprint(p, ".", r.IntN(2))
				rows = append(rows, []string{"user_id", id, person, "false", e})
				people[id], evidence[id] = []string{person}, e
				place(id)
			}
			for s := range 3 {
				if id := fmt.Sprint("s-", s); r.IntN(2) == 0 {
					rows = append(rows, []string{"anonymous_id", id, person, "true", ""})
					people[id] = append(people[id], person)
					place(id)
				}
			}
		}
		got, err := Measure(truthOf(t, PersonFile, rows), profiles, nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		var want Accuracy
		var ids []string
		for id := range people {
			ids = append(ids, id)
		}
		for i, a := range ids {
			for _, b := range ids[i+1:] {
				together := profiles[a] != "" && profiles[a] == profiles[b]
				one := slices.ContainsFunc(people[a], func(p string) bool { return slices.Contains(people[b], p) })
				own := evidence[a] != "" && evidence[b] != ""
				add := func(n *int64, yes bool) {
					if yes {
						*n++
					}
				}
				add(&want.Joined, together)
				add(&want.Right, together && one)
				add(&want.Knowable, own && evidence[a] == evidence[b])
				add(&want.Found, own && evidence[a] == evidence[b] && together)
				add(&want.All, own && one)
				add(&want.AllFound, own && one && together)
			}
		}
		if got.Joined != want.Joined || got.Right != want.Right || got.Knowable != want.Knowable || got.Found != want.Found || got.All != want.All || got.AllFound != want.AllFound {
			t.Errorf("seed %d: %+v, counted one by one %+v", seed, got, want)
		}
		if n := int64(len(people)); got.Identifiers != n || got.Missing != n-int64(len(profiles)) || got.Strangers != 0 {
			t.Errorf("seed %d: %d identifiers, %d missing, %d strangers; expected %d, %d, 0", seed, got.Identifiers, got.Missing, got.Strangers, n, n-int64(len(profiles)))
		}
	}
}

func TestMeasureByHand(t *testing.T) {
	dir := truthOf(t, PersonFile, [][]string{
		{"anonymous_id", "a1", "p-1", "false", "1.0"},
		{"user_id", "u1", "p-1", "false", "1.0"},
		{"anonymous_id", "a2", "p-1", "false", "1.2"}, // never signed in there
		{"anonymous_id", "tv", "p-1", "true", ""},
		{"user_id", "u2", "p-2", "false", "2.0"},
		{"anonymous_id", "tv", "p-2", "true", ""},
		{"anonymous_id", "gone", "p-3", "false", "3.0"},
		{"anonymous_id", "tv", "p-3", "true", ""},
		{"anonymous_id", "crawler", "bot-4", "false", ""},
	})
	profiles := map[string]string{"a1": "A", "u1": "A", "tv": "A", "a2": "B", "u2": "C", "crawler": "D", "unknown": "E"}
	got, err := Measure(dir, profiles, map[string]bool{"p-3": true}, plain)
	if err != nil {
		t.Fatal(err)
	}
	want := Accuracy{
		Identifiers: 5, Strangers: 1, Bots: 1, People: 2, Profiles: 3,
		Joined: 3, Right: 3, Precision: 1, Knowable: 1, Found: 1, Recall: 1, All: 3, AllFound: 1, RecallOfAll: 1.0 / 3,
		ProfilesPerPerson: 1.5, PeoplePerProfile: 1, Largest: 3, Shared: SharedIdentifiers{Identifiers: 1, WithOwner: 1},
	}
	if math.Abs(got.RecallOfAll-want.RecallOfAll) > 1e-12 {
		t.Errorf("recall of all: %g", got.RecallOfAll)
	}
	got.RecallOfAll = want.RecallOfAll
	if got != want {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}

	profiles["u2"] = "A" // two people in one profile, by the device they share
	if got, err = Measure(dir, profiles, map[string]bool{"p-3": true}, plain); err != nil {
		t.Fatal(err)
	}
	if got.Joined != 6 || got.Right != 4 || got.PeoplePerProfile != 1.5 {
		t.Errorf("fused: %d pairs, %d right, %g people in each profile; expected 6, 4, 1.5", got.Joined, got.Right, got.PeoplePerProfile)
	}
}

func TestMeasureSessions(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 10, minute, 0, 0, time.UTC) }
	row := func(device, shared string, from, to int, channel string) []string {
		return []string{device, "p-1", "0", shared, stamp(at(from)), stamp(at(to)), "3", "2", channel}
	}
	dir := truthOf(t, SessionFile, [][]string{
		row("d1", "false", 0, 5, "direct"), row("d1", "false", 40, 45, "email"), row("d2", "false", 0, 1, "direct"), row("tv", "true", 0, 1, "direct"),
	})
	visit := func(from, to int) Visit {
		return Visit{StartedAt: at(from), EndedAt: at(to), Events: 3, PageViews: 2, Channel: "direct"}
	}
	got, err := MeasureSessions(dir, map[string][]Visit{"d1": {visit(0, 5), visit(40, 45)}, "d2": {visit(0, 2)}, "tv": {visit(0, 1)}}, plain)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Sessions{Visits: 3, Sessions: 3, Exact: 2, Channels: 1}); got != want {
		t.Errorf("%+v, expected %+v", got, want)
	}
}
