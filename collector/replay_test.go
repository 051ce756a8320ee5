package collector

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

const strictPlan = `{version: "1", modes: {unknown_event: quarantine, invalid_properties: quarantine}, events: [{name: Bought, schema: {properties: {total: {type: integer}}}}]}`

// mended is a bench that shares keys with b, under another plan.
func (b *bench) mended(t *testing.T, plan string) *bench {
	t.Helper()
	after := &bench{spool: &memorySpool{}, opener: b.opener, cookie: b.cookie}
	config := b.Config
	config.Spool, config.Window = after.spool, nil
	p := &TrackingPlan{}
	if err := yaml.Unmarshal([]byte(plan), p); err != nil {
		t.Fatal(err)
	}
	p.Check(config.Policy)
	config.Sources = []Source{{ID: "web", WriteKey: "wk_web", Plan: p, Denied: Count}}
	var err error
	if after.Collector, err = New(config); err != nil {
		t.Fatal(err)
	}
	return after
}

// sealed are the events in quarantine.
func (b *bench) sealed(t *testing.T) []Sealed {
	t.Helper()
	rows := b.spool.rows(t)
	var all []Sealed
	for _, q := range rows.Quarantine {
		for _, k := range rows.SealKeys {
			if k.KeyID == q.KeyID {
				all = append(all, Sealed{q, seal.DataKey{ID: k.KeyID, Purpose: k.Purpose, Recipient: k.Recipient, PSKID: k.PSKID, EncapsulatedKey: k.EncapsulatedKey}})
			}
		}
	}
	if len(all) != len(rows.Quarantine) {
		t.Fatal("an event was sealed without its key")
	}
	return all
}

func (b *bench) replay(t *testing.T, s Sealed, today Today) string {
	t.Helper()
	o, err := b.Open(t.Context(), b.opener, s)
	if err != nil {
		t.Fatal(err)
	}
	outcome, reason, err := b.Replay(t.Context(), o, today)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(outcome)+": "+reason, ": ")
}

// balanced sums the ledgers of all benches by outcome, and fails if what was received is
// not what became of it.
func balanced(t *testing.T, benches ...*bench) map[string]int64 {
	t.Helper()
	sums := make(map[string]int64)
	events := 0
	for _, b := range benches {
		rows := b.spool.rows(t)
		events += len(rows.Events)
		for _, l := range rows.Ledger {
			sums[l.Outcome] += l.N
			sums[l.Outcome+"/"+l.Reason] += l.N
		}
	}
	if sums["received"] != sums["landed"]+sums["counted"]+sums["withheld"]+sums["quarantined"]+sums["duplicate"] || sums["landed"] != int64(events) {
		t.Errorf("%d events, and the ledger does not balance: %v", events, sums)
	}
	return sums
}

// TestReplay is a plan that was too strict, and its mending: what is replayed
// lands as it would have at the time.
func TestReplay(t *testing.T) {
	body := `{"writeKey":"wk_web","sentAt":"2026-03-01T12:00:20Z","context":{"page":{"title":"Till"},"consent":{"categoryPreferences":{"analytics":true,"advertising":true}}},"batch":[
		{"type":"track","event":"Bought","anonymousId":"v-1","originalTimestamp":"2026-03-01T12:00:10Z","messageId":"m-1","properties":{"total":2.5,"note":"mail anna@example.com"}}]}`
	headers := []string{"Sec-GPC", "1", "X-Region", "NL", "User-Agent", "Mozilla/5.0 (iPhone) Mobile"}

	direct := planBench(t, `{version: "2", events: [{name: Bought}]}`, nil)
	direct.post(t, "/v1/batch", body, headers...)
	before := direct.mended(t, strictPlan) // with the same keys
	before.post(t, "/v1/batch", body, headers...)
	if got := len(before.spool.rows(t).Events); got != 0 {
		t.Fatalf("%d events landed", got)
	}
	after := before.mended(t, `{version: "2", events: [{name: Bought}]}`)
	after.Collector.Now = func() time.Time { return time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC) }
	s := before.sealed(t)
	if got := after.replay(t, s[0], Today{}); got != "landed: replayed from quarantine" {
		t.Fatal(got)
	}
	want, got := direct.spool.rows(t).Events, after.spool.rows(t).Events
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-came +replayed)\n%s", diff)
	}
	sums := balanced(t, before, after)
	if sums["received"] != 1 || sums["quarantined"] != 0 || sums["landed"] != 1 || sums["quarantined/plan: type at properties.total"] != 0 {
		t.Errorf("the ledger is %v", sums)
	}
	end := after.spool.rows(t).Quarantine
	if len(end) != 1 || end[0].QuarantineID != s[0].QuarantineID || end[0].Outcome != "landed" || len(end[0].Ciphertext) > 0 {
		t.Errorf("the end in quarantine is %+v", end)
	}
	if text := string(after.spool.records[0]); strings.Contains(text, "anna@") || strings.Contains(text, "iPhone") {
		t.Error("the record has what was sealed")
	}
}

