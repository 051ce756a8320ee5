package runner

import (
	"fmt"
	"slices"
	"strings"
)

// The engine renders some constructs of Jinja otherwise than Jinja does, and
// says nothing. lint finds them before rendering, so that a project either
// means the same here as under dbt, or is refused with a line to look at.
//
// Two things that every dbt project has and the engine does not know are
// mended instead: trailing commas, and blocks that are for dbt alone.

// lint returns the template to be rendered, of the same length and lines.
func lint(path, source string) (string, []Problem) {
	l := linter{path: path, source: source, out: []byte(source)}
	l.template()
	return string(l.out), l.problems
}

type linter struct {
	path, source string
	out          []byte
	problems     []Problem
}

type token struct {
	kind   tokenKind
	text   string
	offset int
}

type tokenKind int

const (
	nameToken tokenKind = iota + 1
	numberToken
	stringToken
	operatorToken
)

// dbtBlocks hold what only dbt runs. The runner has its own tests and
// materializations.
var dbtBlocks = []string{"test", "data_test", "materialization", "snapshot", "docs"}

func (l *linter) template() {
	for at := 0; at < len(l.source); {
		open := strings.IndexByte(l.source[at:], '{')
		if open < 0 || at+open+1 >= len(l.source) {
			return
		}
		at += open
		switch l.source[at+1] {
		case '#':
			end := strings.Index(l.source[at:], "#}")
			if end < 0 {
				l.report(at, "the comment is not closed: add #}")
				return
			}
			at += end + 2
		case '{', '%':
			at = l.construct(at)
		default:
			at++
		}
	}
}

// construct checks {{ … }} or {% … %} and returns where to go on.
func (l *linter) construct(at int) int {
	block := l.source[at+1] == '%'
	tokens, end, ok := l.scan(l.inside(at), block)
	if !ok {
		l.report(at, "the braces are not closed")
		return len(l.source)
	}
	name := ""
	if block && len(tokens) > 0 {
		name = tokens[0].text
	}
	switch {
	case block && name == "raw":
		return l.skipTo(at, end, "endraw", false)
	case block && slices.Contains(dbtBlocks, name):
		return l.skipTo(at, end, "end"+name, true)
	case block:
		l.blockRules(tokens)
	case len(tokens) == 1 && strings.EqualFold(tokens[0].text, "none"):
		l.report(at, "none is printed as nothing here, but as None by Jinja: leave it out")
	}
	l.expressionRules(tokens, name == "for")
	return end
}

// inside returns where the content of braces begins, after the sign that
// controls white space.
func (l *linter) inside(at int) int {
	if at+2 < len(l.source) && strings.IndexByte("-+", l.source[at+2]) >= 0 {
		return at + 3
	}
	return at + 2
}

// skipTo passes over a block, and blanks it if nothing of it is for us.
func (l *linter) skipTo(start, at int, end string, blank bool) int {
	for {
		open := strings.Index(l.source[at:], "{%")
		if open < 0 {
			l.report(start, "the block is not closed: add {% "+end+" %}")
			return len(l.source)
		}
		tokens, next, ok := l.scan(l.inside(at+open), true)
		if !ok {
			at += open + 2
			continue
		}
		at = next
		if len(tokens) > 0 && tokens[0].text == end {
			break
		}
	}
	if blank {
		for i := start; i < at; i++ {
			if l.out[i] != '\n' {
				l.out[i] = ' '
			}
		}
	}
	return at
}

// scan splits an expression into tokens, up to its closing braces.
func (l *linter) scan(at int, block bool) (tokens []token, end int, ok bool) {
	depth := 0
	for at < len(l.source) {
		rest := l.source[at:]
		if depth == 0 {
			if closer := closing(rest, block); closer > 0 {
				return tokens, at + closer, true
			}
		}
		t, width, ok := nextToken(rest)
		if !ok {
			return nil, 0, false
		}
		if t.kind != 0 {
			t.offset = at
			tokens = append(tokens, t)
			switch t.text {
			case "(", "[", "{":
				depth++
			case ")", "]", "}":
				depth--
			}
		}
		at += width
	}
	return nil, 0, false
}

