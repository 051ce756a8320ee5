// Package postgrestest gives tests a real PostgreSQL server of their own: on a
// port of 127.0.0.1 with TLS, and on a socket, in a temporary directory.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// ErrNotInstalled says how to get what is missing.
var ErrNotInstalled = errors.New("PostgreSQL is not installed: apt-get install postgresql")

// The superuser of a server, whose password it asks for over TCP.
const (
	User     = "postgres"
	Password = "correct horse battery staple"
)

// Server is a running server. Whatever is in it is gone after Stop.
type Server struct {
	Socket string // the directory of its socket, where it asks for no password
	Port   int    // on 127.0.0.1 and on the socket
	CA     string // the authority of its certificate, in PEM

	dir     string
	command *exec.Cmd
	input   io.Closer
	output  bytes.Buffer
}

// Start starts a server and waits until it takes connections. It ends with this
// process, however that ends, or with ctx. Run by root, it runs as the user postgres or
// nobody, since PostgreSQL refuses root.
func Start(ctx context.Context) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluis-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, Socket: dir}
	if err := s.start(ctx, bin); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w\n%s", err, s.output.Bytes()), s.Stop())
	}
	return s, nil
}

// URL is the server's address over TCP for the destination's configuration.
func (s *Server) URL() string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres", User, s.Port)
}

// SocketURL is its address over the socket.
func (s *Server) SocketURL() string {
	return fmt.Sprintf("postgres://%s@:%d/postgres?host=%s", User, s.Port, s.Socket)
}

// Stop ends the server and removes what it left.
func (s *Server) Stop() error {
	var errs []error
	if s.input != nil {
		if err := s.input.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
		_ = s.command.Wait() // it was killed
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func (s *Server) start(ctx context.Context, bin string) error {
	as, err := unprivileged()
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	if err := s.certificates(as); err != nil {
		return err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", User, "-A", "scram-sha-256", "--auth-local=trust",
		"--pwfile="+filepath.Join(s.dir, "password"), "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as.attributes(), s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if s.Port, err = freePort(ctx); err != nil {
		return err
	}
	// The shell holds the server's life: its input ends when this process does.
	s.command = exec.CommandContext(ctx, "sh", "-c", `"$@" & server=$!; cat >/dev/null; kill -QUIT $server; wait $server`, "sh",
		filepath.Join(bin, "postgres"), "-D", data, "-k", s.Socket, "-p", strconv.Itoa(s.Port), "-h", "127.0.0.1",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "ssl=on",
		"-c", "ssl_cert_file="+filepath.Join(s.dir, "server.crt"), "-c", "ssl_key_file="+filepath.Join(s.dir, "server.key"))
	s.command.SysProcAttr, s.command.Dir = as.attributes(), s.dir
	output, err := s.command.StderrPipe()
	if err != nil {
		return err
	}
	if s.input, err = s.command.StdinPipe(); err != nil {
		return err
	}
	s.command.Cancel = s.input.Close // to kill the shell would leave the server
	if err := s.command.Start(); err != nil {
		return err
	}
	return s.ready(output)
}

// ready waits until the server says that it is, and then keeps on reading what
// it says, since nobody else does.
func (s *Server) ready(output io.Reader) error {
	buffer := make([]byte, 4096)
	for {
		n, err := output.Read(buffer)
		s.output.Write(buffer[:n])
		if bytes.Contains(s.output.Bytes(), []byte("ready to accept connections")) {
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return nil
		}
		if err != nil {
			return fmt.Errorf("it ended: %w", err)
		}
	}
}

// certificates writes the files that the server reads at its start.
func (s *Server) certificates(as account) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postgrestest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	s.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	for name, content := range map[string][]byte{
		"password":   []byte(Password),
		"server.crt": []byte(s.CA),
		"server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		path := filepath.Join(s.dir, name)
		if err := errors.Join(os.WriteFile(path, content, 0o600), as.own(path)); err != nil {
			return err
		}
	}
	return as.own(s.dir)
}

// account is whom the server runs as; the zero value is who runs the test.
type account struct {
	uid, gid int
}

func unprivileged() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(found.Uid)
		gid, err2 := strconv.Atoi(found.Gid)
		return account{uid, gid}, errors.Join(err1, err2)
	}
	return account{}, errors.New("there is no user to run it as, and it refuses root")
}

func (a account) attributes() *syscall.SysProcAttr {
	if a.uid == 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), NoSetGroups: true}}
}

func (a account) own(path string) error {
	if a.uid == 0 {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// binaries is where the newest installed server is. Debian keeps it out of PATH.
func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if len(found) > 0 {
		return filepath.Dir(found[0]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return "", ErrNotInstalled
		}
		return "", err
	}
	return filepath.Dir(path), nil
}

func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
