package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"time"

	"github.com/google/uuid"
)

// visitor is a scripted person on one device. Nothing about them is real.
type visitor struct {
	client    *http.Client
	url       string
	writeKey  string
	anonymous string
	user      string            // once signed in
	consent   map[string]bool   // stamped on each event by the site's consent tool; nil for none
	headers   map[string]string // such as Sec-GPC
	tally     map[string]int    // outcome → events, from the collector's answers
}

// everything is what "agree to all" grants; copy it before a change.
func everything() map[string]bool {
	return map[string]bool{"identity": true, "analytics": true, "personalization": true, "marketing": true, "advertising": true, "sale": true}
}

func only(purposes ...string) map[string]bool {
	choice := everything()
	for purpose := range choice {
		choice[purpose] = false
	}
	for _, purpose := range purposes {
		choice[purpose] = true
	}
	return choice
}

// person is what the demo says of a visitor, and the script.
type person struct {
	name   string
	agrees string
	does   string
	script func(ctx context.Context, d *demo, v *visitor) error
}

// people are the demo's visitors. The e-mail addresses and phone numbers are
// its canaries: they may be in no file afterwards.
func people() []person {
	return []person{
		{"Anna", "everything", "pricing and chat on a laptop, signs in there and on a phone", func(ctx context.Context, d *demo, v *visitor) error {
			v.consent = everything()
			phone := d.device(v)
			phone.consent = everything()
			return inOrder(
				v.page(ctx, "/"), v.page(ctx, "/pricing"), v.track(ctx, "Live Chat Started", nil),
				v.identify(ctx, "u-anna", map[string]any{"email": "anna.canary@example.com", "name": "Anna Canary", "phone": "+31612345001"}),
				phone.identify(ctx, "u-anna", map[string]any{"email": "anna.canary@example.com"}),
				phone.page(ctx, "/shoes"),
			)
		}},
		{"Bram", "all but marketing", "pricing and chat", func(ctx context.Context, _ *demo, v *visitor) error {
			v.consent = everything()
			v.consent["marketing"] = false
			return inOrder(
				v.page(ctx, "/pricing"), v.track(ctx, "Live Chat Started", nil),
				v.identify(ctx, "u-bram", map[string]any{"email": "bram.canary@example.com"}),
			)
		}},
		{"Chloé", "nothing (refused)", "pricing, chat, types an address", func(ctx context.Context, _ *demo, v *visitor) error {
			v.consent = only()
			return inOrder(
				v.page(ctx, "/pricing"), v.track(ctx, "Live Chat Started", nil),
				v.identify(ctx, "", map[string]any{"email": "chloe.canary@example.com"}),
			)
		}},
		{"Daan", "all, but his browser sends GPC", "clicks an ad, pricing and chat", func(ctx context.Context, _ *demo, v *visitor) error {
			v.consent = everything()
			v.headers = map[string]string{"Sec-GPC": "1"}
			return inOrder(
				v.track(ctx, "Ad Clicked", nil), v.page(ctx, "/pricing"), v.track(ctx, "Live Chat Started", nil),
				v.identify(ctx, "u-daan", map[string]any{"email": "daan.canary@example.com"}),
			)
		}},
		{"Emma", "no answer yet; then everything", "looks around, agrees, pricing and chat", func(ctx context.Context, _ *demo, v *visitor) error {
			return inOrder(
				v.page(ctx, "/"), v.page(ctx, "/pricing"),
				v.choose(ctx, everything()),
				v.page(ctx, "/pricing"), v.track(ctx, "Live Chat Started", nil),
				v.identify(ctx, "u-emma", map[string]any{"email": "emma.canary@example.com"}),
			)
		}},
		{"Femke", "analytics only", "comes by a link with her address in it", func(ctx context.Context, _ *demo, v *visitor) error {
			v.consent = only("analytics")
			return inOrder(
				v.page(ctx, "/pricing?email=femke.canary%40example.com&utm_source=newsletter"),
				v.track(ctx, "Searched", map[string]any{"query": "order of femke.canary@example.com, call +31612345006", "email": "femke.canary@example.com"}),
			)
		}},
		{"Gijs", "everything", "his app repeats an event and sends a broken one", func(ctx context.Context, _ *demo, v *visitor) error {
			v.consent = everything()
			again := v.event("track", map[string]any{"event": "Searched", "properties": map[string]any{"query": "gijs.canary@example.com"}})
			return inOrder(
				v.send(ctx, "/v1/track", again), v.send(ctx, "/v1/track", again),
				v.send(ctx, "/v1/track", v.event("track", map[string]any{"properties": map[string]any{"email": "gijs.canary@example.com"}})),
			)
		}},
		{"Hugo", "everything", "pricing, no chat", func(ctx context.Context, _ *demo, v *visitor) error {
			v.consent = everything()
			return inOrder(v.page(ctx, "/pricing"), v.page(ctx, "/contact"))
		}},
	}
}

