// Package cmp reads what consent management platforms keep on a device, by the
// name of the cookie that has it, and the parameters of Google Consent Mode v2.
// Where a platform keeps it in localStorage alone, its value under that name is
// read too.
//
// A reader is strict: what is not of the form that the platform writes is
// unreadable as a whole. It looks at no more than [MaxLength] bytes and
// [MaxCategories] categories, so its time and memory are bounded.
//
// What a category means for a purpose of the workspace is for package consent to
// say. Nothing here is proof of consent: a page, or a person, can write any of it.
package cmp

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// MaxLength is the longest value, in bytes, that is looked at.
	MaxLength = 8 << 10
	// MaxCategories is the largest number of categories that is looked at.
	MaxCategories = 256
)

// Choice is what a platform says. The zero Choice says nothing.
type Choice struct {
	Platform string // "onetrust"
	// Categories are the platform's own: groups, purposes or services, with
	// whether each is granted.
	Categories map[string]bool
	// OnlyGrants tells that the platform writes down what was granted alone, so
	// that what is not in Categories was refused.
	OnlyGrants bool
	// Made is how the choice came about. A denial in Categories stands whatever it
	// is; a grant counts as consent only if it is [Explicit], or where refusing is
	// up to the person.
	Made Made
	// At is when the choice was made; zero where the platform does not tell. (What
	// OneTrust's cookie has is when a page was opened last.)
	At time.Time
	// GPC tells that the platform saw the Global Privacy Control.
	GPC bool
	// Unreadable tells that the value is not of the platform's form. Nothing else
	// is then known.
	Unreadable bool
}

// Made is how a choice came about.
type Made uint8

// The ways.
const (
	NoChoice Made = iota // none yet: Categories are defaults
	Unneeded             // the platform thinks that none is needed where the person is
	Implied              // by going on, or the platform does not tell how
	Explicit             // by an act of the person
)

// String is "none", "unneeded", "implied" or "explicit".
func (m Made) String() string {
	return [...]string{"none", "unneeded", "implied", "explicit"}[min(m, Explicit)]
}

type reader struct {
	platform string
	read     func(value string, c *Choice) bool
}

// readers are by the name of the cookie, key of localStorage, or parameter.
var readers = map[string]reader{
	"OptanonConsent": {"onetrust", readOneTrust},
	"CookieConsent":  {"cookiebot", readCookiebot},
	"didomi_token":   {"didomi", readDidomi},
	"klaro":          {"klaro", readFlags},
	"uc_settings":    {"usercentrics", readUsercentrics2},
	"ucData":         {"usercentrics", readUsercentrics3},
	"cc_cookie":      {"vanilla-cookieconsent", readVanilla},
	"cf_consent":     {"zaraz", readFlags},
	"gcs":            {"google", readGCS},
	"gcd":            {"google", readGCD},
}

// Names are the names that [Parse] knows, sorted.
func Names() []string {
	names := make([]string, 0, len(readers))
	for name := range readers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Parse reads the value of a cookie, as it is in the Cookie header. known is
// false if it is of no platform.
func Parse(name, value string) (c Choice, known bool) {
	r, known := readers[name]
	if !known {
		return Choice{}, false
	}
	c.Platform = r.platform
	if len(value) > MaxLength || !r.read(value, &c) || len(c.Categories) > MaxCategories {
		return Choice{Platform: r.platform, Unreadable: true}, true
	}
	return c, true
}

// set notes a category. The stricter of two entries of one name holds. It is
// false once there are too many.
func (c *Choice) set(category string, granted bool) bool {
	if c.Categories == nil {
		c.Categories = make(map[string]bool)
	}
	if before, twice := c.Categories[category]; !twice || before {
		c.Categories[category] = granted
	}
	return category != "" && len(c.Categories) <= MaxCategories
}

// readOneTrust reads parameters such as
//
//	interactionCount=1&groups=C0001%3A1%2CC0002%3A0&AwaitingReconsent=false
func readOneTrust(value string, c *Choice) bool {
	field := make(map[string]string)
	for pair := range strings.SplitSeq(value, "&") {
		name, text, ok := strings.Cut(pair, "=")
		text, err := url.QueryUnescape(text)
		if !ok || err != nil {
			return false
		}
		switch name {
		case "groups", "interactionCount", "landingPath", "AwaitingReconsent", "isGpcEnabled", "browserGpcFlag":
			if _, twice := field[name]; twice {
				return false
			}
			field[name] = text
		}
	}
	groups, ok := field["groups"]
	if !ok {
		return false
	}
	for group := range strings.SplitSeq(groups, ",") {
		if groups == "" || group == "" {
			continue // no groups, or a comma at the end
		}
		name, flag, _ := strings.Cut(group, ":")
		if flag != "0" && flag != "1" || !c.set(name, flag == "1") {
			return false
		}
	}
	c.Made = oneTrustMade(field)
	c.GPC = field["isGpcEnabled"] == "1" || field["browserGpcFlag"] == "1"
	return true
}

// oneTrustMade tells whether the banner was answered. Older versions do not
// count interactions, and have "NotLandingPage" once there was one.
func oneTrustMade(field map[string]string) Made {
	count, counted := field["interactionCount"]
	switch {
	case field["AwaitingReconsent"] == "true":
		return NoChoice
	case counted && (count == "" || strings.Trim(count, "0") == "" || strings.Trim(count, "0123456789") != ""):
		return NoChoice
	case !counted && field["landingPath"] != "NotLandingPage":
		return NoChoice
	}
	return Explicit
}
