package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/sluis-cdp/sluis/cmd/internal/canary"
)

// proveTraffic is what `sluis prove` sends: every person in every kind of event,
// with a canary in each place, by every way that SDKs send.
type proveTraffic struct {
	client   *http.Client
	url      string
	writeKey string
	set      *canary.Set
	purposes []string // all that there are
	answers  io.Writer

	people   []provePerson
	markers  []string // words that land, as what shows that a place was written to
	requests int
	statuses map[int]int
}

// provePerson is somebody who visits, and what they agreed to.
type provePerson struct {
	number  int
	class   *consentClass
	granted []string // purposes, and identity among them

	user, anonymous    string
	email, phone, name string // that the person gave, and that may reach who they agreed to
}

// consentClass is a way to agree or not.
type consentClass struct {
	name    string
	grants  []string          // of the purposes; nil for none, "*" for all
	context func() any        // context.consent, if it is not what grants say
	headers map[string]string // sent along
	refused bool              // nothing at all may be kept of the events
}

var consentClasses = []*consentClass{
	{name: "agreed to everything", grants: []string{"*"}},
	{name: "agreed to everything", grants: []string{"*"}},
	{name: "agreed to marketing", grants: []string{"identity", "analytics", "marketing"}},
	{name: "agreed to advertising", grants: []string{"identity", "analytics", "advertising"}},
	{name: "agreed to analytics and identity", grants: []string{"identity", "analytics"}},
	{name: "agreed to analytics", grants: []string{"analytics"}},
	{name: "refused", grants: []string{}, refused: true},
	{name: "said nothing", context: func() any { return nil }, refused: true},
	{name: "cannot be read", context: func() any {
		return map[string]any{"categoryPreferences": map[string]any{"analytics": "yes"}}
	}, refused: true},
	{name: "has a forged cookie", context: func() any { return nil }, headers: map[string]string{"Cookie": "sluis_consent=eyJ2IjoiMSJ9.AAAA"}, refused: true},
}

// provePeople is how many there are: some of each class, and a thousand canaries
// many times over.
const provePeople = 40

// send lets everybody come by. It returns an error if a request could not be
// sent at all; what it is answered is counted.
func (t *proveTraffic) send(ctx context.Context) error {
	for n := range provePeople {
		p := t.person(n, consentClasses[n%len(consentClasses)])
		t.people = append(t.people, p)
		if err := errors.Join(t.choose(ctx, &p), t.visit(ctx, &p), t.refusedRequests(ctx, &p)); err != nil {
			return fmt.Errorf("sending the events of person %d: %w", n, err)
		}
	}
	return nil
}

func (t *proveTraffic) person(n int, class *consentClass) provePerson {
	p := provePerson{number: n, class: class}
	for _, purpose := range t.purposes {
		if slices.Contains(class.grants, "*") || slices.Contains(class.grants, purpose) {
			p.granted = append(p.granted, purpose)
		}
	}
	p.user, p.anonymous = t.set.Token("userId", n), t.set.Token("anonymousId", n)
	p.email, p.phone, p.name = t.set.Email(ownTrait, n), t.set.Phone(ownTrait, n), t.set.Name(ownTrait, n)
	return p
}

// ownTrait is where a canary was sent that may reach a destination.
const ownTrait = "traits of the person"

// consent is context.consent of a person's events.
func (t *proveTraffic) consent(p *provePerson) any {
	if p.class.context != nil {
		return p.class.context()
	}
	preferences := make(map[string]any)
	for _, purpose := range t.purposes {
		preferences[purpose] = slices.Contains(p.granted, purpose)
	}
	return map[string]any{"categoryPreferences": preferences}
}

// marker is a word that may land in clear, if the person agreed to analytics.
func (t *proveTraffic) marker(p *provePerson) string {
	word := "marker" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
	if slices.Contains(p.granted, "analytics") {
		t.markers = append(t.markers, word)
	} else {
		t.set.Mark("note of a refused event", p.number, word)
	}
	return word
}

// choose tells the collector of a choice, of somebody who gave an address.
func (t *proveTraffic) choose(ctx context.Context, p *provePerson) error {
	if p.class.context != nil {
		return nil
	}
	choice := make(map[string]any)
	for _, purpose := range t.purposes {
		choice[purpose] = slices.Contains(p.granted, purpose)
	}
	return t.post(ctx, "/v1/consent", map[string]any{"purposes": choice, "userId": p.user, "anonymousId": p.anonymous, "email": p.email}, p.class.headers)
}

