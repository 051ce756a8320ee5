package personal

import "strings"

// parameter checks name=value around the '=' at i: a value is personal by its
// name, whatever it is. It is for what is in a query, a form or a log.
func (s *scan) parameter(i int) int {
	text := s.text
	start := i
	for start > 0 && i-start <= maxName && (isName(rune(text[start-1])) || strings.IndexByte(".[]", text[start-1]) >= 0) {
		start--
	}
	if start == i || i-start > maxName {
		return i
	}
	inQuery := start > 0 && (text[start-1] == '?' || text[start-1] == '&' || text[start-1] == ';' || text[start-1] == '#')
	if start > 0 && !inQuery && !isSpace(text[start-1]) && strings.IndexByte(`"'(,`, text[start-1]) < 0 {
		return i
	}
	kind := parameterKind(text[start:i], inQuery)
	end := i + 1
	for end < len(text) && !isSpace(text[end]) && strings.IndexByte(`&"'<>#;)`, text[end]) < 0 {
		end++
	}
	value := text[i+1 : end]
	if kind == "" || isTrivial(value) || kind == codeKind && !isRandom(value) {
		return i
	}
	if kind == codeKind {
		kind = Secret
	}
	s.add(i+1, end, kind)
	return end
}

const maxName = 40

// codeKind is what code=… is: a coupon, or what a log-in is finished with.
const codeKind Kind = "code"

// parameterKind is what a value is by the name of its parameter.
func parameterKind(name string, inQuery bool) Kind {
	switch squash(name) {
	case "code", "key", "state", "ticket", "sig", "signature", "nonce", "otp", "pin", "reset", "invite", "invitation", "magic", "auth", "sid":
		return codeKind
	case "name":
		if inQuery {
			return Name
		}
		return ""
	case "mobile", "cell", "card", "lat", "lng", "lon", "pan", "mac", "sex", "cookie", "session", "license", "address", "street", "zip", "photo", "avatar":
		if !inQuery {
			return "" // as in mobile=true
		}
	}
	return NameKind(name)
}

// isTrivial: such values say nothing of anybody.
func isTrivial(value string) bool {
	switch strings.ToLower(value) {
	case "", "0", "1", "true", "false", "null", "undefined", "yes", "no", "none", "*":
		return true
	}
	return strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") // masked already
}

// isRandom tells whether a text is one that nobody made up: long, of letters and
// digits.
func isRandom(value string) bool {
	digits, letters := 0, 0
	for i := range len(value) {
		switch {
		case isDigit(value[i]):
			digits++
		case isLetter(value[i]):
			letters++
		}
	}
	return len(value) >= 16 && digits >= 2 && letters >= 2 || len(value) >= 32
}

// header checks what the ':' at i ends: the name of a secret in JSON or YAML
// with quotes, or of the header with which a client shows who it is.
func (s *scan) header(i int) int {
	text := s.text
	stop := i
	quoted := stop > 0 && text[stop-1] == '"'
	if quoted {
		stop--
		if stop > 0 && text[stop-1] == '\\' {
			stop--
		}
	}
	start := stop
	for start > 0 && stop-start <= maxName && isName(rune(text[start-1])) {
		start--
	}
	name := text[start:stop]
	if name == "" || !quoted && !strings.EqualFold(name, "authorization") && !strings.EqualFold(name, "cookie") || !isSecret(name) {
		return i
	}
	from := i + 1
	for from < len(text) && (isSpace(text[from]) || text[from] == '"' || text[from] == '\\') {
		from++
	}
	end := from
	for end < len(text) && text[end] != '"' && text[end] != '\\' && text[end] != '\n' && (!quoted || text[end] != ',' && text[end] != '}') {
		end++
	}
	if isTrivial(text[from:end]) {
		return i
	}
	s.add(from, end, Secret)
	return end
}
