package collector

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
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
	e.row.Event = c.text(e, "event", e.eventName())
	c.scrubPage(e)
	e.row.Properties = c.object(e, "properties", withoutPage(e))
	if e.typ == "identify" || e.typ == "group" {
		traits, _ := e.raw["traits"].(map[string]any)
		e.row.Traits = c.object(e, "traits", traits)
	}
	e.row.Context = c.object(e, "context", allowedContext(e))
	return verdict{}
}

// eventName is what the column event shows: the name of a track or screen,
// the type of anything else.
func (e *Event) eventName() string {
	switch {
	case e.name != "":
		return e.name
	case e.typ == "screen":
		if name, _ := e.raw["name"].(string); name != "" {
			return name
		}
	}
	return e.typ
}

// text masks one string.
func (c *Collector) text(e *Event, path, value string) string {
	if len(value) > maxText {
		value = strings.ToValidUTF8(value[:maxText], "")
		e.violate("%s: cut at %d bytes", path, maxText)
	}
	masked, kinds := c.detector.mask(value)
	for _, word := range e.words {
		var found bool
		if masked, found = maskWord(masked, word); found {
			kinds = append(kinds, "identifier")
		}
	}
	for _, kind := range kinds {
		e.violate("%s: %s masked", path, kind)
	}
	return masked
}

