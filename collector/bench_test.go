package collector

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkBatch takes batches of 100 events of about 1 KB through all steps,
// into a spool in memory, beside what decoding their JSON alone costs. One in
// five events brings an address and a phone number.
func BenchmarkBatch(b *testing.B) {
	const size = 100
	bodies := make([]string, 64)
	for n := range bodies {
		events := make([]string, size)
		for i := range events {
			traits := ""
			if i%5 == 0 {
				traits = fmt.Sprintf(`"traits":{"email":"v%d@example.com","phone":"+316%08d"},`, i, i)
			}
			events[i] = fmt.Sprintf(`{"type":"track","event":"Live Chat Started","messageId":"m-%d-%d-%%d","anonymousId":"0b7c1f6e-6a31-4f0e-9a55-%012d",
				"userId":"user-%d","timestamp":"2026-03-01T12:00:00.000Z","properties":{"sku":"S-%d","text":%q},
				"context":{%s"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true,"advertising":true}},
				"page":{"url":"https://shop.example/pricing?utm_source=x","path":"/pricing","title":"Pricing"},"library":{"name":"b","version":"1"}}}`,
				n, i, i, i, i, strings.Repeat("plain words ", 30), traits)
		}
		bodies[n] = `{"writeKey":"wk_web","batch":[` + strings.Join(events, ",") + `]}`
	}
	b.Run("decode alone", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			var v map[string]any
			if err := json.Unmarshal([]byte(bodies[i%len(bodies)]), &v); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/event")
	})
	allSteps := func(b *testing.B, c *bench) {
		handler := c.Handler()
		for i := 0; b.Loop(); i++ {
			body := strings.ReplaceAll(bodies[i%len(bodies)], "%d", fmt.Sprint(i))
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/batch", strings.NewReader(body)))
			if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "notLanded") {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
			c.spool.records = nil
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/event")
	}
	b.Run("all steps", func(b *testing.B) { allSteps(b, newBench(b, nil)) })
	b.Run("all steps, with a schema", func(b *testing.B) {
		allSteps(b, planBench(b, `{version: "1", modes: {invalid_properties: quarantine, unknown_properties: quarantine}, events: [{name: Live Chat Started,
			schema: {type: object, required: [sku, text], properties: {sku: {type: string, pattern: "^S-[0-9]+$"}, text: {type: string, minLength: 1}}}}]}`, nil))
	})
}
