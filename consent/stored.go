package consent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

const storedContext = "sluis/consent-cookie/v1\x00"

// Store writes a choice as the value of a cookie, signed with key, so that
// every collector with the same key decides alike without shared state.
func (p *Policy) Store(key []byte, s Signal, decidedAt time.Time) (string, error) {
	if len(key) < 32 {
		return "", fmt.Errorf("signing a stored choice: the key has %d bytes, 32 are needed", len(key))
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

// FromStored reads what [Policy.Store] wrote. A value that was tampered with
// or that cannot be read denies everything; an expired one says nothing (ok is
// false), since the person is to be asked again.
func (p *Policy) FromStored(key []byte, value string, now time.Time) (s Signal, ok bool) {
	unreadable := Signal{Kind: Stored, Unreadable: true}
	text, sum, found := strings.Cut(value, ".")
	mac, err := base64.RawURLEncoding.DecodeString(sum)
	if !found || err != nil || !hmac.Equal(mac, storedMAC(key, text)) {
		return unreadable, true
	}
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return unreadable, true
	}
	var c stored
	if err := json.Unmarshal(body, &c); err != nil {
		return unreadable, true
	}
	age := now.Sub(time.Unix(c.DecidedAt, 0))
	if age > p.maxAge || age < -time.Hour {
		return Signal{}, false
	}
	s = Signal{Kind: Stored, Verdicts: make(map[Purpose]Verdict, len(c.Purposes))}
	for name, granted := range c.Purposes {
		s.add(Purpose(name), granted)
	}
	return s, true
}

func storedMAC(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(storedContext + text))
	return h.Sum(nil)
}
