package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func newKeys(t testing.TB) Dir {
	t.Helper()
	d := Dir(filepath.Join(t.TempDir(), "keys"))
	if err := Generate(d, []string{"marketing", "advertising"}); err != nil {
		t.Fatal(err)
	}
	return d
}

func newPseudonymizer(t testing.TB, keys Keyring, workspace string) *Pseudonymizer {
	t.Helper()
	p, err := NewPseudonymizer(context.Background(), keys, workspace, "NL")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNormalize(t *testing.T) {
	for _, test := range []struct {
		kind        Kind
		value, want string // want is empty where the value is refused
	}{
		{Email, " Jane.Doe+News@Example.COM ", "jane.doe+news@example.com"},
		{Email, "jane@münchen.example", "jane@xn--mnchen-3ya.example"},
		{Email, "Ju\u0308rgen@example.com", "jürgen@example.com"},
		{Email, "jane", ""},
		{Email, "@example.com", ""},
		{Email, "jane@", ""},
		{Email, "jane@localhost", ""},
		{Email, "a@b@example.com", ""},
		{Email, "jane doe@example.com", ""},
		{Email, "jane@example.", ""},
		{Email, strings.Repeat("a", 250) + "@example.com", ""},
		{Phone, "06 1234 5678", "+31612345678"},
		{Phone, "+31 (0)6 12345678", "+31612345678"},
		{Phone, "0031612345678", "+31612345678"},
		{Phone, "+1 (212) 555-0123", "+12125550123"},
		{Phone, "12", ""},
		{Phone, "hello", ""},
		{Phone, strings.Repeat("1", 100), ""},
		{UserID, " U-1 ", "U-1"},
		{UserID, "", ""},
		{UserID, strings.Repeat("x", 1025), ""},
		{"unknown", "x", ""},
	} {
		got, err := Normalize(test.kind, test.value, "NL")
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("Normalize(%s, %q) = %q, %v; want %q", test.kind, test.value, got, err, test.want)
		}
	}
	if _, err := Normalize(Phone, "0612345678", ""); err == nil {
		t.Error("a number without a country prefix was accepted without a region")
	}
}

func TestPseudonyms(t *testing.T) {
	keys := newKeys(t)
	shop, again, other := newPseudonymizer(t, keys, "shop"), newPseudonymizer(t, keys, "shop"), newPseudonymizer(t, keys, "other")
	token := func(p *Pseudonymizer, kind Kind, value string) string {
		t.Helper()
		made, err := p.Pseudonym(kind, value)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(fmt.Sprintf("%v %s %#v %+v", made, made, made, struct{ P Pseudonym }{made}), made.Token()) {
			t.Error("a pseudonym printed its token")
		}
		return made.Token()
	}
	const id = "0b7c1f6e-6a31-4f0e-9a55-5b1b7f2c9d10"
	seen := map[string]string{}
	for _, c := range []struct {
		kind  Kind
		value string
	}{{Email, "jane@example.com"}, {UserID, "jane@example.com"}, {Phone, "+31612345678"}, {UserID, "+31612345678"}, {AnonymousID, id}, {UserID, id}, {AnonymousID, "visitor-1"}} {
		got := token(shop, c.kind, c.value)
		if got != token(shop, c.kind, c.value) || got != token(again, c.kind, c.value) {
			t.Errorf("%s is not stable", c.kind)
		}
		if got == token(other, c.kind, c.value) {
			t.Errorf("%s matches across workspaces", c.kind)
		}
		if len(got) != 4+32 || got[:3] != prefixes[c.kind]+"1" {
			t.Errorf("%s has the form %q", c.kind, got)
		}
		if prior, ok := seen[got[4:]]; ok {
			t.Errorf("%s and %s collide", prior, c.kind)
		}
		seen[got[4:]] = string(c.kind)
	}
	if token(shop, Email, "JANE@example.com") != token(shop, Email, " jane@example.com") {
		t.Error("spelling changes the pseudonym")
	}
	if _, err := shop.Pseudonym(Email, "not an address"); !errors.Is(err, ErrNotAnIdentifier) {
		t.Errorf("got %v", err)
	}
}

