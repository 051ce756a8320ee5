package collector

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/consent"
)

// planBench is a bench whose source web has a plan, in YAML.
func planBench(t testing.TB, text string, change func(*Config)) *bench {
	t.Helper()
	var plan TrackingPlan
	if err := yaml.Unmarshal([]byte(text), &plan); err != nil {
		t.Fatal(err)
	}
	return newBench(t, func(c *Config) {
		for _, problem := range plan.Check(c.Policy) {
			if !problem.Warning {
				t.Fatal(problem)
			}
		}
		c.Sources[0].Plan = &plan
		if change != nil {
			change(c)
		}
	})
}

// TestPlans holds testdata/plans: a plan, events, and what becomes of each. They
// are to be read by whoever writes plans.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/*.txtar")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil || len(archive.Files) != 2 || archive.Files[1].Name != "outcomes" {
				t.Fatal("want the sections plan.yaml and outcomes", err)
			}
			b := planBench(t, string(archive.Files[0].Data), nil)
			want := string(archive.Files[1].Data)
			var got strings.Builder
			for line := range strings.Lines(want) {
				if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, " ") {
					got.WriteString(line + "\n" + b.outcome(t, line))
				}
			}
			if *update {
				archive.Files[1].Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Errorf("(-want +got; -update writes the file anew)\n%s", diff)
			}
		})
	}
}

// outcome sends an event, written as: type, name, "refuses", object; the last
// three may be missing.
func (b *bench) outcome(t *testing.T, line string) string {
	t.Helper()
	words, object, _ := strings.Cut(line, "{")
	words, refuses := strings.CutSuffix(strings.TrimSpace(words), " refuses")
	typ, name, _ := strings.Cut(words, " ")
	message := map[string]any{
		"anonymousId": "v-1",
		"context":     map[string]any{"consent": map[string]any{"categoryPreferences": map[string]bool{"analytics": !refuses}}},
	}
	if name != "" {
		message[map[bool]string{true: "event", false: "name"}[typ == "track"]] = name
	}
	if object != "" {
		message[brings(typ)] = json.RawMessage("{" + object)
	}
	body, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	b.spool.records = nil
	status, _ := b.post(t, "/v1/"+typ, string(body), "X-Write-Key", "wk_web")
	rows := b.spool.rows(t)
	if status != 200 || len(rows.Ledger) != 2 {
		t.Fatalf("%s: %d, %d lines in the ledger", line, status, len(rows.Ledger))
	}
	if stray := len(rows.Events) + len(rows.Quarantine); stray != map[string]int{"landed": 1, "quarantined": 1}[rows.Ledger[1].Outcome] {
		t.Fatalf("%s: %s, and %d rows", line, rows.Ledger[1].Outcome, stray)
	}
	said := "  " + rows.Ledger[1].Outcome
	if reason := rows.Ledger[1].Reason; reason != "" {
		said += ": " + reason
	}
	said += "\n"
	for _, e := range rows.Events {
		for _, violation := range e.Violations {
			said += "    " + violation + "\n"
		}
	}
	for _, q := range rows.Quarantine {
		said += fmt.Sprintf("    event %q, path %q, reason %q\n", q.Event, q.Path, q.Reason)
	}
	return said
}

// TestFindPrefersTheName: an entry without a name is for those that no other
// entry has, wherever it stands.
func TestFindPrefersTheName(t *testing.T) {
	plan := TrackingPlan{Version: "1", Events: []PlannedEvent{{Type: "page"}, {Type: "page", Name: "Prices"}}}
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	plan.Check(policy)
	if got := plan.find("page", "Prices"); got != &plan.Events[1] {
		t.Errorf("found %v", got)
	}
	if got := plan.find("page", "Home"); got != &plan.Events[0] {
		t.Errorf("found %v", got)
	}
	if got := plan.find("track", "Prices"); got != nil {
		t.Errorf("found %v", got)
	}
}

// TestPlanVersion: an event lands with the version of its own entry.
func TestPlanVersion(t *testing.T) {
	b := planBench(t, `{version: "7", events: [{name: Old}, {name: New, version: "8"}]}`, nil)
	for _, name := range []string{"Old", "New", "Other"} {
		b.outcome(t, "track "+name)
		if got, want := b.spool.rows(t).Events[0].PlanVersion, map[string]string{"New": "8"}[name]; got != want && (want != "" || got != "7") {
			t.Errorf("%s landed with the version %q", name, got)
		}
	}
}

