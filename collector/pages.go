package collector

import (
	"errors"
	"net/url"
	"strings"
	"time"
)

// maxPages bounds what a plan allows, since each page is one more cell in which
// few people can be.
const maxPages = 200

// pagePattern is a page that a tracking plan allows to be counted without
// consent: a path whose segments are texts or "*", which stands for any one; "**"
// at the end stands for any number of them.
type pagePattern struct {
	text     string
	segments []string
	open     bool // ends in "**"
}

func parsePage(text string) (p pagePattern, err error) {
	p.text = text
	switch {
	case !strings.HasPrefix(text, "/"):
		return p, errors.New("a page is a path, and begins with /")
	case strings.ContainsAny(text, "?#"):
		return p, errors.New("a page is a path: queries and fragments are never counted")
	case strings.Contains(text, "//"):
		return p, errors.New("a segment is empty")
	}
	p.segments = segmentsOf(text)
	if last := len(p.segments) - 1; last >= 0 && p.segments[last] == "**" {
		p.segments, p.open = p.segments[:last], true
	}
	for _, s := range p.segments {
		if strings.Contains(s, "*") && s != "*" {
			return p, errors.New("* stands for a whole segment, and ** for all that follow, at the end")
		}
	}
	return p, nil
}

// segmentsOf are the parts of a path. A slash at its end makes no difference.
func segmentsOf(path string) []string {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func (p *pagePattern) fits(segments []string) bool {
	if len(segments) < len(p.segments) || len(segments) > len(p.segments) && !p.open {
		return false
	}
	for i, s := range p.segments {
		if s != "*" && s != segments[i] {
			return false
		}
	}
	return true
}

// covers tells whether all that fits q fits p too.
func (p *pagePattern) covers(q pagePattern) bool {
	return (p.open || !q.open) && p.fits(q.segments)
}

// maxPath is how long a path may be to be looked at.
const maxPath = 2048

// pageOf is the first page of the plan that fits the event's; "" if none does.
// What it returns is a text of the plan: nothing of what was sent is in it.
func (p *TrackingPlan) pageOf(e *Event) string {
	if len(p.pages) == 0 {
		return ""
	}
	page := e.pageText()
	path := page("path")
	if path == "" {
		if address, err := url.Parse(page("url")); err == nil && address.Host != "" {
			path = "/" + strings.TrimPrefix(address.Path, "/")
		}
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if !strings.HasPrefix(path, "/") || len(path) > maxPath {
		return ""
	}
	segments := segmentsOf(path)
	for i := range p.pages {
		if p.pages[i].fits(segments) {
			return p.pages[i].text
		}
	}
	return ""
}

// counter is the row of counts that a refused event grows: all that is ever known
// of it. Each of its texts is one of the configuration or of the program; none was
// sent.
func (c *Collector) counter(e *Event) CountRow {
	row := CountRow{SourceID: e.req.source.ID, Hour: e.req.received.Truncate(time.Hour), Type: e.typ, N: 1, Page: e.req.source.Plan.pageOf(e)}
	if e.planned != nil { // a name that the plan does not have could be anything
		row.Event = e.planned.Name
	}
	agent := c.Visitors.Agent(e.req.visitor, e.userAgent.String())
	if row.DeviceClass = agent.Device; agent.Bot != "" {
		row.DeviceClass = "bot"
	}
	return row
}
