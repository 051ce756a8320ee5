package collector

import (
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/collector/snippet"
)

// route is an endpoint of the HTTP API.
type route struct {
	method, path string
	serve        http.HandlerFunc
}

// routes are the HTTP API. Each path is served as it is, and below
// [Config.PathPrefix]; {call} is a type of the Segment specification or its
// first letter.
func (c *Collector) routes() []route {
	routes := []route{
		// Segment's HTTP Tracking API, which RudderStack's SDKs use too.
		{http.MethodPost, "/v1/{call}", c.serveEvent},
		{http.MethodPost, "/v1/batch", c.serveBatch},
		{http.MethodPost, "/v1/b", c.serveBatch},
		{http.MethodPost, "/v1/import", c.serveBatch},
		{http.MethodPost, "/v1/m", serveMetrics},
		{http.MethodGet, "/v1/pixel/{call}", c.servePixel},
		{http.MethodGet, "/v1/projects/{key}/settings", c.serveSegmentSettings},

		// What only RudderStack's SDKs ask for.
		{http.MethodPost, "/beacon/v1/batch", c.serveBatch},
		{http.MethodGet, "/pixel/v1/{call}", c.servePixel},
		{http.MethodGet, "/sourceConfig", c.serveRudderSettings},

		// Jitsu's SDK, in a page and on a server.
		{http.MethodPost, "/api/s/{call}", c.serveEvent},
		{http.MethodPost, "/api/s/s2s/{call}", c.serveEvent},

		{http.MethodPost, "/v1/consent", c.serveConsent},
	}
	for _, script := range snippet.Scripts() {
		routes = append(routes, route{http.MethodGet, "/" + script.Name, script.ServeHTTP})
	}
	return routes
}

// Handler serves the HTTP API, [Collector.routes], as Segment's HTTP Tracking
// API v1 does: the write key in any of the forms of [Collector.sourceOf]; 200
// with what became of each event as soon as all of them are on disk; 400 only
// for what is too large or no JSON, since SDKs drop or repeat a whole batch for
// one error; 503 with Retry-After when they shall try again. Whatever it
// answers is JSON, but for the pixel's image.
func (c *Collector) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range c.routes() {
		mux.HandleFunc(r.method+" "+r.path, r.serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { serveNoRoute(mux, w, r) })
	return CleanPath(c.withoutPrefix(c.withCORS(mux)))
}

var errNoPath = &httpError{http.StatusNotFound, "not_found", "there is nothing at this path; events go to /v1/track, /v1/batch and their like", ""}

// serveNoRoute answers what has no route: an unknown path, or a method that its
// path does not take.
func serveNoRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/" {
			methods = append(methods, method)
		}
	}
	if len(methods) == 0 {
		refuse(w, errNoPath)
		return
	}
	allow := strings.Join(append(methods, http.MethodOptions), ", ")
	w.Header().Set("Allow", allow)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	refuse(w, &httpError{http.StatusMethodNotAllowed, "method_not_allowed", "this path takes " + allow, ""})
}

// CheckPathPrefix tells what is wrong with a [Config.PathPrefix].
func CheckPathPrefix(prefix string) error {
	if prefix == "" || prefix != "/" && prefix == path.Clean("/"+prefix) && !strings.ContainsAny(prefix, "?#% ") {
		return nil
	}
	return errors.New("must be a path such as /s: with a slash before it and none behind")
}

// CheckOrigin tells what is wrong with one of [Source.Origins].
func CheckOrigin(origin string) error {
	u, err := url.Parse(origin)
	if origin == "*" || err == nil && u.Host != "" && !strings.Contains(u.Host, "*") && origin == u.Scheme+"://"+u.Host && origin == strings.ToLower(origin) {
		return nil
	}
	return errors.New(`must be what browsers send as Origin, such as https://shop.example or http://localhost:3000: in lower case, without a path, and no slash behind; or "*"`)
}

// CleanPath drops the slashes too many that come of a host written with one at
// its end. A redirect, which is what [http.ServeMux] would answer, loses the body
// of a POST.
func CleanPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveAt(next, w, r, path.Clean("/"+r.URL.Path))
	})
}

// withoutPrefix takes [Config.PathPrefix] off a path.
func (c *Collector) withoutPrefix(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if rest, ok := strings.CutPrefix(path, c.PathPrefix); ok && strings.HasPrefix(rest, "/") {
			path = rest
		}
		serveAt(next, w, r, path)
	})
}

// serveAt serves a request as if it had another path. The pattern that took it
// is told to whoever looks at the request afterwards.
func serveAt(next http.Handler, w http.ResponseWriter, r *http.Request, path string) {
	if path == r.URL.Path && r.URL.RawPath == "" {
		next.ServeHTTP(w, r)
		return
	}
	u := *r.URL
	u.Path, u.RawPath = path, ""
	moved := r.WithContext(r.Context()) // a copy
	moved.URL = &u
	next.ServeHTTP(w, moved)
	r.Pattern = moved.Pattern
}

// withCORS answers preflights and lets pages read answers. A preflight does not
// have the write key, so it may pass if any source allows the origin; whether
// this one does is asked when the key is known. Nothing can be read here that
// the page did not send itself.
func (c *Collector) withCORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		known := origin != "" && c.knownOrigin(origin, r)
		if known {
			h.Set("Access-Control-Allow-Origin", origin) // never *, since cookies come along
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Expose-Headers", "Retry-After")
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Add("Vary", "Access-Control-Request-Headers")
			if known {
				h.Set("Access-Control-Allow-Methods", "GET, POST")
				h.Set("Access-Control-Allow-Headers", requestHeaders(r))
				h.Set("Access-Control-Max-Age", "86400")
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requestHeaders are the headers that a page of a known origin may send: all that
// it asks for. SDKs have their own, and RudderStack's adds some to a second try
// that it does not send with the first: a list would lose what lacks in it.
func requestHeaders(r *http.Request) string {
	headers := r.Header.Get("Access-Control-Request-Headers")
	if strings.Trim(strings.ToLower(headers), "abcdefghijklmnopqrstuvwxyz0123456789-_, ") != "" {
		return ""
	}
	return headers
}

func (c *Collector) knownOrigin(origin string, r *http.Request) bool {
	for _, source := range c.sources {
		if source.allows(origin, r) {
			return true
		}
	}
	return false
}

// allows tells whether pages of an origin may send. The collector's own pages
// always may.
func (s *Source) allows(origin string, r *http.Request) bool {
	_, host, _ := strings.Cut(origin, "://")
	return host == r.Host || slices.Contains(s.Origins, origin) || slices.Contains(s.Origins, "*")
}

// calls are the types of the Segment specification by the last part of a path.
var calls = func() map[string]string {
	calls := make(map[string]string)
	for _, typ := range types {
		calls[typ], calls[typ[:1]] = typ, typ
	}
	return calls
}()

// serveMetrics takes the figures that Segment's browser SDK sends of itself, and
// keeps nothing of them.
func serveMetrics(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"success": true})
}
