package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/sql/duckdb"
)

// TestLedger lands ledgers that balance and that do not.
func TestLedger(t *testing.T) {
	minute := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	line := func(source string, after time.Duration, outcome collector.Outcome, n int64) collector.LedgerRow {
		return collector.LedgerRow{SourceID: source, Minute: minute.Add(after), Outcome: string(outcome), Reason: "", N: n}
	}
	event := collector.EventRow{EventID: "e", SourceID: "web", OccurredAt: minute, ReceivedAt: minute.Add(30 * time.Second)}
	good := []collector.LedgerRow{
		line("web", 0, collector.Received, 3), line("web", 0, collector.Landed, 1), line("web", 0, collector.Withheld, 2),
		line("app", time.Minute, collector.Received, 4), line("app", time.Minute, collector.Counted, 3), line("app", time.Minute, collector.Duplicate, 1),
	}
	for _, test := range []struct {
		name   string
		rows   collector.Rows
		period ledgerPeriod
		wrong  string
		lines  int
	}{
		{"balanced", collector.Rows{Ledger: good, Events: []collector.EventRow{event}}, ledgerPeriod{}, "", 5},
		{"by minute", collector.Rows{Ledger: good, Events: []collector.EventRow{event}}, ledgerPeriod{minutes: true}, "", 6},
		{"of one source", collector.Rows{Ledger: good, Events: []collector.EventRow{event}}, ledgerPeriod{source: "app"}, "", 3},
		{"of the last minute", collector.Rows{Ledger: good, Events: []collector.EventRow{event}}, ledgerPeriod{since: minute.Add(time.Minute + time.Second)}, "", 3},
		{"one more received", collector.Rows{Ledger: append(slices.Clip(good), line("web", 0, collector.Received, 1)), Events: []collector.EventRow{event}}, ledgerPeriod{}, "8 received, but 7", 0},
		{"minutes that make up for each other", collector.Rows{
			Ledger: append(slices.Clip(good), line("web", 0, collector.Received, 1), line("web", time.Hour, collector.Withheld, 1)), Events: []collector.EventRow{event},
		}, ledgerPeriod{}, "web at 2026-03-01 12:00 (+1), web at 2026-03-01 13:00 (-1)", 0},
		{"an event that is not there", collector.Rows{Ledger: good}, ledgerPeriod{}, "says 1 landed, and sluis.events has 0", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			batch := collector.Batch{SpoolID: "0011223344556677", First: 1, Last: 2, Day: minute.Truncate(24 * time.Hour), Rows: test.rows}
			if err := (collector.ParquetSink{Dir: dir + "/landing"}).Land(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			db, err := duckdb.Open(context.Background(), duckdb.Config{Path: dir + "/warehouse.duckdb", Landing: dir + "/landing"})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			l, err := readLedgerOf(t.Context(), db, test.period)
			if err != nil {
				t.Fatal(err)
			}
			switch err := l.check(); {
			case test.wrong == "" && err != nil:
				t.Error(err)
			case test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)):
				t.Errorf("%v, want %q", err, test.wrong)
			}
			var out bytes.Buffer
			l.print(&out)
			if n := strings.Count(out.String(), "\n") - 2; test.lines > 0 && n != test.lines {
				t.Errorf("%d lines, want %d:\n%s", n, test.lines, &out)
			}
		})
	}
}
