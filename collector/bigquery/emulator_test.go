//go:build bigquery

package bigquery

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	driver "github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestLandsOnBigQuery lands rows of every table on a server that has
// both protocols, and reads them as models do. What it shows is that the two
// sides mean the same by a table; how often a row lands is for others to test.
func TestLandsOnBigQuery(t *testing.T) {
	config := bigquerytest.Projects(t)(t)
	if err := driver.Setup(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	landing := testConfig(config.StorageEndpoint, t.TempDir()+"/state")
	landing.Project = config.Project
	sink := openSink(t, landing)
	want := map[string]any{}
	count := func(table string, n int) { total, _ := want[table].(int64); want[table] = total + int64(n) }
	for first := uint64(1); first < 61; first += 20 {
		b := batch(first, first+20)
		for i := range b.Events {
			b.Events[i].Properties = `{"n":1}` // the emulator has no errors of single rows
		}
		if err := sink.Land(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		count("events", len(b.Events))
		count("vault", len(b.Vault))
		count("quarantine", len(b.Quarantine))
		count("seal_keys", len(b.SealKeys))
		count("ledger", len(b.Ledger))
	}
	d, err := driver.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got := map[string]any{}
	for table := range want {
		rows, err := warehouse.Collect(t.Context(), d, "SELECT COUNT(*) FROM sluis."+table)
		if err != nil {
			t.Fatal(err)
		}
		got[table] = rows[0][0]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows by table (-want +got)\n%s", diff)
	}
	rows, err := warehouse.Collect(t.Context(), d, `SELECT e.event_id, e.occurred_at, e.identifiers, e.purposes, e.denied, e.event, JSON_VALUE(e.properties, '$.n'), e.spool_offset, v.ciphertext
		FROM sluis.events e JOIN sluis.vault v ON v.pseudonym = e.event_id WHERE e.event_id = 'e-7-2'`)
	one := []any{
		"e-7-2", day, []any{map[string]any{"kind": "email", "pseudonym": "em_e-7-2"}}, []any{"analytics"}, []any{}, "", "1", int64(7), []byte{1, 2, 3},
	}
	if diff := cmp.Diff([][]any{one}, rows); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}
