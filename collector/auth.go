package collector

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// sourceOf is the source whose write key a request has; nil if none has it. SDKs
// give the key, in the order in which it is looked for,
//
//   - as the user of Basic authorization, with or without a colon behind it;
//   - in X-Write-Key;
//   - as a bearer token, unless that is no write key: of an OAuth token the body
//     has the key;
//   - as writeKey in the body, or in the query of a beacon or pixel.
//
// Jitsu's keys are "id:secret". A source may have the whole as its write key,
// which is then asked for, or the id alone.
func (c *Collector) sourceOf(r *http.Request, body jsontree.Value) *Source {
	if key, ok := basicKey(r); ok {
		return c.sourceByKey(key)
	}
	if key := r.Header.Get("X-Write-Key"); key != "" {
		return c.sourceByKey(key)
	}
	if token, ok := authorization(r, "Bearer"); ok {
		if source := c.sourceByKey(token); source != nil {
			return source
		}
	}
	if key := body.Get("writeKey").String(); key != "" {
		return c.sourceByKey(key)
	}
	if r.URL.RawQuery == "" {
		return nil
	}
	return c.sourceByKey(r.URL.Query().Get("writeKey"))
}

func (c *Collector) sourceByKey(key string) *Source {
	if source := c.sources[key]; source != nil {
		return source
	}
	id, _, _ := strings.Cut(key, ":")
	return c.sources[id]
}

// basicKey is "user:password" of Basic authorization, which some SDKs do not pad.
func basicKey(r *http.Request) (string, bool) {
	text, ok := authorization(r, "Basic")
	if !ok {
		return "", false
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	return string(key), err == nil
}

// authorization is what follows a scheme, whose case does not matter.
func authorization(r *http.Request, scheme string) (string, bool) {
	given, text, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(text), ok && strings.EqualFold(given, scheme)
}
