package collector

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
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
	e.words = ownWords(e)
	c.flagUnknown(e)
	e.row.Event = c.text(e, "event", e.eventName())
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

// text masks the value of a column.
func (c *Collector) text(e *Event, path, value string) string {
	if value == "" {
		return ""
	}
	masked, kinds := c.mask(value, e.words)
	for _, kind := range kinds {
		e.violate("%s: %s", path, kind)
	}
	return masked
}

// cut is what mask says of a text that was too long.
var cut = fmt.Sprintf("cut at %d bytes", maxText)

// mask replaces what looks personal, and the words, and says what it did.
func (c *Collector) mask(value string, words []string) (masked string, did []string) {
	masked = value
	if len(value) > maxText {
		masked = strings.ToValidUTF8(value[:maxText], "")
		did = append(did, cut)
	}
	masked, kinds := c.detector.mask(masked)
	for _, kind := range kinds {
		did = append(did, kind+" masked")
	}
	masked, found := maskWords(masked, words)
	if found {
		did = append(did, "identifier masked")
	}
	return masked, did
}

// minWord: shorter words are found by chance in anything.
const minWord = 4

// ownWords are what the event itself says of the person: ids, and the values
// that are sealed. They turn up again in paths, titles and other fields.
func ownWords(e *Event) []string {
	words := make([]string, 0, 3+len(e.personal))
	add := func(word string) {
		if word = strings.ToLower(word); len(word) >= minWord && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	previous, _ := scalar(e.previousID)
	for _, id := range []string{e.user, e.anonymous, previous} {
		add(id)
	}
	for _, p := range e.personal {
		add(p.value)
	}
	return words
}

// maskWords replaces words, given in lower case, where they stand by themselves.
func maskWords(text string, words []string) (masked string, found bool) {
	if len(words) == 0 || len(text) < minWord {
		return text, false
	}
	lower := strings.ToLower(text)
	for _, word := range words {
		if !strings.Contains(lower, word) {
			continue
		}
		var replaced bool
		if text, replaced = maskWord(text, lower, word); replaced {
			lower, found = strings.ToLower(text), true
		}
	}
	return text, found
}

func maskWord(text, lower, word string) (masked string, found bool) {
	if len(lower) != len(text) { // letters whose length changes with their case: the places differ
		return "[identifier]", true
	}
	var b strings.Builder
	at := 0
	for {
		i := strings.Index(lower[at:], word)
		if i < 0 {
			break
		}
		start, end := at+i, at+i+len(word)
		alone := (start == 0 || !isAlnum(lower[start-1])) && (end == len(lower) || !isAlnum(lower[end]))
		b.WriteString(text[at:start])
		if alone {
			b.WriteString("[identifier]")
			found = true
		} else {
			b.WriteString(text[start:end])
		}
		at = end
	}
	b.WriteString(text[at:])
	return b.String(), found
}

// pageKeys are the fields of a page that have columns of their own. Their raw
// form, with query strings, lands nowhere.
var pageKeys = []string{"url", "path", "referrer", "referring_domain", "search", "title", "initial_referrer", "initial_referring_domain", "hash"}

// page collects what the message says of the page, from context.page or the
// properties of a page event.
func (e *Event) page() func(key string) string {
	page := e.inContext("page")
	return func(key string) string {
		if e.typ == "page" {
			if text := e.properties.Get(key).String(); text != "" {
				return text
			}
		}
		return page.Get(key).String()
	}
}

func (c *Collector) scrubPage(e *Event) {
	page := e.page()
	e.row.PageTitle = c.text(e, "page.title", page("title"))
	e.row.PagePath = c.path(e, page("path"))
	if referrer, err := url.Parse(page("referrer")); err == nil {
		e.row.ReferrerHost = c.text(e, "page.referrer", referrer.Hostname())
	}
	address, err := url.Parse(page("url"))
	if err != nil || address.Host == "" {
		address = &url.URL{RawQuery: strings.TrimPrefix(page("search"), "?")}
	} else {
		path := c.path(e, address.Path)
		e.row.PageURL = c.text(e, "page.url", address.Scheme+"://"+address.Host) + path
		if e.row.PagePath == "" {
			e.row.PagePath = path
		}
		if path == "" && e.row.PagePath == "" {
			e.row.PagePath = "/"
		}
	}
	c.scrubCampaign(e, address.RawQuery)
	if address.RawQuery != "" {
		if _, kinds := c.detector.mask(address.RawQuery); len(kinds) > 0 {
			e.violate("page.url: %s in the query, left out", strings.Join(kinds, ", "))
		}
	}
}

// path masks each segment of a URL's path; the query and fragment go.
func (c *Collector) path(e *Event, path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if signsOf(path) == 0 && len(path) <= maxText {
		if _, found := maskWords(path, e.words); !found {
			return path // nor is there anything in a segment of it
		}
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if decoded, err := url.PathUnescape(segment); err == nil {
			segment = decoded
		}
		segments[i] = c.text(e, "page.path", segment)
	}
	return strings.Join(segments, "/")
}

// clickIDs are the query parameters by which ad platforms mark a click. Only
// which of them was there is kept: their values are identifiers.
var clickIDs = []string{"gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid", "sccid", "rdt_cid"}

func (c *Collector) scrubCampaign(e *Event, query string) {
	campaign := e.inContext("campaign")
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
		*column.value = c.text(e, column.parameter, *column.value)
	}
}
