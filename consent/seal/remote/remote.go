// Package remote carries the evaluation of pseudonyms from collectors to the
// pseudonym service and back: HTTP over mutual TLS.
//
//	POST /v1/evaluate?version=1&proof=1
//
// The body is one or more blinded group elements of 32 bytes each, the answer as
// many evaluated ones in their order, and then, if it was asked for, 64 bytes of
// a proof for all of them. Any other status than 200 has no body to rely on; 429
// and 503 have Retry-After.
//
// A collector is known by its certificate: by the first DNS name in it, or else
// by its common name.
package remote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/sluis-cdp/sluis/consent/seal"
)

const (
	path        = "/v1/evaluate"
	contentType = "application/octet-stream"
)

// Files are those of one side's TLS, in PEM.
type Files struct {
	CA          string // who signs the certificates of the other side
	Certificate string // our own, with its chain
	Key         string
}

// load reads the files. TLS 1.3 alone is spoken: both sides are ours.
func (f Files) load() (*tls.Config, *x509.CertPool, error) {
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, nil, fmt.Errorf("%s: no certificate in PEM; `sluis pseudonym-service certs` makes one", f.CA)
	}
	own, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("reading our certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}}, pool, nil
}

// ServerTLS is the service's side: who has no certificate of the authority, made
// for a client, is not heard.
func (f Files) ServerTLS() (*tls.Config, error) {
	config, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, pool
	config.NextProtos = []string{"h2", "http/1.1"}
	return config, nil
}

// ClientTLS is the collector's side.
func (f Files) ClientTLS() (*tls.Config, error) {
	config, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	config.RootCAs = pool
	return config, nil
}

// nameOf is the collector's name by its certificate; empty if it has none.
func nameOf(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	leaf := state.VerifiedChains[0][0]
	if len(leaf.DNSNames) > 0 {
		return leaf.DNSNames[0]
	}
	return leaf.Subject.CommonName
}

// split cuts a text into elements; nil if it is not made of whole ones, or of
// none or too many.
func split(text []byte) [][]byte {
	n := len(text) / seal.ElementSize
	if n == 0 || n > seal.MaxElements || len(text)%seal.ElementSize != 0 {
		return nil
	}
	elements := make([][]byte, n)
	for i := range elements {
		elements[i] = text[i*seal.ElementSize : (i+1)*seal.ElementSize]
	}
	return elements
}
