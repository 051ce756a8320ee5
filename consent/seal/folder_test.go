package seal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeyringRefuses(t *testing.T) {
	ctx, keys := context.Background(), newKeys(t)
	if _, err := keys.Key(ctx, "missing"); !errors.Is(err, ErrNoKey) {
		t.Errorf("missing key: %v", err)
	}
	if err := Generate(keys, nil); err == nil {
		t.Error("a keyring was overwritten")
	}
	if err := keys.Add(KeyEdge, randomKey()); err == nil {
		t.Error("a key was overwritten")
	}
	info, err := os.Stat(filepath.Join(string(keys), KeyPseudonym))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	for _, text := range []string{"", "sluis-key-v1 other aGk=", "sluis-key-v1 edge !!!", "nonsense"} {
		if err := os.WriteFile(filepath.Join(string(keys), KeyEdge), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Key(ctx, KeyEdge); err == nil {
			t.Errorf("%q was read as a key", text)
		}
	}
}

// TestReadableKeyIsRefused gives others rights to a key, one at a time.
func TestReadableKeyIsRefused(t *testing.T) {
	keys := newKeys(t)
	path := filepath.Join(string(keys), KeyEdge)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Key(t.Context(), KeyEdge); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Key(t.Context(), KeyEdge); err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func phrase(text string) Passphrase {
	return func(context.Context) ([]byte, error) { return []byte(text), nil }
}

const (
	rightPhrase = "correct horse battery staple"
	wrongPhrase = "incorrect horse battery staple"
)

// deriveCheaply lets a passphrase resist guessing less, for the time of a test.
func deriveCheaply(t *testing.T) {
	t.Helper()
	before := argonMemory
	argonMemory = 32
	t.Cleanup(func() { argonMemory = before })
}

// contents are all keys of a keyring.
func contents(t *testing.T, keys Keyring) map[string][]byte {
	t.Helper()
	names, err := keys.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, name := range names {
		if all[name], err = keys.Key(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestPassphrase(t *testing.T) {
	deriveCheaply(t)
	ctx, dir := t.Context(), newKeys(t)
	want := contents(t, dir)
	secret := filepath.Join(string(dir), "webhook.secret")
	if err := os.WriteFile(secret, []byte("whsec_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := OpenFolder(dir, nil)
	if _, err := folder.Encrypt(ctx, []byte("short")); err == nil {
		t.Error("a short passphrase was taken")
	}
	before, err := folder.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	names, err := folder.Encrypt(ctx, []byte(rightPhrase))
	if err != nil || len(names) != len(want) {
		t.Fatalf("encrypting: %v, %v", names, err)
	}
	if again, err := folder.Encrypt(ctx, []byte(rightPhrase)); err != nil || len(again) != 0 {
		t.Errorf("encrypting twice: %v, %v", again, err)
	}
	for name, key := range want {
		text, err := os.ReadFile(filepath.Join(string(dir), name))
		if err != nil || bytes.Contains(text, key) || bytes.Contains(text, []byte((&keyFile{body: key}).String()[15:60])) {
			t.Errorf("%s is in clear on disk: %v", name, err)
		}
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "whsec_x" {
		t.Errorf("a file that is no key was changed: %q, %v", text, err)
	}

	for _, test := range []struct {
		ask  Passphrase
		want error
	}{{nil, ErrLocked}, {phrase(""), ErrLocked}, {phrase(wrongPhrase), ErrWrongPassphrase}} {
		if _, err := OpenFolder(dir, test.ask).Key(ctx, KeyEdge); !errors.Is(err, test.want) {
			t.Errorf("got %v, want %v", err, test.want)
		}
		if err := OpenFolder(dir, test.ask).Add(ctx, "new", randomKey()); !errors.Is(err, test.want) {
			t.Errorf("adding: got %v, want %v", err, test.want)
		}
	}
	asked := 0
	opened := OpenFolder(dir, func(context.Context) ([]byte, error) { asked++; return []byte(rightPhrase), nil })
	if diff := cmp.Diff(want, contents(t, opened)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if asked != 1 {
		t.Errorf("the passphrase was asked for %d times", asked)
	}
	after, err := OpenFolder(dir, nil).List(ctx) // without a passphrase
	if err != nil {
		t.Fatal(err)
	}
	for i := range after {
		if !after[i].Encrypted || before[i].Encrypted {
			t.Errorf("%s: encrypted before: %v, and after: %v", after[i].Name, before[i].Encrypted, after[i].Encrypted)
		}
		after[i].Encrypted = false
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("encrypted keys are listed otherwise: (-want +got)\n%s", diff)
	}

	// What is added is encrypted too.
	if _, err := opened.RotatePurpose(ctx, "marketing"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(dir, nil).Key(ctx, "purpose-marketing.private-2"); !errors.Is(err, ErrLocked) {
		t.Errorf("a new key of an encrypted keyring: %v", err)
	}
	want = contents(t, opened)

	// Another passphrase, and none.
	if _, err := opened.Encrypt(ctx, []byte(wrongPhrase)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(dir, phrase(rightPhrase)).Key(ctx, KeyEdge); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	if diff := cmp.Diff(want, contents(t, OpenFolder(dir, phrase(wrongPhrase)))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if names, err := OpenFolder(dir, phrase(wrongPhrase)).Decrypt(ctx); err != nil || len(names) != len(want) {
		t.Fatalf("decrypting: %v, %v", names, err)
	}
	if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestEncryptedFilesAreBound exchanges files, and changes what they say.
func TestEncryptedFilesAreBound(t *testing.T) {
	deriveCheaply(t)
	ctx, dir := t.Context(), newKeys(t)
	if _, err := OpenFolder(dir, nil).Encrypt(ctx, []byte(rightPhrase)); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(string(dir), name) }
	cookie, err := os.ReadFile(at(KeyCookie))
	if err != nil {
		t.Fatal(err)
	}
	edge, err := os.ReadFile(at(KeyEdge))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(edge))
	with := func(i int, text string) string {
		changed := slices.Clone(fields)
		changed[i] = text
		return strings.Join(changed, " ") + "\n"
	}
	for what, text := range map[string]string{
		"another key under this name": strings.Replace(string(cookie), " cookie ", " edge ", 1),
		"another time":                with(3, "2020-01-01T00:00:00Z"),
		"another id":                  with(4, "0011223344556677"),
		"a derivation of too much":    with(5, "argon2id:3:99999999:4:"+strings.Split(fields[5], ":")[4]),
		"a derivation without salt":   with(5, "argon2id:3:65536:4:"),
		"another derivation":          with(5, "scrypt:1"),
		"a short body":                with(2, "AAAA"),
	} {
		if err := os.WriteFile(at(KeyEdge), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFolder(dir, phrase(rightPhrase)).Key(ctx, KeyEdge); err == nil {
			t.Errorf("%s: it was taken", what)
		}
	}
}

// TestEncryptionIsInterrupted stops after each file, and goes on: no key is lost,
// and none is left as it was.
func TestEncryptionIsInterrupted(t *testing.T) {
	deriveCheaply(t)
	ctx := t.Context()
	dir := newKeys(t)
	want := contents(t, dir)
	old := []byte(rightPhrase)
	for _, stop := range []int{1, len(want) / 2, len(want) - 1} {
		// The first n files are under the new passphrase, the others under the old.
		next := []byte(strings.Repeat("x", 12+stop))
		folder := OpenFolder(dir, phrase(string(old)))
		done := 0
		derivation := newDerivation()
		unlock := &unlocker{phrase: next, derived: make(map[string][]byte)}
		_, err := folder.rewrite(ctx, func(file *keyFile) (bool, error) {
			if done == stop {
				return false, context.Canceled
			}
			done++
			var err error
			if file.encrypted() {
				if file.body, err = folder.unlock.open(ctx, file); err != nil {
					return false, err
				}
			}
			return true, unlock.seal(ctx, file, derivation)
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped after %d files: %v", stop, err)
		}
		if _, err := OpenFolder(dir, phrase(string(old))).Encrypt(ctx, next); err != nil {
			t.Fatalf("going on after %d files: %v", stop, err)
		}
		if diff := cmp.Diff(want, contents(t, OpenFolder(dir, phrase(string(next))))); diff != "" {
			t.Fatalf("after %d files: (-want +got)\n%s", stop, diff)
		}
		old = next
	}
}

func TestInit(t *testing.T) {
	ctx, dir := t.Context(), newKeys(t)
	folder := OpenFolder(dir, nil)
	before := contents(t, dir)
	added, err := folder.Init(ctx, []string{"marketing", "advertising", "loyalty"}, Secrets{})
	if err != nil || strings.Join(added, " ") != "purpose-loyalty.private purpose-loyalty.public" {
		t.Errorf("a new purpose: %v, %v", added, err)
	}
	if added, err := folder.Init(ctx, []string{"marketing", "loyalty"}, Secrets{}); err != nil || len(added) != 0 {
		t.Errorf("nothing new: %v, %v", added, err)
	}
	for name, key := range before {
		if now, err := folder.Key(ctx, name); err != nil || !bytes.Equal(now, key) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
	// A secret that is gone is not made anew by itself.
	if err := folder.Remove(KeyCookie); err != nil {
		t.Fatal(err)
	}
	if added, err := folder.Init(ctx, nil, Secrets{}); !errors.Is(err, ErrMissing) || len(added) != 0 {
		t.Errorf("a missing secret: %v, %v", added, err)
	}
	if added, err := folder.Init(ctx, nil, Secrets{Make: []string{KeyCookie}}); err != nil || strings.Join(added, " ") != KeyCookie {
		t.Errorf("a secret that is asked for: %v, %v", added, err)
	}
}

// TestExport gives a collector what it needs: it seals, what comes out opens
// inside, and in its folder there is nothing that opens.
func TestExport(t *testing.T) {
	ctx, dir := t.Context(), newKeys(t)
	folder := OpenFolder(dir, nil)
	for range 2 {
		if _, err := folder.RotatePurpose(ctx, "marketing"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{KeyEdge, KeyCookie} {
		if _, err := folder.RotateSecret(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	edge := Dir(filepath.Join(t.TempDir(), "edge"))
	names, err := folder.Export(ctx, OpenFolder(edge, nil))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	want := []string{"cookie", "cookie-2", "edge-2", "pseudonym", "pseudonym-ids", "pseudonym-tokens", "purpose-advertising.public", "purpose-marketing.public-3", "record", "suppress"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	s, k, err := newSealer(t, edge).Seal(Binding{Purpose: "marketing"}, "x")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newOpener(t, dir, "marketing").Open(s, k, Binding{Purpose: "marketing"}); err != nil || got != "x" {
		t.Errorf("what the collector sealed: %v", err)
	}
	if _, err := NewOpener(ctx, edge, "shop", []string{"marketing"}); !errors.Is(err, ErrNoKey) {
		t.Errorf("a collector's keyring opens: %v", err)
	}
	if _, err := OpenFolder(edge, nil).Init(ctx, []string{"loyalty"}, Secrets{}); err == nil || !strings.Contains(err.Error(), "collector's keyring") {
		t.Errorf("a key pair made at the edge: %v", err)
	}
	if _, err := folder.Export(ctx, OpenFolder(edge, nil)); err == nil {
		t.Error("keys were overwritten")
	}
	// Where a service has the key of pseudonyms, the collector has not.
	for _, name := range []string{KeyPseudonymEdge, KeyPseudonymService} {
		if err := folder.Add(ctx, name, randomKey()); err != nil {
			t.Fatal(err)
		}
	}
	names, err = folder.Export(ctx, OpenFolder(Dir(filepath.Join(t.TempDir(), "split")), nil), KeyPseudonym)
	if err != nil || !slices.Contains(names, KeyPseudonymEdge) || slices.Contains(names, KeyPseudonym) || slices.Contains(names, KeyPseudonymService) {
		t.Errorf("in split mode: %v, %v", names, err)
	}
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		name, key string
		version   int
	}{
		{"cookie", "cookie", 1},
		{"cookie-2", "cookie", 2},
		{"cookie-10", "cookie", 10},
		{"cookie-1", "cookie-1", 1}, // would be a second name for the first
		{"cookie-02", "cookie-02", 1},
		{"cookie-x", "cookie-x", 1},
		{"purpose-team-2.public", "purpose-team-2.public", 1},
		{"purpose-team-2.public-3", "purpose-team-2.public", 3},
	} {
		key, version := SplitVersion(test.name)
		if key != test.key || version != test.version {
			t.Errorf("%s: %s, %d", test.name, key, version)
		}
		if Version(key, version) != test.name {
			t.Errorf("%s: put together it is %s", test.name, Version(key, version))
		}
	}
}
