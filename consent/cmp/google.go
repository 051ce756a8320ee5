package cmp

// storages are the consent types of Google Consent Mode v2, in the order of gcd.
var storages = [...]string{"ad_storage", "analytics_storage", "ad_user_data", "ad_personalization"}

// readGCS reads "G1xy": x is ad_storage and y analytics_storage, each 1, 0, or -
// where nothing was set. A default cannot be told from a choice.
func readGCS(value string, c *Choice) bool {
	if len(value) != 4 || value[:2] != "G1" {
		return false
	}
	for i, flag := range []byte(value[2:]) {
		switch flag {
		case '0', '1':
			c.set(storages[i], flag == '1')
			c.Made = Implied
		case '-':
		default:
			return false
		}
	}
	return true
}

// readGCD reads values such as "11t1t1t1t5": behind a first digit, four times a
// digit and a letter, and digits. Google does not document the letters. They are
// taken to mean, each for one storage:
//
//	l        nothing was set
//	p        denied by default          t  granted by default
//	q, m, u  denied by an update        r, n, v  granted by an update
//
// A default is nobody's choice, so one granted makes the whole none.
func readGCD(value string, c *Choice) bool {
	if len(value) < 10 || len(value) > 32 || !digit(value[0]) {
		return false
	}
	updated, byDefault := false, false
	for i, storage := range storages {
		if !digit(value[1+2*i]) {
			return false
		}
		switch value[2+2*i] {
		case 'l':
		case 'p':
			c.set(storage, false)
		case 't':
			c.set(storage, true)
			byDefault = true
		case 'q', 'm', 'u':
			c.set(storage, false)
			updated = true
		case 'r', 'n', 'v':
			c.set(storage, true)
			updated = true
		default:
			return false
		}
	}
	for _, rest := range []byte(value[1+2*len(storages):]) {
		if !digit(rest) && (rest < 'a' || rest > 'z') {
			return false
		}
	}
	if updated && !byDefault {
		c.Made = Explicit
	}
	return true
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
