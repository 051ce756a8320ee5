package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// remoteShop is a collector in remote mode with the keys of a collector alone, and
// its pseudonym service, each a process with a folder of its own.
type remoteShop struct {
	dir     string // the collector's: all that a thief of it has
	service string // the service's
	running *program
}

func newRemoteShop(t *testing.T) *remoteShop {
	s := &remoteShop{dir: newWorkspace(t), service: t.TempDir()}
	certs, keys := filepath.Join(s.service, "tls"), filepath.Join(s.service, "keys")
	outside := func(args ...string) string {
		t.Helper()
		var stdout, stderr strings.Builder
		if code := run(t.Context(), append([]string{"sluis", "pseudonym-service"}, args...), &stdout, &stderr); code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, stderr.String())
		}
		return stdout.String()
	}
	outside("certs", "--dir", certs, "--host", "127.0.0.1", "--collector", "shop-1")
	own := filepath.Join(s.dir, "keys")
	move := func(from, to string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.Rename(from, to)); err != nil {
			t.Fatal(err)
		}
	}
	move(filepath.Join(own, "pseudonym"), filepath.Join(keys, "pseudonym"))
	for _, file := range []string{"ca.pem", "shop-1.pem", "shop-1.key"} {
		text, err := os.ReadFile(filepath.Join(certs, file))
		if err := errors.Join(err, os.MkdirAll(filepath.Join(s.dir, "tls"), 0o700), os.WriteFile(filepath.Join(s.dir, "tls", file), text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	public, _, _ := strings.Cut(outside("public-key", "--keys", keys), " ")
	s.running = start(t, "pseudonym-service", "--listen", "127.0.0.1:0", "--operations-listen", "", "--keys", keys,
		"--ca", filepath.Join(certs, "ca.pem"), "--certificate", filepath.Join(certs, "service.pem"), "--key", filepath.Join(certs, "service.key"))
	edit(t, filepath.Join(s.dir, "sluis.yaml"), "  mode: local ", fmt.Sprintf(
		"  service: %s\n  ca: tls/ca.pem\n  certificate: tls/shop-1.pem\n  key: tls/shop-1.key\n  public_key: %s\n  mode: remote ", s.running.url, public))
	said(t, s.dir, "keys", "init", "--edge-only", filepath.Join(s.dir, "edge-keys"))
	if err := os.RemoveAll(own); err != nil {
		t.Fatal(err)
	}
	move(filepath.Join(s.dir, "edge-keys"), own)
	return s
}

const target = "jane.target@example.com"

// TestStolenEdge steals all that a collector in remote mode has, after it has seen
// a person: every file of its folder, with its keys and what landed there. With
// that, and without the service, a dictionary that has the person's e-mail address
// finds nothing. With the key of the service beside it the same attack finds the
// person, and so it does against a collector in local mode.
func TestStolenEdge(t *testing.T) {
	s := newRemoteShop(t)
	p := start(t, "collector", "--workspace", s.dir, "--listen", "127.0.0.1:0")
	identify := `{"userId":"customer-1","messageId":"signup-` + target + `","traits":{"email":"` + target + `","firstName":"Jane"},` + consented + `}`
	if response := post(t, p.url+"/v1/identify", identify); response.StatusCode != http.StatusOK {
		t.Fatalf("status %d", response.StatusCode)
	}
	p.terminate(t)
	rows := query(t, s.dir, "select unnest(identifiers).pseudonym as p from sluis.events")
	if len(rows) != 2 {
		t.Fatalf("%d pseudonyms landed", len(rows))
	}
	dictionary := []string{"somebody@example.com", target, "john@example.com", "customer-1", "customer-2", "Jane", "signup-" + target}
	if hits := attack(t, s.dir, dictionary); len(hits) > 0 {
		t.Errorf("with all that the collector has, these are found: %v", hits)
	}
	key, err := os.ReadFile(filepath.Join(s.service, "keys", "pseudonym"))
	if err := errors.Join(err, os.WriteFile(filepath.Join(s.dir, "keys", "pseudonym"), key, 0o600)); err != nil {
		t.Fatal(err)
	}
	hits := attack(t, s.dir, dictionary)
	for _, word := range []string{target, "customer-1", "Jane", "signup-" + target} {
		if !hits[word] {
			t.Errorf("with the key, as in local mode, the attack does not find %s: it shows nothing", word)
		}
	}
	if len(hits) != 4 {
		t.Errorf("the attack finds %v", hits)
	}

	// Without the service the collector refuses, rather than write anything.
	if err := os.Remove(filepath.Join(s.dir, "keys", "pseudonym")); err != nil {
		t.Fatal(err)
	}
	s.running.terminate(t)
	if strings.Contains(s.running.stderr.String(), "jane") {
		t.Error("the service's log has something of a person")
	}
	p = start(t, "collector", "--workspace", s.dir, "--listen", "127.0.0.1:0")
	response := post(t, p.url+"/v1/identify", strings.ReplaceAll(identify, "jane", "joan"))
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("without the service: status %d", response.StatusCode)
	}
	p.terminate(t)
	if n := query(t, s.dir, "select count(*) as n from sluis.events")[0]["n"]; n != 1.0 {
		t.Errorf("%v events landed", n)
	}
}

// loot is what a thief finds in a collector's folder.
type loot struct {
	secrets [][]byte            // what could be a key: each key, and the beginning of each other file
	keys    map[string][]byte   // by name
	found   map[string]bool     // pseudonyms, elements in hexadecimal, value tokens, digests of message ids
	values  map[string][]string // fields of sealed values, by pseudonym
}

func steal(t *testing.T, dir string) *loot {
	t.Helper()
	ctx, keys := context.Background(), seal.Dir(filepath.Join(dir, "keys"))
	l := &loot{keys: make(map[string][]byte), found: make(map[string]bool), values: make(map[string][]string)}
	names, err := keys.Names(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if l.keys[name], err = keys.Key(ctx, name); err != nil {
			t.Fatal(err)
		}
		l.secrets = append(l.secrets, l.keys[name])
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.Contains(path, "/sql/") {
			return err
		}
		text, err := os.ReadFile(path)
		if len(text) >= 32 {
			l.secrets = append(l.secrets, text[:32])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range query(t, dir, `select unnest(identifiers).pseudonym as a from sluis.events union all select hex(element) from sluis.elements
		union all select token from sluis.vault union all select replace(event_id, 'digest-', '') from sluis.events`) {
		l.found[strings.ToLower(row["a"].(string))] = true
	}
	for _, row := range query(t, dir, "select distinct pseudonym, field from sluis.vault") {
		l.values[row["pseudonym"].(string)] = append(l.values[row["pseudonym"].(string)], row["field"].(string))
	}
	return l
}

// guessed is a keyring of what the thief has, with some secret in the place of the
// key that is missing.
type guessed struct {
	keys  map[string][]byte
	named string
	with  []byte
}

func (g guessed) Key(_ context.Context, name string) ([]byte, error) {
	if name == g.named {
		return g.with, nil
	}
	if key, ok := g.keys[name]; ok && name != seal.KeyPseudonym {
		return key, nil
	}
	if name == seal.KeyPseudonymService && g.named == seal.KeyPseudonymEdge { // the scalar 1
		return append([]byte{1}, make([]byte, 31)...), nil
	}
	return nil, seal.ErrNoKey
}

func (g guessed) Names(context.Context) (names []string, err error) {
	for name := range g.keys {
		names = append(names, name)
	}
	return names, nil
}

// attack computes of each word of a dictionary all that can be computed with what
// is in the folder: with each secret as a key of the OPRF, as a seed and as a
// scalar, and as a key of a hash; and looks for it among what landed.
func attack(t *testing.T, dir string, dictionary []string) map[string]bool {
	t.Helper()
	l, hits := steal(t, dir), make(map[string]bool)
	try := func(word, computed string) {
		if l.found[computed] {
			hits[word] = true
		}
	}
	for _, secret := range append(l.secrets, []byte("shop"), nil) {
		for _, word := range dictionary {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(word))
			plain := sha256.Sum256(append(append([]byte{}, secret...), word...))
			for _, sum := range [][]byte{mac.Sum(nil), plain[:]} {
				text := hex.EncodeToString(sum)
				for _, form := range []string{text, text[:32], "em1_" + text[:32], "us1_" + text[:32]} {
					try(word, form)
				}
			}
		}
		for _, as := range []string{seal.KeyPseudonym, seal.KeyPseudonymEdge} {
			p, err := seal.NewPseudonymizer(context.Background(), guessed{l.keys, as, secret}, "shop", "")
			if err != nil {
				continue // no such key can be made of it
			}
			for _, word := range dictionary {
				guess(t, p, l, word, try)
			}
		}
	}
	return hits
}

// guess makes all that a pseudonymizer makes of a word.
func guess(t *testing.T, p *seal.Pseudonymizer, l *loot, word string, try func(word, computed string)) {
	t.Helper()
	batch := p.Batch()
	var subjects []seal.Pseudonym
	for _, kind := range []seal.Kind{seal.Email, seal.UserID, seal.AnonymousID} {
		made, err := batch.Pseudonym(kind, word)
		if err != nil {
			continue
		}
		subjects = append(subjects, made)
		try(word, made.Token())
		try(word, hex.EncodeToString(made.Element()))
	}
	if digest, err := batch.Digest("message_id", word); err == nil {
		try(word, digest)
	}
	user, err := batch.Pseudonym(seal.UserID, "customer-1") // a thief may know whose values these are
	if err == nil {
		subjects = append(subjects, user)
	}
	for _, subject := range subjects {
		for _, fields := range l.values {
			for _, field := range fields {
				for _, kind := range []seal.Kind{"", seal.Email} {
					if token, err := batch.ValueToken(subject, field, kind, word); err == nil {
						try(word, token)
					}
				}
			}
		}
	}
}
