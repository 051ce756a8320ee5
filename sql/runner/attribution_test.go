package runner_test

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
)

// step is an event on a device that belongs to one person.
type step struct {
	id, device string
	at         time.Time
	medium     string // what brought the visitor, and the channel's name; empty for none
	value      string // of an order, empty if the event is none
}

func (s step) row() map[string]any {
	row := map[string]any{
		"event_id": s.id, "type": "page", "occurred_at": s.at, "received_at": s.at, "source_id": "web", "spool_id": "spool",
		"identifiers": []any{map[string]any{"kind": "anonymous_id", "pseudonym": s.device}}, "purposes": []string{"analytics"},
	}
	if s.medium != "" {
		row["utm_medium"] = s.medium
	}
	if s.value != "" {
		row["event"], row["properties"] = "Order Completed", `{"total":`+s.value+`}`
	}
	return row
}

// journey is the channels of the visits that a conversion may be owed to, with
// their ages.
type journey struct {
	channels []string
	days     []float64
}

// journeysOf walks through the events of one device, in their order.
func journeysOf(steps []step) map[string]journey {
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
	type visit struct {
		run, start, last time.Time
		channel          string
	}
	var visits []*visit
	for _, s := range steps {
		if len(visits) == 0 || s.at.Sub(visits[len(visits)-1].last) > 30*time.Minute {
			visits = append(visits, &visit{run: s.at, start: s.at, channel: "direct"})
		}
		v := visits[len(visits)-1]
		if s.at.Sub(v.run)/(24*time.Hour) > v.start.Sub(v.run)/(24*time.Hour) {
			v = &visit{run: v.run, start: s.at, channel: "direct"}
			visits = append(visits, v)
		}
		v.last = s.at
		if v.channel == "direct" && s.medium != "" {
			v.channel = s.medium
		}
	}
	journeys := map[string]journey{}
	for _, s := range steps {
		if s.value == "" {
			continue
		}
		var j journey
		for _, v := range visits {
			if age := s.at.Sub(v.start); age >= 0 && age <= 30*24*time.Hour {
				j.channels = append(j.channels, v.channel)
				j.days = append(j.days, age.Hours()/24)
			}
		}
		journeys[s.id] = j
	}
	return journeys
}

