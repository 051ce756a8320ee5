package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/consent"
)

// TestPlanErrors: each mistake in a tracking plan is told with file and line.
func TestPlanErrors(t *testing.T) {
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "plan.yaml")
	for text, want := range map[string]string{
		"owner: x":                                                   ":1: version: a plan needs a version",
		"version: 1\nevnts: []":                                      `:2: unknown key "evnts"`,
		"version: 1\nevents:\n  - type: track":                       ":3: events.0: a track event needs a name",
		"version: 1\nevents:\n  - {name: X, type: tracked}":          `:3: events.0.type: unknown event type "tracked"`,
		"version: 1\nevents:\n  - name: X\n    purposes: [fun]":      `:4: events.0.purposes.0: unknown purpose "fun"`,
		"version: 1\nfields:\n  traits.email: {class: secret}":       `:3: fields.traits.email: unknown class "secret"`,
		"version: 1\nfields:\n  email: {class: email}":               ":3: fields.email: the path of a field begins with",
		"version: 1\nfields:\n  traits.email: {class: email, as: 1}": `:3: unknown key "as"`,
		"version: [": "plan.yaml",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readPlan(path, policy)
		if err == nil || !strings.Contains(err.Error(), "plan.yaml") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
}

// FuzzPlan: whatever a file holds, it is read without a panic; what is wrong with
// it is told with its name; and what is not wrong is not told the second time.
func FuzzPlan(f *testing.F) {
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		f.Fatal(err)
	}
	files, err := filepath.Glob("../../sluis/skeleton/tracking/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		"", "[]", "version: 1\nevents: [{name: A, schema: {$ref: '#/$defs/a', $defs: {a: {$ref: '#/$defs/a'}}}}]",
		"a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nversion: [*b,*b]", "events: [{name: A, schema: {1: 2, x: 2026-01-01, y: .inf}}]",
		"events:\n- &e {name: A, schema: &s {allOf: [{const: !!binary aGk=}]}}\n- *e", "version: 1\nmodes: {<<: {unknown_event: flag}}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		plan, doc, problems, err := parsePlan("plan.yaml", text, policy)
		if err != nil {
			if !strings.Contains(err.Error(), "plan.yaml") {
				t.Fatal(err)
			}
			return
		}
		for _, p := range problems {
			if line := doc.line(p.Path); line < 1 || line > 2+strings.Count(string(text), "\n")+strings.Count(string(text), "\r") {
				t.Fatalf("%v is said to be at line %d", p, line)
			}
		}
		if again := plan.Check(policy); len(again) > len(problems) {
			t.Fatalf("%v, then %v", problems, again)
		}
	})
}

// TestCollectorIdentity: events land as everything else is done, unless the
// collector has an identity of its own, which then is whole by itself.
func TestCollectorIdentity(t *testing.T) {
	dir := t.TempDir()
	for collector, want := range map[string]Identity{
		"": {CredentialsFile: filepath.Join(dir, "keys/work.json"), Impersonate: "work@p.iam.gserviceaccount.com"},
		"collector: {impersonate: landing@p.iam.gserviceaccount.com}": {Impersonate: "landing@p.iam.gserviceaccount.com"},
		"collector: {credentials_file: keys/landing.json}":            {CredentialsFile: filepath.Join(dir, "keys/landing.json")},
		"collector: {credentials_file: /etc/landing.json}":            {CredentialsFile: "/etc/landing.json"},
	} {
		text := `workspace: shop
sources: [{id: web, write_key: wk}]
warehouse:
  bigquery:
    project: p
    location: EU
    credentials_file: keys/work.json
    impersonate: work@p.iam.gserviceaccount.com
    ` + collector + "\n"
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(dir)
		if err != nil {
			t.Errorf("%s: %v", collector, err)
			continue
		}
		if got := w.Warehouse.BigQuery.CollectorIdentity(); got != want {
			t.Errorf("%q: %+v, want %+v", collector, got, want)
		}
	}
}

// TestBigQueryCosts: budgets and the price have defaults, and several ways to
// be written.
func TestBigQueryCosts(t *testing.T) {
	for text, want := range map[string]struct {
		budget Budget
		price  float64
	}{
		"":                                       {Budget{}, 6.25},
		", budget: {}":                           {Budget{}, 6.25},
		", budget: {model: 100GiB, run: 1TiB}":   {Budget{100 << 30, 1 << 40}, 6.25},
		", budget: {model: 1000, run: '2 KiB'}":  {Budget{1000, 2048}, 6.25},
		", budget: {model: 0}, price_per_tib: 5": {Budget{}, 5},
		", price_per_tib: 0":                     {Budget{}, 0},
	} {
		dir := t.TempDir()
		config := "workspace: w\nsources: [{id: web, write_key: wk}]\nwarehouse:\n  bigquery: {project: p, location: EU" + text + "}\n"
		if err := os.WriteFile(filepath.Join(dir, File), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(dir)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if b := w.Warehouse.BigQuery; b.Budget != want.budget || b.Price(1<<40) != want.price || b.Price(1<<39) != want.price/2 {
			t.Errorf("%s: %+v, %v, want %+v", text, b.Budget, b.Price(1<<40), want)
		}
	}
}

// TestLanding: how a source's events land is a choice that BigQuery gives, and
// a mistake is told with file and line.
func TestLanding(t *testing.T) {
	const base = "workspace: shop\nsources:\n  - id: web\n    write_key: wk\n    landing: "
	const bigQuery = "\nwarehouse:\n  bigquery:\n    project: p\n    location: EU\n"
	for text, want := range map[string]string{
		base + "load":             ":5: sources.0.landing: is a choice that only BigQuery gives",
		base + "stream":           ":5: sources.0.landing: is a choice that only BigQuery gives",
		base + "often" + bigQuery: ":5: sources.0.landing: must be stream",
		base + "load" + bigQuery + "    load_every: 59s":    ":10: warehouse.bigquery.load_every: must be at least 1m",
		base + "load" + bigQuery + "schedule: {every: 59s}": ":10: schedule.every: must be at least 1m with BigQuery",
		base + "load" + bigQuery:                            "",
		base + "load" + bigQuery + "    load_every: 1m":     "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(dir)
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), File+want)):
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want == "" && (len(w.LoadSources()) != 1 || w.LoadSources()[0] != "web" || w.Warehouse.BigQuery.LoadEvery == 0):
			t.Errorf("%q: load sources %v, every %s", text, w.LoadSources(), w.Warehouse.BigQuery.LoadEvery)
		}
	}
}
