// Package sftptest gives tests OpenSSH's real server, on a port of 127.0.0.1, with
// SFTP for whoever runs the test.
package sftptest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// ErrNotInstalled says how to get what is missing.
var ErrNotInstalled = errors.New("OpenSSH's server is not installed: apt-get install openssh-server")

// Server is a running server. It reaches all files of who runs the test.
type Server struct {
	Address     string // host:port
	User        string
	PrivateKey  string // that lets the user in, in OpenSSH's form
	Fingerprint string // of the server's key
	KnownHosts  string // the same as a line of known_hosts

	dir     string
	command *exec.Cmd
	input   io.Closer
	output  bytes.Buffer
}

// Start starts a server and waits until it takes connections. It ends with this
// process, however that ends, or with ctx.
func Start(ctx context.Context) (*Server, error) {
	binary, err := find()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluis-sftp-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if err := s.start(ctx, binary); err != nil {
		return nil, errors.Join(fmt.Errorf("start sshd: %w\n%s", err, s.output.Bytes()), s.Stop())
	}
	return s, nil
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

func (s *Server) start(ctx context.Context, binary string) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	s.User = me.Username
	if err := s.keys(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it puts the part without rights
			return err
		}
	}
	config := fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\nStrictModes no\nUsePAM no\nPidFile none\n"+
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nForceCommand internal-sftp\n",
		host, port, s.dir, s.dir)
	if err := os.WriteFile(filepath.Join(s.dir, "config"), []byte(config), 0o600); err != nil {
		return err
	}
	// The shell holds the server's life: its input ends when this process does.
	s.command = exec.CommandContext(ctx, "sh", "-c", `"$@" & server=$!; cat >/dev/null; kill $server; wait $server`, "sh",
		binary, "-D", "-e", "-f", filepath.Join(s.dir, "config"))
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

// keys makes the server's key and the user's, and takes a free port.
func (s *Server) keys() error {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return err
	}
	s.Address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	host, hostKey, err := newKey()
	if err != nil {
		return err
	}
	s.Fingerprint, s.KnownHosts = ssh.FingerprintSHA256(host), knownhosts.Line([]string{s.Address}, host)
	mine, myKey, err := newKey()
	if err != nil {
		return err
	}
	s.PrivateKey = string(myKey)
	return errors.Join(os.WriteFile(filepath.Join(s.dir, "host"), hostKey, 0o600),
		os.WriteFile(filepath.Join(s.dir, "authorized"), ssh.MarshalAuthorizedKey(mine), 0o600))
}

func newKey() (ssh.PublicKey, []byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(block), nil
}

// ready waits until the server says that it is, and then keeps on reading what
// it says, since nobody else does.
func (s *Server) ready(output io.Reader) error {
	buffer := make([]byte, 4096)
	for {
		n, err := output.Read(buffer)
		s.output.Write(buffer[:n])
		if bytes.Contains(s.output.Bytes(), []byte("Server listening on")) {
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return nil
		}
		if err != nil {
			return fmt.Errorf("it ended: %w", err)
		}
	}
}

// find is where the server is: sshd wants to be called by its whole path, and
// Debian keeps it out of that of users.
func find() (string, error) {
	for _, name := range []string{"sshd", "/usr/sbin/sshd"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", ErrNotInstalled
}
