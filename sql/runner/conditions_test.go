package runner_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner"
)

// TestConditions asks each condition of what landed in the case "accounts".
func TestConditions(t *testing.T) {
	tests := []struct {
		members string // the arguments of audience_members
		want    []string
	}{
		{`all_of=[did("event = 'Order Completed'")]`, []string{"@ann"}},
		{`all_of=[did("page_path = '/'", at_least=3)]`, []string{"@bob"}},
		{`all_of=[did("page_path = '/'", at_least=2, days=21)]`, []string{"@bob"}},
		{`all_of=[did("page_path = '/'", at_least=2, days=20)]`, nil},
		{`all_of=[did_not("group_id is not null")]`, []string{"@fay"}},
		{`none_of=[did_not("event = 'Order Completed'")]`, []string{"@ann"}},
		{`all_of=[then_within("group_id = 'acme'", "group_id = 'globex'", hours=24 * 59)]`, []string{"@bob"}},
		{`all_of=[then_within("group_id = 'acme'", "group_id = 'globex'", hours=24 * 59 - 1)]`, nil},
		{`all_of=[then_within("page_path = '/'", "page_path = '/'", hours=24)]`, []string{"@bob"}},
		{`all_of=[trait(trait_unique_count('accounts', 'group_id'), 'accounts = 2')]`, []string{"@bob"}},
		{`all_of=[account_any(did("event = 'Order Completed'"))]`, []string{"@ann", "@bob", "@cas"}},
		{`all_of=[account_all(did("page_path = '/'"))]`, []string{"@ann", "@bob", "@cas", "@gus"}},
		{`all_of=[account_all(did("group_id = 'globex'"))]`, []string{"@bob", "@gus"}},
		{`all_of=[account_none(did("event = 'Order Completed'"))]`, []string{"@bob", "@gus"}},
		{`any_of=[account_all(did("group_id = 'globex'")), "event = 'Order Completed'"]`, []string{"@ann", "@bob", "@gus"}},
		{`all_of=["group_id = 'globex'"], none_of=[account_any(did("event = 'Order Completed'"))]`, []string{"@gus"}},
	}
	files := map[string]string{}
	var names []string
	for i, test := range tests {
		names = append(names, fmt.Sprint("try_", i))
		files[fmt.Sprintf("models/audiences/try_%d.sql", i)] = "{{ config(contract={'enforced': false}, meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1}}) }}\n{{ audience_members(" + test.members + ") }}\n"
	}
	p := load(t, runner.Options{Dir: workspace(t, files), Vars: map[string]any{"as_of": asOf, "audiences": followed(names...)}})
	all := cases(t)
	i := slices.IndexFunc(all, func(c modelCase) bool { return c.name == "accounts" })
	w := newWorld(t)
	for table, data := range all[i].landed {
		w.land(table, parseLanded(t, table, data))
	}
	d := w.open()
	defer d.Close()
	build(t, p, d, "")
	people := founders(t, d)
	for i, test := range tests {
		var got []string
		for _, row := range rowsOf(t, d, people, fmt.Sprintf("SELECT profile_id FROM sluis_models.try_%d", i)) {
			got = append(got, row[0])
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.members, diff)
		}
	}
}