// creditsOf shares one conversion by channel, for each model.
func creditsOf(j journey) map[string]map[string]float64 {
	n := len(j.channels)
	last := n - 1
	for i, channel := range j.channels {
		if channel != "direct" {
			last = i
		}
	}
	weights := map[string]func(i int) float64{
		"first":           func(i int) float64 { return one(i == 0) },
		"last":            func(i int) float64 { return one(i == n-1) },
		"last_non_direct": func(i int) float64 { return one(i == last) },
		"linear":          func(int) float64 { return 1 },
		"time_decay":      func(i int) float64 { return math.Exp2(-j.days[i] / 7) },
		"position": func(i int) float64 {
			switch {
			case n <= 2:
				return 1
			case i == 0 || i == n-1:
				return 0.4
			}
			return 0.2 / float64(n-2)
		},
	}
	credits := map[string]map[string]float64{"shapley": shapley(j.channels)}
	for model, weight := range weights {
		total := 0.0
		for i := range n {
			total += weight(i)
		}
		shares := map[string]float64{}
		for i, channel := range j.channels {
			shares[channel] += weight(i) / total
		}
		credits[model] = shares
	}
	return credits
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// shapley goes through all orders in which the channels of a journey could join,
// and pays the one that completes it.
func shapley(channels []string) map[string]float64 {
	distinct := slices.Compact(slices.Sorted(slices.Values(channels)))
	paid, orders := map[string]float64{}, 0
	var permute func(k int)
	permute = func(k int) {
		if k == len(distinct) {
			orders++
			joined := map[string]bool{}
			for _, channel := range distinct {
				joined[channel] = true
				complete := true
				for _, needed := range channels {
					complete = complete && joined[needed]
				}
				if complete {
					paid[channel]++
					return
				}
			}
			return
		}
		for i := k; i < len(distinct); i++ {
			distinct[k], distinct[i] = distinct[i], distinct[k]
			permute(k + 1)
			distinct[k], distinct[i] = distinct[i], distinct[k]
		}
	}
	permute(0)
	for channel := range paid {
		paid[channel] /= float64(orders)
	}
	return paid
}

// attribute builds the models over steps and returns credits by conversion,
// model and channel, having seen that they and the values tie exactly.
func attribute(t *testing.T, p *runner.Project, steps []step) map[string]map[string]map[string]float64 {
	t.Helper()
	var rows []map[string]any
	values := map[string]*big.Rat{}
	for _, s := range steps {
		rows = append(rows, s.row())
		if s.value != "" {
			values[s.id], _ = new(big.Rat).SetString(s.value)
		}
	}
	w := newWorld(t)
	w.land("events", inSpool(rows))
	d := w.open()
	defer d.Close()
	build(t, p, d, "")
	credits := map[string]map[string]map[string]float64{}
	sums := map[string][2]*big.Rat{}
	for _, row := range rowsOf(t, d, nil, "SELECT conversion_id, model, channel, credit, value FROM sluis_models.attribution_credits") {
		conversion, model, channel := row[0], row[1], row[2]
		if credits[conversion] == nil {
			credits[conversion] = map[string]map[string]float64{}
		}
		if credits[conversion][model] == nil {
			credits[conversion][model] = map[string]float64{}
			sums[conversion+" "+model] = [2]*big.Rat{new(big.Rat), new(big.Rat)}
		}
		credit, err := strconv.ParseFloat(row[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		credits[conversion][model][channel] += credit
		for i, text := range row[3:5] {
			part, ok := new(big.Rat).SetString(text)
			if !ok {
				t.Fatalf("%q is no number", text)
			}
			sums[conversion+" "+model][i].Add(sums[conversion+" "+model][i], part)
		}
	}
	if len(credits) != len(values) {
		t.Errorf("%d conversions have credits, of %d", len(credits), len(values))
	}
	for conversion, models := range credits {
		for model := range models {
			if sum := sums[conversion+" "+model]; sum[0].Cmp(big.NewRat(1, 1)) != 0 || sum[1].Cmp(values[conversion]) != 0 {
				t.Errorf("%s %s: credits add up to %s, values to %s of %s", conversion, model, sum[0], sum[1], values[conversion])
			}
		}
	}
	return credits
}

// TestAttributionIsBruteForce holds the models to a walk through the events, and
// to Shapley values by their definition.
func TestAttributionIsBruteForce(t *testing.T) {
	p := load(t, runner.Options{Dir: sqlproject.Files, Vars: map[string]any{"as_of": asOf}})
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 17))
			var steps []step
			byDevice := map[string][]step{}
			add := func(s step) {
				s.id = fmt.Sprintf("e%03d-%d", random.IntN(1000), len(steps))
				steps = append(steps, s)
				byDevice[s.device] = append(byDevice[s.device], s)
			}
			for i := range 250 {
				s := step{device: fmt.Sprint("device", i%7), at: day.Add(-time.Duration(random.IntN(45*24*4)) * 15 * time.Minute)}
				s.medium = []string{"", "", "email", "affiliate", "display", "paid_social"}[random.IntN(6)]
				if random.IntN(5) == 0 {
					s.medium, s.value = "", []string{"0", "10", "0.01", "33.333333333", "99999.99"}[random.IntN(5)]
				}
				add(s)
			}
			for i := range 60 { // a device that does not rest
				add(step{device: "kiosk", at: day.Add(time.Duration(i) * 29 * time.Minute), value: []string{"", "", "7"}[i%3]})
			}
			credits := attribute(t, p, steps)
			long := 0
			for _, mine := range byDevice {
				for conversion, j := range journeysOf(mine) {
					long = max(long, len(j.channels))
					for model, want := range creditsOf(j) {
						got := credits[conversion][model]
						for _, channel := range []string{"direct", "email", "affiliate", "display", "paid social"} {
							if expected := want[map[bool]string{true: "paid_social", false: channel}[channel == "paid social"]]; math.Abs(got[channel]-expected) > 1e-7 {
								t.Errorf("%s, %s over %v: %s got %.9f, want %.9f", conversion, model, j.channels, channel, got[channel], expected)
							}
						}
					}
				}
			}
			if long < 10 {
				t.Errorf("the longest journey has %d visits only", long)
			}
		})
	}
}

// TestShapleyOfChannels is the example with a known answer: three orders by A
// alone, four by A and B, six by A, B and C, and two by B, A and A again.
func TestShapleyOfChannels(t *testing.T) {
	p := load(t, runner.Options{Dir: sqlproject.Files, Vars: map[string]any{"as_of": asOf}})
	names := map[rune]string{'A': "email", 'B': "affiliate", 'C': "display"}
	var steps []step
	for path, n := range map[string]int{"A": 3, "AB": 4, "ABC": 6, "BAA": 2} {
		for i := range n {
			device, at := fmt.Sprint(path, i), day
			for j, channel := range path {
				at = day.AddDate(0, 0, j)
				steps = append(steps, step{id: fmt.Sprint(device, "-", j), device: device, at: at, medium: names[channel]})
			}
			steps = append(steps, step{id: device, device: device, at: at.Add(time.Minute), value: "1"})
		}
	}
	got := map[string]float64{}
	for _, models := range attribute(t, p, steps) {
		for channel, credit := range models["shapley"] {
			got[channel] += credit
		}
	}
	for channel, want := range map[string]float64{"email": 8, "affiliate": 5, "display": 2} {
		if math.Abs(got[channel]-want) > 1e-7 {
			t.Errorf("%s: got %v, want %v", channel, got[channel], want)
		}
	}
}
