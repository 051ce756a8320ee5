package collector

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/collector/snippet"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// The limits of the Segment HTTP Tracking API.
const (
	maxCall   = 32 << 10  // one call, and one event of a batch
	maxBatch  = 500 << 10 // a batch
	maxEvents = 2500      // in a batch
)

// ConsentCookie is the name of the signed first-party cookie with a person's
// own choice.
const ConsentCookie = "sluis_consent"

// Handler serves the HTTP API:
//
//	POST /v1/{identify,track,page,screen,group,alias}   one event
//	POST /v1/batch                                      several
//	POST /v1/consent                                    a choice
//	GET  /sluis.js and others of package snippet        what pages load
//	GET  /healthz                                       200 while events are accepted
//
// as Segment's HTTP Tracking API v1: the write key by Basic or Bearer
// authorization, X-Write-Key or in the body; 200 with what became of each event
// as soon as all of them are on disk; 400 only for what is too large or no JSON,
// since SDKs drop or repeat a whole batch for one error.
func (c *Collector) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, typ := range types {
		mux.HandleFunc("POST /v1/"+typ, func(w http.ResponseWriter, r *http.Request) { c.serveEvent(w, r, typ) })
	}
	mux.HandleFunc("POST /v1/batch", c.serveBatch)
	mux.HandleFunc("POST /v1/consent", c.serveConsent)
	for _, script := range snippet.Scripts() {
		mux.Handle("GET /"+script.Name, script)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	return c.withCORS(mux)
}

// httpError is an answer other than 200.
type httpError struct {
	status     int
	code       string
	message    string
	retryAfter string // seconds
}

func (e *httpError) Error() string { return e.message }

// receive reads and authenticates a request. Its error is fit for [Collector.fail].
func (c *Collector) receive(r *http.Request, limit int64) (body map[string]any, req *request, err error) {
	if body, err = readObject(r, limit); err != nil {
		return nil, nil, err
	}
	req, err = c.open(r, body)
	return body, req, err
}

func (c *Collector) serveEvent(w http.ResponseWriter, r *http.Request, typ string) {
	body, req, err := c.receive(r, maxCall)
	if err != nil {
		c.fail(w, err)
		return
	}
	body["type"] = typ
	results, err := c.accept(r.Context(), req, []map[string]any{body})
	c.keepVisitor(w, r, req, false)
	c.reply(w, results, err)
}

func (c *Collector) serveBatch(w http.ResponseWriter, r *http.Request) {
	body, req, err := c.receive(r, maxBatch)
	if err != nil {
		c.fail(w, err)
		return
	}
	list, ok := body["batch"].([]any)
	if !ok || len(list) > maxEvents {
		c.fail(w, &httpError{http.StatusBadRequest, "invalid_batch", "batch must be an array of at most 2500 events", ""})
		return
	}
	messages := make([]map[string]any, len(list))
	for i, element := range list {
		messages[i] = batchMessage(element, body)
	}
	results, err := c.accept(r.Context(), req, messages)
	c.keepVisitor(w, r, req, body["reset"] == true)
	c.reply(w, results, err)
}

// batchMessage gives an event of a batch the context that it shares with the
// others. What is no object becomes an event without type, so that it is
// counted like any other.
func batchMessage(element any, body map[string]any) map[string]any {
	message, ok := element.(map[string]any)
	if !ok {
		return map[string]any{}
	}
	shared, ok := body["context"].(map[string]any)
	if !ok {
		return message
	}
	own, ok := message["context"].(map[string]any)
	if !ok {
		if message["context"] == nil {
			message["context"] = shared
		}
		return message
	}
	for key, value := range shared {
		if _, ok := own[key]; !ok {
			own[key] = value
		}
	}
	return message
}

// readObject reads a JSON object of at most limit bytes, also where it comes
// compressed.
func readObject(r *http.Request, limit int64) (map[string]any, error) {
	var body io.Reader = r.Body
	if strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, &httpError{http.StatusBadRequest, "invalid_gzip", "the body is not gzip", ""}
		}
		body = unzipped
	}
	text, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, &httpError{http.StatusBadRequest, "unreadable_body", "the body could not be read to its end", ""}
	}
	if int64(len(text)) > limit {
		return nil, &httpError{http.StatusBadRequest, "too_large", "the body is larger than the API allows: 32 KB for a call, 500 KB for a batch", ""}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil || object == nil || decoder.More() {
		return nil, &httpError{http.StatusBadRequest, "invalid_json", "the body is not a JSON object", ""}
	}
	return object, nil
}

