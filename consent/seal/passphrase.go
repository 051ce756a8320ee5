package seal

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/argon2"
)

// Keys on disk are encrypted with AES-256-GCM and a random nonce, under a key
// that Argon2id (RFC 9106) derives of the passphrase. All files of a folder that
// were encrypted together share one derivation, so that a keyring is opened at
// the price of one.
const (
	argonPasses  = 3 // RFC 9106 §4, second recommended option
	argonThreads = 4

	// A file that was tampered with may not ask for more than this.
	maxArgonPasses  = 16
	maxArgonMemory  = 1 << 20 // KiB
	maxArgonThreads = 16
)

// Errors of keys that are encrypted, for errors.Is.
var (
	ErrLocked          = errors.New("the key is encrypted, and no passphrase was given: name its file with --passphrase-file, or set SLUIS_PASSPHRASE_FILE")
	ErrWrongPassphrase = errors.New("the passphrase is not the one that this key was encrypted with, or the file was changed")
)

var argonMemory = 64 << 10 // KiB; tests take less

// newDerivation is the text "argon2id:passes:memory:threads:salt" that an
// encrypted file says how it was made.
func newDerivation() string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	return fmt.Sprintf("argon2id:%d:%d:%d:%s", argonPasses, argonMemory, argonThreads, base64.RawStdEncoding.EncodeToString(salt))
}

// derive makes the key that a derivation describes.
func deriveKey(phrase []byte, derivation string) ([]byte, error) {
	var passes, memory, threads uint32
	var text string
	_, err := fmt.Sscanf(derivation, "argon2id:%d:%d:%d:%s", &passes, &memory, &threads, &text)
	if err != nil || passes < 1 || passes > maxArgonPasses || memory < 8 || memory > maxArgonMemory || threads < 1 || threads > maxArgonThreads {
		return nil, errors.New("the key file does not say how it was encrypted in a way that this program knows")
	}
	salt, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(salt) < 16 {
		return nil, errors.New("the key file has no salt")
	}
	return argon2.IDKey(phrase, salt, passes, memory, uint8(threads), 32), nil
}

// key derives the key of a file once.
func (u *unlocker) key(ctx context.Context, derivation string) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if known, ok := u.derived[derivation]; ok {
		return known, nil
	}
	if u.phrase == nil {
		if u.ask == nil {
			return nil, ErrLocked
		}
		phrase, err := u.ask(ctx)
		if err != nil {
			return nil, err
		}
		if len(phrase) == 0 {
			return nil, ErrLocked
		}
		u.phrase = phrase
	}
	key, err := deriveKey(u.phrase, derivation)
	if err != nil {
		return nil, err
	}
	u.derived[derivation] = key
	return key, nil
}

// fileData binds a key to its name, so that files cannot be exchanged.
func fileData(f *keyFile) []byte {
	return join("sluis/key-file/v2", f.name, f.created.UTC().Format(time.RFC3339), f.id, f.derivation)
}

func (u *unlocker) open(ctx context.Context, file *keyFile) ([]byte, error) {
	key, err := u.key(ctx, file.derivation)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	if len(file.body) < aead.NonceSize() {
		return nil, ErrWrongPassphrase
	}
	opened, err := aead.Open(nil, file.body[:aead.NonceSize()], file.body[aead.NonceSize():], fileData(file))
	if err != nil {
		return nil, ErrWrongPassphrase
	}
	return opened, nil
}

// seal encrypts a file that is not.
func (u *unlocker) seal(ctx context.Context, file *keyFile, derivation string) error {
	id, err := identify(file.name, file.body)
	if err != nil {
		return err
	}
	key, err := u.key(ctx, derivation)
	if err != nil {
		return err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	file.id, file.derivation = id, derivation
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	file.body = aead.Seal(nonce, nonce, file.body, fileData(file))
	return nil
}

// derivation is that of the folder's encrypted keys, whose passphrase is tried
// before it is used for more; empty if none is encrypted.
func (f *Folder) derivation(ctx context.Context) (string, error) {
	names, err := f.Names(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		file, err := f.read(name)
		if err != nil {
			return "", err
		}
		if file.encrypted() {
			_, err := f.Key(ctx, name)
			return file.derivation, err
		}
	}
	return f.fresh, nil
}

// NewEncryptedFolder is the keyring in d, whose keys are or will be encrypted with
// a passphrase from the first on.
func NewEncryptedFolder(d Dir, phrase []byte) (*Folder, error) {
	if err := checkPassphrase(phrase); err != nil {
		return nil, err
	}
	f := OpenFolder(d, func(context.Context) ([]byte, error) { return phrase, nil })
	f.fresh = newDerivation()
	return f, nil
}

// minPassphrase is not what makes one strong; it keeps out what cannot be.
const minPassphrase = 12

func checkPassphrase(phrase []byte) error {
	if len(phrase) < minPassphrase {
		return fmt.Errorf("encrypting the keys: the passphrase has %d bytes, at least %d are needed; it has to resist guessing by whoever has the files", len(phrase), minPassphrase)
	}
	return nil
}

// Encrypt encrypts all keys with a passphrase, also those that are encrypted with
// another one, which the folder then asks for. It may be interrupted at any point
// and repeated. From then on the folder's passphrase is this one. It returns the
// names that it wrote, also with an error.
func (f *Folder) Encrypt(ctx context.Context, phrase []byte) (names []string, err error) {
	if err := checkPassphrase(phrase); err != nil {
		return nil, err
	}
	next := &unlocker{phrase: phrase, derived: make(map[string][]byte)}
	derivation := newDerivation()
	names, err = f.rewrite(ctx, func(file *keyFile) (changed bool, err error) {
		if file.created.IsZero() {
			file.created = f.modified(file.name)
		}
		if file.encrypted() {
			if _, err := next.open(ctx, file); err == nil {
				return false, nil
			}
			if file.body, err = f.unlock.open(ctx, file); err != nil {
				return false, err
			}
		}
		return true, next.seal(ctx, file, derivation)
	})
	if err == nil {
		f.unlock, f.fresh = next, derivation
	}
	return names, err
}

// Decrypt writes all keys in clear. It may be interrupted at any point and
// repeated.
func (f *Folder) Decrypt(ctx context.Context) (names []string, err error) {
	f.fresh = ""
	return f.rewrite(ctx, func(file *keyFile) (changed bool, err error) {
		if !file.encrypted() {
			return false, nil
		}
		file.body, err = f.unlock.open(ctx, file)
		file.id, file.derivation = "", ""
		return true, err
	})
}

func (f *Folder) rewrite(ctx context.Context, change func(*keyFile) (bool, error)) (written []string, err error) {
	names, err := f.Names(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		file, err := f.read(name)
		if err != nil {
			return written, err
		}
		changed, err := change(file)
		if err != nil {
			return written, fmt.Errorf("%s: %w", f.path(name), err)
		}
		if !changed {
			continue
		}
		if err := f.replace(file); err != nil {
			return written, err
		}
		written = append(written, name)
	}
	return written, nil
}