func closing(rest string, block bool) int {
	closer := "}}"
	if block {
		closer = "%}"
	}
	for _, sign := range []string{"", "-", "+"} {
		if strings.HasPrefix(rest, sign+closer) {
			return len(sign + closer)
		}
	}
	return 0
}

// nextToken reads a token, or white space, which has no kind.
func nextToken(s string) (t token, width int, ok bool) {
	c := s[0]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		return token{}, 1, true
	case c == '\'' || c == '"':
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case c:
				return token{kind: stringToken, text: s[:i+1]}, i + 1, true
			}
		}
		return token{}, 0, false
	case isWord(c):
		i := 1
		for i < len(s) && (isWord(s[i]) || c <= '9' && s[i] == '.') {
			i++
		}
		kind := nameToken
		if c >= '0' && c <= '9' {
			kind = numberToken
		}
		return token{kind: kind, text: s[:i]}, i, true
	}
	for _, operator := range []string{"//", "**", "==", "!=", "<=", ">="} {
		if strings.HasPrefix(s, operator) {
			return token{kind: operatorToken, text: operator}, 2, true
		}
	}
	return token{kind: operatorToken, text: s[:1]}, 1, true
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

var blocks = []string{
	"if", "elif", "else", "endif", "for", "endfor", "set", "endset", "macro", "endmacro",
	"call", "endcall", "do", "filter", "endfilter",
}

func (l *linter) blockRules(tokens []token) {
	if len(tokens) == 0 {
		return
	}
	first := tokens[0]
	if !slices.Contains(blocks, first.text) {
		l.report(first.offset, fmt.Sprintf("the block %q is not supported: macros of all files are available without it", first.text))
	}
	if first.text == "set" && len(tokens) > 2 && tokens[2].text == "," {
		l.report(first.offset, "setting several names at once is not supported: use a set for each")
	}
	if first.text == "call" && len(tokens) > 1 && tokens[1].text == "(" {
		l.report(first.offset, "a call block with arguments is not supported: pass them to the macro")
	}
}

// refused are names after a dot, a filter's bar or alone, with the reason.
var (
	refusedMethods = map[string]string{
		"append": changesLost, "extend": changesLost, "insert": changesLost, "pop": changesLost, "remove": changesLost,
		"update": changesLost, "setdefault": changesLost, "clear": changesLost, "sort": changesLost, "reverse": changesLost, "popitem": changesLost,
		"items": orderLost, "keys": orderLost, "values": orderLost,
		"replace": "the method replace is not supported: use the filter, as in x | replace('a', 'b')",
		"format":  "the method format is not supported: join strings with ~",
	}
	refusedFilters = map[string]string{
		"items": orderLost, "dictsort": orderLost, "tojson": "the filter tojson spaces otherwise than Jinja's: write the text",
		"format": "the filter format is not supported: join strings with ~",
		"pprint": "the filter pprint is not supported", "random": "a random result cannot be reproduced",
		"xmlattr": orderLost,
	}
	refusedNames = map[string]string{
		"varargs": "varargs is not supported: give the macro a parameter that is a list",
		"kwargs":  "kwargs is not supported: give the macro a parameter for each",
	}
	refusedOperators = map[string]string{
		"//": "the operator // is not supported: it truncates here and rounds down in Jinja",
		"%":  "the operator % is not supported: join strings with ~, and compute remainders in SQL",
		"**": "the operator ** is not supported: write the number, or compute it in SQL",
	}
	comparisons = []string{"==", "!=", "<", "<=", ">", ">=", "in"}
)

const (
	changesLost = "a change to a list or dict would be lost: build it with set and + outside of loops, or write the parts where they are used"
	orderLost   = "the order of a dict's keys would be lost: loop over a list instead"
)

