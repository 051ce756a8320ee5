package seal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudflare/circl/hpke"
)

// Dir is the path of a keyring on disk; see [Folder]. It is itself a Keyring, of
// keys that are not encrypted.
type Dir string

// Key reads one key file.
func (d Dir) Key(ctx context.Context, name string) ([]byte, error) {
	return OpenFolder(d, nil).Key(ctx, name)
}

// Names lists the key files.
func (d Dir) Names(ctx context.Context) ([]string, error) { return OpenFolder(d, nil).Names(ctx) }

// Add stores a key under a new name; see [Folder.Add].
func (d Dir) Add(name string, key []byte) error {
	return OpenFolder(d, nil).Add(context.Background(), name, key)
}

// Ensure adds a secret that is missing; see [Folder.Ensure].
func (d Dir) Ensure(ctx context.Context, name string) (added bool, err error) {
	return OpenFolder(d, nil).Ensure(ctx, name)
}

// Folder is a Keyring on disk: a folder with one file per key, mode 0600, each
// one line,
//
//	sluis-key-v1 <name> <key> <created>
//	sluis-key-v2 <name> <sealed key> <created> <id> <derivation>
//
// the second where the key is encrypted with a passphrase. Each file stands by
// itself, is written whole or not at all, and is never overwritten but to
// encrypt or decrypt it. All methods may be called concurrently.
type Folder struct {
	dir    string
	unlock *unlocker
	fresh  string // derivation of what is added to a folder without encrypted keys; empty adds in clear
}

// Passphrase asks for the passphrase of a folder. It is called when the first
// encrypted file is read, and not again after it gave one.
type Passphrase func(context.Context) ([]byte, error)

// OpenFolder is the keyring in d. ask may be nil: then encrypted keys are
// refused.
func OpenFolder(d Dir, ask Passphrase) *Folder {
	return &Folder{dir: string(d), unlock: &unlocker{ask: ask, derived: make(map[string][]byte)}}
}

const (
	plainHeader  = "sluis-key-v1"
	sealedHeader = "sluis-key-v2"
)

// keyFile is one key file.
type keyFile struct {
	name       string
	body       []byte // the key, or what it was sealed to
	created    time.Time
	id         string // of an encrypted key
	derivation string // of an encrypted key
}

func (f *keyFile) encrypted() bool { return f.derivation != "" }

func (f *keyFile) String() string {
	body, created := base64.StdEncoding.EncodeToString(f.body), f.created.UTC().Format(time.RFC3339)
	if f.encrypted() {
		return fmt.Sprintf("%s %s %s %s %s %s\n", sealedHeader, f.name, body, created, f.id, f.derivation)
	}
	return fmt.Sprintf("%s %s %s %s\n", plainHeader, f.name, body, created)
}

// Key reads one key. A file that others than its owner may read is refused.
func (f *Folder) Key(ctx context.Context, name string) ([]byte, error) {
	file, err := f.read(name)
	if err != nil {
		return nil, err
	}
	if !file.encrypted() {
		return file.body, nil
	}
	key, err := f.unlock.open(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(name), err)
	}
	return key, nil
}

// Names lists the key files; other files in the folder are none.
func (f *Folder) Names(context.Context) ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the keys: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue // being written
		}
		text, err := os.ReadFile(f.path(entry.Name()))
		if err == nil && isKeyFile(text) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func isKeyFile(text []byte) bool {
	return bytes.HasPrefix(text, []byte(plainHeader+" ")) || bytes.HasPrefix(text, []byte(sealedHeader+" "))
}

func (f *Folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *Folder) read(name string) (*keyFile, error) {
	path := f.path(name)
	if name != filepath.Base(name) {
		return nil, fmt.Errorf("%s: a key's name is no path", path)
	}
	text, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: make what a new purpose needs with `sluis keys init`, or restore the keys folder from its backup", path, ErrNoKey)
	}
	if err != nil {
		return nil, err
	}
	file, err := parseKeyFile(text)
	if err != nil || file.name != name {
		return nil, fmt.Errorf("%s: not a key file for %q: want one line %q; restore it from its backup", path, name, plainHeader+" "+name+" <base64>")
	}
	return file, nil
}

