package visitor

import (
	"hash/maphash"
	"slices"
	"strings"
)

// Agent is what is known of the program that an event comes from.
type Agent struct {
	// Device is its class: desktop, mobile, tablet or other.
	Device string
	// Bot is why it is taken for a program that no person looks at, such as
	// "crawler: googlebot"; empty if it is not. It is made of fixed texts: nothing
	// that a client wrote is in it.
	Bot string

	library bool // an HTTP library, which honest servers use too
}

// maxAgent is how much of a user agent is looked at. Real ones have some 150
// characters, those of apps up to 400.
const maxAgent = 512

// Agent judges what sends an event. own is the user agent that the event itself
// tells, or empty: it wins over the request's, which is that of the SDK where a
// server speaks of its visitors.
//
// An HTTP library is a bot only where it claims to be a page, or where the
// event says that a visitor used it: by itself it may be the SDK of a server.
func (o *Observer) Agent(v Visitor, own string) Agent {
	text := own
	if text == "" {
		text = v.UserAgent
	}
	a := o.known(text)
	if a.library && own == "" && !v.page {
		a.Bot = ""
	}
	if a.Bot == "" {
		a.Bot = v.headless
	}
	return a
}

// known classifies a user agent, or remembers it.
func (o *Observer) known(text string) Agent {
	if len(text) > maxAgent {
		text = text[:maxAgent]
	}
	key := maphash.String(o.seed, text)
	if a, ok := o.agents.Get(key); ok {
		return a
	}
	a := Agent{Device: deviceClass(strings.ToLower(text))}
	if found := o.crawlers.find(text); found != nil {
		a.Bot, a.library = found.reason, found.kind == Library
	}
	o.agents.Add(key, a)
	return a
}

// deviceClass judges a user agent in lower case.
func deviceClass(agent string) string {
	has := func(marks ...string) bool {
		return slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(agent, mark) })
	}
	switch {
	case has("ipad", "tablet") || has("android") && !has("mobile"):
		return "tablet"
	case has("iphone", "ipod", "mobile"):
		return "mobile"
	case has("windows nt", "macintosh", "x11", "cros"):
		return "desktop"
	default:
		return "other"
	}
}