// TestReasonsHoldNothingOfTheEvent: whatever an event holds and a plan asks,
// reasons and paths are of the plan.
func TestReasonsHoldNothingOfTheEvent(t *testing.T) {
	const canary = "canary"
	values := []string{`"canary"`, `{"canary":{"canary":["canary"]}}`, `["canary"]`, `{"a":"canary"}`, `{"12":"canary"}`, `null`, `{"canary12":1}`}
	schemas := []string{
		`{type: integer}`, `{additionalProperties: false}`, `{additionalProperties: {type: integer}}`, `{propertyNames: {maxLength: 2}}`,
		`{enum: [a, b]}`, `{const: a}`, `{not: {}}`, `{patternProperties: {"^c": {type: boolean}}}`, `{items: {type: integer}}`, `{contains: {type: integer}}`,
		`{maxLength: 1, maxItems: 0, maxProperties: 0}`, `{format: date}`, `{pattern: "^x"}`, `{anyOf: [{type: integer}, {required: [b]}]}`, `false`,
	}
	for _, schema := range schemas {
		for _, mode := range modes {
			b := planBench(t, fmt.Sprintf(`{version: "1", events: [{name: E, modes: {invalid_properties: %s, unknown_properties: %[1]s}, schema: {properties: {a: %s}}}]}`, mode, schema), nil)
			for _, value := range values {
				status, answer := b.post(t, "/v1/track", `{"anonymousId":"v-1","event":"E","properties":{"a":`+value+`},
					"context":{"consent":{"categoryPreferences":{"analytics":true}}}}`, "X-Write-Key", "wk_web")
				text, err := json.Marshal(answer)
				if err != nil || status != 200 || strings.Contains(string(text), canary) {
					t.Errorf("%s %s: %d %s", schema, value, status, text)
				}
			}
			rows := b.spool.rows(t)
			for i := range rows.Events {
				rows.Events[i].Properties = ""
			}
			text, err := json.Marshal(rows)
			if err != nil {
				t.Fatal(err)
			}
			// In flag mode names of unknown properties are told as they land.
			if strings.Contains(string(text), canary) {
				t.Errorf("%s, %s: %s", schema, mode, text)
			}
		}
	}
}

// TestLint: what is wrong with a plan, and where.
func TestLint(t *testing.T) {
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{version: "1", owner: o}`:            "",
		`{}`:                                  "version: a plan needs a version",
		`{version: "1", events: [{name: A}]}`: "warning owner: nobody is named",
		`{version: "1", events: [{name: A, owner: o}]}`:                                                                                "",
		`{version: "1", owner: o, modes: {unknown_event: ignore}}`:                                                                     "modes.unknown_event: unknown mode \"ignore\"",
		`{version: "1", owner: o, modes: {invalid_properties: x, unknown_properties: y}}`:                                              "modes.invalid_properties: unknown mode; modes.unknown_properties: unknown mode",
		`{version: "1", owner: o, events: [{name: A}, {type: page}, {name: A, type: track}]}`:                                          "events.2: the plan has this event already",
		`{version: "1", owner: o, events: [{name: A, modes: {unknown_properties: no}}]}`:                                               "events.0.modes.unknown_properties: unknown mode",
		`{version: "1", owner: o, events: [{name: A, purposes: [fun]}]}`:                                                               "events.0.purposes.0: unknown purpose",
		`{version: "1", owner: o, events: [{type: dance}]}`:                                                                            "events.0.type: unknown event type",
		`{version: "1", owner: o, events: [{type: track}]}`:                                                                            "events.0: a track event needs a name",
		`{version: "1", owner: o, events: [{type: identify, name: A}]}`:                                                                "warning events.0.name: no SDK sends a name with identify",
		`{version: "1", owner: o, events: [{type: alias, schema: {}}]}`:                                                                "events.0.schema: an alias event brings nothing",
		`{version: "1", owner: o, events: [{name: A, schema: {requird: [a]}}]}`:                                                        "events.0.schema.requird: unknown keyword",
		`{version: "1", owner: o, fields: {email: {class: email}}}`:                                                                    "fields.email: the path of a field begins with",
		`{version: "1", owner: o, fields: {properties.a: {class: secret}}}`:                                                            "fields.properties.a: unknown class",
		`{version: "1", owner: o, fields: {properties.email: {class: clear}}, events: [{name: A, schema: {properties: {email: {}}}}]}`: "warning events.0.schema.properties.email: the name of this property looks personal, and properties.email has the class clear",
		`{version: "1", owner: o, fields: {properties.email: {class: drop}}, events: [{name: A, schema: {properties: {email: {}}}}]}`:  "",
		`{version: "1", owner: o, events: [{name: A, schema: {properties: {zip: {type: string}}}}]}`:                                   "warning events.0.schema.properties.zip: the name of this property looks personal, so that its values never land",
		`{version: "1", owner: o, events: [{name: A, schema: {properties: {contact: {type: string, format: email}}}}]}`:                "warning events.0.schema.properties.contact: a value of the format email is personal",
		`{version: "1", owner: o, events: [{type: identify, schema: {properties: {email: {format: email}, firstName: {}}}}]}`:          "",
	} {
		var plan TrackingPlan
		if err := yaml.Unmarshal([]byte(text), &plan); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range plan.Check(policy) {
			warning := map[bool]string{true: "warning "}[p.Warning]
			got = append(got, warning+strings.Join(p.Path, ".")+": "+p.Message)
		}
		wants := slices.DeleteFunc(strings.Split(want, "; "), func(s string) bool { return s == "" })
		if len(got) != len(wants) {
			t.Errorf("%s\n got %q\nwant %q", text, got, wants)
			continue
		}
		for i := range wants {
			if !strings.HasPrefix(got[i], wants[i]) {
				t.Errorf("%s\n got %q\nwant %q", text, got[i], wants[i])
			}
		}
	}
}