// open authenticates a request and collects what its events share.
func (c *Collector) open(r *http.Request, body map[string]any) (*request, error) {
	key := writeKey(r, body)
	source := c.sources[key]
	if source == nil {
		return nil, &httpError{http.StatusUnauthorized, "invalid_write_key", "no source has this write key; send the one in sluis.yaml by Basic authorization or as writeKey", ""}
	}
	if origin := r.Header.Get("Origin"); origin != "" && !source.allows(origin, r) {
		return nil, &httpError{http.StatusForbidden, "origin_not_allowed", "this source does not accept events from this page; add its origin to the source in sluis.yaml", ""}
	}
	req := &request{
		source:    source,
		received:  c.Now().UTC().Truncate(time.Microsecond),
		sentAt:    clientTime(body["sentAt"]),
		userAgent: r.UserAgent(),
	}
	if c.RegionHeader != "" {
		req.region = region(r.Header.Get(c.RegionHeader))
	}
	if s, ok := c.Policy.FromGPC(r.Header.Values("Sec-GPC")); ok {
		req.signals = append(req.signals, s)
	}
	req.visitor = c.visitorOf(r, source, req.received)
	for _, cookie := range r.CookiesNamed(ConsentCookie) {
		if s, ok := c.Policy.FromStored(c.CookieKey, cookie.Value, req.received); ok {
			req.signals = append(req.signals, s)
		}
	}
	return req, nil
}

// region accepts the codes of ISO 3166 and nothing else.
func region(code string) string {
	code = strings.ToUpper(strings.TrimSpace(code))
	if len(code) < 2 || len(code) > 6 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return ""
	}
	return code
}

func writeKey(r *http.Request, body map[string]any) string {
	if user, _, ok := r.BasicAuth(); ok {
		return strings.TrimSuffix(user, ":")
	}
	if key := r.Header.Get("X-Write-Key"); key != "" {
		return key
	}
	if key, ok := body["writeKey"].(string); ok {
		return key
	}
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return key
}

// allows tells whether pages of an origin may send. The collector's own pages
// always may.
func (s *Source) allows(origin string, r *http.Request) bool {
	_, host, _ := strings.Cut(origin, "://")
	return host == r.Host || slices.Contains(s.Origins, origin) || slices.Contains(s.Origins, "*")
}

