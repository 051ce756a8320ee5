package cmp

import (
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// maxValues bounds the memory that a document takes: before each of its names and
// values there is one of these characters.
const maxValues, separators = 768, "[{,:"

// document parses a value that is a JSON object, percent-encoded or not.
func document(value string) (jsontree.Value, bool) {
	if !strings.HasPrefix(value, "{") {
		text, err := url.PathUnescape(value)
		if err != nil {
			return jsontree.Value{}, false
		}
		value = text
	}
	n := 0
	for _, c := range []byte(value) {
		if strings.IndexByte(separators, c) >= 0 {
			n++
		}
	}
	var tree jsontree.Tree
	if n > maxValues || tree.Parse(value) != nil || tree.Root().Kind() != jsontree.Object {
		return jsontree.Value{}, false
	}
	return tree.Root(), true
}

func (c *Choice) setFlag(category string, v jsontree.Value) bool {
	return (v.Kind() == jsontree.True || v.Kind() == jsontree.False) && c.set(category, v.Kind() == jsontree.True)
}

// setAll notes an array of names.
func (c *Choice) setAll(names jsontree.Value, granted bool) bool {
	if names.Kind() == jsontree.Missing {
		return true
	}
	if names.Kind() != jsontree.Array {
		return false
	}
	for name := range names.Elements() {
		if name.Kind() != jsontree.String || !c.set(name.String(), granted) {
			return false
		}
	}
	return true
}

// readFlags reads {"service": true}: Klaro writes it when the person saves, and
// Zaraz does.
func readFlags(value string, c *Choice) bool {
	root, ok := document(value)
	if !ok {
		return false
	}
	for name, flag := range root.Members() {
		if !c.setFlag(name, flag) {
			return false
		}
	}
	if !root.Empty() {
		c.Made = Explicit
	}
	return true
}

// readDidomi reads base64 of {"purposes": {"enabled": […], "disabled": […]}}.
// Before a choice there are no purposes. Legitimate interests are not looked at.
func readDidomi(value string, c *Choice) bool {
	text, err := url.PathUnescape(value)
	if err != nil {
		return false
	}
	decoded, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(decoded) == 0 || decoded[0] != '{' {
		return false
	}
	root, ok := document(string(decoded))
	if !ok {
		return false
	}
	purposes := root.Get("purposes")
	if kind := purposes.Kind(); kind != jsontree.Missing && kind != jsontree.Object {
		return false
	}
	// What is in both is refused, since set keeps the stricter.
	if !c.setAll(purposes.Get("enabled"), true) || !c.setAll(purposes.Get("disabled"), false) {
		return false
	}
	if len(c.Categories) > 0 {
		c.Made = Explicit
	}
	return c.setAt(root, "updated", "created")
}

// setAt notes the first time that is there. One that cannot be read is false: it
// could be of a choice that is too old.
func (c *Choice) setAt(root jsontree.Value, names ...string) bool {
	for _, name := range names {
		v := root.Get(name)
		if v.IsNull() || v.Kind() == jsontree.String && v.String() == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, v.String())
		if err != nil {
			return false
		}
		c.At = at.UTC()
		return true
	}
	return true
}

// readVanilla reads {"categories": ["necessary"], "consentTimestamp": "…"}, and
// the forms of version 2, which has "consent_date" and earlier had "level". Single
// services below a category are not looked at.
func readVanilla(value string, c *Choice) bool {
	root, ok := document(value)
	if !ok {
		return false
	}
	names := root.Get("categories")
	if names.Kind() == jsontree.Missing {
		names = root.Get("level")
	}
	if names.Kind() != jsontree.Array || !c.setAll(names, true) {
		return false
	}
	c.OnlyGrants = true
	if root.Get("consentTimestamp").String() != "" || root.Get("consent_date").String() != "" {
		c.Made = Explicit
	}
	return c.setAt(root, "lastConsentTimestamp", "consentTimestamp", "last_consent_update", "consent_date")
}

// readUsercentrics2 reads what version 2 keeps in localStorage:
// {"services": [{"id": "…", "status": true, "history": [{"type": "explicit"}]}]}.
// An explicit entry for any service is a choice, since the banner asks for all.
func readUsercentrics2(value string, c *Choice) bool {
	root, ok := document(value)
	services := root.Get("services")
	if !ok || services.Kind() != jsontree.Array {
		return false
	}
	for service := range services.Elements() {
		id := service.Get("id")
		if id.Kind() != jsontree.String || !c.setFlag(id.String(), service.Get("status")) {
			return false
		}
		for entry := range service.Get("history").Elements() {
			if entry.Get("type").String() == "explicit" {
				c.Made = Explicit
			}
		}
	}
	return true
}

// readUsercentrics3 reads what version 3 keeps in localStorage:
// {"consent": {"services": {"id": {"consent": true}}}}. It does not tell how the
// consent came about.
func readUsercentrics3(value string, c *Choice) bool {
	root, ok := document(value)
	services := root.Get("consent").Get("services")
	if !ok || services.Kind() != jsontree.Object {
		return false
	}
	for id, service := range services.Members() {
		if !c.setFlag(id, service.Get("consent")) {
			return false
		}
	}
	if len(c.Categories) > 0 {
		c.Made = Implied
	}
	return true
}