// ownWords are what the event itself says of the person: ids, and the values
// that are sealed. They turn up again in paths, titles and other fields.
func ownWords(e *Event) []string {
	words := make([]string, 0, 3+len(e.personal))
	add := func(word string) {
		// Shorter ones are found by chance in anything.
		if word = strings.ToLower(word); len(word) >= 4 && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	for _, key := range []string{"userId", "anonymousId", "previousId"} {
		word, _ := scalar(e.raw[key])
		add(word)
	}
	for _, p := range e.personal {
		add(p.value)
	}
	return words
}

// maskWord replaces a word, given in lower case, where it stands by itself.
func maskWord(text, word string) (masked string, found bool) {
	lower := strings.ToLower(text)
	switch {
	case !strings.Contains(lower, word):
		return text, false
	case len(lower) != len(text): // letters whose length changes with their case: the places differ
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

// object scrubs a JSON object and encodes it; "" for an empty one.
func (c *Collector) object(e *Event, path string, object map[string]any) string {
	if len(object) == 0 {
		return ""
	}
	left := maxFields
	clean := c.scrubObject(e, path, object, 1, &left)
	if len(clean) == 0 {
		return ""
	}
	b, err := json.Marshal(clean)
	if err != nil { // cannot be: it was made of JSON
		e.violate("%s: cannot be encoded", path)
		return ""
	}
	return string(b)
}

func (c *Collector) scrubObject(e *Event, path string, object map[string]any, depth int, left *int) map[string]any {
	clean := make(map[string]any, len(object))
	for _, key := range sortedKeys(object) {
		name := c.text(e, path, key)
		at := path + "." + name
		own := depth == 1 && path == "traits" && e.typ == "identify" // seal has seen to these
		switch class := c.classOf(e, at, name, own); class {
		case Clear:
			if value, ok := c.scrubValue(e, at, object[key], depth, left); ok {
				clean[name] = value
			}
		case EmailAdr, PhoneNr, Name, Personal:
			if !own {
				e.violate("%s: left out, its name looks personal", at)
			}
		case Drop:
			e.violate("%s: left out", at)
		}
	}
	return clean
}

func (c *Collector) scrubValue(e *Event, path string, value any, depth int, left *int) (any, bool) {
	if *left--; *left < 0 || depth > maxDepth {
		e.violate("%s: too many fields or levels, cut off", rootOf(path))
		return nil, false
	}
	switch v := value.(type) {
	case string:
		return c.text(e, path, withoutQuery(v)), true
	case json.Number:
		if masked := c.text(e, path, v.String()); masked != v.String() {
			return masked, true
		}
		return v, true
	case map[string]any:
		return c.scrubObject(e, path, v, depth+1, left), true
	case []any:
		list := make([]any, 0, len(v))
		for _, element := range v {
			if clean, ok := c.scrubValue(e, path+"[]", element, depth+1, left); ok {
				list = append(list, clean)
			}
		}
		return list, true
	default: // bool, nil
		return v, true
	}
}

func rootOf(path string) string {
	root, _, _ := strings.Cut(path, ".")
	return root
}

// classOf is the plan's class for a path, else a judgement by the name.
// person tells whether the field is a trait of a person.
func (c *Collector) classOf(e *Event, path, key string, person bool) Class {
	if class, ok := e.req.source.Plan.class(e.planned, path); ok {
		return class
	}
	return classByName(key, person)
}

// Names that say what a field holds, in the spelling of squash.
var (
	emailNames    = []string{"email", "emailaddress", "mail", "useremail"}
	phoneNames    = []string{"phone", "phonenumber", "mobile", "mobilephone", "telephone", "cell"}
	personNames   = []string{"name", "firstname", "lastname", "fullname", "surname", "middlename", "displayname", "nickname", "username", "givenname", "familyname"}
	personalNames = []string{
		"firstname", "lastname", "fullname", "surname", "middlename", "givenname", "familyname", "username", "displayname", "nickname",
		"mail", "tel", "mobile", "cell", "dob", "birthday", "ssn", "bsn", "nino", "iban", "bic", "password", "passwd", "pwd", "secret",
		"token", "accesstoken", "refreshtoken", "apikey", "authorization", "cookie", "session", "sessionid", "card", "cardnumber",
		"creditcard", "cvv", "cvc", "pan", "ip", "ipaddress", "ipv4", "ipv6", "address", "street", "streetaddress", "housenumber",
		"postalcode", "postcode", "zip", "zipcode", "passport", "license", "licenseplate", "latitude", "longitude", "lat", "lng", "lon",
		"userid", "anonymousid", "customerid", "visitorid", "memberid", "clientid", "deviceid", "distinctid", "externalid", "previousid",
		"gender", "sex", "religion", "ethnicity", "avatar", "photo", "advertisingid", "idfa", "gaid", "imei", "mac", "macaddress",
	}
	personalParts = []string{"email", "phone", "password", "birth", "passport", "creditcard", "cardnumber", "socialsecurity", "firstname", "lastname", "fullname", "surname"}
)

// classByName judges a field that the plan does not name.
func classByName(key string, person bool) Class {
	name := squash(key)
	if person {
		switch {
		case slices.Contains(emailNames, name):
			return EmailAdr
		case slices.Contains(phoneNames, name):
			return PhoneNr
		case slices.Contains(personNames, name):
			return Name
		}
	}
	if slices.Contains(personalNames, name) {
		return Drop
	}
	for _, part := range personalParts {
		if strings.Contains(name, part) {
			return Drop
		}
	}
	return Clear
}

// squash drops what differs between first_name, firstName and First-Name.
func squash(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r == ' ' {
			return -1
		}
		return unicode.ToLower(r)
	}, key)
}

// snakeCase writes firstName as first_name.
func snakeCase(key string) string {
	var b strings.Builder
	for i, r := range key {
		switch {
		case r == '-' || r == ' ' || r == '.':
			r = '_'
		case unicode.IsUpper(r) && i > 0:
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// pageKeys are the fields of a page that have columns of their own. Their raw
// form, with query strings, lands nowhere.
var pageKeys = []string{"url", "path", "referrer", "referring_domain", "search", "title", "initial_referrer", "initial_referring_domain", "hash"}

// page collects what the message says of the page, from context.page or the
// properties of a page event.
func (e *Event) page() func(key string) string {
	object, _ := e.raw["context"].(map[string]any)
	page, _ := object["page"].(map[string]any)
	properties, _ := e.raw["properties"].(map[string]any)
	return func(key string) string {
		if e.typ == "page" {
			if text, ok := properties[key].(string); ok && text != "" {
				return text
			}
		}
		text, _ := page[key].(string)
		return text
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
	c.scrubCampaign(e, address.Query())
	if address.RawQuery != "" {
		if _, kinds := c.detector.mask(address.RawQuery); len(kinds) > 0 {
			e.violate("page.url: %s in the query, left out", strings.Join(kinds, ", "))
		}
	}
}

// path masks each segment of a URL's path; the query and fragment go.
func (c *Collector) path(e *Event, path string) string {
	path, _, _ = strings.Cut(path, "?")
	path, _, _ = strings.Cut(path, "#")
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

func (c *Collector) scrubCampaign(e *Event, query url.Values) {
	object, _ := e.raw["context"].(map[string]any)
	campaign, _ := object["campaign"].(map[string]any)
	value := func(parameter, key string) string {
		text := query.Get(parameter)
		if text == "" {
			text, _ = campaign[key].(string)
		}
		return c.text(e, parameter, text)
	}
	e.row.UTMSource = value("utm_source", "source")
	e.row.UTMMedium = value("utm_medium", "medium")
	e.row.UTMCampaign = value("utm_campaign", "name")
	e.row.UTMTerm = value("utm_term", "term")
	e.row.UTMContent = value("utm_content", "content")
	for _, id := range clickIDs {
		if query.Get(id) != "" {
			e.row.ClickIDKind = id
			return
		}
	}
}

// withoutPage is the event's properties but for those that have a column.
func withoutPage(e *Event) map[string]any {
	properties, _ := e.raw["properties"].(map[string]any)
	if e.typ != "page" {
		return properties
	}
	properties = maps.Clone(properties)
	for _, key := range pageKeys {
		delete(properties, key)
	}
	return properties
}

// contextKeys are the parts of context that land. SDKs repeat traits, page,
// address and device ids there, so that everything else is left out unsaid.
var contextKeys = map[string][]string{
	"library": {"name", "version"},
	"app":     {"name", "version", "build"},
	"os":      {"name", "version"},
	"screen":  {"width", "height", "density"},
	"network": {"wifi", "cellular"},
}

func allowedContext(e *Event) map[string]any {
	object, _ := e.raw["context"].(map[string]any)
	allowed := make(map[string]any)
	for _, key := range []string{"locale", "timezone"} {
		if text, ok := object[key].(string); ok {
			allowed[key] = text
		}
	}
	for group, keys := range contextKeys {
		part, _ := object[group].(map[string]any)
		kept := make(map[string]any)
		for _, key := range keys {
			if value, ok := part[key]; ok {
				kept[key] = value
			}
		}
		if len(kept) > 0 {
			allowed[group] = kept
		}
	}
	return allowed
}

// withoutQuery cuts query and fragment off a value that is an address.
func withoutQuery(value string) string {
	if !strings.HasPrefix(value, "http://") && !strings.HasPrefix(value, "https://") {
		return value
	}
	if i := strings.IndexAny(value, "?#"); i >= 0 {
		return value[:i]
	}
	return value
}

func sortedKeys(object map[string]any) []string {
	return slices.Sorted(maps.Keys(object))
}