// TestReplayAsksConsent: what was agreed to then counts as far as nobody has
// refused it since.
func TestReplayAsksConsent(t *testing.T) {
	const lax = `{version: "2", events: [{name: Bought}, {name: Ad Seen, purposes: [analytics, advertising]}]}`
	for _, test := range []struct {
		name, event string
		today       Today
		want        string
		purposes    string // of what landed
	}{
		{"nothing has changed", "Bought", Today{}, "landed: replayed from quarantine", "[necessary analytics advertising]"},
		{"one of two was withdrawn", "Bought", Today{Refused: []consent.Purpose{consent.Advertising}}, "landed: replayed from quarantine", "[necessary analytics]"},
		{"what it needs was withdrawn", "Bought", Today{Refused: []consent.Purpose{consent.Analytics}}, "counted: analytics not granted", ""},
		{"one that it needs was withdrawn", "Ad Seen", Today{Refused: []consent.Purpose{consent.Advertising}}, "counted: advertising not granted", ""},
		{"it was erased", "Bought", Today{Erased: true}, "withheld: erased", ""},
		{"it came again and landed", "Bought", Today{Landed: true}, "duplicate", ""},
		{"it came again, and was withdrawn", "Bought", Today{Landed: true, Refused: []consent.Purpose{consent.Analytics}}, "counted: analytics not granted", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := planBench(t, strictPlan, nil)
			before.post(t, "/v1/track", `{"event":"`+test.event+`","userId":"u-1","anonymousId":"v-1","properties":{"total":"x"},
				"context":{"consent":{"categoryPreferences":{"analytics":true,"advertising":true}}}}`, "X-Write-Key", "wk_web")
			after := before.mended(t, lax)
			if got := after.replay(t, before.sealed(t)[0], test.today); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			rows := after.spool.rows(t)
			balanced(t, before, after)
			if test.purposes == "" {
				if len(rows.Events)+len(rows.Vault)+len(rows.Consents) > 0 {
					t.Errorf("%+v was written", rows)
				}
				return
			}
			if got := fmt.Sprint(rows.Events[0].Purposes); got != test.purposes || len(rows.Events[0].Denied) > 0 {
				t.Errorf("it landed for %s, against %v", got, rows.Events[0].Denied)
			}
		})
	}
}

// TestReplayUnderTheSignalsOfThen: what a header refused stays refused, though
// the message itself does not say so, and so does what the policy of then denied.
func TestReplayUnderTheSignalsOfThen(t *testing.T) {
	before := planBench(t, strictPlan, nil)
	before.post(t, "/v1/track", `{"event":"Ad Seen","anonymousId":"v-1","context":{"consent":{"categoryPreferences":{"analytics":true,"advertising":true,"C9":true}}}}`,
		"X-Write-Key", "wk_web", "Sec-GPC", "1")
	after := before.mended(t, `{version: "2", events: [{name: Ad Seen}]}`)
	policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "2", Mappings: consent.Mappings{Categories: map[string][]consent.Purpose{"C9": {consent.Marketing}}}})
	if err != nil {
		t.Fatal(err)
	}
	after.Collector.Policy = policy
	if got := after.replay(t, before.sealed(t)[0], Today{}); got != "landed: replayed from quarantine" {
		t.Fatal(got)
	}
	if e := after.spool.rows(t).Events[0]; fmt.Sprint(e.Purposes) != "[necessary analytics]" || fmt.Sprint(e.Denied) != "[advertising sale]" {
		t.Errorf("it landed for %v, against %v", e.Purposes, e.Denied)
	}
}

// TestReplayLeavesWhatStillDeparts: nothing is written of it, and it can be
// replayed later.
func TestReplayLeavesWhatStillDeparts(t *testing.T) {
	before := planBench(t, strictPlan, nil)
	for _, body := range []string{`{"event":"Bought","properties":{"total":"x"}`, `{"event":"Unheard"`, `{"noevent":1`} {
		before.post(t, "/v1/track", body+`,"anonymousId":"v-1","context":{"consent":{"categoryPreferences":{"analytics":true}}}}`, "X-Write-Key", "wk_web")
	}
	after := before.mended(t, strictPlan)
	for _, s := range before.sealed(t) {
		if got := after.replay(t, s, Today{}); !strings.HasPrefix(got, "quarantined: ") {
			t.Error(got)
		}
	}
	if len(after.spool.records) != 0 {
		t.Errorf("%d records were written", len(after.spool.records))
	}
	blocking := before.mended(t, `{version: "2", modes: {unknown_event: block}}`)
	if got := blocking.replay(t, before.sealed(t)[1], Today{}); got != "withheld: plan: unknown event" {
		t.Error(got)
	}
	balanced(t, before, blocking)
}

