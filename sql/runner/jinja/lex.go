package jinja

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	endToken tokenKind = iota
	dataToken
	openVariable
	closeVariable
	openBlock
	closeBlock
	nameToken
	intToken
	floatToken
	stringToken
	operatorToken
)

// token is a piece of a template. text is what it means: a string without its
// quotes and escapes, data without the space that is controlled away.
type token struct {
	kind  tokenKind
	text  string
	line  int
	value any // of a number
}

var (
	floatPattern      = regexp.MustCompile(`^(?i)(\d+_)*\d+((\.(\d+_)*\d+)?e[+\-]?(\d+_)*\d+|\.(\d+_)*\d+)`)
	intPattern        = regexp.MustCompile(`^(?i)(0b(_?[0-1])+|0o(_?[0-7])+|0x(_?[\da-f])+|[1-9](_?\d)*|0(_?0)*)`)
	rawPattern        = regexp.MustCompile(`^\{%[-+]?[\s\v]*raw[\s\v]*(-%\}|%\})`)
	endRawPattern     = regexp.MustCompile(`\{%([-+]?)[\s\v]*endraw[\s\v]*(\+%\}|-%\}|%\})`)
	commentEndPattern = regexp.MustCompile(`(-#\}|\+#\}|#\})`)
	operators         = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}
)

type lexer struct {
	source string
	at     int
	line   int
	tokens []token
}

// lex splits a template into its tokens, the last of which is an endToken.
func lex(source string) ([]token, error) {
	if !utf8.ValidString(source) {
		return nil, errorf("the file is not UTF-8: save it as UTF-8")
	}
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	l := &lexer{source: strings.TrimSuffix(source, "\n"), line: 1}
	for l.at < len(l.source) {
		if err := l.data(); err != nil {
			return nil, at(l.line, err)
		}
	}
	l.add(endToken, "")
	return l.tokens, nil
}

func (l *lexer) add(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind: kind, text: text, line: l.line})
}

func (l *lexer) rest() string { return l.source[l.at:] }

// advance passes over n bytes and counts their lines.
func (l *lexer) advance(n int) {
	l.line += strings.Count(l.source[l.at:l.at+n], "\n")
	l.at += n
}

// data reads text up to the next construct, and that construct.
func (l *lexer) data() error {
	start, end := l.at, len(l.source)
	for i := l.at; i+1 < len(l.source); i++ {
		if l.source[i] == '{' && strings.IndexByte("{%#", l.source[i+1]) >= 0 {
			end = i
			break
		}
	}
	text := l.source[start:end]
	if end < len(l.source) && end+2 < len(l.source) && l.source[end+2] == '-' {
		text = strings.TrimRightFunc(text, isSpace)
	}
	if text != "" {
		l.add(dataToken, text)
	}
	l.advance(end - start)
	if l.at == len(l.source) {
		return nil
	}
	switch l.source[l.at+1] {
	case '#':
		return l.comment()
	case '{':
		l.add(openVariable, "{{")
		return l.construct(closeVariable, "}}")
	}
	if opening := rawPattern.FindString(l.rest()); opening != "" {
		return l.raw(opening)
	}
	l.add(openBlock, "{%")
	return l.construct(closeBlock, "%}")
}

func (l *lexer) comment() error {
	closer := commentEndPattern.FindStringIndex(l.source[l.at+2:])
	if closer == nil {
		return errorf("the comment is not closed: add #}")
	}
	trim := l.source[l.at+2+closer[0]] == '-'
	l.advance(2 + closer[1])
	l.trim(trim)
	return nil
}

// trim passes over white space, if it is controlled away.
func (l *lexer) trim(wanted bool) {
	if wanted {
		rest := l.rest()
		l.advance(len(rest) - len(strings.TrimLeftFunc(rest, isSpace)))
	}
}

func (l *lexer) raw(opening string) error {
	line := l.line
	l.advance(len(opening))
	l.trim(strings.HasSuffix(opening, "-%}"))
	found := endRawPattern.FindStringSubmatchIndex(l.rest())
	if found == nil {
		l.line = line
		return errorf("the block is not closed: add {%% endraw %%}")
	}
	text := l.rest()[:found[0]]
	if l.rest()[found[2]:found[3]] == "-" {
		text = strings.TrimRightFunc(text, isSpace)
	}
	if text != "" {
		l.add(dataToken, text)
	}
	trim := l.rest()[found[4]] == '-'
	l.advance(found[1])
	l.trim(trim)
	return nil
}