// visit sends each event of a person, each by another way than the one before.
func (t *proveTraffic) visit(ctx context.Context, p *provePerson) error {
	ways := []func(context.Context, *provePerson, map[string]any) error{t.one, t.batch, t.short, t.header, t.text, t.zipped, t.jitsu, t.beacon}
	events := t.events(p)
	for i, e := range events {
		if err := ways[(i+p.number)%len(ways)](ctx, p, e); err != nil {
			return err
		}
	}
	again := t.one(ctx, p, events[0]) // a duplicate
	return errors.Join(again, t.pixel(ctx, p))
}

// word is a canary in the events of somebody who refused, of which no word may be
// kept, and otherwise one that lands in clear by right.
func (t *proveTraffic) word(p *provePerson, where, otherwise string) string {
	if p.class.refused {
		return t.set.Token(where, p.number)
	}
	return otherwise
}

// events are one of each type, with something in each place.
func (t *proveTraffic) events(p *provePerson) []map[string]any {
	s, n := t.set, p.number
	email := func(where string) string { return s.Email(where, n) }
	card, iban := s.Card("properties, in a sentence", n), s.IBAN("properties, in a sentence", n)
	page := map[string]any{
		"url":      "https://shop.example/u/" + email("path of page.url") + "/" + p.user + "?email=" + url.QueryEscape(email("query of page.url")) + "&token=" + s.Token("token in page.url", n) + "#" + s.Token("fragment of page.url", n),
		"path":     "/orders/" + url.PathEscape(email("page.path")),
		"search":   "?q=" + s.Token("page.search", n),
		"title":    "Welcome " + p.name + ", " + email("page.title"),
		"referrer": "https://mail.example/" + s.Token("page.referrer", n) + "?to=" + email("query of page.referrer"),
	}
	traits := map[string]any{
		"email": p.email, "phone": p.phone, "name": p.name,
		"address": map[string]any{"street": s.Address("traits.address", n), "postalCode": "1011 AB"},
		"iban":    s.IBAN("traits.iban", n), "creditCard": s.Card("traits.creditCard", n), "birthday": s.Token("traits.birthday", n), "password": s.Token("traits.password", n),
		"motto": "ask " + p.name + " at " + p.phone, "more": map[string]any{"deep": []any{map[string]any{"say": email("traits, three levels down")}}},
		email("name of a trait"): 1,
	}
	return []map[string]any{
		t.event(p, "identify", map[string]any{"traits": traits}, page),
		t.event(p, "page", map[string]any{"name": t.word(p, "name of a page", "Home"), "properties": map[string]any{"note": t.marker(p), "url": page["url"], "title": email("properties.title of a page")}}, page),
		t.event(p, "track", map[string]any{
			"event": "Mailed " + email("name of an event"),
			"properties": map[string]any{
				"note": t.marker(p), "comment": fmt.Sprintf("card %s, account %s, call %s", card, iban, s.Phone("properties, in a sentence", n)),
				"state": base64.StdEncoding.EncodeToString([]byte(email("properties, in base64"))), "back": "/x%2F" + url.QueryEscape(email("properties, percent-encoded")),
				"wide": strings.Replace(email("properties, full-width"), "@", "＠", 1), "link": "see https://shop.example/?token=" + s.Token("a secret in a link", n),
				"by": p.user, "addr": s.IP("properties", n), "deep": []any{[]any{map[string]any{email("name of a nested property"): email("nested property")}}},
				"lastName": s.Token("a property whose name is personal", n), t.word(p, "name of a property", "size"): t.word(p, "value of a property", "42"),
				"number": s.Card("properties, alone", n),
			},
		}, page),
		t.event(p, "screen", map[string]any{"name": "Screen of " + email("name of a screen"), "category": email("category of a screen")}, page),
		t.event(p, "group", map[string]any{"groupId": s.Token("groupId", n), "traits": map[string]any{"motto": email("traits of a group"), "name": t.word(p, "name of a group", "Acme")}}, page),
		t.event(p, "alias", map[string]any{"previousId": s.Token("previousId", n)}, page),
		// Faulty: they are quarantined whole, or nothing is kept.
		t.event(p, "track", map[string]any{"properties": map[string]any{"note": s.Token("a faulty event", n), "email": email("a faulty event")}}, page),
		t.event(p, "nonsense", map[string]any{"properties": map[string]any{s.Token("an event of no type", n): s.Token("an event of no type", n)}}, page),
		t.event(p, "track", map[string]any{"event": "X", "properties": s.Token("properties that are none", n), "userId": []any{s.Token("userId that is none", n)}}, page),
		t.event(p, "track", map[string]any{"event": "Order", "messageId": email("messageId"), "properties": map[string]any{"note": t.marker(p)}}, page),
	}
}

