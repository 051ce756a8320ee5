package personal

import (
	"strings"
	"unicode"
)

// names say what a field holds, in the spelling of squash.
var names = func() map[string]Kind {
	table := make(map[string]Kind)
	for kind, list := range map[Kind]string{
		Email: "email emailaddress mail useremail emailadres",
		Phone: "phone phonenumber mobile mobilephone telephone cell cellphone tel msisdn telefoon telefoonnummer",
		Name: `firstname lastname fullname surname middlename givenname familyname username displayname nickname voornaam achternaam
			maidenname`,
		Secret: `password passwd pwd secret token accesstoken refreshtoken idtoken authtoken csrftoken sessiontoken apikey apitoken xapikey
			authorization cookie setcookie session sessionid sessid jsessionid phpsessid clientsecret resettoken resetkey privatekey
			passphrase wachtwoord jwt bearer`,
		Card:     "card cardnumber creditcard cvv cvc pan ccnumber cardno",
		IBAN:     "iban bic bankaccount accountnumber",
		BSN:      "bsn burgerservicenummer",
		SSN:      "ssn nino",
		IP:       "ip ipaddress ipv4 ipv6 clientip remoteaddr",
		Address:  "address street streetaddress housenumber postalcode postcode zip zipcode address1 address2 addressline1 addressline2 huisnummer",
		Location: "latitude longitude lat lng lon latlng geolocation",
		Birth:    "dob birthday",
		ID: `userid anonymousid customerid visitorid memberid clientid deviceid distinctid externalid previousid advertisingid idfa gaid imei mac
			macaddress passport license licenseplate`,
		Trait: "gender sex religion ethnicity avatar photo",
	} {
		for name := range strings.FieldsSeq(list) {
			table[name] = kind
		}
	}
	return table
}()

// nameParts say it within a name.
var nameParts = []struct {
	part string
	kind Kind
}{
	{"email", Email},
	{"phone", Phone},
	{"password", Secret},
	{"birth", Birth},
	{"passport", ID},
	{"creditcard", Card},
	{"cardnumber", Card},
	{"socialsecurity", SSN},
	{"firstname", Name},
	{"lastname", Name},
	{"fullname", Name},
	{"surname", Name},
}

// NameKind judges what a field holds by its name, however it is spelt; "" if
// the name does not look personal.
func NameKind(name string) Kind {
	name = squash(name)
	if kind, ok := names[name]; ok {
		return kind
	}
	for _, p := range nameParts {
		if strings.Contains(name, p.part) {
			return p.kind
		}
	}
	return ""
}

// isSecret is NameKind(name) == Secret, and quicker.
func isSecret(name string) bool {
	name = squash(name)
	return names[name] == Secret || strings.Contains(name, "password")
}

// squash drops what differs between first_name, firstName and First-Name, and
// the brackets of user[email].
func squash(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("_-. []", r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}
