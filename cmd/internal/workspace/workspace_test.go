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

// TestLanding: how a source's events land is a choice that BigQuery gives, and
// a mistake is told with file and line.
func TestLanding(t *testing.T) {
	const base = "workspace: shop\nsources:\n  - id: web\n    write_key: wk\n    landing: "
	const bigQuery = "\nwarehouse:\n  bigquery:\n    project: p\n    location: EU\n"
	for text, want := range map[string]string{
		base + "load":             ":5: sources.0.landing: is a choice that only BigQuery gives",
		base + "stream":           ":5: sources.0.landing: is a choice that only BigQuery gives",
		base + "often" + bigQuery: ":5: sources.0.landing: must be stream",
		base + "load" + bigQuery + "    load_every: 59s": ":10: warehouse.bigquery.load_every: must be at least 1m",
		base + "load" + bigQuery:                         "",
		base + "load" + bigQuery + "    load_every: 1m":  "",
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
