package syncer_test

import (
	"testing"

	syncer "github.com/sluis-cdp/sluis/sync"
)

// unchanged is a world in which two people were sent, with a value of a type each, and
// whose state has their fingerprints.
func unchanged(t *testing.T, kind, value string) (*world, syncer.Sync) {
	t.Helper()
	w := newWorld(t)
	w.exec("CREATE TABLE sluis_models.values AS SELECT 'k' || i AS customer, 'p' || i AS profile_id, CAST(" + value + " AS " + kind + ") AS a, CAST(NULL AS " + kind + ") AS b FROM range(2) t(i)")
	w.setConsent(map[string]bool{"p0": true, "p1": true})
	s := vips()
	s.Model, s.Mapping = "values", []syncer.Field{{Field: "a", Column: "a"}, {Field: "b", Column: "b"}}
	if r, err := w.engine().Run(t.Context(), s, syncer.Options{}); err != nil || r.Added != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	return w, s
}

func (w *world) plans(t *testing.T, s syncer.Sync, want syncer.Counts) {
	t.Helper()
	if p, err := w.engine().Plan(t.Context(), s); err != nil || p.Counts != want {
		t.Errorf("the plan is %+v, %v, want %+v", p.Counts, err, want)
	}
}

// byFingerprint checks that rows are found to be the same by their fingerprints: nobody
// looks at the row hashes of those.
func (w *world) byFingerprint(t *testing.T, s syncer.Sync, rows int64) {
	t.Helper()
	w.exec("UPDATE sluis_sync.state SET row_hash = row_hash || '.'")
	w.plans(t, s, syncer.Counts{Unchanged: rows})
	w.exec("UPDATE sluis_sync.state SET row_hash = rtrim(row_hash, '.')")
}

// However small a change is, a fingerprint tells it: also one between values that DuckDB
// takes for equal, and whose texts differ.
func TestSmallChangesAreFound(t *testing.T) {
	for _, test := range []struct{ kind, from, to string }{
		{"VARCHAR", "'a'", "'a '"},
		{"VARCHAR", "''", "NULL"},
		{"VARCHAR", "'é'", "'e\u0301'"},
		{"BIGINT", "0", "NULL"},
		{"BIGINT", "9007199254740992", "9007199254740993"},
		{"BOOLEAN", "false", "NULL"},
		{"DOUBLE", "0.0", "'-0.0'"},
		{"DOUBLE", "0.1", "0.10000000000000002"},
		{"DOUBLE", "'nan'", "'inf'"},
		{"FLOAT", "0.0", "'-0.0'"},
		{"DECIMAL(9, 2)", "1.50", "1.51"},
		{"DATE", "'2026-03-01'", "'2026-03-02'"},
		{"TIMESTAMPTZ", "'2026-03-01 04:05:06.000789+00'", "'2026-03-01 04:05:06.00079+00'"},
		{"TIMESTAMP", "'2026-03-01 04:05:06.000789'", "'2026-03-01 04:05:06.00079'"},
		{"INTERVAL", "'1 month'", "'30 days'"},
		{"TIME", "'04:05:06'", "'04:05:06.000001'"},
		{"BLOB", `'\x00\xFF'`, `'\x00'`},
		{"JSON", `'{"a": 1}'`, `'{"a": 1.0}'`},
		{"VARCHAR[]", "['x', 'y']", "['x,y']"},
		{"DOUBLE[]", "[0.0]", "['-0.0']"},
		{"STRUCT(x BIGINT, y BIGINT)", "{x: 1, y: NULL}", "{x: NULL, y: 1}"},
	} {
		t.Run(test.kind, func(t *testing.T) {
			w, s := unchanged(t, test.kind, test.from)
			w.byFingerprint(t, s, 2)
			for _, changed := range []string{
				"CAST(" + test.to + " AS " + test.kind + ") AS a, b",
				"b AS a, a AS b",
			} {
				// As models are built: DuckDB's UPDATE leaves a value that equals the other.
				w.exec("CREATE OR REPLACE TABLE sluis_models.values AS SELECT * FROM sluis_models.values WHERE customer = 'k0'" +
					" UNION ALL SELECT 'k1', 'p1', " + changed + " FROM sluis_models.values WHERE customer = 'k0'")
				w.plans(t, s, syncer.Counts{Update: 1, Unchanged: 1})
			}
		})
	}
}

// Another version of DuckDB may make other fingerprints of the same values. Nothing is
// sent for that; and who did not change gets the new one.
func TestFingerprintsOfAnotherVersion(t *testing.T) {
	for name, before := range map[string]string{
		"another engine":           "fingerprint = 7, fingerprint_by = 'v0'",
		"Sluis had no such column": "fingerprint = NULL, fingerprint_by = NULL",
	} {
		t.Run(name, func(t *testing.T) {
			w, s := unchanged(t, "DOUBLE", "0.5")
			w.exec("UPDATE sluis_sync.state SET " + before)
			w.exec("UPDATE sluis_models.values SET a = 0.25 WHERE customer = 'k1'")
			w.plans(t, s, syncer.Counts{Update: 1, Unchanged: 1})
			w.exec("UPDATE sluis_models.values SET a = 0.5")
			w.plans(t, s, syncer.Counts{Unchanged: 2})
			w.exec("UPDATE sluis_models.values SET a = 0.25")
			if r, err := w.engine().Run(t.Context(), s, syncer.Options{}); err != nil || r.Updated != 2 {
				t.Errorf("%+v, %v", r, err)
			}
			w.byFingerprint(t, s, 2)
		})
	}
}

// Who is to be sent again has no fingerprint, or nobody would notice.
func TestWhatIsSentAgainHasNoFingerprint(t *testing.T) {
	w, s := unchanged(t, "BIGINT", "1")
	if err := w.engine().Resync(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.plans(t, s, syncer.Counts{Update: 2})
	if r, err := w.engine().Rebaseline(t.Context(), s, nil); err != nil || r.Added != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	w.byFingerprint(t, s, 2)
}
