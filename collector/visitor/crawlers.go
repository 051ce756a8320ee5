package visitor

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
)

// The kinds of programs, as a reason begins with them.
const (
	AI       = "ai agent"
	Headless = "headless browser"
	Library  = "http library"
	Crawler  = "crawler"
	other    = "other" // one that is on no list
)

// rule finds one program in a user agent.
type rule struct {
	kind, reason string
	literal      string         // in every user agent that it finds
	pattern      *regexp.Regexp // what else must be so; nil for nothing
}

// crawlers finds the programs of the list. A list of 1,500 regular expressions
// takes milliseconds to try, which a client with a new user agent for each
// event could have us spend; so each is only tried where a text that it cannot
// do without is found.
type crawlers struct {
	byStart map[[indexed]byte][]*rule // by the first bytes of their literal
}

// indexed is how many bytes the literal of a rule has at least.
const indexed = 3

// crawlersTSV is made from the list crawler-user-agents (MIT licence, Copyright
// (c) 2017 Martin Monperrus) by make crawlers.
//
//go:embed crawlers.tsv
var crawlersTSV string

// What the list does not have is found by words, if it says of itself what it
// is. The marks are only looked for to save the time of the expressions.
var (
	unlisted        = &rule{kind: Crawler, reason: Crawler + ": " + other}
	unlistedMarks   = []string{"bot", "crawl", "spider", "scrap", "slurp", "headless", "checker", "validator", "archiver", "fetcher", "uptime", "http:", "https:"}
	unlistedPattern = regexp.MustCompile(`bots?\b|bot[/_]|crawl|spider|scrap(e|ing)|slurp|headless|checker|validator|archiver|fetcher|uptime|\+ ?https?:`)
	phones          = regexp.MustCompile(`cubot|\bbot (tab|build|\d)|(m|power|b|id|vr)[_ ]?bot`)

	unlistedLibrary = &rule{kind: Library, reason: Library + ": " + other}
	libraries       = regexp.MustCompile(`^(java|ruby|perl|php|python|node|undici|deno|bun|guzzlehttp|faraday|reqwest|libcurl|restsharp|postmanruntime|insomnia|(apache-)?httpclient)\b`)
)

// loadCrawlers reads the list once.
var loadCrawlers = sync.OnceValues(func() (*crawlers, error) {
	c := &crawlers{byStart: make(map[[indexed]byte][]*rule)}
	for i, line := range strings.Split(strings.TrimSpace(crawlersTSV), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %d: not three fields", i+1)
		}
		r := &rule{kind: fields[0], reason: fields[0] + ": " + fields[1]}
		var err error
		if r.literal, r.pattern, err = compile(fields[2]); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		start := [indexed]byte([]byte(r.literal))
		c.byStart[start] = append(c.byStart[start], r)
	}
	return c, nil
})

// compile finds a text that is in whatever a pattern matches. The pattern is nil
// if that text is all of it.
func compile(pattern string) (literal string, rest *regexp.Regexp, err error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", nil, err
	}
	literal = longest(tree.Simplify())
	if len(literal) < indexed {
		return "", nil, errors.New("no part of the pattern is a text of three bytes that must be there")
	}
	if tree.Op == syntax.OpLiteral {
		return literal, nil, nil
	}
	rest, err = regexp.Compile(pattern)
	return literal, rest, err
}

// longest is the longest literal that a match must have.
func longest(tree *syntax.Regexp) string {
	switch {
	case tree.Flags&syntax.FoldCase != 0:
		return ""
	case tree.Op == syntax.OpLiteral:
		return string(tree.Rune)
	case tree.Op == syntax.OpConcat, tree.Op == syntax.OpCapture, tree.Op == syntax.OpPlus:
		best := ""
		for _, part := range tree.Sub {
			if l := longest(part); len(l) > len(best) {
				best = l
			}
		}
		return best
	default:
		return ""
	}
}

// find returns the rule that says most of a user agent: an AI agent rather than
// a crawler, and what is on the list rather than what only looks alike.
func (c *crawlers) find(agent string) *rule {
	var best *rule
	for i := 0; i+indexed <= len(agent); i++ {
		for _, r := range c.byStart[[indexed]byte([]byte(agent[i:i+indexed]))] {
			if strings.HasPrefix(agent[i:], r.literal) && (best == nil || rank(r) < rank(best)) &&
				(r.pattern == nil || r.pattern.MatchString(agent)) {
				best = r
			}
		}
	}
	if best != nil {
		return best
	}
	return byWords(strings.ToLower(agent))
}

// byWords judges a user agent, in lower case, that is not on the list.
func byWords(agent string) *rule {
	marked := slices.ContainsFunc(unlistedMarks, func(mark string) bool { return strings.Contains(agent, mark) })
	switch {
	case marked && unlistedPattern.MatchString(agent) && !phones.MatchString(agent):
		return unlisted
	case libraries.MatchString(agent):
		return unlistedLibrary
	default:
		return nil
	}
}

// rank orders kinds by how much they say. A library is the least: crawlers name
// theirs too.
func rank(r *rule) int {
	if i := slices.Index([]string{AI, Headless, Crawler}, r.kind); i >= 0 {
		return i
	}
	if r.kind == Library {
		return 4
	}
	return 3
}
