package collector

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/collector/limit"
	"github.com/sluis-cdp/sluis/collector/spool"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// The limits of the Segment HTTP Tracking API, but for the batch, which has
// 500 KB there: SDKs count it without what is around the events, and RudderStack's
// fill 4 MB. A batch that is refused is lost.
const (
	maxCall   = 32 << 10 // one call, and one event of a batch
	maxBatch  = 4 << 20  // a batch
	maxEvents = 2500     // in a batch
)

// maxShared bounds the context that the events of a batch share, times their
// number, since each of them looks through it.
const maxShared = 8 << 20

// ConsentCookie is the name of the signed first-party cookie with a person's
// own choice.
const ConsentCookie = consent.CookieName

// httpError is an answer other than 200.
type httpError struct {
	status     int
	code       string
	message    string
	retryAfter string // seconds
}

func (e *httpError) Error() string { return e.message }

// receive reads and authenticates a request. Its error is fit for [Collector.fail].
// The caller gives the tree back to trees when it is done with it and with all
// values of it.
func (c *Collector) receive(r *http.Request, most int64) (*jsontree.Tree, *request, error) {
	tree, err := readObject(r, most)
	if err != nil {
		return nil, nil, err
	}
	req, err := c.open(r, tree.Root())
	if err != nil {
		trees.Put(tree)
		return nil, nil, err
	}
	return tree, req, nil
}

// trees are used again from one request to the next.
var trees = treePool{}

type treePool struct{ sync.Pool }

func (p *treePool) Get() *jsontree.Tree {
	if t, ok := p.Pool.Get().(*jsontree.Tree); ok {
		return t
	}
	return new(jsontree.Tree)
}

// Put does not keep what a request of nothing but brackets has grown.
func (p *treePool) Put(t *jsontree.Tree) {
	const most = 1 << 20 // bytes
	if t.Cap() <= most {
		p.Pool.Put(t)
	}
}

func (c *Collector) serveEvent(w http.ResponseWriter, r *http.Request) {
	typ, ok := calls[r.PathValue("call")]
	if !ok {
		refuse(w, errNoPath)
		return
	}
	tree, req, err := c.receive(r, maxCall)
	if err != nil {
		c.fail(w, err)
		return
	}
	defer trees.Put(tree)
	results, err := c.accept(r.Context(), req, []message{{typ: typ, body: tree.Root()}})
	c.keepVisitor(w, req, false)
	c.reply(w, results, err)
}

func (c *Collector) serveBatch(w http.ResponseWriter, r *http.Request) {
	tree, req, err := c.receive(r, maxBatch)
	if err != nil {
		c.fail(w, err)
		return
	}
	defer trees.Put(tree)
	messages, err := batchMessages(tree.Root())
	if err != nil {
		c.fail(w, err)
		return
	}
	results, err := c.accept(r.Context(), req, messages)
	c.keepVisitor(w, req, tree.Root().Get("reset").Kind() == jsontree.True)
	c.reply(w, results, err)
}

// batchMessages are the events of a batch, with the context that they share.
// What is no object is an event without type, so that it is counted like any
// other.
func batchMessages(body jsontree.Value) ([]message, error) {
	batch, shared := body.Get("batch"), body.Get("context")
	n := batch.Len()
	if batch.Kind() != jsontree.Array || n > maxEvents {
		return nil, &httpError{http.StatusBadRequest, "invalid_batch", "batch must be an array of at most 2500 events", ""}
	}
	if len(shared.Raw())*n > maxShared {
		return nil, &httpError{http.StatusBadRequest, "invalid_batch", "the context that the events of the batch share is too large for so many of them", ""}
	}
	messages := make([]message, 0, n)
	for element := range batch.Elements() {
		messages = append(messages, message{body: element, shared: shared})
	}
	return messages, nil
}

var errNotJSON = &httpError{http.StatusBadRequest, "invalid_json", "the body is not a JSON object", ""}

// readObject reads a JSON object of at most so many bytes, also where it comes
// compressed.
func readObject(r *http.Request, most int64) (*jsontree.Tree, error) {
	text, err := limit.Read(r, most)
	if err != nil {
		return nil, err
	}
	tree := trees.Get()
	if err := tree.Parse(text); err != nil || tree.Root().Kind() != jsontree.Object {
		trees.Put(tree)
		return nil, errNotJSON
	}
	return tree, nil
}