// readPrivate reads a file that only its owner can read.
func readPrivate(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: others than its owner may read or change this key (mode %04o): run chmod 600 %s, and rotate it if somebody may have", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%s: it is too large to be a key", path)
	}
	return text, nil
}

const maxKeyFile = 64 << 10 // ten times that of a public key that is encrypted

func parseKeyFile(text []byte) (*keyFile, error) {
	malformed := errors.New("not a key file")
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return nil, malformed
	}
	file := &keyFile{name: fields[1]}
	var err error
	if file.body, err = base64.StdEncoding.DecodeString(fields[2]); err != nil {
		return nil, malformed
	}
	switch {
	case fields[0] == plainHeader && len(fields) == 3: // before keys had versions
		return file, nil
	case fields[0] == plainHeader && len(fields) == 4:
	case fields[0] == sealedHeader && len(fields) == 6:
		file.id, file.derivation = fields[4], fields[5]
	default:
		return nil, malformed
	}
	file.created, err = time.Parse(time.RFC3339, fields[3])
	return file, err
}

// Add stores a key under a new name, encrypted if other keys of the folder are.
// It never replaces one: a key that is lost takes with it everything it sealed.
func (f *Folder) Add(ctx context.Context, name string, key []byte) error {
	derivation, err := f.derivation(ctx)
	if err != nil {
		return err
	}
	file := &keyFile{name: name, body: key, created: time.Now()}
	if derivation != "" {
		if err := f.unlock.seal(ctx, file, derivation); err != nil {
			return fmt.Errorf("encrypting the key %s: %w", name, err)
		}
	}
	temporary, err := f.write(file)
	if err != nil {
		return fmt.Errorf("adding a key: %w", err)
	}
	// A link, unlike a rename, never replaces what is there.
	err = os.Link(temporary, f.path(name))
	if err := errors.Join(err, os.Remove(temporary), syncDir(f.dir)); err != nil {
		return fmt.Errorf("adding a key: %w", err)
	}
	return nil
}

// replace writes a key file anew, in another form.
func (f *Folder) replace(file *keyFile) error {
	temporary, err := f.write(file)
	if err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	if err := errors.Join(os.Rename(temporary, f.path(file.name)), syncDir(f.dir)); err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	return nil
}

// write writes a key file aside, in the same folder.
func (f *Folder) write(file *keyFile) (temporary string, err error) {
	out, err := os.CreateTemp(f.dir, ".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = out.WriteString(file.String())
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return "", errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, fs.ErrInvalid) {
		err = nil // a file system without it
	}
	return errors.Join(err, d.Close())
}

// Ensure adds 32 random bytes under a name that the keyring does not have yet,
// as one made by an earlier version. It tells whether it did.
func (f *Folder) Ensure(ctx context.Context, name string) (added bool, err error) {
	if _, err := f.Key(ctx, name); !errors.Is(err, ErrNoKey) {
		return false, err
	}
	return true, f.Add(ctx, name, randomKey())
}

// Remove destroys a key. On a disk that moves what it writes, its bytes may last
// until they are overwritten.
func (f *Folder) Remove(name string) error {
	if err := errors.Join(os.Remove(f.path(name)), syncDir(f.dir)); err != nil {
		return fmt.Errorf("destroying a key: %w", err)
	}
	return nil
}

// Holders tell who needs a key.
type Holders string

// The holders.
const (
	HeldByCollector Holders = "collector"        // and by nobody else
	HeldInside      Holders = "sluis"            // opens what is sealed; no collector may have it
	HeldByBoth      Holders = "collector, sluis" // the collector seals with it, sluis opens
	HeldByService   Holders = "pseudonym service"
)

// Info is what may be told of a key.
type Info struct {
	Name      string
	Key       string // the name without the version
	Version   int
	Purpose   string // of one half of a key pair
	ID        string // as rows in seal_keys refer to it
	Created   time.Time
	Current   bool // the latest version
	Encrypted bool
	Holders   Holders
}

