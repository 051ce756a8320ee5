package bigquery

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
)

// statement is a statement ready to be sent.
type statement struct {
	text       string
	parameters []bigquery.QueryParameter
}

var (
	errNotOneStatement = errors.New("the text must hold exactly one statement")
	errScript          = errors.New("transactions and scripts are not offered: each statement is one of its own")
	errUnterminated    = errors.New("a string, name or comment does not end")
	errNotQuery        = errors.New("it does not start as a query")
)

// prepare checks that a text is one statement, and binds args to its
// placeholders. BigQuery would run several as a script, whose first statements
// stay in effect when a later one fails.
//
// A NULL has no type of its own in Go, and a parameter must have one, which
// BigQuery would then not coerce. So NULL is written into the text. The same
// goes for the empty array, which in a parameter cannot be told from NULL.
func prepare(query string, args []any) (statement, error) {
	scanned, err := scan(query)
	if err != nil {
		return statement{}, err
	}
	if scanned.statements != 1 {
		return statement{}, errNotOneStatement
	}
	switch scanned.word {
	case "begin", "start", "commit", "rollback", "declare", "set", "call", "execute", "if", "loop", "while", "repeat", "for", "case", "raise":
		return statement{}, errScript
	}
	if len(scanned.placeholders) != len(args) {
		return statement{}, fmt.Errorf("the statement has %d placeholders, not %d", len(scanned.placeholders), len(args))
	}
	var text strings.Builder
	var parameters []bigquery.QueryParameter
	from := 0
	for i, at := range scanned.placeholders {
		literal, value, err := bind(args[i])
		if err != nil {
			return statement{}, fmt.Errorf("argument %d: %w", i+1, err)
		}
		text.WriteString(query[from:at])
		text.WriteString(literal)
		if value != nil {
			parameters = append(parameters, bigquery.QueryParameter{Value: value})
		}
		from = at + 1
	}
	text.WriteString(query[from:])
	return statement{text.String(), parameters}, nil
}

// bind returns the text that takes the placeholder's place, and the parameter
// if that is still a placeholder.
func bind(arg any) (literal string, value any, err error) {
	const placeholder, null = "?", "NULL"
	switch v := arg.(type) {
	case nil:
		return null, nil, nil
	case bool, string, float64, float32, int, int8, int16, int32, int64, uint8, uint16, uint32:
		return placeholder, v, nil
	case time.Time:
		return placeholder, v.UTC(), nil
	case []byte:
		if v == nil {
			return null, nil, nil
		}
		return placeholder, v, nil
	case json.RawMessage:
		if v == nil {
			return null, nil, nil
		}
		return placeholder, bigquery.NullJSON{JSONVal: string(v), Valid: true}, nil
	case []string:
		if v == nil {
			return null, nil, nil
		}
		if len(v) == 0 {
			return "ARRAY<STRING>[]", nil, nil
		}
		return placeholder, v, nil
	}
	return "", nil, fmt.Errorf("a value of type %T cannot be an argument", arg)
}

// checkReads looks at whether a text is one query by its first word.
func checkReads(query string) error {
	scanned, err := scan(query)
	if err != nil {
		return err
	}
	if scanned.statements != 1 {
		return errNotOneStatement
	}
	switch scanned.word {
	case "select", "with", "from":
		return nil
	}
	return errNotQuery
}

// scanned is what the lexical structure of a text tells.
type scanned struct {
	statements   int
	word         string // the first, in lower case
	placeholders []int  // offsets
}

// scan reads a text by the lexical rules of GoogleSQL: what is in strings,
// quoted names and comments is skipped.
func scan(text string) (scanned, error) {
	var s scanned
	inStatement := false
	for i := 0; i < len(text); {
		c := text[i]
		end, isComment, err := skip(text, i)
		if err != nil {
			return s, err
		}
		switch {
		case isComment || c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		case c == ';':
			inStatement = false
		default:
			if !inStatement {
				s.statements++
			}
			inStatement = true
			if c == '?' {
				s.placeholders = append(s.placeholders, i)
			}
			if s.word == "" && c != '(' {
				s.word = strings.ToLower(text[i:end])
			}
		}
		i = end
	}
	return s, nil
}

// skip returns where the token at i ends.
func skip(text string, i int) (end int, isComment bool, err error) {
	rest := text[i:]
	switch c := rest[0]; {
	case c == '#' || strings.HasPrefix(rest, "--"):
		if n := strings.IndexAny(rest, "\n\r"); n >= 0 {
			return i + n, true, nil
		}
		return len(text), true, nil
	case strings.HasPrefix(rest, "/*"):
		n := strings.Index(rest[2:], "*/")
		if n < 0 {
			return 0, false, errUnterminated
		}
		return i + n + 4, true, nil
	case c == '\'' || c == '"' || c == '`':
		end, err := skipQuoted(text, i)
		return end, false, err
	case isWord(c):
		n := 1
		for n < len(rest) && isWord(rest[n]) {
			n++
		}
		return i + n, false, nil
	}
	return i + 1, false, nil
}

// skipQuoted returns where a quoted string or name ends. A backslash keeps the
// character after it from ending it, in raw strings too; so it does not matter
// which letters stand before the quote.
func skipQuoted(text string, i int) (int, error) {
	quote := text[i : i+1]
	if quote != "`" && strings.HasPrefix(text[i:], strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	for j := i + len(quote); j < len(text); j++ {
		switch {
		case text[j] == '\\':
			j++
		case strings.HasPrefix(text[j:], quote):
			return j + len(quote), nil
		case len(quote) == 1 && (text[j] == '\n' || text[j] == '\r'):
			return 0, errUnterminated
		}
	}
	return 0, errUnterminated
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}