// withCORS answers preflights and lets pages read answers. Whether an origin
// may send to a source is decided when the write key is known; nothing can be
// read here that the page did not send itself.
func (c *Collector) withCORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && c.knownOrigin(origin, r) {
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", origin) // never *, since cookies come along
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Expose-Headers", "Retry-After")
			h.Add("Vary", "Origin")
			if r.Method == http.MethodOptions {
				h.Set("Access-Control-Allow-Methods", "POST, GET")
				h.Set("Access-Control-Allow-Headers", "authorization, content-type, content-encoding, anonymousid, sentat, x-retry-count, x-write-key")
				h.Set("Access-Control-Max-Age", "86400")
			}
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (c *Collector) knownOrigin(origin string, r *http.Request) bool {
	for _, source := range c.sources {
		if source.allows(origin, r) {
			return true
		}
	}
	return false
}

// serveConsent records a choice: {"purposes": {"analytics": true, …}} with the
// anonymousId, userId or email of the person, or none. It answers with the
// decision, and with a cookie by which later requests carry it, unless the source
// is to leave nothing on devices.
func (c *Collector) serveConsent(w http.ResponseWriter, r *http.Request) {
	body, req, err := c.receive(r, maxCall)
	if err != nil {
		c.fail(w, err)
		return
	}
	choice, err := c.choice(body)
	if err != nil {
		c.fail(w, err)
		return
	}
	// The new choice takes the place of the one that the cookie carries.
	signals := slices.DeleteFunc(req.signals, func(s consent.Signal) bool { return s.Kind == consent.Stored })
	decision := c.Policy.Decide(append(signals, choice)...)
	req.visitor.choose(body, decision)
	subjects, err := c.subjects(body)
	if err != nil {
		c.fail(w, err)
		return
	}
	rows := c.consentRows(req, decision, choice, subjects, decision.Granted())
	if err := c.write(r.Context(), record{ReceivedAt: req.received, Rows: Rows{Consents: rows}}); err != nil {
		c.fail(w, err)
		return
	}
	if req.source.Identity != IdentityNone {
		value, err := c.Policy.Store(c.CookieKey, choice, req.received)
		if err != nil {
			c.fail(w, err)
			return
		}
		setCookie(w, r, ConsentCookie, value, c.Policy.MaxAge())
	}
	c.keepVisitor(w, r, req, false)
	answer(w, http.StatusOK, map[string]any{
		"success": true, "decisionId": decision.ID(),
		"granted": texts(decision.Granted()), "denied": texts(decision.Denied()),
	})
}

func (c *Collector) choice(body map[string]any) (consent.Signal, error) {
	object, ok := body["purposes"].(map[string]any)
	if !ok || len(object) == 0 {
		return consent.Signal{}, &httpError{http.StatusBadRequest, "invalid_choice", `purposes must be an object such as {"analytics": true, "marketing": false}`, ""}
	}
	purposes := make(map[string]bool, len(object))
	for name, value := range object {
		granted, ok := value.(bool)
		if !ok {
			return consent.Signal{}, &httpError{http.StatusBadRequest, "invalid_choice", "each purpose must be true or false", ""}
		}
		purposes[name] = granted
	}
	signal, err := c.Policy.FromChoice(purposes)
	if err != nil {
		return consent.Signal{}, &httpError{http.StatusBadRequest, "unknown_purpose", err.Error(), ""}
	}
	return signal, nil
}

// subjects are the pseudonyms of the person who chose.
func (c *Collector) subjects(body map[string]any) ([]seal.Pseudonym, error) {
	var subjects []seal.Pseudonym
	for _, id := range []struct {
		kind seal.Kind
		key  string
	}{{seal.UserID, "userId"}, {seal.AnonymousID, "anonymousId"}, {seal.Email, "email"}} {
		text, ok := scalar(body[id.key])
		if !ok {
			return nil, &httpError{http.StatusBadRequest, "invalid_id", id.key + " must be a text or number", ""}
		}
		if text == "" {
			continue
		}
		p, err := c.Pseudonymizer.Pseudonym(id.kind, text)
		if err != nil {
			return nil, &httpError{http.StatusBadRequest, "invalid_id", id.key + " is not valid", ""}
		}
		subjects = append(subjects, p)
	}
	return subjects, nil
}

// reply tells the client what became of each event. Only what was not kept is
// listed: the usual answer is {"success": true}, as Segment's.
func (c *Collector) reply(w http.ResponseWriter, results []result, err error) {
	if err != nil {
		c.fail(w, err)
		return
	}
	body := map[string]any{"success": true}
	if rest := slices.DeleteFunc(results, func(r result) bool { return r.Outcome == Landed }); len(rest) > 0 {
		body["notLanded"] = rest
	}
	answer(w, http.StatusOK, body)
}

// fail answers an error. What is not the client's fault is 503, upon which
// SDKs try again; the log has the cause.
func (c *Collector) fail(w http.ResponseWriter, err error) {
	var e *httpError
	switch {
	case errors.As(err, &e):
	case errors.Is(err, spool.ErrFull):
		e = &httpError{http.StatusServiceUnavailable, "spool_full", "the collector's disk queue is full", "10"}
		c.Logger.Error("the spool is full: events are refused until the warehouse takes them again")
	case errors.Is(err, spool.ErrTooLarge):
		e = &httpError{http.StatusBadRequest, "too_large", "the batch is too large to be written", ""}
	default:
		e = &httpError{http.StatusServiceUnavailable, "unavailable", "the event could not be written to disk", "2"}
		if !errors.Is(err, context.Canceled) {
			c.Logger.Error("a request could not be written to the spool", "error", err)
		}
	}
	if e.retryAfter != "" {
		w.Header().Set("Retry-After", e.retryAfter)
	}
	answer(w, e.status, map[string]any{"success": false, "code": e.code, "message": e.message})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		return // the client is gone
	}
}