// canaries are the values that the scripts use and that nobody may find.
func canaries() []string {
	return []string{
		"anna.canary@example.com", "Anna Canary", "+31612345001", "bram.canary@example.com", "chloe.canary@example.com",
		"daan.canary@example.com", "emma.canary@example.com", "femke.canary@example.com", "+31612345006", "gijs.canary@example.com",
		"u-anna", "u-bram", "u-daan", "u-emma",
	}
}

// step is one request of a script.
type step func() error

func inOrder(steps ...step) error {
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

func newVisitor(url, writeKey string) (*visitor, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &visitor{
		client: &http.Client{Jar: jar, Timeout: 10 * time.Second}, url: url, writeKey: writeKey,
		anonymous: uuid.NewString(), tally: make(map[string]int),
	}, nil
}

func (v *visitor) event(typ string, fields map[string]any) map[string]any {
	e := map[string]any{"type": typ, "anonymousId": v.anonymous, "messageId": uuid.NewString(), "context": map[string]any{}}
	if v.consent != nil {
		e["context"] = map[string]any{"consent": map[string]any{"categoryPreferences": maps.Clone(v.consent)}}
	}
	if v.user != "" {
		e["userId"] = v.user
	}
	maps.Copy(e, fields)
	return e
}

func (v *visitor) page(ctx context.Context, path string) step {
	return func() error {
		return v.send(ctx, "/v1/page", v.event("page", map[string]any{"properties": map[string]any{"url": "https://shop.example" + path, "title": "Shop"}}))()
	}
}

func (v *visitor) track(ctx context.Context, name string, properties map[string]any) step {
	return func() error {
		return v.send(ctx, "/v1/track", v.event("track", map[string]any{"event": name, "properties": properties}))()
	}
}

func (v *visitor) identify(ctx context.Context, user string, traits map[string]any) step {
	return func() error {
		v.user = user
		return v.send(ctx, "/v1/identify", v.event("identify", map[string]any{"traits": traits}))()
	}
}

// choose tells the collector of a choice; its cookie speaks from then on.
func (v *visitor) choose(ctx context.Context, purposes map[string]bool) step {
	return func() error {
		body := map[string]any{"anonymousId": v.anonymous, "purposes": purposes}
		if v.user != "" {
			body["userId"] = v.user
		}
		_, err := v.post(ctx, "/v1/consent", body)
		return err
	}
}

func (v *visitor) send(ctx context.Context, path string, event map[string]any) step {
	return func() error {
		answer, err := v.post(ctx, path, event)
		if err != nil {
			return err
		}
		outcome := "landed"
		if len(answer.NotLanded) > 0 {
			outcome = answer.NotLanded[0].Outcome
		}
		v.tally[outcome]++
		return nil
	}
}

// answer is the collector's.
type answer struct {
	NotLanded []struct{ Outcome, Reason string }
	Message   string
}

func (v *visitor) post(ctx context.Context, path string, body map[string]any) (answer, error) {
	var a answer
	text, err := json.Marshal(body)
	if err != nil {
		return a, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.url+path, bytes.NewReader(text))
	if err != nil {
		return a, err
	}
	r.SetBasicAuth(v.writeKey, "")
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")
	for name, value := range v.headers {
		r.Header.Set(name, value)
	}
	response, err := v.client.Do(r)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(reply, &a); err != nil {
		return a, fmt.Errorf("the collector's answer is not JSON: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return a, fmt.Errorf("the collector answered %d: %s", response.StatusCode, a.Message)
	}
	return a, nil
}
