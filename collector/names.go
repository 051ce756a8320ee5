package collector

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"github.com/sluis-cdp/sluis/collector/personal"
)

// classOf is the plan's class for a path, else a judgement by the name.
// person tells whether the field is a trait of a person.
func (c *Collector) classOf(e *Event, path []byte, key string, person bool) Class {
	if class, ok := e.req.source.Plan.class(e.planned, path); ok {
		return class
	}
	return c.names.class(key, person)
}

// nameClasses remembers the judgements on names. Names are few and come with
// each event; what comes beyond the bound is judged anew each time. The zero
// value is ready; it may be used concurrently, and reading takes no lock.
type nameClasses struct {
	known  atomic.Pointer[map[judged]Class] // copied to be changed
	change sync.Mutex
}

type judged struct {
	name   string
	person bool // a trait of a person
}

// How many names are remembered, and of what length at most.
const (
	knownNames   = 1024
	maxKnownName = 64
)

func (n *nameClasses) class(name string, person bool) Class {
	known := n.known.Load()
	if known != nil {
		if class, ok := (*known)[judged{name, person}]; ok {
			return class
		}
	}
	class := classByName(name, person)
	if len(name) <= maxKnownName && (known == nil || len(*known) < knownNames) {
		n.remember(judged{strings.Clone(name), person}, class)
	}
	return class
}

func (n *nameClasses) remember(name judged, class Class) {
	n.change.Lock()
	defer n.change.Unlock()
	more := make(map[judged]Class)
	if known := n.known.Load(); known != nil {
		maps.Copy(more, *known)
	}
	more[name] = class
	n.known.Store(&more)
}

// Names of a person's own traits, in the spelling of squash.
var (
	emailNames  = []string{"email", "emailaddress", "mail", "useremail"}
	phoneNames  = []string{"phone", "phonenumber", "mobile", "mobilephone", "telephone", "cell"}
	personNames = []string{"name", "firstname", "lastname", "fullname", "surname", "middlename", "displayname", "nickname", "username", "givenname", "familyname"}
)

// classByName judges a field that the plan does not name.
func classByName(key string, person bool) Class {
	if person {
		switch name := squash(key); {
		case slices.Contains(emailNames, name):
			return EmailAdr
		case slices.Contains(phoneNames, name):
			return PhoneNr
		case slices.Contains(personNames, name):
			return Name
		}
	}
	if personal.NameKind(key) != "" {
		return Drop
	}
	return Clear
}

// squash drops what differs between first_name, firstName and First-Name.
func squash(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r == ' ' {
			return -1
		}
		return unicode.ToLower(r)
	}, key)
}

// snakeCase writes firstName as first_name.
func snakeCase(key string) string {
	var b strings.Builder
	for i, r := range key {
		switch {
		case r == '-' || r == ' ' || r == '.':
			r = '_'
		case unicode.IsUpper(r) && i > 0:
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
