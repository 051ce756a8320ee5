package collector

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// FuzzHTTP sends a request of any method, path, headers and body. The answer is
// one of those that the API has, in JSON but for images and scripts; what was
// written is one record or none, it balances, and none was written for a request
// that was refused. Memory is a multiple of the body's bound.
func FuzzHTTP(f *testing.F) {
	const event = `{"anonymousId":"a","event":"X","type":"track","context":{"consent":{"categoryPreferences":{"analytics":true}}}}`
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(event))
	_ = z.Close()
	const key = "X-Write-Key: wk_web\n"
	f.Add("POST", "/v1/track", key+"Content-Type: application/json", []byte(event))
	f.Add("POST", "/v1/t", key+"Content-Encoding: gzip\nContent-Type: application/x-www-form-urlencoded", zipped.Bytes())
	f.Add("POST", "/v1/batch?writeKey=wk_web", "Content-Type: text/plain", []byte(`{"batch":[`+event+`,1,null,[],{"type":"nonsense"}],"context":{"consent":{}}}`))
	f.Add("POST", "/api/s/s2s/page", "X-Write-Key: wk_web:secret", []byte(event))
	f.Add("POST", "/v1/consent", key+"Origin: https://shop.example", []byte(`{"purposes":{"analytics":true},"email":"a@b.example"}`))
	f.Add("GET", "/pixel/v1/page?writeKey=wk_web&anonymousId=a&context.consent.categoryPreferences.analytics=true", "Cookie: sluis_id=x; sluis_consent=y", []byte{})
	f.Add("GET", "/sourceConfig", "Authorization: Basic d2tfd2ViOg==", []byte{})
	f.Add("OPTIONS", "/v1/batch", "Origin: https://shop.example\nAccess-Control-Request-Method: POST\nAccess-Control-Request-Headers: x", []byte{})
	f.Add("POST", "//v1/../v1/track/", "Authorization: Bearer wk_app\nSec-GPC: 1\nX-Region: NL\nUser-Agent: Googlebot", []byte(event))
	b := newBench(f, nil)
	f.Fuzz(func(t *testing.T, method, target, headers string, body []byte) {
		r, ok := requestOf(method, target, headers, body)
		if !ok {
			return
		}
		b.spool.records = nil
		w := httptest.NewRecorder()
		allocated := allocatedBy(func() { b.Handler().ServeHTTP(w, r) })
		if most := uint64(8<<20 + 200*len(body)); allocated > most {
			t.Errorf("%d bytes were allocated for %d", allocated, len(body))
		}
		if !slices.Contains([]int{200, 204, 304, 400, 401, 403, 404, 405, 429}, w.Code) {
			t.Errorf("status %d", w.Code)
		}
		if kind := w.Header().Get("Content-Type"); kind == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("the answer is no JSON: %q", w.Body)
		}
		if n := len(b.spool.records); n > 1 || n > 0 && w.Code != 200 {
			t.Errorf("%d records were written for an answer of %d", n, w.Code)
		}
		var received int
		for _, row := range b.spool.rows(t).Ledger {
			if row.Outcome == string(Received) {
				received += int(row.N)
			}
		}
		balance(t, b.spool.rows(t), int64(received))
	})
}

