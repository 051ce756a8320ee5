package docs_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/runner/docs"
)

// project is a small one, with something for each part of the page.
func project() docs.Project {
	at := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	test := func(name, generic, column, on, severity string) artifact.Node {
		n := artifact.Node{Name: name, ResourceType: "test", Config: map[string]any{"severity": severity}, DependsOn: artifact.DependsOn{Nodes: []string{on}}, AttachedNode: &on}
		n.TestMetadata = &artifact.TestCall{Name: generic, Kwargs: map[string]any{"model": "{{ get_where_subquery(ref('orders')) }}"}}
		if column != "" {
			n.ColumnName, n.TestMetadata.Kwargs["column_name"] = &column, column
		} else {
			n.TestMetadata.Kwargs["columns"] = []any{"order_id", "day"}
		}
		return n
	}
	m := artifact.Manifest{
		Metadata: artifact.ManifestMetadata{Project: "shop", AdapterType: "duckdb", Metadata: artifact.NewMetadata("manifest/v12", "i", at, at)},
		Nodes: map[string]artifact.Node{
			"model.shop.orders": {
				Name: "orders", ResourceType: "model", OriginalFilePath: "models/money/orders.sql", Description: "One row per order. </script><b>bold</b> `order_id`",
				Config: map[string]any{"materialized": "table"}, RelationName: new("sluis_models.orders"), RawCode: "select 'it''s' as x -- all\nfrom {{ source('landed', 'events') }}",
				CompiledCode: new("select 'it''s' as x\nfrom landed.events"), DependsOn: artifact.DependsOn{Nodes: []string{"source.shop.landed.events"}},
				Columns: map[string]artifact.Column{"order_id": {Name: "order_id", Description: "The order; the grain.", DataType: new("string")}, "gone": {Name: "gone"}},
			},
			"model.shop.buyers": {
				Name: "buyers", ResourceType: "model", OriginalFilePath: "models/audiences/buyers.sql", Description: "Who bought.", Config: map[string]any{"materialized": "table"},
				RelationName: new("sluis_models.buyers"), Meta: map[string]any{"audience": map[string]any{"purpose": "marketing"}}, RawCode: "select 1", DependsOn: artifact.DependsOn{Nodes: []string{"model.shop.orders"}},
			},
			"model.shop.revenue_by_day": {
				Name: "revenue_by_day", ResourceType: "model", OriginalFilePath: "models/money/revenue_by_day.sql", Description: "What came in.", Config: map[string]any{"materialized": "view"},
				RelationName: new("sluis_models.revenue_by_day"), RawCode: "select 2", DependsOn: artifact.DependsOn{Nodes: []string{"model.shop.orders", "seed.shop.currencies"}},
			},
			"seed.shop.currencies":      {Name: "currencies", ResourceType: "seed", OriginalFilePath: "seeds/currencies.csv", Config: map[string]any{"materialized": "seed"}},
			"test.shop.unique":          test("unique_orders_order_id", "unique", "order_id", "model.shop.orders", "ERROR"),
			"test.shop.unique_together": test("unique_together_orders", "unique_together", "", "model.shop.orders", "WARN"),
			"test.shop.ties": {
				Name: "orders_tie", ResourceType: "test", RawCode: "-- Orders add up\n-- to revenue.\nselect 1", DependsOn: artifact.DependsOn{Nodes: []string{"model.shop.orders", "model.shop.revenue_by_day"}},
			},
		},
		Sources: map[string]artifact.Source{"source.shop.landed.events": {
			Name: "events", SourceName: "landed", OriginalFilePath: "models/_sources.yml", Description: "What landed.", RelationName: "landed.events",
			Freshness: &artifact.Freshness{WarnAfter: artifact.Age{Count: new(1), Period: new("day")}, ErrorAfter: artifact.Age{Count: new(48), Period: new("hour")}}, LoadedAtField: new("received_at"),
		}},
	}
	rows := artifact.Stat{ID: artifact.RowCount, Value: int64(12345)}
	c := &artifact.Catalog{Nodes: map[string]artifact.Table{"model.shop.orders": {
		Metadata: artifact.TableMetadata{Type: "TABLE"}, Stats: map[string]artifact.Stat{artifact.RowCount: rows},
		Columns: map[string]artifact.TableColumn{"x": {Name: "x", Type: "VARCHAR", Index: 1}, "order_id": {Name: "order_id", Type: "BIGINT", Index: 2}},
	}}}
	r := &artifact.RunResults{Metadata: artifact.NewMetadata("run-results/v6", "i", at, at), Results: []artifact.Result{
		{UniqueID: "test.shop.unique", Status: "pass"}, {UniqueID: "test.shop.ties", Status: "fail"}, {UniqueID: "model.shop.orders", Status: "success"},
	}}
	s := &artifact.SourceResults{Results: []artifact.SourceResult{{UniqueID: "source.shop.landed.events", Status: "warn"}}}
	return docs.Project{Manifest: m, Catalog: c, Results: r, Sources: s}
}

// TestPage reads what the page's script gets.
func TestPage(t *testing.T) {
	page, err := docs.Page(project())
	if err != nil {
		t.Fatal(err)
	}
	html := string(page)
	for _, wrong := range []string{"/* data */", "/* style */", "/* script */", "/* layout */", "<b>bold", "src=", "@import", "url(http"} {
		if strings.Contains(html, wrong) {
			t.Errorf("the page has %q", wrong)
		}
	}
	if n := strings.Count(html, "</script>"); n != 3 {
		t.Errorf("%d scripts end", n)
	}
	m := regexp.MustCompile(`(?s)id="data">(.*?)</script>`).FindStringSubmatch(html)
	var data struct {
		Project string
		Nodes   []struct {
			ID, Folder, Materialized, Status string
			Rows                             *int64
			Columns                          []struct {
				Name, Type string
				Tests      []struct{ Title, Status string }
			}
			Tests []struct{ Title, Detail, Severity, Status string }
		}
	}
	if err := json.Unmarshal([]byte(m[1]), &data); err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, n := range data.Nodes {
		folders = append(folders, n.Folder+" "+n.ID)
	}
	want := []string{"models/audiences model.shop.buyers", "models/money model.shop.orders", "models/money model.shop.revenue_by_day", "seeds seed.shop.currencies", "sources/landed source.shop.landed.events"}
	if diff := cmp.Diff(want, folders); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if tests := data.Nodes[4].Tests; len(tests) != 1 || tests[0].Title != "freshness" || tests[0].Detail != "warns after 1 day, fails after 48 hours, by received_at" || tests[0].Status != "warn" {
		t.Errorf("tests of the source: %+v", tests)
	}
	orders := data.Nodes[1]
	if orders.Rows == nil || *orders.Rows != 12345 || orders.Status != "success" || orders.Materialized != "table" {
		t.Errorf("orders: %+v", orders)
	}
	var columns []string
	for _, c := range orders.Columns { // in the warehouse's order, and last what it does not have
		columns = append(columns, c.Name+" "+c.Type)
	}
	if diff := cmp.Diff([]string{"x VARCHAR", "order_id BIGINT", "gone "}, columns); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if tests := orders.Columns[1].Tests; len(tests) != 1 || tests[0].Title != "unique" || tests[0].Status != "pass" {
		t.Errorf("tests of order_id: %+v", tests)
	}
	if len(orders.Tests) != 2 || orders.Tests[0].Detail != "Orders add up to revenue." || orders.Tests[0].Status != "fail" || orders.Tests[1].Detail != "columns: order_id, day" || orders.Tests[1].Severity != "warn" {
		t.Errorf("tests of orders: %+v", orders.Tests)
	}
}
