//go:build bigquery

package bigquery

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector"
	driver "github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestLoadsOnBigQuery: a server that is not ours reads a load job as it is meant,
// every column of it.
func TestLoadsOnBigQuery(t *testing.T) {
	config := bigquerytest.Projects(t)(t)
	if err := driver.Setup(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	loaded := make(chan struct{})
	sink, err := Open(t.Context(), Config{
		Project: config.Project, Dataset: warehouse.SchemaLanding, Location: config.Location, StateFile: filepath.Join(t.TempDir(), "state"),
		Endpoint: config.Endpoint, StorageEndpoint: config.StorageEndpoint,
		LoadSources: []string{"web"}, LoadEvery: time.Millisecond, Labels: map[string]string{"program": "sluis"},
		http: unpackedFor(config), Logger: slog.New(announcer{slog.DiscardHandler, loaded, t}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123_456_000, time.UTC)
	full := collector.EventRow{
		EventID: "full", SourceID: "web", Type: "track", Event: `quotes " and ü`, OccurredAt: at, ReceivedAt: at, UserID: "us_1",
		Identifiers: []collector.IdentifierRow{{Kind: "email", Pseudonym: "em_1"}, {Kind: "phone", Pseudonym: "ph_1"}},
		Purposes:    []string{"analytics", "identity"}, IsBot: true, Properties: `{"price": 12.5, "items": ["a", {"b": null}]}`,
		Origin: collector.Origin{SpoolID: "00112233445566aa", SpoolOffset: 1 << 60},
	}
	empty := collector.EventRow{EventID: "empty", SourceID: "web", OccurredAt: at, ReceivedAt: at}
	b := collector.Batch{SpoolID: "00112233445566aa", First: 1, Last: 2, Day: at, Rows: collector.Rows{Events: []collector.EventRow{full, empty}}}
	if err := sink.Land(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	select {
	case <-loaded:
	case <-time.After(time.Minute):
		t.Fatal("nothing was loaded")
	}
	d, err := driver.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rows, err := d.Query(t.Context(), `SELECT event_id, event, UNIX_MICROS(occurred_at), user_id, is_bot, ARRAY_LENGTH(purposes), identifiers[SAFE_OFFSET(1)].pseudonym,
		JSON_VALUE(properties, '$.items[0]'), JSON_VALUE(properties, '$.price'), spool_offset FROM sluis.events ORDER BY event_id DESC`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got [][]any
	for rows.Next() {
		got = append(got, append([]any(nil), rows.Row()...))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	want := [][]any{
		{"full", `quotes " and ü`, at.UnixMicro(), "us_1", true, int64(2), "ph_1", "a", "12.5", int64(1 << 60)},
		{"empty", "", at.UnixMicro(), nil, false, int64(0), nil, nil, nil, int64(0)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// unpackedFor is nil where the server is BigQuery itself.
func unpackedFor(config driver.Config) http.RoundTripper {
	if config.Endpoint == "" {
		return nil
	}
	return transport(unpacked)
}

// unpacked sends what a job loads uncompressed: BigQuery reads gzip, and this
// emulator does not.
func unpacked(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost {
		return http.DefaultTransport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	from, to := bytes.Index(body, []byte{0x1f, 0x8b, 0x08}), bytes.LastIndex(body, []byte("\r\n--"))
	lines, err := gzip.NewReader(bytes.NewReader(body[from:to]))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(lines)
	if err != nil {
		return nil, err
	}
	body = slices.Concat(body[:from], text, body[to:])
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return http.DefaultTransport.RoundTrip(r)
}

// announcer is a log that tells when events are loaded.
type announcer struct {
	slog.Handler
	loaded chan struct{}
	t      *testing.T
}

func (a announcer) Enabled(context.Context, slog.Level) bool { return true }

func (a announcer) Handle(_ context.Context, r slog.Record) error {
	switch r.Message {
	case "events are loaded":
		close(a.loaded)
	default:
		r.Attrs(func(attr slog.Attr) bool {
			a.t.Log(r.Message, attr)
			return true
		})
	}
	return nil
}
