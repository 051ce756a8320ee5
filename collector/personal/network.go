package personal

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"strings"
)

// ipv6 checks an address around its first colon, at i.
func (s *scan) ipv6(i int) int {
	text := s.text
	start := i
	for start > 0 && i-start < 5 && isHex(text[start-1]) {
		start--
	}
	if start > 0 && (isAlnum(text[start-1]) || text[start-1] == ':') {
		return i
	}
	end := i
	for end < len(text) && (isHex(text[end]) || text[end] == ':' || text[end] == '.') {
		end++
	}
	part := strings.TrimRight(text[start:end], ".")
	if strings.Count(part, ":") < 2 {
		return i
	}
	address, err := netip.ParseAddr(part)
	for err != nil && strings.HasSuffix(part, ":") { // of the sentence
		part = strings.TrimSuffix(part, ":")
		address, err = netip.ParseAddr(part)
	}
	if err != nil || !isSomebodys(address) {
		return i
	}
	s.add(start, start+len(part), IP)
	return start + len(part)
}

// isSomebodys tells whether an address can be that of a person's connection or
// device. Of IPv6 it is one that is in use at all (IANA: global unicast, unique
// local, link local): any word like face::bad is an address.
func isSomebodys(a netip.Addr) bool {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		network := b[2] == 0 && b[3] == 0 // as in versions of browsers, 131.0.0.0
		return b[0] != 0 && b[0] < 224 && !a.IsLoopback() && !network
	}
	first := a.As16()[0]
	return first>>5 == 1 || first>>1 == 0xfc>>1 || a.IsLinkLocalUnicast()
}

// token checks a JSON Web Token: base64url parts between dots, the first of
// which is a JSON object.
func (s *scan) token(i int) int {
	text, start := s.text, i-2
	if start < 0 || text[start:i] != "ey" || start > 0 && isAlnum(text[start-1]) {
		return i
	}
	end := i
	for end < len(text) && (isBase64URL(text[end]) || text[end] == '.') {
		end++
	}
	first, rest, ok := strings.Cut(text[start:end], ".")
	if !ok || rest == "" {
		return i
	}
	header, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(first, "="))
	if err != nil || !json.Valid(header) {
		return i
	}
	s.add(start, end, Token)
	return end
}
