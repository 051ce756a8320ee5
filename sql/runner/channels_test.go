package runner_test

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// path is the channels of a journey that has ended, one letter each.
type path struct {
	channels  string
	converted bool
}

func times(n int, channels string, converted bool) []path {
	return slices.Repeat([]path{{channels, converted}}, n)
}

// givenJourneys is attribution_journeys made of a table, as far as it matters here.
const givenJourneys = `select kind, journey_id, place, visits, outcome, channel,
	cast(null as string) as profile_id, cast(null as string) as conversion_id, cast(null as string) as session_id, cast(null as string) as campaign,
	cast(null as {{ dbt.type_timestamp() }}) as converted_at, cast(null as {{ dbt.type_timestamp() }}) as started_at
from {{ source('given', 'journeys') }}`

// channelModels builds attribution_markov and attribution_shapley over journeys by
// kind of conversion, and returns the effects and shares of channels by model and
// kind. So that many sets of journeys need one build, each is a kind.
func channelModels(t *testing.T, most int, kinds map[string][]path) map[string]map[string]map[string][2]string {
	t.Helper()
	p := load(t, runner.Options{
		Dir: workspace(t, map[string]string{
			"models/attribution/attribution_journeys.sql": givenJourneys,
			"models/attribution/given.yml":                "sources: [{name: given, schema: sluis_sync, tables: [{name: journeys}]}]\n",
		}),
		Vars: map[string]any{"attribution_channels": most},
	})
	d := openGraph(t)
	if err := d.Exec(t.Context(), "CREATE TABLE sluis_sync.journeys (kind VARCHAR, journey_id VARCHAR, place BIGINT, visits BIGINT, outcome VARCHAR, channel VARCHAR)"); err != nil {
		t.Fatal(err)
	}
	var rows [][]any
	for kind, paths := range kinds {
		for i, path := range paths {
			for j, channel := range path.channels {
				rows = append(rows, []any{kind, fmt.Sprint(kind, i), j + 1, len(path.channels), map[bool]string{true: "converted", false: "lost"}[path.converted], string(channel)})
			}
		}
	}
	if err := d.Append(t.Context(), "sluis_sync", "journeys", []string{"kind", "journey_id", "place", "visits", "outcome", "channel"}, rows); err != nil {
		t.Fatal(err)
	}
	results, err := p.Run(t.Context(), d, "attribution_journeys attribution_markov attribution_shapley")
	if err != nil {
		t.Fatal(err)
	}
	if err := results.Err(); err != nil {
		t.Fatal(err)
	}
	models := map[string]map[string]map[string][2]string{}
	for model, effect := range map[string]string{"attribution_markov": "removal_effect", "attribution_shapley": "rate_added"} {
		models[model] = map[string]map[string][2]string{}
		found, err := warehouse.Collect(t.Context(), d, "SELECT kind, channel, cast("+effect+" as varchar), cast(share as varchar) FROM sluis_models."+model)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range found {
			kind := row[0].(string)
			if models[model][kind] == nil {
				models[model][kind] = map[string][2]string{}
			}
			models[model][kind][row[1].(string)] = [2]string{row[2].(string), row[3].(string)}
		}
	}
	return models
}

// TestChannelModelsKnownAnswers has the examples that can be worked out by hand. Of
// the rates it also holds that the parts of many like journeys are added up, and
// that a channel that only ever comes along does not get a part of its own.
func TestChannelModelsKnownAnswers(t *testing.T) {
	got := channelModels(t, 10, map[string][]path{
		"chain": {{"123", true}, {"1", false}, {"23", false}},
		"again": {{"1123", true}, {"111", false}, {"2233", false}}, // the same, with visits repeated
		"rates": slices.Concat(
			times(2, "A", true), times(8, "A", false), times(1, "B", true), times(9, "B", false),
			times(3, "AB", true), times(3, "BAA", true), times(4, "AB", false)),
		"alone": {{"A", true}},
		"never": {{"A", false}, {"AB", false}},
	})
	for _, want := range []struct {
		model, kind string
		channels    map[string][2]string
	}{
		{"attribution_markov", "chain", map[string][2]string{"1": {"0.500000000", "0.200000000"}, "2": {"1.000000000", "0.400000000"}, "3": {"1.000000000", "0.400000000"}}},
		{"attribution_markov", "again", map[string][2]string{"1": {"0.500000000", "0.200000000"}, "2": {"1.000000000", "0.400000000"}, "3": {"1.000000000", "0.400000000"}}},
		{"attribution_markov", "alone", map[string][2]string{"A": {"1.000000000", "1.000000000"}}},
		{"attribution_markov", "never", nil},
		{"attribution_shapley", "rates", map[string][2]string{"A": {"0.350000000", "0.583333333"}, "B": {"0.250000000", "0.416666667"}}},
		{"attribution_shapley", "alone", map[string][2]string{"A": {"1.000000000", "1.000000000"}}},
		{"attribution_shapley", "never", nil},
	} {
		if diff := cmp.Diff(want.channels, got[want.model][want.kind]); diff != "" {
			t.Errorf("%s of %s: (-want +got)\n%s", want.model, want.kind, diff)
		}
	}
}