// construct reads the tokens between two braces, and the closing ones.
func (l *lexer) construct(closing tokenKind, closer string) error {
	line := l.line
	l.advance(2)
	if strings.HasPrefix(l.rest(), "-") || strings.HasPrefix(l.rest(), "+") {
		l.advance(1)
	}
	var brackets []byte
	for l.at < len(l.source) {
		rest := l.rest()
		if len(brackets) == 0 {
			switch {
			case strings.HasPrefix(rest, "-"+closer):
				l.add(closing, closer)
				l.advance(3)
				l.trim(true)
				return nil
			case closing == closeBlock && strings.HasPrefix(rest, "+"+closer):
				l.add(closing, closer)
				l.advance(3)
				return nil
			case strings.HasPrefix(rest, closer):
				l.add(closing, closer)
				l.advance(2)
				return nil
			}
		}
		if r, size := utf8.DecodeRuneInString(rest); isSpace(r) {
			l.advance(size)
			continue
		}
		if err := l.token(rest); err != nil {
			return err
		}
		if last := l.tokens[len(l.tokens)-1]; last.kind == operatorToken {
			switch last.text {
			case "(", "[", "{":
				brackets = append(brackets, last.text[0])
			case ")", "]", "}":
				const opens = "([{"
				if len(brackets) == 0 {
					return errorf("the bracket %s closes none", last.text)
				}
				if open := brackets[len(brackets)-1]; open != opens[strings.IndexByte(")]}", last.text[0])] {
					return errorf("the bracket %c is not closed before %s", open, last.text)
				}
				brackets = brackets[:len(brackets)-1]
			}
		}
	}
	l.line = line
	return errorf("the braces are not closed: add %s, and look for quotes and brackets that are not closed", closer)
}

// token reads one token of an expression.
func (l *lexer) token(rest string) error {
	if text := floatPattern.FindString(rest); text != "" && (l.at == 0 || l.source[l.at-1] != '.') {
		f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || math.IsInf(f, 0) {
			return errorf("the number %s is too large", text)
		}
		l.tokens = append(l.tokens, token{floatToken, text, l.line, f})
		l.advance(len(text))
		return nil
	}
	if text := intPattern.FindString(rest); text != "" {
		i, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), intBase(text), 64)
		if err != nil {
			return errorf("the number %s is too large: ints have 64 bits here", text)
		}
		l.tokens = append(l.tokens, token{intToken, text, l.line, int(i)})
		l.advance(len(text))
		return nil
	}
	if r, _ := utf8.DecodeRuneInString(rest); isNameStart(r) {
		end := strings.IndexFunc(rest, func(r rune) bool { return !isNameStart(r) && !unicode.Is(unicode.Nd, r) })
		if end < 0 {
			end = len(rest)
		}
		l.add(nameToken, rest[:end])
		l.advance(end)
		return nil
	}
	if rest[0] == '\'' || rest[0] == '"' {
		return l.text(rest)
	}
	for _, operator := range operators {
		if strings.HasPrefix(rest, operator) {
			l.add(operatorToken, operator)
			l.advance(len(operator))
			return nil
		}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return errorf("the character %q means nothing here", r)
}

func intBase(text string) int {
	if len(text) > 1 && unicode.IsLetter(rune(text[1])) {
		return 0
	}
	return 10
}

func isNameStart(r rune) bool { return r == '_' || unicode.IsLetter(r) }

// text reads a string with its quotes.
func (l *lexer) text(rest string) error {
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case rest[0]:
			meant, err := unescape(rest[1:i])
			if err != nil {
				return err
			}
			l.add(stringToken, meant)
			l.advance(i + 1)
			return nil
		}
	}
	return errorf("the text in quotes is not closed: add %c", rest[0])
}

var escapes = map[byte]string{
	'\n': "", '\\': `\`, '\'': "'", '"': `"`, 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// unescape reads the escapes of Python's strings.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++ // there is one: a backslash does not end a string
		if meant, ok := escapes[s[i]]; ok {
			b.WriteString(meant)
			continue
		}
		digits, base := 0, 16
		switch {
		case s[i] == 'x':
			digits = 2
		case s[i] == 'u':
			digits = 4
		case s[i] == 'U':
			digits = 8
		case s[i] == 'N':
			return "", errorf(`the escape \N is not supported: write the character`)
		case s[i] >= '0' && s[i] <= '7':
			for digits = 1; digits < 3 && i+digits < len(s) && s[i+digits] >= '0' && s[i+digits] <= '7'; digits++ {
			}
			base, i = 8, i-1
		default:
			b.WriteByte('\\')
			i--
			if i++; s[i] >= 0x80 {
				return "", errorf("a backslash before a character that is not ASCII: write two, or none")
			}
			b.WriteByte(s[i])
			continue
		}
		if i+digits >= len(s) {
			return "", errorf("the escape in %s is not complete", quoted(s))
		}
		code, err := strconv.ParseUint(s[i+1:i+1+digits], base, 32)
		if err != nil || code > unicode.MaxRune || code >= 0xD800 && code < 0xE000 {
			return "", errorf("the escape in %s is no character", quoted(s))
		}
		b.WriteRune(rune(code))
		i += digits
	}
	return b.String(), nil
}

// isSpace is white space as Python has it.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