// List tells of all keys of the folder, by name and version. It needs no
// passphrase.
func (f *Folder) List(ctx context.Context) ([]Info, error) {
	names, err := f.Names(ctx)
	if err != nil {
		return nil, err
	}
	latest := make(map[string]int)
	for _, name := range names {
		key, version := SplitVersion(name)
		latest[key] = max(latest[key], version)
	}
	list := make([]Info, 0, len(names))
	for _, name := range names {
		info, err := f.info(name)
		if err != nil {
			return nil, err
		}
		info.Current = latest[info.Key] == info.Version
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Version, b.Version))
	})
	return list, nil
}

func (f *Folder) info(name string) (Info, error) {
	file, err := f.read(name)
	if err != nil {
		return Info{}, err
	}
	info := Info{Name: name, ID: file.id, Created: file.created, Encrypted: file.encrypted()}
	info.Key, info.Version = SplitVersion(name)
	info.Holders = holdersOf(info.Key)
	if info.ID == "" {
		if info.ID, err = identify(name, file.body); err != nil {
			return Info{}, err
		}
	}
	if info.Created.IsZero() {
		info.Created = f.modified(name)
	}
	if purpose, ok := purposeOf(name, keyPublic); ok {
		info.Purpose = purpose
	}
	if purpose, ok := purposeOf(name, keyPrivate); ok {
		info.Purpose = purpose
	}
	return info, nil
}

// modified is when a file was written: as good a time as there is for one that
// does not say.
func (f *Folder) modified(name string) time.Time {
	at, err := os.Stat(f.path(name))
	if err != nil {
		return time.Time{}
	}
	return at.ModTime()
}

// Generate makes a new keyring in d, which must not exist or be empty: the
// secrets of the collector and a key pair for each purpose.
func Generate(d Dir, purposes []string) error {
	if entries, err := os.ReadDir(string(d)); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: the keys folder is not empty; keys are never overwritten", d)
	}
	_, err := OpenFolder(d, nil).Init(context.Background(), purposes, Secrets{})
	return err
}

// ErrMissing is returned by Init for a secret that the keyring had, or should
// have had.
var ErrMissing = errors.New("the key is missing from a keyring that is in use: restore it from its backup, since a new one would not fit what was made with it")

// Secrets say what to do about secrets that a keyring in use lacks.
type Secrets struct {
	Make      []string // are made: this keyring never had them
	Elsewhere []string // are kept by others, as that of pseudonyms may be
}

// Init adds the key pairs of purposes that have none, and to an empty folder also
// the secrets. In one that is in use a secret that is missing is [ErrMissing],
// unless lacking names it. It returns the names that it added, also with an error.
func (f *Folder) Init(ctx context.Context, purposes []string, lacking Secrets) (added []string, err error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the keys folder: %w", err)
	}
	names, err := f.Names(ctx)
	if err != nil {
		return nil, err
	}
	lacks := func(name string) bool {
		return !slices.ContainsFunc(names, func(one string) bool { key, _ := SplitVersion(one); return key == name })
	}
	collector := f.ofCollector(names)
	for _, s := range secrets {
		switch {
		case !lacks(s.name), collector && s.holders == HeldInside, slices.Contains(lacking.Elsewhere, s.name):
			continue
		case len(names) > 0 && !slices.Contains(lacking.Make, s.name):
			return added, fmt.Errorf("%s: %w", f.path(s.name), ErrMissing)
		}
		if err := f.Add(ctx, s.name, randomKey()); err != nil {
			return added, err
		}
		added = append(added, s.name)
	}
	if slices.Contains(lacking.Make, KeyRemovals) && lacks(KeyRemovals) && !collector { // no other keyring needs it
		if err := f.Add(ctx, KeyRemovals, randomKey()); err != nil {
			return added, err
		}
		added = append(added, KeyRemovals)
	}
	for _, purpose := range purposes {
		if !lacks(KeyPublic(purpose)) {
			continue
		}
		if collector {
			return added, fmt.Errorf("%s: this is a collector's keyring, which holds no private keys: make the keys of the purpose %s where those are, and export them from there", f.dir, purpose)
		}
		pair, err := f.addPair(ctx, purpose, 1)
		added = append(added, pair...)
		if err != nil {
			return added, err
		}
	}
	return added, nil
}

