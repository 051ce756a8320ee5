package runner_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

var vectors = flag.String("vectors", "testdata/bgnbd.csv", "what BG/NBD says, as testdata/bgnbd.py writes it")

// judgement is what an oracle says of a customer.
type judgement struct {
	x            int
	tx, age      float64 // weeks
	alive, ahead float64
	expected     float64
	name         string
	last         time.Time
	revenue      int
}

// readJudgements returns the customers of a file, by the vars that they were
// judged under.
func readJudgements(t *testing.T, file string) map[string][]judgement {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rows := parseCSV(t, data)
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	all := map[string][]judgement{}
	for i, row := range rows {
		key := strings.Join(row[:5], ",")
		all[key] = append(all[key], judgement{
			x: int(number(row[5])), tx: number(row[6]), age: number(row[7]), alive: number(row[8]), expected: number(row[9]), ahead: number(row[4]),
			name: fmt.Sprint("customer", i), revenue: i * 7 % 13,
		})
	}
	return all
}

// purchases lands as many of a customer as there must have been.
func (j *judgement) purchases(end time.Time) []map[string]any {
	weeks := func(n float64) time.Duration { return time.Duration(math.Round(n*7*24*3600)) * time.Second }
	first := end.Add(-weeks(j.age))
	var rows []map[string]any
	for i := range j.x + 1 {
		at := first
		if i > 0 {
			at = first.Add(weeks(j.tx) / time.Duration(j.x) * time.Duration(i)).Round(time.Second)
		}
		if j.x > 0 && i == j.x {
			at = first.Add(weeks(j.tx))
		}
		if at.Equal(end) { // a window of time does not have its end
			at = at.Add(-time.Second)
		}
		total := 0
		if i == 0 {
			total = j.revenue
		}
		j.last = at
		rows = append(rows, order(fmt.Sprint(j.name, "-", i), j.name, at, total))
	}
	return rows
}

func order(id, who string, at time.Time, total int) map[string]any {
	return map[string]any{
		"event_id": id, "type": "track", "event": "Order Completed", "occurred_at": at, "received_at": at, "source_id": "web", "spool_id": "spool",
		"identifiers": []any{map[string]any{"kind": "user_id", "pseudonym": who}}, "purposes": []string{"personalization"},
		"properties": fmt.Sprintf(`{"total":%d}`, total),
	}
}

