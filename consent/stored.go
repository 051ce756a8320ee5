package consent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// stored is the content of the first-party consent cookie: a person's own
// choice and nothing that identifies the person.
type stored struct {
	Policy    string          `json:"v"`
	DecidedAt int64           `json:"t"` // seconds since 1970
	Purposes  map[string]bool `json:"p"`
}

const (
	storedContext = "sluis/consent-cookie/v1\x00"
	minKey        = 32 // bytes
)

// Store writes a choice as the value of a cookie, signed with key, so that
// every collector with the same key decides alike without shared state.
func (p *Policy) Store(key []byte, s Signal, decidedAt time.Time) (string, error) {
	if len(key) < minKey {
		return "", fmt.Errorf("signing a stored choice: the key has %d bytes, %d are needed", len(key), minKey)
	}
	c := stored{Policy: p.version, DecidedAt: decidedAt.Unix(), Purposes: make(map[string]bool, len(s.Verdicts))}
	for purpose, verdict := range s.Verdicts {
		c.Purposes[string(purpose)] = verdict == Granted
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encoding a stored choice: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(body)
	return text + "." + base64.RawURLEncoding.EncodeToString(storedMAC(key, text)), nil
}

// FromStored reads what [Policy.Store] wrote with one of some keys. A value that was tampered with
// or that cannot be read denies everything. What was granted expires, each
// purpose by itself; what was refused stays refused for as long as the browser
// keeps the cookie.
func (p *Policy) FromStored(value string, keys ...[]byte) Signal {
	bad := unreadable(Stored, value)
	text, sum, found := strings.Cut(value, ".")
	mac, err := base64.RawURLEncoding.DecodeString(sum)
	signed := func(key []byte) bool { return len(key) >= minKey && hmac.Equal(mac, storedMAC(key, text)) }
	if !found || err != nil || !slices.ContainsFunc(keys, signed) {
		return bad
	}
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return bad
	}
	var c stored
	if err := json.Unmarshal(body, &c); err != nil {
		return bad
	}
	s := newSignal(Stored)
	s.Evidence, s.DecidedAt = bad.Evidence, time.Unix(c.DecidedAt, 0).UTC()
	for name, granted := range c.Purposes {
		s.add(Purpose(name), granted)
	}
	return s
}

func storedMAC(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(storedContext + text))
	return h.Sum(nil)
}