// ofCollector tells a keyring that has public keys alone.
func (f *Folder) ofCollector(names []string) bool {
	var public, private bool
	for _, name := range names {
		_, isPublic := purposeOf(name, keyPublic)
		_, isPrivate := purposeOf(name, keyPrivate)
		public, private = public || isPublic, private || isPrivate
	}
	return public && !private
}

// addPair adds a key pair: the private half first, since with the public one the
// pair comes into use.
func (f *Folder) addPair(ctx context.Context, purpose string, version int) (added []string, err error) {
	public, private, err := hpke.KEM_XWING.Scheme().GenerateKeyPair()
	if err != nil {
		return nil, fmt.Errorf("making the key pair of purpose %s: %w", purpose, err)
	}
	pub, err := public.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encoding the public key of purpose %s: %w", purpose, err)
	}
	priv, err := private.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encoding the private key of purpose %s: %w", purpose, err)
	}
	halves := []struct {
		name string
		key  []byte
	}{{Version(KeyPrivate(purpose), version), priv}, {Version(KeyPublic(purpose), version), pub}}
	for _, half := range halves {
		if err := f.Add(ctx, half.name, half.key); err != nil {
			return added, err
		}
		added = append(added, half.name)
	}
	return added, nil
}

// RotatePurpose makes the next version of a purpose's key pair. Private keys of
// earlier versions stay, to open what was sealed for them. It returns the names
// that it added, also with an error.
func (f *Folder) RotatePurpose(ctx context.Context, purpose string) (added []string, err error) {
	next, err := f.next(ctx, KeyPublic(purpose))
	if err != nil {
		return nil, err
	}
	// A private half alone is what an interrupted rotation left.
	private, err := Versions(ctx, f, KeyPrivate(purpose))
	if err != nil {
		return nil, err
	}
	if len(private) > 0 {
		next = max(next, private[len(private)-1]+1)
	}
	return f.addPair(ctx, purpose, next)
}

// RotateSecret makes the next version of the cookie's or the edge's key, and
// returns its name. Earlier versions stay, and go on verifying and opening.
func (f *Folder) RotateSecret(ctx context.Context, name string) (string, error) {
	if name != KeyCookie && name != KeyEdge {
		return "", fmt.Errorf("rotating the key %s: only %s and %s are rotated so", name, KeyCookie, KeyEdge)
	}
	next, err := f.next(ctx, name)
	if err != nil {
		return "", err
	}
	added := Version(name, next)
	return added, f.Add(ctx, added, randomKey())
}

// next is the version after the latest.
func (f *Folder) next(ctx context.Context, name string) (int, error) {
	versions, err := Versions(ctx, f, name)
	if err != nil {
		return 0, err
	}
	if len(versions) == 0 {
		_, err := f.Key(ctx, name)
		return 0, cmp.Or(err, ErrNoKey)
	}
	return versions[len(versions)-1] + 1, nil
}

// Export copies to another folder, which must not have them, the keys that a
// collector needs: of its secrets what it makes and verifies with, and the public
// key of each purpose that is in use; but for those that are named, which this
// collector's mode of pseudonyms leaves to the service. It returns the names that it
// wrote, also with an error.
func (f *Folder) Export(ctx context.Context, to *Folder, without ...string) (names []string, err error) {
	if err := os.MkdirAll(to.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of a collector's keys: %w", err)
	}
	list, err := f.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, info := range list {
		// What came before is needed to verify, never to seal.
		if info.Holders == HeldInside || info.Holders == HeldByService || slices.Contains(without, info.Key) || !info.Current && (info.Purpose != "" || info.Key == KeyEdge) {
			continue
		}
		key, err := f.Key(ctx, info.Name)
		if err != nil {
			return names, err
		}
		if err := to.Add(ctx, info.Name, key); err != nil {
			return names, err
		}
		names = append(names, info.Name)
	}
	return names, nil
}

// unlocker opens and seals key files with a passphrase.
type unlocker struct {
	ask Passphrase

	mu      sync.Mutex
	phrase  []byte
	derived map[string][]byte // by derivation
}
