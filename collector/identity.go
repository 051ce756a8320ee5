package collector

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sluis-cdp/sluis/consent"
)

// Identity says where browsers keep the visitor's anonymous id.
type Identity string

// The ways. In each of them an anonymousId that a client sends itself counts.
const (
	// IdentityCookie: in a cookie that the collector sets and scripts cannot
	// read, once the person has agreed to the purpose identity. Events that come
	// without anonymousId get its id.
	IdentityCookie Identity = "cookie"
	// IdentityClient: wherever the client likes. The collector sets no id.
	IdentityClient Identity = "client"
	// IdentityNone: nowhere. The collector sets no cookie at all.
	IdentityNone Identity = "none"
)

// IdentityCookieName is the name of the first-party cookie with the visitor's
// anonymous id.
const IdentityCookieName = "sluis_id"

const noIdentifier = "neither userId nor anonymousId"

// browser is the browser that sent a request, as far as its cookie tells.
type browser struct {
	id      string // of the cookie, or made for this request; empty while there is none
	made    bool   // for this request
	cookie  bool   // the browser sent one, valid or not
	refused bool   // an event of the request refuses identity
}

// browserOf is nil where the server keeps no id: by the source's choice, and
// for whatever is not sent by a page of the collector's own site. Another site
// could neither read the cookie nor, as SameSite=Lax, make a browser send it;
// what it sends must not make one either. Nor must servers, whose events are of
// many people.
func (c *Collector) browserOf(r *http.Request, source *Source, now time.Time) *browser {
	if source.Identity != IdentityCookie || !sameSite(r) {
		return nil
	}
	b := &browser{}
	for _, cookie := range r.CookiesNamed(IdentityCookieName) {
		b.cookie = true
		if id, ok := c.openID(cookie.Value, now); ok && b.id == "" {
			b.id = id
		}
	}
	return b
}

// sameSite tells whether a page of the same site sent the request. Browsers say
// so (Fetch Metadata); of those that do not, over plain HTTP or because they are
// old, the page must have the collector's own host.
func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "same-site":
		return true
	case "":
		_, host, ok := strings.Cut(r.Header.Get("Origin"), "://")
		return ok && host == r.Host
	default:
		return false
	}
}

func (b *browser) anonymousID() string {
	if b.id == "" {
		b.id, b.made = uuid.NewString(), true
	}
	return b.id
}

// recognise gives the event of a browser the id of its cookie, or a new one, if
// the person agreed to be recognised and the event has none.
func (c *Collector) recognise(e *Event) verdict {
	b := e.req.browser
	if b == nil {
		return verdict{}
	}
	var refusal *consent.Refusal
	err := e.decision.Allows(consent.Identity)
	if errors.As(err, &refusal) && refusal.Verdict == consent.Denied {
		b.refused = true
	}
	if err == nil && e.anonymous == "" && e.fault == "" {
		e.anonymous = b.anonymousID()
	}
	if e.user == "" && e.anonymous == "" && e.fault == "" {
		e.fault = noIdentifier
	}
	return verdict{}
}

// choose returns the id of the person who chose: the one that was sent, else that
// of the cookie, also where the choice is to be recognised no longer: it is
// about that id. It may be called on nil.
func (b *browser) choose(anonymous string, decision consent.Decision) string {
	if b == nil {
		return anonymous
	}
	b.refused = decision.Allows(consent.Identity) != nil
	if anonymous == "" && (b.id != "" || !b.refused) {
		return b.anonymousID()
	}
	return anonymous
}

// keepVisitor lets the browser keep an id that was made, and forget one that was
// refused or is to be reset: the next consent gets another.
func (c *Collector) keepVisitor(w http.ResponseWriter, req *request, reset bool) {
	b := req.browser
	switch {
	case b == nil:
	case b.refused || reset:
		if b.cookie {
			setCookie(w, req, IdentityCookieName, "", -time.Second)
		}
	case b.made:
		setCookie(w, req, IdentityCookieName, c.sealID(b.id, req.received), c.idAge())
	}
}

// setCookie sets a first-party cookie that scripts cannot read; a negative age
// removes it.
func setCookie(w http.ResponseWriter, req *request, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(age.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: req.visitor.Secure,
	})
}

// The cookie's value is "<id>.<made at, seconds since 1970>.<MAC>". It is signed
// not because an id would be a secret that opens something, for a client can
// send any anonymousId, but so that what the server hands out stays its own:
// neither a script nor a sibling domain can plant an id here, and nobody makes
// one last longer than the choice it rests on.
const (
	minCookieKey = 32 // bytes
	idContext    = "sluis/id-cookie/v1\x00"
)

func (c *Collector) sealID(id string, now time.Time) string {
	text := id + "." + strconv.FormatInt(now.Unix(), 10)
	return text + "." + base64.RawURLEncoding.EncodeToString(idMAC(c.CookieKey, text))
}

func (c *Collector) openID(value string, now time.Time) (id string, ok bool) {
	i := strings.LastIndexByte(value, '.')
	if i < 0 {
		return "", false
	}
	mac, err := base64.RawURLEncoding.DecodeString(value[i+1:])
	signed := func(key []byte) bool { return hmac.Equal(mac, idMAC(key, value[:i])) }
	if err != nil || !signed(c.CookieKey) && !slices.ContainsFunc(c.OldCookieKeys, signed) {
		return "", false
	}
	id, made, _ := strings.Cut(value[:i], ".")
	seconds, err := strconv.ParseInt(made, 10, 64)
	if err != nil {
		return "", false
	}
	age := now.Sub(time.Unix(seconds, 0))
	return id, age <= c.idAge() && age > -time.Hour
}

// idAge is how long a browser keeps an id: as long as the consent that it rests on
// lasts.
func (c *Collector) idAge() time.Duration { return c.Policy.Definition(consent.Identity).Expiry }

func idMAC(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(idContext + text))
	return h.Sum(nil)
}