// TestScoresAreThoseOfLifetimes holds the model BG/NBD in SQL to the package
// lifetimes, and the fifths to a sort, for customers of whom the numbers are known.
func TestScoresAreThoseOfLifetimes(t *testing.T) {
	end, err := time.Parse(time.DateTime, asOf)
	if err != nil {
		t.Fatal(err)
	}
	for key, customers := range readJudgements(t, *vectors) {
		fit := strings.Split(key, ",")
		vars := map[string]any{"as_of": asOf, "expected_days": 7 * int(customers[0].ahead), "bgnbd": map[string]any{"unit_days": 7}}
		for i, name := range []string{"r", "alpha", "a", "b"} {
			vars["bgnbd"].(map[string]any)[name] = fit[i]
		}
		w := newWorld(t)
		var rows []map[string]any
		for i := range customers {
			rows = append(rows, customers[i].purchases(end)...)
		}
		w.land("events", inSpool(rows))
		d := w.open()
		build(t, load(t, runner.Options{Dir: sqlproject.Files, Indirect: runner.Cautious, Vars: vars}), d, "+score_rfm")
		compareLifetimes(t, d, customers)
		compareFifths(t, d, customers)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func compareLifetimes(t *testing.T, d warehouse.Driver, customers []judgement) {
	t.Helper()
	got := map[string][]string{}
	for _, row := range rowsOf(t, d, founders(t, d), "SELECT profile_id, order_days, p_alive, expected_orders FROM score_churn") {
		got[row[0]] = row[1:]
	}
	if len(got) != len(customers) {
		t.Errorf("%d of %d customers have a score", len(got), len(customers))
	}
	worst := 0.0
	for _, j := range customers {
		row := got["@"+j.name]
		if len(row) == 0 || row[0] != fmt.Sprint(j.x+1) {
			t.Errorf("%+v bought on %v days", j, row)
			continue
		}
		alive, aliveErr := strconv.ParseFloat(row[1], 64)
		expected, expectedErr := strconv.ParseFloat(row[2], 64)
		off := max(math.Abs(alive-j.alive), math.Abs(expected-j.expected)/max(1, j.expected))
		if worst = max(worst, off); aliveErr != nil || expectedErr != nil || off > 2e-6 {
			t.Errorf("%+v: alive %v, expected %v", j, row[1], row[2])
		}
	}
	t.Logf("%d customers, off by %.1g at most", len(customers), worst)
}

// compareFifths sorts customers and cuts them in five, the first of which has
// one more where they cannot be cut evenly.
func compareFifths(t *testing.T, d warehouse.Driver, customers []judgement) {
	t.Helper()
	ids := map[string]string{}
	for id, name := range founders(t, d) {
		ids[name] = id
	}
	fifths := func(less func(a, b judgement) int) map[string]int {
		sorted := slices.Clone(customers)
		slices.SortFunc(sorted, func(a, b judgement) int { return cmp.Or(less(a, b), strings.Compare(ids["@"+a.name], ids["@"+b.name])) })
		of := map[string]int{}
		for fifth := range 5 {
			size := len(sorted) / 5
			if fifth < len(sorted)%5 {
				size++
			}
			start := len(of)
			for _, j := range sorted[start : start+size] {
				of["@"+j.name] = fifth + 1
			}
		}
		return of
	}
	r := fifths(func(a, b judgement) int { return a.last.Compare(b.last) })
	f := fifths(func(a, b judgement) int { return cmp.Compare(a.x, b.x) })
	m := fifths(func(a, b judgement) int { return cmp.Compare(a.revenue, b.revenue) })
	var want [][]string
	for _, name := range slices.Sorted(maps.Keys(r)) {
		want = append(want, []string{name, fmt.Sprint(r[name]), fmt.Sprint(f[name]), fmt.Sprint(m[name])})
	}
	got := rowsOf(t, d, founders(t, d), "SELECT profile_id, r, f, m FROM score_rfm")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("fifths (-sort +SQL)\n%s", diff)
	}
}

// scoresOf is what is said of people by what they bought and did.
func scoresOf(t *testing.T, rows []map[string]any, columns string) [][]string {
	t.Helper()
	w := newWorld(t)
	w.land("events", inSpool(rows))
	d := w.open()
	defer d.Close()
	p := load(t, runner.Options{Dir: sqlproject.Files, Indirect: runner.Cautious, Vars: map[string]any{
		"as_of": asOf, "bgnbd": map[string]any{"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426, "unit_days": 7},
	}})
	build(t, p, d, "+score_rfm +score_intent")
	all := rowsOf(t, d, founders(t, d), "SELECT "+columns+" FROM score_churn JOIN score_rfm USING (profile_id)")
	return append(all, rowsOf(t, d, founders(t, d), "SELECT profile_id, topic, score, n_signals, last_signal_at FROM score_intent")...)
}

// The future, however it is shuffled, and what is delivered twice, tell nothing of
// the present; the currency, nothing of one's fifth; and
// who spends more is never in a lower fifth.
func TestScoresOfOtherData(t *testing.T) {
	end, err := time.Parse(time.DateTime, asOf)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 9))
	var rows, dearer []map[string]any
	for i := range 120 {
		who, at, total := fmt.Sprint("user", random.IntN(17)), end.Add(-time.Duration(1+random.IntN(300*24))*time.Hour), random.IntN(6)
		rows = append(rows, order(fmt.Sprint("e", i), who, at, total))
		dearer = append(dearer, order(fmt.Sprint("e", i), who, at, 1000*total))
		if random.IntN(2) == 0 {
			signal := order(fmt.Sprint("s", i), who, at, 0)
			signal["event"] = []string{"Product Added", "Checkout Started", "Live Chat Started"}[random.IntN(3)]
			rows, dearer = append(rows, signal), append(dearer, signal)
		}
	}
	everything := "profile_id, orders, order_days, score_churn.revenue, gap_days, typical_gap_days, p_alive, expected_orders, risk_band, r, f, m, segment"
	want := scoresOf(t, rows, everything)
	if len(want) < 30 {
		t.Fatalf("there are %d rows, so this shows little", len(want))
	}

	future := append(slices.Clone(rows), rows...) // delivered twice, too
	for i := range 40 {
		late := order(fmt.Sprint("late", i), fmt.Sprint("user", random.IntN(25)), end.Add(time.Duration(random.IntN(500))*time.Hour), 1000)
		if i%2 == 0 {
			late["event"] = "Checkout Started"
		}
		future = append(future, late)
	}
	random.Shuffle(len(future), func(i, j int) { future[i], future[j] = future[j], future[i] })
	if diff := gocmp.Diff(want, scoresOf(t, future, everything)); diff != "" {
		t.Errorf("with a future (-without +with)\n%s", diff)
	}

	fifths := "profile_id, r, f, m, segment, p_alive"
	if diff := gocmp.Diff(scoresOf(t, rows, fifths), scoresOf(t, dearer, fifths)); diff != "" {
		t.Errorf("at another price (-once +thousandfold)\n%s", diff)
	}

	spent := scoresOf(t, rows, "cast(score_rfm.monetary as int64), cast(score_rfm.frequency as int64), m, f")
	for _, a := range spent {
		for _, b := range spent {
			if len(a) == 4 && len(b) == 4 && (less(a[0], b[0]) && a[2] > b[2] || less(a[1], b[1]) && a[3] > b[3]) {
				t.Errorf("%v is in a higher fifth than %v", a, b)
			}
		}
	}
}

func less(a, b string) bool {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x < y
}