// TestReplayTwice: two copies of one message in quarantine land once, also those
// without an id; and an event lands with the same id however often it is tried.
func TestReplayTwice(t *testing.T) {
	before := planBench(t, strictPlan, nil)
	for _, id := range []string{`,"messageId":"m-1"`, `,"messageId":"m-1"`, ``} {
		before.post(t, "/v1/track", `{"event":"Bought","properties":{"total":"x"},"anonymousId":"v-1"`+id+`,"context":{"consent":{"categoryPreferences":{"analytics":true}}}}`, "X-Write-Key", "wk_web")
	}
	lax := `{version: "2"}`
	after := before.mended(t, lax)
	var got []string
	for _, s := range before.sealed(t) {
		got = append(got, after.replay(t, s, Today{}))
	}
	if diff := cmp.Diff([]string{"landed: replayed from quarantine", "duplicate", "landed: replayed from quarantine"}, got); diff != "" {
		t.Error(diff)
	}
	balanced(t, before, after)

	failing := before.mended(t, lax)
	failing.spool.fail = errors.New("disk full")
	third := before.sealed(t)[2]
	o, err := failing.Open(t.Context(), failing.opener, third)
	if err != nil {
		t.Fatal(err)
	}
	if outcome, _, err := failing.Replay(t.Context(), o, Today{}); err == nil || outcome != "" {
		t.Errorf("%s, though nothing was written", outcome)
	}
	failing.spool.fail = nil
	if got := failing.replay(t, third, Today{}); got != "landed: replayed from quarantine" {
		t.Errorf("after a failure: %s", got)
	}
	first, second := after.spool.rows(t).Events[1].EventID, failing.spool.rows(t).Events[0].EventID
	if first != second || first != third.QuarantineID {
		t.Errorf("the ids are %s and %s", first, second)
	}
}

// TestReplayRecordsNoChoiceAgain: what was chosen was recorded when it came.
func TestReplayRecordsNoChoiceAgain(t *testing.T) {
	before := planBench(t, strictPlan, nil)
	before.post(t, "/v1/track", `{"event":"Bought","properties":{"total":"x"},"userId":"u-1","context":{"consent":{"categoryPreferences":{"analytics":true,"advertising":false}}}}`, "X-Write-Key", "wk_web")
	after := before.mended(t, `{version: "2"}`)
	after.replay(t, before.sealed(t)[0], Today{Refused: []consent.Purpose{consent.Analytics}})
	if got := after.spool.rows(t).Consents; len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// TestOpenRefuses: what cannot be replayed stays, and why is told without its
// content.
func TestOpenRefuses(t *testing.T) {
	before := planBench(t, strictPlan, nil)
	before.post(t, "/v1/track", `{"event":"Bought","properties":{"total":"canary"},"userId":"canary-1","anonymousId":"canary-2","context":{"traits":{"email":"canary@example.com"},"consent":{"categoryPreferences":{"analytics":true}}}}`, "X-Write-Key", "wk_web")
	s := before.sealed(t)[0]
	o, err := before.Open(t.Context(), before.opener, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Pseudonyms) != 3 {
		t.Errorf("the pseudonyms are %v", o.Pseudonyms)
	}
	moved, gone := s, s
	moved.QuarantineID = "another"
	gone.SourceID = "old"
	old := s
	text, err := json.Marshal(map[string]any{"type": "track", "message": json.RawMessage(`{"userId":"canary"}`)})
	if err != nil {
		t.Fatal(err)
	}
	value, key, err := before.Sealer.Seal(quarantineBinding(old.QuarantineID, old.SourceID), string(text))
	if err != nil {
		t.Fatal(err)
	}
	old.KeyID, old.Ciphertext, old.Key = value.KeyID, value.Ciphertext, key
	for _, test := range []struct {
		s    Sealed
		want error
	}{{moved, seal.ErrCannotOpen}, {gone, ErrNoSource}, {old, ErrNotWhole}, {Sealed{QuarantineRow: s.QuarantineRow}, seal.ErrNoKey}} {
		if _, err := before.Open(t.Context(), before.opener, test.s); !errors.Is(err, test.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, want %v", err, test.want)
		}
	}
}
