package seal

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// rotated is a workspace whose keys were rotated, with what carries it over.
func rotated(t testing.TB, keys Dir) (before, after *Pseudonymizer, r *Rotation) {
	t.Helper()
	ctx, folder := context.Background(), OpenFolder(keys, nil)
	before = newPseudonymizer(t, keys, "shop")
	if err := NextKeys(ctx, folder, nil, 1, 2); err != nil {
		t.Fatal(err)
	}
	r, err := NewRotation(ctx, keys, "shop", "NL", 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := DestroyKeys(ctx, 1, folder); err != nil {
		t.Fatal(err)
	}
	return before, newPseudonymizer(t, keys, "shop"), r
}

// TestRotationOfPseudonyms carries pseudonyms of random identifiers over, and compares with
// what the new keys make of the identifiers.
func TestRotationOfPseudonyms(t *testing.T) {
	before, after, r := rotated(t, newKeys(t))
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 500 {
		id := randomIdentifier(random)
		old, err := before.Pseudonym(id.kind, id.value)
		if err != nil {
			continue
		}
		want, err := after.Pseudonym(id.kind, id.value)
		if err != nil {
			t.Fatal(err)
		}
		parsed, ok := ParseToken(old.Token())
		if !ok || parsed.String() != old.Token() {
			t.Fatalf("%s is not read", id.kind)
		}
		got, element := r.RandomID(parsed), []byte(nil)
		if old.Element() != nil {
			if got, element, err = r.Element(parsed, old.Element()); err != nil {
				t.Fatal(err)
			}
		}
		if got.String() != want.Token() || string(element) != string(want.Element()) || got.Version != 2 {
			t.Fatalf("%s: carried over it differs from what the new keys make (seed %d)", id.kind, seed)
		}
	}
}

// TestRotatedElementsAreVerified: the element of one pseudonym does not carry over
// another, whoever wrote it there.
func TestRotatedElementsAreVerified(t *testing.T) {
	before, _, r := rotated(t, newKeys(t))
	jane, _ := before.Pseudonym(Email, "jane@example.com")
	john, _ := before.Pseudonym(Email, "john@example.com")
	user, _ := before.Pseudonym(UserID, "jane@example.com")
	p, _ := ParseToken(jane.Token())
	for name, element := range map[string][]byte{
		"another's": john.Element(), "of another kind": user.Element(), "none": nil, "the identity": make([]byte, 32), "short": jane.Element()[:31],
	} {
		if _, _, err := r.Element(p, element); !errors.Is(err, ErrElement) {
			t.Errorf("%s: %v", name, err)
		}
	}
	next, element, err := r.Element(p, jane.Element())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Element(next, element); !errors.Is(err, ErrElement) {
		t.Errorf("what was rotated was rotated again: %v", err)
	}
}

// TestRotationOfSplitKeys: both halves are made anew, in the places of the old.
func TestRotationOfSplitKeys(t *testing.T) {
	ctx, all := context.Background(), newKeys(t)
	want := newPseudonymizer(t, all, "shop")
	own, service := OpenFolder(all, nil), OpenFolder(newKeys(t), nil)
	edge, half, err := SplitKey(ctx, all, 1)
	if err := errors.Join(err, own.Add(ctx, KeyPseudonymEdge, edge), service.Add(ctx, KeyPseudonymService, half),
		own.Remove(KeyPseudonym), service.Remove(KeyPseudonym), service.Remove(KeyTokens)); err != nil {
		t.Fatal(err)
	}
	both := Overlay{own, service}
	if got := newPseudonymizer(t, both, "shop"); mustToken(t, got) != mustToken(t, want) {
		t.Error("splitting changed pseudonyms")
	}
	if err := NextKeys(ctx, own, service, 1, 2); err != nil {
		t.Fatal(err)
	}
	r, err := NewRotation(ctx, both, "shop", "NL", 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := want.Pseudonym(Email, "jane@example.com")
	p, _ := ParseToken(old.Token())
	next, _, err := r.Element(p, old.Element())
	if err != nil {
		t.Fatal(err)
	}
	if err := DestroyKeys(ctx, 1, own, service); err != nil {
		t.Fatal(err)
	}
	holder, err := NewKeyHolder(ctx, service)
	if err != nil {
		t.Fatal(err)
	}
	split, err := NewServedPseudonymizer(ctx, own, "shop", "NL", Service{Mode: Split, Evaluator: holder, PublicKey: holder.PublicKey(2)})
	if err != nil {
		t.Fatal(err)
	}
	if got := mustToken(t, split); got != next.String() {
		t.Errorf("the collector makes %s, the rotation %s", got[:4], next.String()[:4])
	}
	for _, folder := range []*Folder{own, service} {
		names, _ := folder.Names(ctx)
		for _, name := range names {
			if key, version := SplitVersion(name); version == 1 && strings.HasPrefix(key, "pseudonym") && key != KeyIDs {
				t.Errorf("the old key %s is still there", name)
			}
		}
	}
}

func mustToken(t *testing.T, p *Pseudonymizer) string {
	t.Helper()
	made, err := p.Pseudonym(Email, "jane@example.com")
	if err != nil {
		t.Fatal(err)
	}
	return made.Token()
}

// TestReseal: a value opens under its new binding alone, and its data key is as
// old as the one before.
func TestReseal(t *testing.T) {
	ctx, keys := context.Background(), newKeys(t)
	before, after, r := rotated(t, keys)
	sealer, err := NewSealer(ctx, keys, "shop", []string{"marketing"})
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(ctx, keys, "shop", []string{"marketing"})
	if err != nil {
		t.Fatal(err)
	}
	old, _ := before.Pseudonym(Email, "jane@example.com")
	next, _ := after.Pseudonym(Email, "jane@example.com")
	key := DataKey{ID: "of old", CreatedAt: time.Unix(1_700_000_000, 0)}
	b := Binding{Purpose: "marketing", Field: "email", Subject: next.Token(), Decision: "d"}
	seen := map[string]bool{}
	for range 100 {
		s, k, err := r.Reseal(sealer, b, "jane@example.com", key)
		if err != nil {
			t.Fatal(err)
		}
		if value, err := opener.Open(s, k, b); err != nil || value != "jane@example.com" || !k.CreatedAt.Equal(key.CreatedAt) {
			t.Fatalf("got %q, %v, created %v", value, err, k.CreatedAt)
		}
		other := b
		other.Subject = old.Token()
		if _, err := opener.Open(s, k, other); !errors.Is(err, ErrCannotOpen) {
			t.Errorf("it opens under the old pseudonym: %v", err)
		}
		if nonce := s.KeyID + string(s.Ciphertext[:8]); seen[nonce] {
			t.Fatal("a nonce repeated")
		} else {
			seen[nonce] = true
		}
	}
	p, _ := ParseToken(next.Token())
	got, err := r.ValueToken(p, "email", "jane@example.com")
	want, _ := after.Batch().ValueToken(next, "email", Email, "JANE@example.com")
	if err != nil || got != want {
		t.Errorf("a collector will take the value for another: %v", err)
	}
}

func TestParseToken(t *testing.T) {
	const digits = "0123456789abcdef0123456789abcdef"
	for token, ok := range map[string]bool{
		"em1_" + digits: true, "an12_" + digits: true, "gr9_" + digits: true,
		"": false, "em1_": false, "em_" + digits: false, "em0_" + digits: false, "em01_" + digits: false, "em+1_" + digits: false,
		"xx1_" + digits: false, "em1_" + digits + "0": false, "em1_" + strings.ToUpper(digits): false, "em1-" + digits: false, "su1_" + digits: false,
	} {
		if p, got := ParseToken(token); got != ok || got && p.String() != token {
			t.Errorf("%q: %t", token, got)
		}
	}
}

// BenchmarkRotate is the part of a rotation that is per pseudonym and cannot be
// had for less: one multiplication in the group, and the check of the element.
func BenchmarkRotate(b *testing.B) {
	before, _, r := rotated(b, newKeys(b))
	made, _ := before.Pseudonym(Email, "jane@example.com")
	p, _ := ParseToken(made.Token())
	for b.Loop() {
		if _, _, err := r.Element(p, made.Element()); err != nil {
			b.Fatal(err)
		}
	}
}
