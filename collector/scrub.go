package collector

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sluis-cdp/sluis/collector/jsontree"
	"github.com/sluis-cdp/sluis/collector/personal"
)

// Bounds of what lands of one event's free fields. What exceeds them is cut
// off and noted as a violation.
const (
	maxDepth  = 16
	maxFields = 512
	maxText   = 8 << 10
)

// scrub fills the free columns of the row with what may land in clear. A
// field that the plan declares clear, or that it does not name and whose name
// does not look personal, lands after the detectors have masked what looks
// personal in its keys and values; everything else is left out and noted.
func (c *Collector) scrub(e *Event) verdict {
	c.flagUnknown(e)
	e.row.Event = c.text(e, "event", e.eventName(), e.words)
	c.scrubPage(e)
	switch e.typ {
	case "page":
		e.row.Properties = c.named(e, pageKeys)
	case "screen":
		e.row.Properties = c.named(e, nil)
	default:
		e.row.Properties = c.object(e, "properties", e.properties)
	}
	switch e.typ {
	case "identify":
		e.row.Traits = c.object(e, "traits", e.people)
	case "group":
		e.row.Traits = c.object(e, "traits", e.traits)
	}
	e.row.Context = c.landingContext(e)
	return verdict{}
}

// text masks the value of a column, which may have these of the event's words.
func (c *Collector) text(e *Event, path, value string, words []string) string {
	if value == "" {
		return ""
	}
	masked, did := c.mask("", value, words)
	e.report(path, did)
	return masked
}

// report notes what mask did to a place of the event: of which kind it was, never
// what.
func (e *Event) report(path string, did []string) {
	for _, what := range did {
		e.masked = e.masked || what != cut
		e.violate("%s: %s", path, what)
	}
}

// maskedSuffix is what mask says of a kind.
const maskedSuffix = " masked"

// identifier is what a word that the event itself has for its person is masked as.
const identifier personal.Kind = "identifier"

// cut is what mask says of a text that was too long.
var cut = fmt.Sprintf("cut at %d bytes", maxText)

// mask replaces what looks personal, and the words, and says what it did. The
// key is the name of the field that has the value, if any. It looks at all of a
// text before it cuts it, or the cut could go through what it is to find.
func (c *Collector) mask(key, value string, words []string) (masked string, did []string) {
	found := c.detector.Find(key, value)
	if more := wordsIn(value, words); len(more) > 0 {
		found = personal.Join(append(found, more...))
	}
	masked, kinds := personal.Replace(value, found)
	if len(masked) > maxText {
		masked = strings.ToValidUTF8(masked[:maxText], "")
		did = append(did, cut)
	}
	for _, kind := range kinds {
		did = append(did, string(kind)+maskedSuffix)
	}
	return masked, did
}

// gather finds out what the event itself says of the person: what is to be
// sealed, and the words that are to be masked wherever else they are.
func (c *Collector) gather(e *Event) verdict {
	e.people = traitsOf(e)
	c.personalTraits(e)
	e.words = ownWords(e)
	return verdict{}
}

// minWord: shorter words are found by chance in anything.
const minWord = 4

