package cmp

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// readCookiebot reads -1 (no consent is needed in the person's region), 0 (all
// refused), or an object in JavaScript's notation, of booleans, numbers and
// strings without escapes:
//
//	{stamp:'…',necessary:true,statistics:false,method:'explicit',region:'nl'}
func readCookiebot(value string, c *Choice) bool {
	text, err := url.PathUnescape(value)
	switch {
	case err != nil:
		return false
	case text == "-1":
		c.Made = Unneeded
		return true
	case text == "0":
		c.Made, c.OnlyGrants = Explicit, true
		return true
	}
	text, ok := strings.CutPrefix(text, "{")
	if ok {
		text, ok = strings.CutSuffix(text, "}")
	}
	for ok && text != "" {
		var name, literal string
		name, literal, text, ok = cutMember(text)
		ok = ok && c.cookiebotMember(name, literal)
	}
	return ok && len(c.Categories) > 0
}

// cookiebotMember notes one member; literal is as it was written.
func (c *Choice) cookiebotMember(name, literal string) bool {
	switch name {
	case "necessary", "preferences", "statistics", "marketing":
		if _, twice := c.Categories[name]; twice || literal != "true" && literal != "false" {
			return false
		}
		return c.set(name, literal == "true")
	case "method":
		switch strings.Trim(literal, `'"`) {
		case "explicit":
			c.Made = Explicit
		case "implied":
			c.Made = Implied
		}
	case "utc":
		ms, err := strconv.ParseInt(strings.Trim(literal, `'"`), 10, 64)
		if err != nil || ms <= 0 {
			return false
		}
		c.At = time.UnixMilli(ms).UTC()
	}
	return true
}

// cutMember cuts name:literal from the front, and the comma behind it, of which
// there must be something behind.
func cutMember(text string) (name, literal, rest string, ok bool) {
	name, rest, ok = strings.Cut(text, ":")
	if name = strings.Trim(name, `"`); !ok || !plain(name, "") {
		return "", "", "", false
	}
	if quote := rest[:min(1, len(rest))]; quote == "'" || quote == `"` {
		end := strings.Index(rest[1:], quote) + 2
		if end < 2 || strings.Contains(rest[:end], `\`) {
			return "", "", "", false
		}
		literal, rest = rest[:end], rest[end:]
	} else {
		end := strings.IndexByte(rest, ',')
		if end < 0 {
			end = len(rest)
		}
		literal, rest = rest[:end], rest[end:]
		if !plain(literal, "-.") {
			return "", "", "", false
		}
	}
	if rest == "" {
		return name, literal, "", true
	}
	rest, ok = strings.CutPrefix(rest, ",")
	return name, literal, rest, ok && rest != ""
}

// plain tells whether there are letters, digits, underscores and the characters
// of more alone, and any.
func plain(text, more string) bool {
	for _, c := range []byte(text) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !digit(c) && c != '_' && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return text != ""
}