// TestChannelModelsAreExact holds both models, on random journeys, to fractions:
// the chain solved anew without each channel, and all orders of the channels.
func TestChannelModelsAreExact(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 23))
	kinds := map[string][]path{}
	for i := range 60 {
		letters := "ABCDEFGHI"[:1+random.IntN(6)+i%4]
		var paths []path
		for range 1 + random.IntN(40) {
			channels := make([]byte, 1+random.IntN(1+random.IntN(9)))
			for j := range channels {
				channels[j] = letters[random.IntN(len(letters))]
			}
			paths = append(paths, path{string(channels), random.IntN(3) == 0})
		}
		kinds[fmt.Sprint("kind", i)] = paths
	}
	got := channelModels(t, 6, kinds)
	pooled, compared := 0, 0
	for kind, given := range kinds {
		paths := busiest(given, 6)
		if !slices.Equal(paths, given) {
			pooled++
		}
		for model, want := range map[string]map[string]*big.Rat{"attribution_markov": removalEffects(paths), "attribution_shapley": ratesAdded(paths)} {
			compared += len(want)
			holdShares(t, model+" of "+kind, want, got[model][kind])
		}
	}
	if pooled < 5 || compared < 200 {
		t.Errorf("the journeys show little: %d with channels pooled, %d effects", pooled, compared)
	}
}

// holdShares compares effects to fractions, and their shares to the parts that the
// fractions are of their sum. Shares must add up to exactly 1.
func holdShares(t *testing.T, name string, want map[string]*big.Rat, got map[string][2]string) {
	t.Helper()
	total, sum := new(big.Rat), new(big.Rat)
	for _, effect := range want {
		total.Add(total, effect)
	}
	if total.Sign() == 0 {
		if len(got) > 0 {
			t.Errorf("%s: nothing converted, and there are shares: %v", name, got)
		}
		return
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d channels, want %d", name, len(got), len(want))
	}
	for channel, effect := range want {
		pair := got[strings.Replace(channel, "*", "other channels", 1)]
		for i, exact := range []*big.Rat{effect, new(big.Rat).Quo(effect, total)} {
			wanted, _ := exact.Float64()
			if value, err := strconv.ParseFloat(pair[i], 64); err != nil || math.Abs(value-wanted) > 6e-9 {
				t.Errorf("%s: %s has effect and share %v, want the %d. to be %.9f", name, channel, pair, i+1, wanted)
			}
		}
		if share, ok := new(big.Rat).SetString(pair[1]); ok {
			sum.Add(sum, share)
		}
	}
	if sum.Cmp(big.NewRat(1, 1)) != 0 {
		t.Errorf("%s: shares add up to %s", name, sum.FloatString(9))
	}
}

// busiest calls all channels * but the most visited ones, if there are more than
// so many.
func busiest(paths []path, most int) []path {
	visits := map[rune]int{}
	for _, p := range paths {
		for _, channel := range p.channels {
			visits[channel]++
		}
	}
	ranked := slices.SortedFunc(maps.Keys(visits), func(a, b rune) int {
		if visits[a] != visits[b] {
			return visits[b] - visits[a]
		}
		return int(a - b)
	})
	if len(ranked) <= most {
		return paths
	}
	var renamed []path
	for _, p := range paths {
		renamed = append(renamed, path{strings.Map(func(channel rune) rune {
			if slices.Contains(ranked[:most-1], channel) {
				return channel
			}
			return '*'
		}, p.channels), p.converted})
	}
	return renamed
}