// open authenticates a request and collects what its events share.
func (c *Collector) open(r *http.Request, body jsontree.Value) (*request, error) {
	source := c.sourceOf(r, body)
	if source == nil {
		return nil, &httpError{http.StatusUnauthorized, "invalid_write_key", "no source has this write key; send the one in sluis.yaml by Basic authorization or as writeKey", ""}
	}
	if origin := r.Header.Get("Origin"); origin != "" && !source.allows(origin, r) {
		return nil, &httpError{http.StatusForbidden, "origin_not_allowed", "this source does not accept events from this page; add its origin to the source in sluis.yaml", ""}
	}
	req := &request{
		source:   source,
		received: c.Now().UTC().Truncate(time.Microsecond),
		sentAt:   clientTime(body.Get("sentAt")),
		visitor:  c.Visitors.Observe(r),
	}
	req.hear(r)
	req.browser = c.browserOf(r, source, req.received)
	return req, nil
}

// serveConsent records a choice: {"purposes": {"analytics": true, …}} with the
// anonymousId, userId or email of the person, or none, and the version of the
// notice that was shown, {"notice": "banner-2026-03"}. It answers with the decision, and with a cookie by which later requests carry it, unless the source
// is to leave nothing on devices.
func (c *Collector) serveConsent(w http.ResponseWriter, r *http.Request) {
	tree, req, err := c.receive(r, maxCall)
	if err != nil {
		c.fail(w, err)
		return
	}
	defer trees.Put(tree)
	if err := c.rates.Take(req.source.ID, req.visitor.Sender, 1, c.Now()); err != nil {
		c.fail(w, err)
		return
	}
	choice, err := c.choice(tree.Root())
	if err != nil {
		c.fail(w, err)
		return
	}
	// The new choice takes the place of the one that the cookie carries.
	signals := slices.DeleteFunc(c.requestSignals(req), func(s consent.Signal) bool { return s.Kind == consent.Stored })
	choice.DecidedAt = req.received
	region := req.visitor.Region
	decision := c.Policy.Decide(c.situation(req, region), append(signals, choice)...)
	anonymous, _ := scalar(tree.Root().Get("anonymousId"))
	subjects, err := c.subjects(r.Context(), tree.Root(), req.browser.choose(anonymous, decision))
	if err != nil {
		c.fail(w, err)
		return
	}
	notice := c.noticeOf(tree.Root().Get("notice"))
	if notice == "" && !tree.Root().Get("notice").IsNull() {
		c.fail(w, &httpError{http.StatusBadRequest, "invalid_notice", "notice must name a version, such as banner-2026-03: letters, digits and . _ : / - alone", ""})
		return
	}
	rec, kept := Record{ReceivedAt: req.received}, &keeping{settled: make(chan struct{})}
	defer c.settle(kept)
	rec.Consents = c.consentRows(req, region, decision, subjects, append(decision.Granted(), decision.Denied()...), notice)
	if len(rec.Consents) > 0 {
		for _, p := range subjects {
			c.keepElement(&rec.Rows, kept, p, req.received)
		}
	}
	if err := c.recordChoice(r.Context(), rec); err != nil {
		c.fail(w, err)
		return
	}
	kept.onDisk = true
	c.settle(kept)
	if req.source.Identity != IdentityNone {
		value, err := c.Policy.Store(c.CookieKey, choice, req.received)
		if err != nil {
			c.fail(w, err)
			return
		}
		setCookie(w, req, ConsentCookie, value, c.Policy.MaxAge())
	}
	c.keepVisitor(w, req, false)
	answer(w, http.StatusOK, map[string]any{
		"success": true, "decisionId": decision.ID(),
		"granted": texts(decision.Granted()), "denied": texts(decision.Denied()),
	})
}

func (c *Collector) choice(body jsontree.Value) (consent.Signal, error) {
	object := body.Get("purposes")
	if object.Empty() || object.Kind() != jsontree.Object {
		return consent.Signal{}, &httpError{http.StatusBadRequest, "invalid_choice", `purposes must be an object such as {"analytics": true, "marketing": false}`, ""}
	}
	purposes := make(map[string]bool)
	for name, value := range object.Members() {
		if value.Kind() != jsontree.True && value.Kind() != jsontree.False {
			return consent.Signal{}, &httpError{http.StatusBadRequest, "invalid_choice", "each purpose must be true or false", ""}
		}
		purposes[name] = value.Kind() == jsontree.True
	}
	signal, err := c.Policy.FromChoice(purposes)
	if err != nil {
		return consent.Signal{}, &httpError{http.StatusBadRequest, "unknown_purpose", err.Error(), ""}
	}
	return signal, nil
}

