package consent_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent"
)

func newPolicy(t testing.TB) *consent.Policy {
	t.Helper()
	p, err := consent.NewPolicy(consent.PolicyConfig{
		Version:  "2026-01",
		Mappings: consent.Mappings{Categories: map[string][]consent.Purpose{"C0004": {consent.Advertising, consent.Sale}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRules reads testdata/rules.txt: one case per line, what the request
// carried and which purposes are granted and denied in the end.
func TestRules(t *testing.T) {
	file, err := os.ReadFile("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := newPolicy(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	key := bytes.Repeat([]byte{7}, 32)
	cases := 0
	for scanner := bufio.NewScanner(bytes.NewReader(file)); scanner.Scan(); {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cases++
		columns := strings.Split(line, "|")
		if len(columns) != 5 {
			t.Fatalf("%q: want 5 columns, got %d", line, len(columns))
		}
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		d := p.Decide(consent.Situation{Now: now}, signals(t, p, key, now, columns[0], columns[1], columns[2])...)
		if got := names(d.Granted()); got != columns[3] {
			t.Errorf("%s\n granted %q, want %q", line, got, columns[3])
		}
		if got := names(d.Denied()); got != columns[4] {
			t.Errorf("%s\n denied %q, want %q", line, got, columns[4])
		}
	}
	if cases < 10 {
		t.Fatalf("only %d cases read", cases)
	}
}

func signals(t *testing.T, p *consent.Policy, key []byte, now time.Time, object, cookie, gpc string) []consent.Signal {
	t.Helper()
	var all []consent.Signal
	if object != "-" {
		var m map[string]any
		if err := json.Unmarshal([]byte(object), &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, p.FromCategories(m))
	}
	if cookie != "-" {
		all = append(all, p.FromStored(cookieValue(t, p, key, now, cookie), key))
	}
	if gpc != "-" {
		if s, ok := p.FromGPC([]string{gpc}); ok {
			all = append(all, s)
		}
	}
	return all
}

func cookieValue(t *testing.T, p *consent.Policy, key []byte, now time.Time, cookie string) string {
	t.Helper()
	at := now.Add(-24 * time.Hour)
	switch {
	case cookie == "garbage":
		return "not.a-cookie"
	case strings.HasPrefix(cookie, "old "):
		at, cookie = now.Add(-400*24*time.Hour), cookie[4:]
	case strings.HasPrefix(cookie, "forged "):
		key, cookie = bytes.Repeat([]byte{8}, 32), cookie[7:]
	}
	var m map[string]bool
	if err := json.Unmarshal([]byte(cookie), &m); err != nil {
		t.Fatal(err)
	}
	s, err := p.FromChoice(m)
	if err != nil {
		t.Fatal(err)
	}
	value, err := p.Store(key, s, at)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func names(purposes []consent.Purpose) string {
	if len(purposes) == 0 {
		return "-"
	}
	var b []string
	for _, p := range purposes {
		b = append(b, string(p))
	}
	return strings.Join(b, " ")
}

func TestZeroDecisionDeniesEverything(t *testing.T) {
	var d consent.Decision
	for _, p := range consent.Standard() {
		if d.Allows(p) == nil {
			t.Errorf("the zero Decision allows %s", p)
		}
	}
	if d.Granted() != nil || d.Denied() != nil || d.ID() != "" {
		t.Error("the zero Decision is not empty")
	}
	if newPolicy(t).Decide(consent.Situation{}).Allows() == nil {
		t.Error("asking for no purpose was allowed")
	}
}

func TestRefusalNamesWhoRefused(t *testing.T) {
	p := newPolicy(t)
	gpc, _ := p.FromGPC([]string{"1"})
	err := p.Decide(consent.Situation{}, gpc).Allows(consent.Necessary, consent.Sale)
	var refusal *consent.Refusal
	if !errors.As(err, &refusal) || refusal.By != consent.GPC || err.Error() != "sale denied by gpc" {
		t.Errorf("got %v", err)
	}
}

// TestTamperedCookieDenies changes each byte of a cookie that grants.
func TestTamperedCookieDenies(t *testing.T) {
	p, key, now := newPolicy(t), bytes.Repeat([]byte{7}, 32), time.Unix(1_800_000_000, 0)
	choice, err := p.FromChoice(map[string]bool{"analytics": true})
	if err != nil {
		t.Fatal(err)
	}
	value, err := p.Store(key, choice, now)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.FromStored(value, key); p.Decide(consent.Situation{Now: now}, s).Allows(consent.Analytics) != nil {
		t.Fatal("an untouched cookie does not grant")
	}
	for i := range value {
		changed := []byte(value)
		changed[i] ^= 0x01
		// The last character of a base64 text may carry bits that are not used.
		if s := p.FromStored(string(changed), key); !s.Unreadable && i < len(value)-1 {
			t.Errorf("byte %d changed and still accepted", i)
		}
	}
}

func TestEqualEvidenceGivesEqualID(t *testing.T) {
	p := newPolicy(t)
	a := p.Decide(consent.Situation{}, p.FromCategories(map[string]any{"analytics": true, "marketing": false}))
	b := p.Decide(consent.Situation{}, p.FromCategories(map[string]any{"marketing": false, "analytics": true}))
	c := p.Decide(consent.Situation{}, p.FromCategories(map[string]any{"marketing": true, "analytics": true}))
	if a.ID() != b.ID() || a.ID() == c.ID() || len(a.ID()) != 32 {
		t.Errorf("ids %s %s %s", a.ID(), b.ID(), c.ID())
	}
}

func FuzzFromStored(f *testing.F) {
	f.Add("a.b")
	f.Add(".")
	p, key := newPolicy(f), bytes.Repeat([]byte{7}, 32)
	f.Fuzz(func(t *testing.T, value string) {
		if s := p.FromStored(value, key); len(p.Decide(consent.Situation{Now: time.Now()}, s).Granted()) > 1 {
			t.Errorf("%q grants without a signature", value)
		}
	})
}