// removalEffects solves the chain of the journeys as it is and, for each channel,
// with all that would go to it lost.
func removalEffects(paths []path) map[string]*big.Rat {
	moves := map[string]map[string]int64{} // the start is "", the conversion "+", its lack "-"
	move := func(from, to string) {
		if moves[from] == nil {
			moves[from] = map[string]int64{}
		}
		moves[from][to]++
	}
	for _, p := range paths {
		at := ""
		for _, channel := range p.channels {
			move(at, string(channel))
			at = string(channel)
		}
		move(at, map[bool]string{true: "+", false: "-"}[p.converted])
	}
	effects := map[string]*big.Rat{}
	whole := converts(moves, "none")
	for channel := range moves {
		if channel == "" {
			continue
		}
		effects[channel] = new(big.Rat)
		if whole.Sign() > 0 {
			effects[channel].Sub(big.NewRat(1, 1), new(big.Rat).Quo(converts(moves, channel), whole))
		}
	}
	return effects
}

// converts is the probability that the chain ends in a conversion, by Gaussian
// elimination of v(s) = p(s,+) + Σ p(s,t) v(t).
func converts(moves map[string]map[string]int64, removed string) *big.Rat {
	states := slices.Sorted(maps.Keys(moves)) // the start is first
	n := len(states)
	rows := make([][]*big.Rat, n)
	for i, state := range states {
		rows[i] = make([]*big.Rat, n+1)
		for j := range rows[i] {
			rows[i][j] = new(big.Rat)
		}
		rows[i][i].SetInt64(1)
		var all int64
		for _, times := range moves[state] {
			all += times
		}
		for to, times := range moves[state] {
			switch j := slices.Index(states, to); {
			case to == "+":
				rows[i][n].Add(rows[i][n], big.NewRat(times, all))
			case j >= 0 && to != removed:
				rows[i][j].Sub(rows[i][j], big.NewRat(times, all))
			}
		}
	}
	for k := range n {
		pivot := slices.IndexFunc(rows[k:], func(row []*big.Rat) bool { return row[k].Sign() != 0 }) + k
		rows[k], rows[pivot] = rows[pivot], rows[k]
		for i := range n {
			if i == k {
				continue
			}
			factor := new(big.Rat).Quo(rows[i][k], rows[k][k])
			for j := k; j <= n; j++ {
				rows[i][j].Sub(rows[i][j], new(big.Rat).Mul(factor, rows[k][j]))
			}
		}
	}
	return new(big.Rat).Quo(rows[0][n], rows[0][0])
}

// ratesAdded goes through all orders in which the channels could join, and pays
// each what the best rate over the channels that have joined gains by it.
func ratesAdded(paths []path) map[string]*big.Rat {
	type journeys struct{ converted, all int64 }
	observed := map[string]journeys{}
	distinct := map[rune]bool{}
	for _, p := range paths {
		set := slices.Compact(slices.Sorted(slices.Values([]rune(p.channels))))
		seen := observed[string(set)]
		seen.all++
		if p.converted {
			seen.converted++
		}
		observed[string(set)] = seen
		for _, channel := range set {
			distinct[channel] = true
		}
	}
	worth := func(joined string) *big.Rat {
		best := new(big.Rat)
		for set, seen := range observed {
			within := strings.IndexFunc(set, func(channel rune) bool { return !strings.ContainsRune(joined, channel) }) < 0
			if rate := big.NewRat(seen.converted, seen.all); within && rate.Cmp(best) > 0 {
				best = rate
			}
		}
		return best
	}
	known := map[string]*big.Rat{}
	worthOnce := func(joined string) *big.Rat {
		sorted := string(slices.Sorted(slices.Values([]rune(joined))))
		if known[sorted] == nil {
			known[sorted] = worth(sorted)
		}
		return known[sorted]
	}
	channels := slices.Sorted(maps.Keys(distinct))
	added := map[string]*big.Rat{}
	for _, channel := range channels {
		added[string(channel)] = new(big.Rat)
	}
	var pay func(joined string, weight *big.Rat)
	pay = func(joined string, weight *big.Rat) {
		left := int64(len(channels) - len([]rune(joined)))
		for _, channel := range channels {
			if strings.ContainsRune(joined, channel) {
				continue
			}
			gain := new(big.Rat).Sub(worthOnce(joined+string(channel)), worthOnce(joined))
			each := new(big.Rat).Mul(weight, big.NewRat(1, left)) // of the orders that begin like this, those that go on with the channel
			added[string(channel)].Add(added[string(channel)], new(big.Rat).Mul(each, gain))
			pay(joined+string(channel), each)
		}
	}
	pay("", big.NewRat(1, 1))
	return added
}
