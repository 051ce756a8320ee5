package collector

import (
	"net/http"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// The browser SDKs ask for the settings of their source before they send. What
// a site has not switched off in them would reach others: remote plugins,
// destinations in the page, figures of the SDK itself. Here all that is off, and
// events come to the host that was asked.

var errNoSource = &httpError{http.StatusNotFound, "unknown_write_key", "no source has this write key; see sources in sluis.yaml", ""}

// serveSegmentSettings answers analytics-next.
func (c *Collector) serveSegmentSettings(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	if c.sources[key] == nil {
		refuse(w, errNoSource)
		return
	}
	protocol := "http"
	if c.Visitors.Observe(r).Secure {
		protocol = "https"
	}
	all := map[string]any{"__default": map[string]any{"enabled": true, "integrations": map[string]any{}}}
	w.Header().Set("Cache-Control", settingsAge)
	answer(w, http.StatusOK, map[string]any{
		"integrations": map[string]any{
			"Segment.io": map[string]any{
				"apiKey": key, "apiHost": r.Host + c.PathPrefix + "/v1", "protocol": protocol,
				"addBundledMetadata": false, "unbundledIntegrations": []string{},
			},
		},
		"plan":                 map[string]any{"track": all, "identify": all, "group": all},
		"metrics":              map[string]any{"sampleRate": 0},
		"remotePlugins":        []any{},
		"analyticsNextEnabled": true,
		"edgeFunction":         map[string]any{},
		"middlewareSettings":   map[string]any{},
	})
}

// serveRudderSettings answers RudderStack's SDKs, of which some ask with a
// write key in the query and all with Basic authorization.
func (c *Collector) serveRudderSettings(w http.ResponseWriter, r *http.Request) {
	source := c.sourceOf(r, jsontree.Value{})
	if source == nil {
		refuse(w, errNoSource)
		return
	}
	off := map[string]any{"enabled": false}
	w.Header().Set("Cache-Control", settingsAge)
	answer(w, http.StatusOK, map[string]any{
		"source": map[string]any{
			"id": source.ID, "name": source.ID, "writeKey": source.WriteKey, "enabled": true,
			"config":       map[string]any{"statsCollection": map[string]any{"errors": off, "metrics": off}},
			"destinations": []any{}, "connections": []any{},
		},
	})
}

// settingsAge lets pages ask again soon after a change.
const settingsAge = "private, max-age=300"