// subjects are the pseudonyms of the person who chose, by the ids of the body
// and that of the browser's cookie, if it has one.
func (c *Collector) subjects(ctx context.Context, body jsontree.Value, anonymous string) ([]seal.Pseudonym, error) {
	batch := c.Pseudonymizer.Batch()
	subjects, err := subjectsOf(batch, body, anonymous)
	if err != nil || !batch.Lacks() {
		return subjects, err
	}
	if err := batch.Fetch(ctx); err != nil {
		return nil, fmt.Errorf("making pseudonyms: %w", err)
	}
	return subjectsOf(batch, body, anonymous)
}

func subjectsOf(batch *seal.Batch, body jsontree.Value, anonymous string) ([]seal.Pseudonym, error) {
	var subjects []seal.Pseudonym
	for _, id := range []struct {
		kind  seal.Kind
		key   string
		known string
	}{{seal.UserID, "userId", ""}, {seal.AnonymousID, "anonymousId", anonymous}, {seal.Email, "email", ""}} {
		text, ok := scalar(body.Get(id.key))
		if !ok {
			return nil, &httpError{http.StatusBadRequest, "invalid_id", id.key + " must be a text or number", ""}
		}
		if text = cmp.Or(text, id.known); text == "" {
			continue
		}
		p, err := batch.Pseudonym(id.kind, text)
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
	rest := slices.DeleteFunc(results, func(r result) bool { return r.Outcome == Landed })
	if len(rest) == 0 {
		w.Header()["Content-Type"] = contentTypeJSON
		_, _ = io.WriteString(w, "{\"success\":true}\n") // if it fails, the client is gone
		return
	}
	answer(w, http.StatusOK, map[string]any{"success": true, "notLanded": rest})
}

// fail answers an error.
func (c *Collector) fail(w http.ResponseWriter, err error) { refuse(w, c.explain(err)) }

// explain is the answer to an error. What is not the client's fault is 503, upon
// which SDKs try again; the log has the cause.
func (c *Collector) explain(err error) *httpError {
	var e *httpError
	var refusal *limit.Refusal
	var away *seal.UnavailableError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &refusal):
		return &httpError{refusal.Status, refusal.Code, refusal.Message, refusal.Seconds()}
	case errors.As(err, &away):
		c.Logger.Warn("pseudonyms cannot be made: events are refused until their service is back", "error", away)
		return &httpError{http.StatusServiceUnavailable, "pseudonyms_unavailable", "pseudonyms cannot be made at the moment", seconds(away.RetryAfter)}
	case errors.Is(err, seal.ErrWrongKey):
		c.Logger.Error("pseudonyms cannot be made", "error", err)
		return &httpError{http.StatusServiceUnavailable, "pseudonyms_unavailable", "pseudonyms cannot be made at the moment", "60"}
	case errors.Is(err, spool.ErrFull):
		c.Logger.Error("the spool is full: events are refused until the warehouse takes them again")
		return &httpError{http.StatusServiceUnavailable, "spool_full", "the collector's disk queue is full", "10"}
	case errors.Is(err, spool.ErrTooLarge):
		return &httpError{http.StatusBadRequest, "too_large", "the batch is too large to be written", ""}
	case !errors.Is(err, context.Canceled):
		c.Logger.Error("a request could not be written to the spool", "error", err)
	}
	return &httpError{http.StatusServiceUnavailable, "unavailable", "the event could not be written to disk", "2"}
}

// seconds is a time as Retry-After has it: at least one.
func seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// refuse answers an error as SDKs read it.
func refuse(w http.ResponseWriter, e *httpError) {
	if e.retryAfter != "" {
		w.Header().Set("Retry-After", e.retryAfter)
	}
	answer(w, e.status, map[string]any{"success": false, "code": e.code, "message": e.message})
}

var contentTypeJSON = []string{"application/json"}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header()["Content-Type"] = contentTypeJSON
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		return // the client is gone
	}
}