func (t *proveTraffic) event(p *provePerson, typ string, fields, page map[string]any) map[string]any {
	s, n := t.set, p.number
	e := map[string]any{
		"type": typ, "anonymousId": p.anonymous, "userId": p.user, "messageId": uuid.NewString(),
		"context": map[string]any{
			"consent": t.consent(p), "page": page, "ip": s.IP("context.ip", n), "userAgent": "Mozilla/5.0 " + s.Token("context.userAgent", n),
			"traits": map[string]any{"email": p.email, "phone": p.phone, "name": p.name}, "campaign": map[string]any{"name": s.Email("context.campaign", n), "source": t.word(p, "context.campaign", "newsletter")},
			"app": map[string]any{"name": s.Email("context.app", n)}, "device": map[string]any{"id": s.Token("context.device", n), "advertisingId": s.Token("context.device", n)},
			"locale": "nl-NL", "library": map[string]any{"name": t.word(p, "context.library", "prove"), "version": "1"}, "other": s.Token("context, in a part that is not known", n),
		},
		"integrations": map[string]any{s.Token("integrations", n): true}, "unknown": s.Token("a field that no event has", n),
	}
	maps.Copy(e, fields)
	return e
}

// The ways that SDKs send an event.

func (t *proveTraffic) one(ctx context.Context, p *provePerson, e map[string]any) error {
	path := "/v1/track"
	if typ, _ := e["type"].(string); slices.Contains([]string{"identify", "page", "screen", "group", "alias"}, typ) {
		path = "/v1/" + typ
	}
	return t.post(ctx, path, e, p.class.headers)
}

func (t *proveTraffic) batch(ctx context.Context, p *provePerson, e map[string]any) error {
	return t.post(ctx, "/v1/batch", map[string]any{"batch": []any{e}, "context": map[string]any{"other": t.set.Token("context of a batch", p.number)}}, p.class.headers)
}

func (t *proveTraffic) short(ctx context.Context, p *provePerson, e map[string]any) error {
	return t.post(ctx, "/v1/b", map[string]any{"batch": []any{e}}, p.class.headers)
}

func (t *proveTraffic) header(ctx context.Context, p *provePerson, e map[string]any) error {
	return t.do(ctx, http.MethodPost, "/v1/import", jsonOf(map[string]any{"batch": []any{e}}), with(p.class.headers, "X-Write-Key", t.writeKey, "User-Agent", t.set.Email("the header User-Agent", p.number),
		"Referer", "https://shop.example/"+t.set.Email("the header Referer", p.number), "X-Forwarded-For", t.set.IP("the header X-Forwarded-For", p.number)))
}

func (t *proveTraffic) text(ctx context.Context, p *provePerson, e map[string]any) error {
	return t.do(ctx, http.MethodPost, "/v1/batch?x="+t.set.Token("query of a request", p.number), jsonOf(map[string]any{"batch": []any{e}, "writeKey": t.writeKey}), with(p.class.headers, "Content-Type", "text/plain"))
}

func (t *proveTraffic) zipped(ctx context.Context, p *provePerson, e map[string]any) error {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(jsonOf(map[string]any{"batch": []any{e}}))
	if err := errors.Join(err, z.Close()); err != nil {
		return err
	}
	return t.do(ctx, http.MethodPost, "/v1/batch", b.Bytes(), with(p.class.headers, "X-Write-Key", t.writeKey, "Content-Encoding", "gzip", "Content-Type", "application/x-www-form-urlencoded"))
}

func (t *proveTraffic) jitsu(ctx context.Context, p *provePerson, e map[string]any) error {
	typ, _ := e["type"].(string)
	if !slices.Contains([]string{"identify", "page", "track", "group"}, typ) {
		typ = "track"
	}
	return t.do(ctx, http.MethodPost, "/api/s/s2s/"+typ, jsonOf(e), with(p.class.headers, "X-Write-Key", t.writeKey+":secret"))
}

func (t *proveTraffic) beacon(ctx context.Context, p *provePerson, e map[string]any) error {
	return t.do(ctx, http.MethodPost, "/beacon/v1/batch?writeKey="+url.QueryEscape(t.writeKey), jsonOf(map[string]any{"batch": []any{e}}), with(p.class.headers, "Content-Type", "text/plain;charset=UTF-8"))
}

