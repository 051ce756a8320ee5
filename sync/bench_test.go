package syncer_test

import (
	"fmt"
	"testing"

	syncer "github.com/sluis-cdp/sluis/sync"
)

// populate makes a model of n rows with eight columns, with everybody's
// consent, of which all was delivered.
func populate(b *testing.B, n int) (*world, syncer.Sync) {
	w := newWorld(b)
	w.target.quiet = true
	w.exec(`CREATE OR REPLACE TABLE sluis_models.vips AS SELECT md5('k' || i) AS customer, md5('p' || i) AS profile_id, 'tier' || i % 5 AS tier, i AS visits,
		i % 2 = 0 AS active, i / 7 AS score, TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i) AS seen, 'city' || i % 1000 AS city FROM range(?) t(i)`, n)
	w.exec(`INSERT INTO sluis_models.consent_profile (profile_id, purpose, allowed, decision_id, policy_version, decided_at) SELECT profile_id, 'marketing', true, md5(profile_id), 'policy1', TIMESTAMPTZ '2026-01-01 00:00:00+00' FROM sluis_models.vips`)
	s := vips()
	s.Mapping, s.BatchRows = nil, 10_000
	for _, column := range []string{"tier", "visits", "active", "score", "seen", "city"} {
		s.Mapping = append(s.Mapping, syncer.Field{Field: column, Column: column})
	}
	w.target.maxRows = 0
	if _, err := w.engine().Run(b.Context(), s, syncer.Options{}); err != nil {
		b.Fatal(err)
	}
	return w, s
}

// BenchmarkPlan compares a model with what was delivered, when half a percent
// each was added, changed and removed.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w, s := populate(b, n)
			w.exec("UPDATE sluis_models.vips SET visits = visits + 1 WHERE visits % 200 = 0")
			w.exec("DELETE FROM sluis_models.vips WHERE visits % 200 = 77")
			w.exec("INSERT INTO sluis_models.vips SELECT 'new' || customer, profile_id, tier, visits, active, score, seen, city FROM sluis_models.vips WHERE visits % 200 = 99")
			for b.Loop() {
				p, err := w.engine().Plan(b.Context(), s)
				if err != nil || p.Counts.Update == 0 || p.Counts.Remove == 0 || p.Counts.Add == 0 {
					b.Fatal(p.Counts, err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkCommit applies plans that change half a percent of a state, in one
// batch: the reading, announcing, recording and folding of it.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w, s := populate(b, n)
			for b.Loop() {
				b.StopTimer()
				w.exec("UPDATE sluis_models.vips SET score = score + 1 WHERE visits % 200 = 0")
				p, err := w.engine().Plan(b.Context(), s)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				r, err := w.engine().Apply(b.Context(), s, p.ID, syncer.Options{})
				if err != nil || r.Updated != int64(n/200) {
					b.Fatal(r, err)
				}
			}
		})
	}
}
