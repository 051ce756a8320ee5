package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

const (
	dialTimeout = 10 * time.Second
	// OpenSSH's extensions of the protocol (PROTOCOL, section 4).
	posixRename = "posix-rename@openssh.com" // replaces what is there, at once
	fsync       = "fsync@openssh.com"
)

// sftpStore is a directory of an SFTP server. Files are written aside, synced where
// the server can do that, and renamed. Who else may read them is left to
// the account's umask there.
//
// A connection that broke, such as one that was idle for too long, is made anew.
type sftpStore struct {
	address string
	root    string
	client  ssh.ClientConfig

	connection *sftpConnection
}

type sftpConnection struct {
	ssh  *ssh.Client
	sftp *sftp.Client
	gone chan struct{} // closed when the connection is
}

// do calls use with a connection, which ends with ctx.
func (s *sftpStore) do(ctx context.Context, use func(*sftp.Client) error) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.ssh.Close() })
	err = use(c.sftp)
	if !stop() {
		s.connection = nil
		return ctx.Err()
	}
	return withoutPath(err)
}

func (s *sftpStore) connect(ctx context.Context) (*sftpConnection, error) {
	if c := s.connection; c != nil {
		select {
		case <-c.gone:
		default:
			return c, nil
		}
	}
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := c.sftp.HasExtension(posixRename); !ok {
		return nil, errors.Join(wrong("url", "the server cannot replace a file at once: it lacks "+posixRename+", which OpenSSH's has"), c.ssh.Close())
	}
	s.connection = c
	return c, nil
}

func (s *sftpStore) dial(ctx context.Context) (*sftpConnection, error) {
	raw, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		if network, ok := errors.AsType[*net.OpError](err); ok {
			err = network.Err // without the address, which the configuration has
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if err := raw.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	connection, channels, requests, err := ssh.NewClientConn(raw, s.address, &s.client)
	if err != nil {
		return nil, errors.Join(loginError(err), raw.Close())
	}
	client := ssh.NewClient(connection, channels, requests)
	files, err := sftp.NewClient(client, sftp.UseConcurrentWrites(true))
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin SFTP: %w", err), client.Close())
	}
	c := &sftpConnection{client, files, make(chan struct{})}
	go func() {
		_ = client.Wait() // why it ended, the next call says
		close(c.gone)
	}()
	return c, nil
}

// loginError says which field is wrong.
func loginError(err error) error {
	if problem, ok := errors.AsType[*hostKeyError](err); ok {
		return wrong("host_key", problem.Error())
	}
	if strings.Contains(err.Error(), "unable to authenticate") { // the library has no type for it
		return wrong("url", "the server does not let this user in: correct the user, private_key or password")
	}
	return fmt.Errorf("log in: %w", err)
}

func (s *sftpStore) close() error {
	if s.connection == nil {
		return nil
	}
	_ = s.connection.ssh.Close() // nothing is buffered: it may be gone
	<-s.connection.gone
	return nil
}

func (s *sftpStore) path(dir, name string) string { return path.Join(s.root, dir, name) }

func (s *sftpStore) dirs(ctx context.Context) ([]string, error) { return s.list(ctx, "", true) }

func (s *sftpStore) names(ctx context.Context, dir string) ([]string, error) {
	names, err := s.list(ctx, dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// list names what is in a directory: directories, or all else.
func (s *sftpStore) list(ctx context.Context, dir string, dirs bool) (names []string, err error) {
	err = s.do(ctx, func(c *sftp.Client) error {
		entries, err := c.ReadDirContext(ctx, s.path(dir, ""))
		for _, entry := range entries {
			if entry.IsDir() == dirs {
				names = append(names, entry.Name())
			}
		}
		return err
	})
	return names, err
}

func (s *sftpStore) read(ctx context.Context, dir, name string) (content []byte, err error) {
	err = s.do(ctx, func(c *sftp.Client) error {
		in, err := c.Open(s.path(dir, name))
		if err != nil {
			return err
		}
		content, err = io.ReadAll(in)
		return errors.Join(err, in.Close())
	})
	return content, err
}

// create asks first, since the protocol cannot name a file that was written aside
// unless there is one of that name. One process at a time writes a run.
func (s *sftpStore) create(ctx context.Context, dir, name string, content []byte) (created bool, err error) {
	err = s.do(ctx, func(c *sftp.Client) error {
		_, err := c.Lstat(s.path(dir, name))
		created = errors.Is(err, fs.ErrNotExist)
		if created {
			return nil
		}
		return err
	})
	if err != nil || !created {
		return false, err
	}
	return true, s.replace(ctx, dir, name, content)
}

func (s *sftpStore) replace(ctx context.Context, dir, name string, content []byte) error {
	return s.do(ctx, func(c *sftp.Client) (err error) {
		if err := ensureDir(c, s.path(dir, "")); err != nil {
			return err
		}
		aside := s.path(dir, asideName(name))
		out, err := c.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				_ = c.Remove(aside)
			}
		}()
		_, err = out.ReadFrom(bytes.NewReader(content))
		if _, ok := c.HasExtension(fsync); ok && err == nil {
			err = out.Sync()
		}
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
		return c.PosixRename(aside, s.path(dir, name))
	})
}