func TestSealBindsToEverything(t *testing.T) {
	ctx, keys := context.Background(), newKeys(t)
	sealer, err := NewSealer(ctx, keys, "shop", []string{"marketing", "advertising"})
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(ctx, keys, "shop", []string{"marketing"})
	if err != nil {
		t.Fatal(err)
	}
	binding := Binding{Purpose: "marketing", Field: "email", Subject: "us1_00", Decision: "d1", Record: "r1"}
	s, key, err := sealer.Seal(binding, "jane@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opener.Open(s, key, binding); err != nil || got != "jane@example.com" {
		t.Fatalf("got %q, %v", got, err)
	}
	foreign, err := NewOpener(ctx, keys, "other", []string{"marketing"})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, o *Opener, s Sealed, k DataKey, b Binding) {
		t.Helper()
		if got, err := o.Open(s, k, b); err == nil {
			t.Errorf("%s: opened as %q", what, got)
		} else if strings.Contains(err.Error(), "jane") {
			t.Errorf("%s: the error repeats the value", what)
		}
	}
	change := func(f func(*Binding)) Binding { b := binding; f(&b); return b }
	refused("other purpose", opener, s, key, change(func(b *Binding) { b.Purpose = "advertising" }))
	refused("other field", opener, s, key, change(func(b *Binding) { b.Field = "phone" }))
	refused("other person", opener, s, key, change(func(b *Binding) { b.Subject = "us1_01" }))
	refused("other decision", opener, s, key, change(func(b *Binding) { b.Decision = "d2" }))
	refused("other record", opener, s, key, change(func(b *Binding) { b.Record = "r2" }))
	refused("parts of the binding shifted", opener, s, key, change(func(b *Binding) { b.Decision, b.Record = "d1r1", "" }))
	refused("other workspace", foreign, s, key, binding)
	for i := range s.Ciphertext {
		changed := Sealed{s.KeyID, bytes.Clone(s.Ciphertext)}
		changed.Ciphertext[i] ^= 1
		refused(fmt.Sprintf("byte %d changed", i), opener, changed, key, binding)
	}
	another, anotherKey, err := renewed(t, sealer).Seal(binding, "jane@example.com")
	if err != nil {
		t.Fatal(err)
	}
	refused("other key id", opener, Sealed{another.KeyID, s.Ciphertext}, key, binding)
	refused("other key", opener, s, anotherKey, binding)
	refused("other key and its id", opener, Sealed{another.KeyID, s.Ciphertext}, anotherKey, binding)
	claimed := anotherKey
	claimed.ID = key.ID
	refused("other key that claims to be this", opener, s, claimed, binding)
	claimed = key
	claimed.Purpose = "advertising"
	refused("key that claims another purpose", opener, s, claimed, change(func(b *Binding) { b.Purpose = "advertising" }))
	refused("short", opener, Sealed{s.KeyID, s.Ciphertext[:7]}, key, binding)
	enc := key
	enc.EncapsulatedKey = bytes.Clone(key.EncapsulatedKey)
	enc.EncapsulatedKey[0] ^= 1
	refused("other encapsulated key", opener, s, enc, binding)

	ad, adKey, err := sealer.Seal(Binding{Purpose: "advertising", Field: "email"}, "jane@example.com")
	if err != nil {
		t.Fatal(err)
	}
	refused("purpose without a private key", opener, ad, adKey, Binding{Purpose: "advertising", Field: "email"})
}

func FuzzNormalize(f *testing.F) {
	f.Add("jane@example.com", 0)
	f.Add("+31612345678", 1)
	kinds := []Kind{Email, Phone, UserID}
	f.Fuzz(func(t *testing.T, value string, kind int) {
		k := kinds[uint(kind)%3]
		once, err := Normalize(k, value, "NL")
		if err != nil {
			return
		}
		if twice, err := Normalize(k, once, "NL"); err != nil || twice != once {
			t.Errorf("%s: normalising twice differs: %q, %q, %v", k, once, twice, err)
		}
	})
}