// level is the state of the rules within one pair of brackets.
type level struct {
	bracket  string
	compared int // comparisons since the last word that separates them
}

func (l *linter) expressionRules(tokens []token, isFor bool) {
	levels := []level{{}}
	for i, t := range tokens {
		previous, next := at(tokens, i-1), at(tokens, i+1)
		current := &levels[len(levels)-1]
		switch {
		case t.kind == nameToken:
			l.nameRules(t, previous, next, len(levels) > 1)
		case t.kind == numberToken && previous == "{" && next == ":":
			l.report(t.offset, "a dict's keys must be strings here")
		case t.kind == operatorToken:
			l.operatorRules(t, previous, next)
		}
		switch t.text {
		case "(", "[", "{":
			levels = append(levels, level{bracket: t.text})
			continue
		case ")", "]", "}":
			if previous == "," && len(tokens) > 1 && (t.text != ")" || !isTupleOfOne(tokens, i)) {
				l.out[tokens[i-1].offset] = ' '
			}
			if len(levels) > 1 {
				levels = levels[:len(levels)-1]
			}
		case "and", "or", "not", "if", "else", ",", "=", ":":
			current.compared = 0
		}
		if slices.Contains(comparisons, t.text) && t.kind != stringToken {
			if isFor && t.text == "in" && len(levels) == 1 {
				isFor = false
				continue
			}
			current.compared++
			if current.compared == 2 {
				l.report(t.offset, "a chain of comparisons is not supported: join two with and")
			}
		}
	}
}

func (l *linter) nameRules(t token, previous, next string, nested bool) {
	reason := ""
	switch {
	case previous == "." && next == "(":
		reason = refusedMethods[t.text]
	case previous == ".":
	case previous == "|":
		reason = refusedFilters[t.text]
	case t.text == "sequence" && (previous == "is" || previous == "not"):
		reason = "the test sequence is not supported: a text is one for Jinja, and none here"
	case t.text == "if" && nested:
		reason = "a condition inside brackets is not supported: set a name to it first, in a set of its own"
	case strings.EqualFold(t.text, "none") && (previous == "~" || next == "~"):
		reason = "none is joined as nothing here, but as None by Jinja: leave it out"
	default:
		reason = refusedNames[t.text]
	}
	if reason != "" {
		l.report(t.offset, reason)
	}
}

func (l *linter) operatorRules(t token, previous, next string) {
	if (t.text == "*" || t.text == "**") && (previous == "(" || previous == ",") && next != "" {
		l.report(t.offset, "unpacking arguments is not supported: write them out")
		return
	}
	if t.text == "*" && (previous == "]" || next == "[") {
		l.report(t.offset, "a list cannot be multiplied here: write it out")
	}
	if reason := refusedOperators[t.text]; reason != "" {
		l.report(t.offset, reason)
	}
}

func at(tokens []token, i int) string {
	if i < 0 || i >= len(tokens) {
		return ""
	}
	return tokens[i].text
}

// isTupleOfOne tells (x,) from f(x,): its comma means something.
func isTupleOfOne(tokens []token, closer int) bool {
	depth, commas := 0, 0
	for i := closer; i >= 0; i-- {
		switch tokens[i].text {
		case ")", "]", "}":
			depth++
		case "(", "[", "{":
			depth--
		case ",":
			if depth == 1 {
				commas++
			}
		}
		if depth == 0 {
			called := i > 0 && (tokens[i-1].kind == nameToken || tokens[i-1].text == ")" || tokens[i-1].text == "]")
			return !called && commas == 1
		}
	}
	return false
}

func (l *linter) report(offset int, message string) {
	line := 1 + strings.Count(l.source[:min(offset, len(l.source))], "\n")
	l.problems = append(l.problems, Problem{Path: l.path, Line: line, Message: message})
}