func (t *proveTraffic) pixel(ctx context.Context, p *provePerson) error {
	n := p.number
	query := url.Values{
		"writeKey": {t.writeKey}, "userId": {p.user}, "event": {"Opened"}, "properties.mail": {t.set.Email("an image's address", n)},
		"properties.other_email": {t.set.Email("an image's address", n)}, "context.consent.categoryPreferences.analytics": {fmt.Sprint(slices.Contains(p.granted, "analytics"))},
	}
	data := base64.URLEncoding.EncodeToString(jsonOf(t.event(p, "track", map[string]any{"event": "Opened"}, nil)))
	return errors.Join(
		t.do(ctx, http.MethodGet, "/v1/pixel/track?"+query.Encode(), nil, p.class.headers),
		t.do(ctx, http.MethodGet, "/pixel/v1/track?writeKey="+url.QueryEscape(t.writeKey)+"&data="+data, nil, p.class.headers))
}

// refusedRequests are those of which nothing at all may be kept, whatever the
// person agreed to.
func (t *proveTraffic) refusedRequests(ctx context.Context, p *provePerson) error {
	s, n := t.set, p.number
	event := func(where string) []byte {
		return jsonOf(map[string]any{
			"type": "track", "event": s.Token(where, n), "userId": s.Token(where, n), "properties": map[string]any{"note": s.Token(where, n), "email": s.Email(where, n)},
			"context": map[string]any{"consent": map[string]any{"categoryPreferences": map[string]any{"analytics": true, "identity": true}}},
		})
	}
	key := func(more ...string) map[string]string { return with(nil, append(more, "X-Write-Key", t.writeKey)...) }
	large := append(event("a request that is too large"), bytes.Repeat([]byte{' '}, 40<<10)...)
	return errors.Join(
		t.do(ctx, http.MethodPost, "/v1/track", event("a request with a wrong key"), map[string]string{"X-Write-Key": s.Token("a wrong write key", n)}),
		t.do(ctx, http.MethodPost, "/v1/track", event("a request with a wrong key"), map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(s.Token("a wrong write key", n)+":"))}),
		t.do(ctx, http.MethodPost, "/v1/track", event("a request without a key"), nil),
		t.do(ctx, http.MethodPost, "/v1/track", large, key()),
		t.do(ctx, http.MethodPost, "/v1/track", event("a request that is no JSON")[1:], key()),
		t.do(ctx, http.MethodPost, "/v1/batch", []byte(`{"batch":"`+s.Email("a batch that is none", n)+`"}`), key()),
		t.do(ctx, http.MethodPost, "/v1/track", event("a request of another page"), key("Origin", "https://"+s.Token("the header Origin", n)+".example")),
		t.do(ctx, http.MethodPost, "/v1/track", event("a request that is no gzip"), key("Content-Encoding", "gzip")),
		t.do(ctx, http.MethodPost, "/v1/"+s.Token("a path that is none", n), event("a request to no path"), key()),
		t.do(ctx, http.MethodPut, "/v1/track", event("a request of another method"), key()),
		t.do(ctx, http.MethodPost, "/v1/consent", jsonOf(map[string]any{"purposes": map[string]any{s.Token("a choice of no purpose", n): true}, "email": s.Email("a choice of no purpose", n)}), key()),
		t.do(ctx, http.MethodPost, "/v1/consent", jsonOf(map[string]any{"purposes": map[string]any{"analytics": true}, "email": s.Token("an address that is none", n)}), key()),
	)
}

func with(headers map[string]string, more ...string) map[string]string {
	all := maps.Clone(headers)
	if all == nil {
		all = make(map[string]string)
	}
	for i := 0; i+1 < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

func jsonOf(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // made of texts, lists and maps
	}
	return text
}

func (t *proveTraffic) post(ctx context.Context, path string, body any, headers map[string]string) error {
	return t.do(ctx, http.MethodPost, path, jsonOf(body), with(headers, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(t.writeKey+":"))))
}

// do sends a request, and keeps the whole answer to be searched.
func (t *proveTraffic) do(ctx context.Context, method, path string, body []byte, headers map[string]string) error {
	r, err := http.NewRequestWithContext(ctx, method, t.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")
	}
	response, err := t.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	t.requests++
	t.statuses[response.StatusCode]++
	if err := response.Write(t.answers); err != nil {
		return fmt.Errorf("keeping an answer: %w", err)
	}
	return nil
}
