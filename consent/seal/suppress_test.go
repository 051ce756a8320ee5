package seal

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func newTestSuppressor(t *testing.T, keys Keyring, workspace string) *Suppressor {
	t.Helper()
	s, err := NewSuppressor(context.Background(), keys, workspace)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A token says nothing without the key, and is that of one workspace.
func TestSuppressionTokensAreANamespaceOfTheirOwn(t *testing.T) {
	keys := Dir(t.TempDir())
	if err := keys.Add(KeySuppress, randomKey()); err != nil {
		t.Fatal(err)
	}
	const pseudonym = "em1_0123456789abcdef0123456789abcdef"
	s := newTestSuppressor(t, keys, "shop")
	token := s.Token(pseudonym)
	if token != s.Token(pseudonym) || token != newTestSuppressor(t, keys, "shop").Token(pseudonym) {
		t.Error("the token of a pseudonym is not always the same")
	}
	other := Dir(t.TempDir())
	if err := other.Add(KeySuppress, randomKey()); err != nil {
		t.Fatal(err)
	}
	different := map[string]string{
		"another pseudonym": s.Token("em1_1123456789abcdef0123456789abcdef"),
		"another workspace": newTestSuppressor(t, keys, "shop2").Token(pseudonym),
		"another key":       newTestSuppressor(t, other, "shop").Token(pseudonym),
	}
	for what, got := range different {
		if got == token {
			t.Errorf("%s has the same token", what)
		}
	}
	if strings.Contains(token, "0123456789abcdef") || !strings.HasPrefix(token, "su1_") || len(token) != 36 {
		t.Errorf("the token is not of its form")
	}
}

func TestSuppressorNeedsItsKey(t *testing.T) {
	if _, err := NewSuppressor(context.Background(), Dir(t.TempDir()), "shop"); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	short := Dir(t.TempDir())
	if err := short.Add(KeySuppress, []byte("short")); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSuppressor(context.Background(), short, "shop"); err == nil {
		t.Error("a short key was taken")
	}
}
