package snippet

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"strconv"
	"strings"
	"time"
)

// Tag is what one site's pages have to contain.
type Tag struct {
	// Collector is where the collector is reached by browsers, with its path prefix
	// if it has one: https://shop.example/x.
	Collector string
	WriteKey  string
	Identity  string        // cookie, client or none, as the source in sluis.yaml
	MaxAge    time.Duration // of a choice
	Global    string        // the name of the object with the calls; empty means sluis
}

func (t Tag) at(name string) string { return strings.TrimSuffix(t.Collector, "/") + "/" + name }

// Script loads the script, wherever in the page.
func (t Tag) Script() string {
	current := Current()
	return `<script async src="` + html.EscapeString(t.at(current.Name)) + `" integrity="` + current.Integrity + `" crossorigin="anonymous"` +
		attribute("write-key", t.WriteKey) + attribute("identity", t.Identity) + attribute("max-age", strconv.FormatFloat(t.MaxAge.Hours()/24, 'g', 6, 64)) + t.global() + `></script>`
}

// InlineStub is the stub inside of the page; it stands before the first call.
// Where a policy forbids that, StubSource or a nonce in the tag allows it.
func (t Tag) InlineStub() string {
	return `<script` + t.global() + `>` + string(inlineStub()) + `</script>`
}

// ExternalStub is the stub as a file, for pages without inline scripts.
func (t Tag) ExternalStub() string {
	stub := Stub()
	return `<script src="` + html.EscapeString(t.at(stub.Name)) + `" integrity="` + stub.Integrity + `" crossorigin="anonymous"` + t.global() + `></script>`
}

// Policy is what the site's Content-Security-Policy has to allow, with the stub
// inside of the page or as a file.
func (t Tag) Policy(inline bool) string {
	stub := t.at(Stub().Name)
	if inline {
		stub = StubSource()
	}
	return "script-src " + stub + " " + t.at(Current().Name) + "; connect-src " + t.at("v1/")
}

// StubSource is the inline stub as a source of a Content-Security-Policy.
func StubSource() string {
	sum := sha256.Sum256(inlineStub())
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func inlineStub() []byte { return bytes.TrimSpace(Stub().Body) }

func (t Tag) global() string {
	if t.Global == "" || t.Global == "sluis" {
		return ""
	}
	return attribute("global", t.Global)
}

func attribute(name, value string) string {
	return ` data-` + name + `="` + html.EscapeString(value) + `"`
}
