package collector

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// TestSealedAgain: what the vault has is not sealed again, until half of its life
// is over or the key it was sealed to is no longer in use. Otherwise retention, or
// the end of a key, would take the values of people who are still there.
func TestSealedAgain(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	keys := seal.Dir(filepath.Join(t.TempDir(), "keys"))
	if err := seal.Generate(keys, []string{"necessary", "marketing", "advertising"}); err != nil {
		t.Fatal(err)
	}
	sealer := func() *seal.Sealer {
		t.Helper()
		s, err := seal.NewSealer(t.Context(), keys, "test", []string{"necessary", "marketing", "advertising"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var config Config
	b := newBench(t, func(c *Config) {
		c.SealFor = []consent.Purpose{consent.Marketing, consent.Advertising}
		c.SealAgain = map[consent.Purpose]time.Duration{consent.Marketing: 24 * time.Hour}
		c.Now = func() time.Time { return now }
		c.Sealer = sealer()
		config = *c
	})
	n := 0
	sealed := func() map[string]int {
		t.Helper()
		n++
		before := len(b.spool.rows(t).Vault)
		body := fmt.Sprintf(`{"writeKey":"wk_app","messageId":"m-%d","userId":"u-1","traits":{"email":"jane@example.com"},
			"context":{"consent":{"categoryPreferences":{"analytics":true,"marketing":true,"advertising":true}}}}`, n)
		if status, answer := b.post(t, "/v1/identify", body); status != http.StatusOK {
			t.Fatal(status, answer)
		}
		counts := map[string]int{"marketing": 0, "advertising": 0}
		for _, v := range b.spool.rows(t).Vault[before:] {
			counts[v.Purpose]++
		}
		return counts
	}
	expect := func(when string, marketing, advertising int) {
		t.Helper()
		if got := sealed(); got["marketing"] != marketing || got["advertising"] != advertising {
			t.Errorf("%s: sealed were %v", when, got)
		}
	}
	expect("at first", 1, 1)
	expect("again", 0, 0)
	now = now.Add(24*time.Hour - time.Second)
	expect("before half of its life", 0, 0)
	now = now.Add(time.Second)
	expect("at half of its life", 1, 0)
	expect("after it was sealed anew", 0, 0)

	if _, err := seal.OpenFolder(keys, nil).RotatePurpose(t.Context(), "advertising"); err != nil {
		t.Fatal(err)
	}
	config.Sealer = sealer()
	next, err := b.With(config)
	if err != nil {
		t.Fatal(err)
	}
	b.Collector = next
	expect("after a rotation", 0, 1)
	expect("after it was sealed to the new key", 0, 0)
}