// ensureDir makes a directory if it is missing. The root is not made: that it
// is missing is a mistake, as a local one is.
func ensureDir(c *sftp.Client, dir string) error {
	if _, err := c.Stat(dir); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(path.Base(dir), runPrefix) {
		return err
	}
	return c.Mkdir(dir)
}

func (s *sftpStore) remove(ctx context.Context, dir, name string) error {
	return s.do(ctx, func(c *sftp.Client) error {
		if err := c.Remove(s.path(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func (s *sftpStore) tidy(ctx context.Context, dir string) error { return removeAside(ctx, s, dir) }

// withoutPath is an error less the path, which the configuration has. What is not
// there stays recognisable.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// parseKey reads a private key.
func parseKey(text, passphrase string) (ssh.Signer, error) {
	if !strings.HasSuffix(text, "\n") {
		text += "\n" // which {file: path} cuts, and OpenSSH's form needs
	}
	if passphrase != "" {
		signer, err := ssh.ParsePrivateKeyWithPassphrase([]byte(text), []byte(passphrase))
		if err != nil {
			return nil, wrong("passphrase", "does not open the private key")
		}
		return signer, nil
	}
	signer, err := ssh.ParsePrivateKey([]byte(text))
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		return nil, wrong("private_key", "is encrypted: give its passphrase, too")
	}
	if err != nil {
		return nil, wrong("private_key", "is no private key in PEM or OpenSSH's form: give it as private_key: {file: path}")
	}
	return signer, nil
}

// hostKeyError says which key a server showed. It is public.
type hostKeyError struct{ shown ssh.PublicKey }

func (e *hostKeyError) Error() string {
	return fmt.Sprintf("the server shows another key, %s %s: ask whoever runs it whether that is its own; else somebody is in between",
		e.shown.Type(), ssh.FingerprintSHA256(e.shown))
}

// hostKeys reads what is known of a server: fingerprints, or lines of
// known_hosts, of which the forms of keys are asked for.
func hostKeys(address, text string) (ssh.HostKeyCallback, []string, error) {
	const want = "want the server's key, as lines of known_hosts or as fingerprints such as SHA256:47DEQpj8…; ssh-keyscan shows it, and whoever runs the server says whether it is true"
	if text == "" {
		return nil, nil, wrong("host_key", want)
	}
	if words := strings.Fields(strings.ReplaceAll(text, ",", " ")); !slices.ContainsFunc(words, func(w string) bool { return !strings.HasPrefix(w, "SHA256:") }) {
		return func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if !slices.Contains(words, ssh.FingerprintSHA256(key)) {
				return &hostKeyError{key}
			}
			return nil
		}, nil, nil
	}
	check, err := knownHosts(text)
	if err != nil {
		return nil, nil, wrong("host_key", want)
	}
	algorithms := keyAlgorithms(check, address)
	if len(algorithms) == 0 {
		return nil, nil, wrong("host_key", "has no key of the host of url; of another port than 22 a line begins with [host]:port")
	}
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		if err := check(host, remote, key); err != nil {
			return &hostKeyError{key}
		}
		return nil
	}, algorithms, nil
}

// knownHosts is a callback by lines of known_hosts, which the library reads from a
// file alone.
func knownHosts(text string) (check ssh.HostKeyCallback, err error) {
	f, err := os.CreateTemp("", "known_hosts")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return knownhosts.New(f.Name())
}

// keyAlgorithms are those of the keys that are known of an address. A server has
// several keys, and shows the one that is asked for.
func keyAlgorithms(check ssh.HostKeyCallback, address string) (algorithms []string) {
	known, ok := errors.AsType[*knownhosts.KeyError](check(address, &net.TCPAddr{}, noKey{}))
	if !ok {
		return nil
	}
	for _, key := range known.Want {
		if kind := key.Key.Type(); kind == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, kind)
		}
	}
	return algorithms
}

// noKey is a key that no server has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
