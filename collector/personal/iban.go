package personal

import "strings"

// ibanLength is the length per country of an IBAN (ISO 13616 registry).
var ibanLength = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
	"CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
	"FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
	"IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
	"LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
	"NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
	"SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26,
	"UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}

// iban checks an IBAN whose check digits begin at i, in the groups that people
// write it in or in none.
func (s *scan) iban(i int) int {
	text, start := s.text, i-2
	if start < 0 || !isLetter(text[start]) || !isLetter(text[start+1]) || start > 0 && isAlnum(text[start-1]) {
		return i
	}
	want, ok := ibanLength[strings.ToUpper(text[start:i])]
	if !ok {
		return i
	}
	iban := make([]byte, 0, 34)
	end := start
	for ; end < len(text) && len(iban) < want; end++ {
		switch c := text[end]; {
		case isDigit(c):
			iban = append(iban, c)
		case isLetter(c):
			iban = append(iban, c&^0x20)
		case (c == ' ' || c == '-' || c == '.' || c == '+') && text[end-1] != c:
		default:
			return i
		}
	}
	if len(iban) < want || end < len(text) && isAlnum(text[end]) || !mod97(iban) || string(iban[2:4]) < "02" || string(iban[2:4]) > "98" {
		return i
	}
	s.add(start, end, IBAN)
	return end
}

// mod97 is the check of ISO 7064 on an IBAN in capital letters.
func mod97(iban []byte) bool {
	rest := 0
	for i := range iban {
		if c := iban[(i+4)%len(iban)]; isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}
