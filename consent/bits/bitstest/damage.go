package bitstest

import "math/rand/v2"

// Damage changes a text in a few random places: characters of it, its end, pieces
// taken out, doubled or taken from another text. Half of the characters that it
// puts in are of the alphabet, the others any byte.
func Damage(random *rand.Rand, text, other string) string {
	b := []byte(text)
	for range 1 + random.IntN(4) {
		at := random.IntN(len(b) + 1)
		end := min(len(b), at+1+random.IntN(12))
		switch random.IntN(7) {
		case 0:
			b = b[:at]
		case 1:
			b = append(b[:at:at], b[end:]...)
		case 2:
			b = append(b[:end:end], b[at:]...)
		case 3:
			from := random.IntN(len(other) + 1)
			b = append(b[:at:at], other[from:]...)
		default:
			if at < len(b) {
				b[at] = character(random)
			}
		}
	}
	return string(b)
}

func character(random *rand.Rand) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
	if random.IntN(2) == 0 {
		return byte(random.IntN(256))
	}
	return alphabet[random.IntN(len(alphabet))]
}
