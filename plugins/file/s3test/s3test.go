// Package s3test gives tests a real S3 server: Versity's gateway over a directory
// of this machine, with TLS, conditional writes, checksums and versions.
//
// It is built the first time, which takes minutes and needs Go and its module proxy.
package s3test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	gateway = "github.com/versity/versitygw/cmd/versitygw"
	version = "v1.8.0"
)

// The access key of a server.
const (
	AccessKeyID     = "sluis-test"
	SecretAccessKey = "correct horse battery staple"
)

// Server is a running server.
type Server struct {
	Endpoint string // its URL
	CA       string // the authority of its certificate, in PEM
	Root     string // has a directory for each bucket, and in it the objects as files

	dir     string
	command *exec.Cmd
	input   io.Closer
	output  bytes.Buffer
}

// Start starts a server and waits until it answers. It ends with this process,
// however that ends, or with ctx.
func Start(ctx context.Context) (*Server, error) {
	binary, err := build(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluis-s3-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, Root: filepath.Join(dir, "buckets")}
	if err := s.start(ctx, binary); err != nil {
		stopped := s.Stop() // it writes no more, then
		return nil, errors.Join(fmt.Errorf("start versitygw: %w\n%s", err, s.output.Bytes()), stopped)
	}
	return s, nil
}

// MakeBucket makes a bucket, as whoever has the disk may.
func (s *Server) MakeBucket(name string) error {
	return os.Mkdir(filepath.Join(s.Root, name), 0o700)
}

// Versions are the files of the older versions of a bucket's objects.
func (s *Server) Versions(bucket string) string { return filepath.Join(s.dir, "versions", bucket) }

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

// build returns the program, which is kept for the next time.
func build(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "sluis", "versitygw-"+version)
	binary := filepath.Join(dir, filepath.Base(gateway))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	command := exec.CommandContext(ctx, "go", "install", gateway+"@"+version)
	command.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", gateway, err, out)
	}
	return binary, nil
}

func (s *Server) start(ctx context.Context, binary string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	s.Endpoint = "https://" + address
	if err := errors.Join(l.Close(), os.Mkdir(s.Root, 0o700), os.Mkdir(filepath.Join(s.dir, "versions"), 0o700), s.certificate()); err != nil {
		return err
	}
	// The shell holds the server's life: its input ends when this process does.
	s.command = exec.CommandContext(ctx, "sh", "-c", `"$@" & server=$!; cat >/dev/null; kill -KILL $server; wait $server`, "sh",
		binary, "--port", address, "--cert", filepath.Join(s.dir, "server.crt"), "--key", filepath.Join(s.dir, "server.key"), "--quiet", "--keep-alive", "--health", "/health",
		"posix", "--sidecar", s.sidecar(), "--versioning-dir", filepath.Join(s.dir, "versions"), s.Root)
	s.command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKeyID, "ROOT_SECRET_KEY="+SecretAccessKey)
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	if s.input, err = s.command.StdinPipe(); err != nil {
		return err
	}
	s.command.Cancel = s.input.Close // to kill the shell would leave the server
	if err := s.command.Start(); err != nil {
		return err
	}
	return s.answers(ctx)
}

// sidecar keeps what the server knows of objects: a file system for temporary
// files may have no extended attributes.
func (s *Server) sidecar() string {
	dir := filepath.Join(s.dir, "meta")
	_ = os.Mkdir(dir, 0o700) // the server says so if it is missing
	return dir
}

// answers waits until the server is there.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, err := s.Client()
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/health", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			return response.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// Client is one that trusts the server.
func (s *Server) Client() (*http.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(s.CA)) {
		return nil, errors.New("the certificate is none")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: transport}, nil
}

func (s *Server) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "s3test"},
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
	return errors.Join(os.WriteFile(filepath.Join(s.dir, "server.crt"), []byte(s.CA), 0o600),
		os.WriteFile(filepath.Join(s.dir, "server.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
