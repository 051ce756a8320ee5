package collector

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/consent"
)

func addAll(i *Inference, event string, objects ...string) {
	for n, object := range objects {
		i.Add(EventRow{Type: "track", Event: event, AnonymousID: fmt.Sprint("an1_", n), Properties: object})
	}
}

// repeated is each text n times.
func repeated(n int, texts ...string) []string {
	var all []string
	for range n {
		all = append(all, texts...)
	}
	return all
}

func TestInfer(t *testing.T) {
	for _, test := range []struct {
		name    string
		objects []string
		want    string // the schema, "" for none
	}{
		{
			"types", repeated(5, `{"a":1,"b":"x y","c":true,"d":1.5}`, `{"a":2,"b":"y","c":false,"d":3}`),
			`{"properties":{"a":{"type":"integer"},"b":{"enum":["x y","y"],"type":"string"},"c":{"type":"boolean"},"d":{"type":"number"}},"required":["a","b","c","d"],"type":"object"}`,
		},
		{
			"not always there, null, mixed", repeated(5, `{"a":null}`, `{"a":"x","b":1}`, `{"b":"[phone]"}`),
			`{"properties":{"a":{"type":["null","string"]},"b":{"type":["integer","string"]}},"type":"object"}`,
		},
		{
			"formats", repeated(5, `{"d":"2026-03-01","t":"2026-03-01T10:00:00Z","u":"https://shop.example/a","i":"0b7c1f6e-6a31-4f0e-9a55-000000000000"}`, `{"d":"2026-03-02","t":"2026-03-01T10:00:01Z","u":"https://shop.example/b","i":"0b7c1f6e-6a31-4f0e-9a55-000000000001"}`),
			`{"properties":{"d":{"format":"date","type":"string"},"i":{"format":"uuid","type":"string"},"t":{"format":"date-time","type":"string"},"u":{"format":"uri","type":"string"}},"required":["d","i","t","u"],"type":"object"}`,
		},
		{
			"nested", repeated(5, `{"items":[{"sku":"a","n":1},{"sku":"b"}]}`),
			`{"properties":{"items":{"items":{"properties":{"n":{"type":"integer"},"sku":{"enum":["a","b"],"type":"string"}},"required":["sku"],"type":"object"},"type":"array"}},"required":["items"],"type":"object"}`,
		},
		{
			"too few people",
			[]string{`{"a":"x","rare":1}`, `{"a":"x"}`, `{"a":"x"}`, `{"a":"x"}`, `{"a":"anna"}`, `{"a":"x"}`},
			`{"properties":{"a":{"type":"string"}},"required":["a"],"type":"object"}`,
		},
		{
			"personal", repeated(5, `{"a":"[email]","b":"anna@example.com","c":"+31612345678"}`),
			`{"properties":{"a":{"type":"string"},"b":{"type":"string"},"c":{"type":"string"}},"required":["a","b","c"],"type":"object"}`,
		},
		{"personal names", repeated(5, `{"anna@example.com":1,"a":{"+31612345678":2}}`), `{"properties":{"a":{"type":"object"}},"required":["a"],"type":"object"}`},
		{"nothing", repeated(5, `{}`), ""},
		{"none", repeated(5, ``), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := NewInference(5, "NL")
			addAll(i, "Bought", test.objects...)
			events := i.Events()
			if len(events) != 1 || events[0].Name != "Bought" {
				t.Fatalf("%+v", events)
			}
			got := ""
			if events[0].Schema != nil {
				text, err := json.Marshal(events[0].Schema)
				if err != nil {
					t.Fatal(err)
				}
				got = string(text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestInferNames: which events are proposed, and under which name.
func TestInferNames(t *testing.T) {
	i := NewInference(3, "")
	for n := range 3 {
		person := fmt.Sprint("an1_", n)
		for _, e := range []EventRow{
			{Type: "track", Event: "Bought"},
			{Type: "page", Event: "page"},
			{Type: "page", Event: "Prices"},
			{Type: "screen", Event: "Home"},
			{Type: "screen", Event: "screen"},
			{Type: "identify", Event: "identify", Traits: `{"plan":"paid"}`},
			{Type: "alias", Event: "alias"},
			{Type: "track", Event: "Mail to [email]"},
			{Type: "track", Event: "Anna only" + map[bool]string{true: "", false: fmt.Sprint(n)}[n == 0]},
			{Type: "track", Event: "Left out", Violations: []string{"properties.email: left out", "properties.a.b: left out", "page.url: email in the query, left out", "properties.x: email masked"}},
		} {
			e.AnonymousID = person
			i.Add(e)
		}
	}
	var got []string
	for _, e := range i.Events() {
		got = append(got, strings.TrimSpace(e.Type+" "+e.Name))
		if e.Name == "Left out" && (len(e.Fields) != 1 || e.Fields["properties.email"].Class != Drop) {
			t.Errorf("the fields are %v", e.Fields)
		}
	}
	if diff := cmp.Diff([]string{"alias", "identify", "page", "screen Home", "track Bought", "track Left out"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestInferredPlanHolds: whatever landed, the plan inferred from it is in order,
// and all of it is valid under the plan.
func TestInferredPlanHolds(t *testing.T) {
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		i := NewInference(1+r.IntN(3), "NL")
		var rows []EventRow
		for range 1 + r.IntN(40) {
			e := EventRow{Type: []string{"track", "identify", "page"}[r.IntN(3)], Event: []string{"A", "B b", "é"}[r.IntN(3)], AnonymousID: fmt.Sprint(r.IntN(6))}
			text, err := json.Marshal(randomObject(r, 1))
			if err != nil {
				t.Fatal(err)
			}
			e.Properties, e.Traits = string(text), string(text)
			rows = append(rows, e)
			i.Add(e)
		}
		events := i.Events()
		text, err := yaml.Marshal(map[string]any{"version": "1", "owner": "o", "events": plain(t, events)})
		if err != nil {
			t.Fatal(err)
		}
		var plan TrackingPlan
		if err := yaml.Unmarshal(text, &plan); err != nil {
			t.Fatal(err)
		}
		for _, problem := range plan.Check(policy) {
			if !problem.Warning {
				t.Fatalf("seed %d: %v\n%s", seed, problem, text)
			}
		}
		source := &Source{ID: "web", Plan: &plan}
		for _, row := range rows {
			e := &Event{req: &request{source: source}, kept: new(keeping)}
			e.body = parsed(t, fmt.Sprintf(`{"type":%q,"event":%q,"properties":%s,"traits":%s}`, row.Type, map[bool]string{true: row.Event}[row.Type == "track"], row.Properties, row.Traits))
			e.read()
			new(Collector).classify(e)
			if found := e.departures(); e.planned != nil && len(found) > 0 {
				t.Fatalf("seed %d: %s departs: %v\n%s", seed, row.Properties, found, text)
			}
		}
	}
}

// plain is a list of events as YAML would have them, without what is empty.
func plain(t *testing.T, events []PlannedEvent) []any {
	t.Helper()
	var list []any
	for _, e := range events {
		event := map[string]any{"name": e.Name, "type": e.Type}
		if e.Schema != nil {
			event["schema"] = e.Schema
		}
		list = append(list, event)
	}
	return list
}

func randomObject(r *rand.Rand, depth int) map[string]any {
	object := make(map[string]any)
	for range r.IntN(6) {
		object[[]string{"a", "type", "b c", "properties", "é", "$ref", "0", "x.y", "email"}[r.IntN(9)]] = randomValue(r, depth)
	}
	return object
}

func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(12); {
	case n == 0 && depth < 5:
		return randomObject(r, depth+1)
	case n == 1 && depth < 5:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomValue(r, depth+1)
		}
		return list
	case n == 2:
		return nil
	case n == 3:
		return r.IntN(2) == 0
	case n == 4:
		return r.Float64() * 1000
	case n == 5:
		return json.Number("1e400") // which no float64 is
	case n < 8:
		return r.IntN(5)
	case n == 8:
		return fmt.Sprintf("2026-03-%02d", 1+r.IntN(40))
	case n == 9:
		return fmt.Sprintf("anna%d@example.com", r.IntN(3))
	default:
		return []string{"x", "yes", "no", "", "0612345678", "null", "1.0", "2026-01-01T00:00:00Z"}[r.IntN(8)]
	}
}

func parsed(t *testing.T, text string) jsontree.Value {
	t.Helper()
	var tree jsontree.Tree
	if err := tree.Parse(text); err != nil {
		t.Fatal(err, text)
	}
	return tree.Root()
}
