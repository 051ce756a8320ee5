package seal

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
)

// Batch makes the pseudonyms and digests of one request, so that the service is
// asked once for all of them. What it cannot make without the service it notes,
// and answers with a stand-in; then [Batch.Lacks] is true, everything that was
// made of its answers must be thrown away, and after [Batch.Fetch] be made anew.
// In local mode nothing is ever lacking.
//
// A Batch is for one goroutine, and holds no identifier in clear for longer
// than its request: what it notes it forgets with Fetch.
type Batch struct {
	p       *Pseudonymizer
	fetched map[[32]byte]Pseudonym // none in local mode
	missing []missing
}

// missing is an evaluation that the service has to make.
type missing struct {
	key   [32]byte
	kind  Kind // "": not of an identifier, but of a value
	input []byte
}

// Batch begins one.
func (p *Pseudonymizer) Batch() *Batch { return &Batch{p: p} }

// standIn is what a Batch answers instead of what it lacks. It is not zero, so
// that whoever asks goes on and asks for all they need.
var standIn = Pseudonym{token: "lacking", element: "lacking"}

// Lacks tells whether an answer was a stand-in.
func (b *Batch) Lacks() bool { return len(b.missing) > 0 }

// Missing is the number of evaluations that Fetch will ask for.
func (b *Batch) Missing() int { return len(b.missing) }

// Fetch asks the service for all that is missing. After an error, which may be
// an [*UnavailableError] or [ErrWrongKey], it is missing still.
func (b *Batch) Fetch(ctx context.Context) error {
	inputs := make([][]byte, len(b.missing))
	for i, m := range b.missing {
		inputs[i] = m.input
	}
	elements, err := b.p.oprf.evaluate(ctx, inputs)
	if err != nil {
		return err
	}
	for i, m := range b.missing {
		made := Pseudonym{element: string(elements[i])}
		if m.kind != "" {
			made = ofElement(m.kind, b.p.version, elements[i])
		}
		b.fetched[m.key] = made
		b.p.cache.Add(m.key, made)
		clear(m.input)
	}
	b.missing = nil
	return nil
}

// Pseudonym normalises a value (see [Normalize]) and returns its pseudonym.
// Equal values of one kind give equal pseudonyms, in every process and mode that
// has the key. The error is [ErrNotAnIdentifier].
func (b *Batch) Pseudonym(kind Kind, value string) (Pseudonym, error) {
	p := b.p
	if kind == AnonymousID && IsUUID(value) {
		return p.randomID(kind, value), nil
	}
	// By the value as it came: to normalise a phone number takes longer than to hash it.
	key := p.lookup.sum(string(kind), value)
	if known, ok := b.known(key); ok {
		if known.IsZero() {
			return Pseudonym{}, ErrNotAnIdentifier
		}
		return known, nil
	}
	value, err := Normalize(kind, value, p.region)
	if err != nil {
		p.cache.Add(key, Pseudonym{})
		return Pseudonym{}, err
	}
	if kind == AnonymousID && IsUUID(value) { // now without space around it
		return p.randomID(kind, value), nil
	}
	return b.evaluate(missing{key, kind, join("sluis/pid/v1", p.workspace, string(kind), normVersion, value)})
}

// known looks among what was fetched for this request, and in the cache.
func (b *Batch) known(key [32]byte) (Pseudonym, bool) {
	if made, ok := b.fetched[key]; ok {
		return made, true
	}
	made, ok := b.p.cache.Get(key)
	if ok {
		b.p.hits.Add(1)
	} else {
		b.p.misses.Add(1)
	}
	return made, ok
}

// evaluate makes what is missing, or notes it for the service.
func (b *Batch) evaluate(m missing) (Pseudonym, error) {
	if !b.p.IsLocal() {
		if b.fetched == nil {
			b.fetched = make(map[[32]byte]Pseudonym)
		}
		b.fetched[m.key] = standIn
		b.missing = append(b.missing, m)
		return standIn, nil
	}
	element, err := b.p.oprf.evaluateHere(m.input)
	if err != nil {
		return Pseudonym{}, err
	}
	made := Pseudonym{element: string(element)}
	if m.kind != "" {
		made = ofElement(m.kind, b.p.version, element)
	}
	b.p.cache.Add(m.key, made)
	return made, nil
}

// ValueToken is a digest of a field's value that can be compared among the
// values of the same field of the same person, and with nothing else. 32
// hexadecimal characters. kind is that of the identifier that the value is,
// empty if it is none.
//
// It rests on the OPRF as pseudonyms do. Were it a keyed hash alone, whoever has
// the collector's keys and the vault could guess values by it offline, and with
// them the person.
func (b *Batch) ValueToken(subject Pseudonym, field string, kind Kind, value string) (string, error) {
	element, err := b.valueElement(field, kind, value)
	if err != nil {
		return "", err
	}
	sum := b.p.token.sum("sluis/value/v1", b.p.workspace, subject.token, field, element)
	return hex.EncodeToString(sum[:16]), nil
}

// valueElement is that of the value as an identifier, which is known already,
// or one of its own.
func (b *Batch) valueElement(field string, kind Kind, value string) (string, error) {
	if kind != "" {
		if made, err := b.Pseudonym(kind, value); err == nil && made.element != "" {
			return made.element, nil
		}
	}
	return b.element("sluis/value/v1", field, value)
}

// Digest is a keyed digest of anything, for lookups within this workspace that
// must not be linked to pseudonyms, such as of a message id that holds
// personal data. 32 hexadecimal characters. It cannot be guessed, as ValueToken.
func (b *Batch) Digest(domain, value string) (string, error) {
	element, err := b.element("sluis/digest/v1", domain, value)
	if err != nil {
		return "", err
	}
	sum := b.p.token.sum("sluis/digest/v1", b.p.workspace, domain, element)
	return hex.EncodeToString(sum[:16]), nil
}

// element evaluates a value of any length that is no identifier.
func (b *Batch) element(use, name, value string) (string, error) {
	if len(value) > MaxIdentifier {
		sum := sha512.Sum512([]byte(value))
		value = string(sum[:])
	}
	if len(name) > 64 {
		sum := sha512.Sum512([]byte(name))
		name = string(sum[:])
	}
	key := b.p.lookup.sum(use, name, value)
	if known, ok := b.known(key); ok {
		return known.element, nil
	}
	made, err := b.evaluate(missing{key: key, input: join(use, b.p.workspace, name, value)})
	if err != nil {
		return "", fmt.Errorf("making a digest: %w", err)
	}
	return made.element, nil
}