// ownWords are what the event itself says of the person: ids, and the values
// that are sealed. They turn up again in paths, titles and other fields.
func ownWords(e *Event) []string {
	words := make([]string, 0, 3+len(e.personal))
	add := func(word string) {
		if len(word) >= minWord && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	previous, _ := scalar(e.previousID)
	for _, id := range []string{e.user, e.anonymous, previous} {
		add(fold(id))
	}
	for _, p := range e.personal {
		add(fold(p.value))
	}
	for _, word := range words {
		add(strings.ReplaceAll(word, " ", "+")) // as in a query
	}
	return words
}

// fold makes equal what differs by the case of its letters alone. Some letters
// have no way back from their other case.
func fold(text string) string {
	if isASCII(text) {
		return strings.ToLower(text)
	}
	return strings.ToLower(strings.ToUpper(text))
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// wordsIn finds words, which are folded, where they stand by themselves. Of text
// in which they are percent-encoded it is the whole.
func wordsIn(text string, words []string) (found []personal.Finding) {
	found = wordsAsTheyAre(text, words)
	if len(words) == 0 || strings.IndexByte(text, '%') < 0 {
		return found
	}
	for decoded := range personal.Decodings(text) {
		if len(wordsAsTheyAre(decoded, words)) > 0 {
			return []personal.Finding{{Start: 0, End: len(text), Kind: identifier}}
		}
	}
	return found
}

// wordsAsTheyAre is wordsIn but for what is encoded. Of text whose letters are of
// another length when folded, so that the places differ, it is the whole.
func wordsAsTheyAre(text string, words []string) (found []personal.Finding) {
	if len(words) == 0 || len(text) < minWord {
		return nil
	}
	folded := fold(text)
	for _, word := range words {
		for at := 0; ; {
			i := strings.Index(folded[at:], word)
			if i < 0 {
				break
			}
			start, end := at+i, at+i+len(word)
			if (start > 0 && isAlnum(folded[start-1])) || (end < len(folded) && isAlnum(folded[end])) {
				at = start + 1
				continue
			}
			found = append(found, personal.Finding{Start: start, End: end, Kind: identifier})
			at = end
		}
	}
	if len(found) > 0 && !foldsInPlace(text) {
		return []personal.Finding{{Start: 0, End: len(text), Kind: identifier}}
	}
	return personal.Join(found)
}

func isAlnum(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }

func foldsInPlace(text string) bool {
	if isASCII(text) {
		return true
	}
	for _, r := range text {
		if r == utf8.RuneError || len(fold(string(r))) != utf8.RuneLen(r) {
			return false
		}
	}
	return true
}

// withoutWords masks the event's own words in what is taken apart afterwards:
// each part of a word would not be one.
func (e *Event) withoutWords(path, text string, words []string) string {
	masked, kinds := personal.Replace(text, wordsAsTheyAre(text, words))
	if len(kinds) > 0 {
		e.report(path, []string{string(identifier) + maskedSuffix})
	}
	return masked
}

// pageKeys are the fields of a page that have columns of their own. Their raw
// form, with query strings, lands nowhere.
var pageKeys = []string{"url", "path", "referrer", "referring_domain", "search", "title", "initial_referrer", "initial_referring_domain", "hash"}

// pageText collects what the message says of the page, from context.page or the
// properties of a page event.
func (e *Event) pageText() func(key string) string {
	page := e.page
	return func(key string) string {
		if e.typ == "page" {
			if text := e.properties.Get(key).String(); text != "" {
				return text
			}
		}
		return page.Get(key).String()
	}
}

// pageWords are the event's words if any can be in what it says of the page.
func (e *Event) pageWords() []string {
	for _, part := range []jsontree.Value{e.page, e.campaign} {
		if words := e.wordsOf(part); words != nil {
			return words
		}
	}
	if e.typ == "page" {
		return e.wordsOf(e.properties)
	}
	return nil
}

func (c *Collector) scrubPage(e *Event) {
	page, words := e.pageText(), e.pageWords()
	e.row.PageTitle = c.text(e, "page.title", page("title"), words)
	e.row.PagePath = c.path(e, page("path"), words)
	if referrer, err := url.Parse(e.withoutWords("page.referrer", page("referrer"), words)); err == nil {
		e.row.ReferrerHost = c.text(e, "page.referrer", referrer.Hostname(), words)
	}
	address, err := url.Parse(e.withoutWords("page.url", page("url"), words))
	if err != nil || address.Host == "" {
		address = &url.URL{RawQuery: strings.TrimPrefix(page("search"), "?")}
	} else {
		path := c.path(e, address.Path, words)
		e.row.PageURL = c.text(e, "page.url", address.Scheme+"://"+address.Host, words) + path
		if e.row.PagePath == "" {
			e.row.PagePath = path
		}
		if path == "" && e.row.PagePath == "" {
			e.row.PagePath = "/"
		}
	}
	c.scrubCampaign(e, address.RawQuery, words)
	if address.RawQuery != "" {
		for _, f := range c.detector.Find("", "?"+address.RawQuery) {
			e.report("page.url", []string{string(f.Kind) + " in the query, left out"})
		}
	}
}

// path masks each segment of a URL's path; the query and fragment go.
func (c *Collector) path(e *Event, path string, words []string) string {
	path = e.withoutWords("page.path", path, words)
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if len(words) == 0 && len(path) <= maxText && personal.Plain(path) {
		return path // nor is there anything in a segment of it
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if decoded, err := url.PathUnescape(segment); err == nil {
			segment = decoded
		}
		segments[i] = c.text(e, "page.path", segment, words)
	}
	return strings.Join(segments, "/")
}

// clickIDs are the query parameters by which ad platforms mark a click. Only
// which of them was there is kept: their values are identifiers.
var clickIDs = []string{"gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid", "sccid", "rdt_cid"}

func (c *Collector) scrubCampaign(e *Event, query string, words []string) {
	campaign := e.campaign
	utm := []struct {
		parameter, key string
		value          *string
	}{
		{"utm_source", "source", &e.row.UTMSource},
		{"utm_medium", "medium", &e.row.UTMMedium},
		{"utm_campaign", "name", &e.row.UTMCampaign},
		{"utm_term", "term", &e.row.UTMTerm},
		{"utm_content", "content", &e.row.UTMContent},
	}
	for _, column := range utm {
		*column.value = campaign.Get(column.key).String()
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if err != nil || value == "" {
			continue
		}
		for _, column := range utm {
			if name == column.parameter {
				*column.value = value
			}
		}
		if e.row.ClickIDKind == "" && slices.Contains(clickIDs, name) {
			e.row.ClickIDKind = name
		}
	}
	for _, column := range utm {
		*column.value = c.text(e, column.parameter, *column.value, words)
	}
}
