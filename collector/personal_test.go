package collector

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestPersonalDataIsSaidToBeThere puts personal data in each place that lands in
// clear: violations say its kind and place, the ledger that there was some, and
// nothing says what it was.
func TestPersonalDataIsSaidToBeThere(t *testing.T) {
	for place, test := range map[string]struct{ event, violation string }{
		"event's name":     {`"type":"track","event":"Mailed canary@example.com"`, "event: email masked"},
		"property":         {`"type":"track","event":"X","properties":{"note":"call +31 6 8312 4590"}`, "properties.note: phone masked"},
		"nested property":  {`"type":"track","event":"X","properties":{"a":{"b":[{"c":"NL02 ABNA 0123 4567 89"}]}}`, "properties.a.b[].c: iban masked"},
		"key":              {`"type":"track","event":"X","properties":{"canary@example.com":1}`, "properties: email masked"},
		"number":           {`"type":"track","event":"X","properties":{"number":4242424242424242}`, "properties.number: card masked"},
		"by the key":       {`"type":"track","event":"X","properties":{"klant_bsn":"111222333"}`, "properties.klant_bsn: bsn masked"},
		"base64":           {`"type":"track","event":"X","properties":{"state":"Y2FuYXJ5QGV4YW1wbGUuY29t"}`, "properties.state: email masked"},
		"full-width":       {`"type":"track","event":"X","properties":{"q":"canary＠example.com"}`, "properties.q: email masked"},
		"secret in a text": {`"type":"track","event":"X","properties":{"last":"/reset?token=canary99"}`, "properties.last: secret masked"},
		"page's title":     {`"type":"page","context":{"page":{"title":"Hello canary@example.com"}}`, "page.title: email masked"},
		"page's path":      {`"type":"page","context":{"page":{"path":"/u/canary@example.com"}}`, "page.path: email masked"},
		"page's query":     {`"type":"page","context":{"page":{"url":"https://shop.example/?email=canary%40example.com"}}`, "page.url: email in the query, left out"},
		"referrer":         {`"type":"page","context":{"page":{"referrer":"https://203.0.113.77/x"}}`, "page.referrer: ip masked"},
		"campaign":         {`"type":"page","context":{"page":{"url":"https://shop.example/?utm_term=canary%40example.com"}}`, "utm_term: email masked"},
		"group's traits":   {`"type":"group","groupId":"g","traits":{"motto":"mail canary@example.com"}`, "traits.motto: email masked"},
		"context":          {`"type":"page","context":{"app":{"name":"canary@example.com"}}`, "context.app.name: email masked"},
	} {
		t.Run(place, func(t *testing.T) {
			b := newBench(t, nil)
			body := fmt.Sprintf(`{"anonymousId":"a-1",%s}`, strings.Replace(test.event, `"context":{`, `"context":{"consent":{"categoryPreferences":{"analytics":true}},`, 1))
			if !strings.Contains(body, `"context"`) {
				body = strings.TrimSuffix(body, "}") + `,"context":{"consent":{"categoryPreferences":{"analytics":true}}}}`
			}
			b.post(t, "/v1/batch", `{"batch":[`+body+`]}`, "X-Write-Key", "wk_web")
			rows := b.spool.rows(t)
			if len(rows.Events) != 1 || !slices.Contains(rows.Events[0].Violations, test.violation) {
				t.Fatalf("violations of %d events: %+v, want %q", len(rows.Events), rows.Events, test.violation)
			}
			if !slices.ContainsFunc(rows.Ledger, func(l LedgerRow) bool {
				return l.Outcome == string(Landed) && l.Reason == "personal data masked" && l.N == 1
			}) {
				t.Errorf("the ledger does not say so: %+v", rows.Ledger)
			}
			for _, record := range b.spool.records {
				for _, value := range []string{"canary", "8312 4590", "83124590", "0123 4567", "01234567", "42424242", "111222333", "y2fuyxj5", "203.0.113.77"} {
					if bytes.Contains(bytes.ToLower(record), []byte(value)) {
						t.Errorf("%q was written: %q", value, record)
					}
				}
			}
			balance(t, rows, 1)
		})
	}
}

// TestNothingPersonalIsSaidToBeThere: an event in which nothing is has no reason.
func TestNothingPersonalIsSaidToBeThere(t *testing.T) {
	b := newBench(t, nil)
	b.post(t, "/v1/track", `{"anonymousId":"a-1","event":"X","properties":{"total":"1,299.00","order":"100045","at":"2026-11-23 10:15"},
		"context":{"consent":{"categoryPreferences":{"analytics":true}}}}`, "X-Write-Key", "wk_web")
	rows := b.spool.rows(t)
	if len(rows.Events) != 1 || len(rows.Events[0].Violations) > 0 || slices.ContainsFunc(rows.Ledger, func(l LedgerRow) bool { return l.Reason != "" }) {
		t.Errorf("%+v %+v", rows.Events, rows.Ledger)
	}
}
