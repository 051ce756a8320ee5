package workspace

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent"
)

var proposed = []collector.PlannedEvent{
	{Name: "Bought", Type: "track", Schema: map[string]any{
		"type": "object", "required": []any{"total"}, "properties": map[string]any{
			"total": map[string]any{"type": []any{"null", "number"}}, "when": map[string]any{"type": "string", "format": "date"},
			"state": map[string]any{"type": "string", "enum": []any{"no", "2026-01-01", "1.0", "é"}},
			"type":  map[string]any{"type": "array", "items": map[string]any{"type": "object", "properties": map[string]any{"sku": map[string]any{"type": "string"}}}},
		},
	}},
	{Type: "page"},
	{Name: "Yes", Type: "track", Fields: map[string]collector.Field{"properties.email": {Class: collector.Drop}}},
}

// check reads a plan back, strictly.
func check(t *testing.T, text []byte) *collector.TrackingPlan {
	t.Helper()
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	plan, _, problems, err := parsePlan("plan.yaml", text, policy)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !p.Warning {
			t.Errorf("%v in\n%s", p, text)
		}
	}
	return plan
}

func TestNewPlan(t *testing.T) {
	text, err := NewPlan("Proposed.", proposed)
	if err != nil {
		t.Fatal(err)
	}
	const want = `# Proposed.
version: "1"
events:
  - name: Bought
    schema:
      type: object
      required: [total]
      properties:
        state: {type: string, enum: [no, "2026-01-01", "1.0", é]}
        total: {type: ["null", number]}
        type:
          type: array
          items:
            type: object
            properties:
              sku: {type: string}
        when: {type: string, format: date}
  - type: page
  - name: Yes
    fields:
      properties.email: {class: drop}
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	if plan := check(t, text); !cmp.Equal(plan.Events[0].Schema, proposed[0].Schema) {
		t.Errorf("read back it is %v", plan.Events[0].Schema)
	}
}

// TestMergePlan: what people wrote stays, comments and order included.
func TestMergePlan(t *testing.T) {
	const have = `# Ours.
version: "4" # as agreed
owner: checkout
modes: {unknown_event: flag}
events:
  # Asked for by finance.
  - name: Bought
    purposes: [analytics]
    schema: {required: [order_id]} # more to come
  - name: Yes
    description: kept
`
	const want = `# Ours.
version: "4" # as agreed
owner: checkout
modes: {unknown_event: flag}
events:
  # Asked for by finance.
  - name: Bought
    purposes: [analytics]
    schema: {required: [order_id]} # more to come
  - name: Yes
    description: kept
  - type: page
`
	text, added, completed, err := MergePlan("plan.yaml", []byte(have), proposed)
	if err != nil || added != 1 || completed != 0 {
		t.Fatal(added, completed, err)
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	check(t, text)
	again, added, completed, err := MergePlan("plan.yaml", text, proposed)
	if err != nil || added+completed != 0 || string(again) != string(text) {
		t.Errorf("the second time: %d, %d, %v\n%s", added, completed, err, again)
	}

	text, added, completed, err = MergePlan("plan.yaml", []byte("version: 1\nevents: [{name: Bought, owner: o}]\n"), proposed)
	if err != nil || added != 2 || completed != 1 {
		t.Fatal(added, completed, err)
	}
	if plan := check(t, text); plan.Events[0].Owner != "o" || plan.Events[0].Schema == nil || len(plan.Events) != 3 {
		t.Errorf("merged into\n%s", text)
	}
	if text, added, _, err = MergePlan("plan.yaml", []byte("version: 1\n"), proposed); err != nil || added != 3 || len(check(t, text).Events) != 3 {
		t.Error(added, err)
	}
	for _, wrong := range []string{"", "[]", "version: [", "edition: 1"} {
		if _, _, _, err := MergePlan("plan.yaml", []byte(wrong), proposed); err == nil || !strings.Contains(err.Error(), "plan.yaml") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