// requestOf is an HTTP request as a server would read it; ok is false for what
// net/http refuses before it comes here.
func requestOf(method, target, headers string, body []byte) (r *http.Request, ok bool) {
	u, err := url.ParseRequestURI(target)
	if err != nil || !strings.HasPrefix(target, "/") {
		return nil, false
	}
	r, err = http.NewRequest(method, "http://sluis.example", bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	r.URL, r.RequestURI, r.RemoteAddr = u, target, "192.0.2.1:1234"
	for line := range strings.SplitSeq(headers, "\n") {
		if name, value, found := strings.Cut(line, ":"); found {
			r.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	return r, true
}

// allocatedBy is how many bytes are allocated while something is done, by all
// goroutines; roughly, since small ones are counted late.
func allocatedBy(do func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	do()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// FuzzPixel reads any query as an event: an error, or JSON that has no more than
// the query.
func FuzzPixel(f *testing.F) {
	f.Add("anonymousId=a&event=X&properties.total=9&properties.total.currency=EUR&context.consent.categoryPreferences.analytics=true")
	f.Add("data=" + base64.URLEncoding.EncodeToString([]byte(`{"anonymousId":"a"}`)))
	f.Add("data=a b-_==&x=%zz&=1&.=2&...=3&a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r=4")
	f.Fuzz(func(t *testing.T, text string) {
		query, _ := url.ParseQuery(text) // as URL.Query does
		message, err := pixelMessage(query)
		if err != nil {
			return
		}
		var tree jsontree.Tree
		err = tree.Parse(message)
		if query.Get("data") == "" && (err != nil || tree.Root().Kind() != jsontree.Object) {
			t.Errorf("%q became %q", text, message)
		}
		if len(message) > 20*len(text)+2 {
			t.Errorf("%d bytes became %d", len(text), len(message))
		}
	})
}

// FuzzIdentityCookie: no cookie is believed that the collector has not signed,
// whatever was changed of one that it has.
func FuzzIdentityCookie(f *testing.F) {
	b := newBench(f, nil)
	now := b.Now()
	genuine := b.sealID("0b7c1f6e-6a31-4f0e-9a55-000000000000", now)
	f.Add(genuine)
	f.Add(strings.Replace(genuine, "0", "1", 1))
	f.Add(genuine + "=")
	f.Add(genuine[:len(genuine)-1] + "_") // the same in base64, or not
	f.Add("..")
	f.Fuzz(func(t *testing.T, value string) {
		id, ok := b.openID(value, now)
		if signed, _, _ := strings.Cut(genuine, "."); ok && id != signed {
			t.Errorf("%q is believed, for %q", value, id)
		}
	})
}

// FuzzWindowFile reads any bytes as a file of message ids, after a block that is
// whole: that block's ids are known, nothing is taken for a block that was not
// written as one, and writing goes on.
func FuzzWindowFile(f *testing.F) {
	const id = "0011223344556677"
	block := appendBlock(nil, id, 7, []messageKey{key(1), key(2)})
	f.Add(block)
	f.Add(block[:len(block)-1])
	f.Add(appendBlock(nil, "another", 1<<63, nil))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			last, keys, next, ok := parseBlock(rest, id)
			if !ok {
				break
			}
			size := len(rest) - len(next)
			if mine := string(rest[:8]) == string(spoolDigest(id)); mine && !bytes.Equal(appendBlock(nil, id, last, keys), rest[:size]) {
				t.Fatal("a block is read that is not what was written")
			}
			rest = next
		}
		w := NewWindow(100)
		w.dir = t.TempDir()
		if err := os.WriteFile(w.path(1), append(bytes.Clone(block), b...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.read(1, id); err != nil {
			t.Fatal(err)
		}
		if !w.has(key(1)) || !w.has(key(2)) || w.covered < 7 {
			t.Error("what is whole is not read")
		}
		if err := w.save(id, w.covered+1, []messageKey{key(3)}); err != nil && w.covered < 1<<63 {
			t.Fatal(err)
		}
		again := NewWindow(100)
		again.dir = w.dir
		files, err := filepath.Glob(filepath.Join(w.dir, "*.ids"))
		if err != nil {
			t.Fatal(err)
		}
		for n := range files {
			if err := again.read(uint64(n+1), id); err != nil {
				t.Fatal(err)
			}
		}
		if !again.has(key(3)) || !reflect.DeepEqual(again.younger, w.with(key(3))) {
			t.Error("what was written behind it is not read")
		}
	})
}

// with is what the window has in memory, and a key.
func (w *Window) with(k messageKey) map[messageKey]struct{} {
	w.add([]messageKey{k})
	return w.younger
}

// FuzzScrub makes an event that says who the person is, with what the fuzzer
// gives in the middle of the id, and repeats all of it at random places of the
// event, as values and names, in any nesting, in several spellings and between any
// other text. No byte of it is in what is written, but sealed.
func FuzzScrub(f *testing.F) {
	for seed, texts := range [][3]string{
		{"", "", ""},
		{"-7/8@x.example y", "see ", " now"},
		{"İK", "é", "ß"},
		{"\u202e\u0000\"\\", "%", "%zz"},
		{"1234567", "+31 ", ".I"},
		{" 612 ", "http://x.example/?", "#"},
		{"👩‍👩‍👧", strings.Repeat("long ", 1700), "."},
	} {
		f.Add(uint64(seed), texts[0], texts[1], texts[2])
	}
	b := newBench(f, nil)
	f.Fuzz(func(t *testing.T, seed uint64, middle, before, after string) {
		if len(before)+len(after)+len(middle) <= 10_000 && !strings.Contains(strings.ToLower(before+after+middle), "canary") {
			b.scrubs(t, newDossier(seed, middle, before, after))
		}
	})
}

// scrubs tells whether an event was taken, and fails if a byte of the person's
// data was written.
func (b *bench) scrubs(t *testing.T, g *dossier) bool {
	t.Helper()
	b.spool.records = nil
	body := g.event()
	status, answer := b.post(t, "/v1/batch", `{"batch":[`+body+`]}`, "X-Write-Key", "wk_web")
	for _, record := range b.spool.records {
		if i := bytes.Index(bytes.ToLower(record), []byte("canary")); i >= 0 {
			t.Errorf("%v: written: %q\nof %q", answer, record[max(0, i-60):min(len(record), i+60)], body)
		}
	}
	return status == 200 && answer["notLanded"] == nil
}

// TestScrubAtRandom is FuzzScrub with texts of its own: of signs that mean
// something to a detector, a URL or JSON, and of letters that are odd.
func TestScrubAtRandom(t *testing.T) {
	const events = 300
	b := newBench(t, nil)
	landed := 0
	for seed := range uint64(events) {
		random := rand.New(rand.NewPCG(seed, 2))
		odd := []rune("aZ09 @.:/?&=#%+-_,;()[]{}<>\"'\\\u0000\n\t\u200b\u202e\ufffdéßİıſςΣKÅȺΩ－＠。中👩\u200d")
		text := func() string {
			runes := make([]rune, random.IntN(12))
			for i := range runes {
				runes[i] = odd[random.IntN(len(odd))]
			}
			return string(runes)
		}
		if b.scrubs(t, newDossier(seed, text(), text(), text())) {
			landed++
		}
	}
	if landed < events/2 {
		t.Errorf("only %d of %d events landed: the test tests little", landed, events)
	}
}

// TestMaskWords masks what an event says of its person, where it stands by itself.
func TestMaskWords(t *testing.T) {
	b := newBench(t, nil)
	for _, test := range []struct{ word, text, want string }{
		{"jane-doe", "see Jane-Doe.", "see [identifier]."},
		{"jane-doe", "mary-jane-doe, xjane-doe", "mary-[identifier], xjane-doe"},
		{"ab ab", "xab ab ab", "xab [identifier]"},
		{"u/17/x", "/account/u%2F17%2fX", "[identifier]"},
		{"u/17/x", "%2525 u%252F17%252Fx", "[identifier]"},
		{"Jane Doe", "q=jane+doe", "q=[identifier]"},
		{"Straße", "STRAẞE 1", "[identifier]"},
		{"jane@x.example y", "to jane@x.example y", "to [identifier]"},
		{"nobody", "jane@example.com.I know", "[email].I know"},
		{"jane doe", strings.Repeat("-", maxText-4) + "jane doe", strings.Repeat("-", maxText-4) + "[ide"},
	} {
		e := &Event{user: test.word}
		if got, _ := b.mask("", test.text, ownWords(e)); got != test.want {
			t.Errorf("%s in %.30q: %q, want %q", test.word, test.text, got[max(0, len(got)-60):], test.want)
		}
	}
}

// dossier makes events that are full of one person's data.
type dossier struct {
	*rand.Rand
	user, before, after string
	left                int // places
}

func newDossier(seed uint64, middle, before, after string) *dossier {
	return &dossier{rand.New(rand.NewPCG(seed, 1)), "canary" + middle + "canary", before, after, 40}
}

// mention is a text with a part of the person's data, by itself between signs
// that are no letters.
func (g *dossier) mention() string {
	text := []string{g.user, "canary.bird@example.com", "Canary Bird", "visitor/canary"}[g.IntN(4)]
	switch g.IntN(5) {
	case 0:
		text = strings.ToUpper(text)
	case 1:
		text = strings.ToLower(text)
	}
	signs := []string{" ", "/", ":", ", ", "(", "\n", "\u200b", "…", `"`, "\t"}
	text = signs[g.IntN(len(signs))] + text + signs[g.IntN(len(signs))]
	if g.IntN(2) == 0 {
		text = g.before + text + g.after
	}
	if g.IntN(4) == 0 {
		text = url.QueryEscape(text)
	}
	return text
}

// text is JSON of a text, with some letters escaped that need not be.
func (g *dossier) text(s string) string {
	plain, _ := json.Marshal(s)
	if g.IntN(3) > 0 {
		return string(plain)
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, unit := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, `\u%04x`, unit)
	}
	b.WriteByte('"')
	return b.String()
}

func (g *dossier) value(depth int) string {
	if g.left--; g.left < 0 {
		return "null"
	}
	switch n := g.IntN(8); {
	case n < 2 && depth < 20:
		return g.object(depth + 1)
	case n < 3 && depth < 20:
		parts := make([]string, g.IntN(4))
		for i := range parts {
			parts[i] = g.value(depth + 1)
		}
		return "[" + strings.Join(parts, ",") + "]"
	default:
		return g.text(g.mention())
	}
}

func (g *dossier) object(depth int) string {
	members := make([]string, g.IntN(5))
	for i := range members {
		name := []string{"title", "plan", "note", "a"}[g.IntN(4)]
		if g.IntN(3) == 0 {
			name = g.mention()
		}
		members[i] = g.text(name) + ":" + g.value(depth)
	}
	return "{" + strings.Join(members, ",") + "}"
}

// event is a message whose every field mentions the person.
func (g *dossier) event() string {
	page := make([]string, 0, len(pageKeys))
	for _, name := range pageKeys {
		page = append(page, g.text(name)+":"+g.text([]string{"", "https://shop.example", "/"}[g.IntN(3)]+g.mention()))
	}
	campaign := `{"source":` + g.text(g.mention()) + `,"name":` + g.text(g.mention()) + `}`
	members := []string{
		`"type":` + g.text(types[g.IntN(len(types))]), `"event":` + g.text(g.mention()), `"name":` + g.text(g.mention()),
		`"userId":` + g.text(g.user), `"anonymousId":"visitor/canary"`, `"previousId":"visitor/canary"`,
		`"properties":` + g.object(1),
		`"traits":{"email":"canary.bird@example.com","name":"Canary Bird","more":` + g.value(1) + `}`,
		`"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true}},"page":{` + strings.Join(page, ",") + `},
			"traits":{"email":"canary.bird@example.com","name":"Canary Bird"},"campaign":` + campaign + `,"locale":` + g.text(g.mention()) + `,
			"app":` + g.object(1) + `,"library":{"name":` + g.text(g.mention()) + `,"version":` + g.value(1) + `},"ip":` + g.text(g.mention()) + `}`,
	}
	if id := g.mention(); g.IntN(2) == 0 && len(id) <= 100 {
		members = append(members, `"messageId":`+g.text(id))
	}
	return "{" + strings.Join(members, ",") + "}"
}
