package limit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// gate counts what all requests hold together.
type gate struct {
	maxRequests, maxBytes int64
	requests, bytes       atomic.Int64
}

// handler counts for each request until it is answered.
func (g *gate) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		b := &body{ReadCloser: r.Body, gate: g, answer: w.Header()}
		defer b.release()
		r.Body = b
		next.ServeHTTP(w, r)
	})
}

// body is a request's body that counts.
type body struct {
	io.ReadCloser
	gate     *gate
	answer   http.Header
	held     int64
	admitted bool
}

func (b *body) Read(p []byte) (n int, err error) {
	n, err = b.ReadCloser.Read(p)
	if full := b.hold(int64(n)); full != nil {
		b.answer.Set("Connection", "close") // or the answer would wait for the rest
		return n, full
	}
	return n, err
}

func (b *body) hold(n int64) error {
	b.held += n
	if b.gate.bytes.Add(n) > b.gate.maxBytes {
		return &Refusal{http.StatusServiceUnavailable, "busy", "too much is being sent to the collector at once", time.Second}
	}
	return nil
}

// admit lets a request that has been read be worked on.
func (b *body) admit() error {
	b.admitted = true
	if b.gate.requests.Add(1) > b.gate.maxRequests {
		return &Refusal{http.StatusServiceUnavailable, "busy", "too many requests are being worked on at once", time.Second}
	}
	return nil
}

func (b *body) release() {
	b.gate.bytes.Add(-b.held)
	if b.admitted {
		b.gate.requests.Add(-1)
	}
}

// Read reads the body of a request, and decompresses it where it says that it
// is gzip. It holds at most so many bytes of either form, whatever the ratio.
// Its error is a [Refusal].
func Read(r *http.Request, most int64) (string, error) {
	var from io.Reader = &counted{Reader: r.Body, left: most + 1}
	zipped, err := isGzip(r.Header.Get("Content-Encoding"))
	if err != nil {
		return "", err
	}
	if zipped {
		unzipper, err := unzip(from)
		if err != nil {
			return "", refusal(err, "invalid_gzip", "the body is not gzip")
		}
		defer unzippers.Put(unzipper)
		from = io.LimitReader(unzipper, most+1)
	}
	text := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(text)
	text.Reset()
	_, err = text.ReadFrom(from)
	if err == nil && int64(text.Len()) > most {
		err = errTooLarge
	}
	if err != nil {
		if errors.Is(err, errTooLarge) {
			discard(r, most)
		}
		return "", refusal(err, "unreadable_body", "the body could not be read to its end")
	}
	if b, ok := r.Body.(*body); ok {
		if zipped {
			if err := b.hold(int64(text.Len())); err != nil {
				return "", err
			}
		}
		if err := b.admit(); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}

// buffers are what bodies are read into.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func isGzip(encoding string) (bool, error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return false, nil
	case "gzip", "x-gzip":
		return true, nil
	default:
		return false, &Refusal{Status: http.StatusUnsupportedMediaType, Code: "unsupported_encoding", Message: "a body may be compressed by gzip, and by nothing else"}
	}
}

var errTooLarge = &Refusal{Status: http.StatusBadRequest, Code: "too_large", Message: "the body is larger than the API allows: 32 KB for a call, 4 MB for a batch"}

// discard reads what a client still sends of a body that is too large, up to a
// bound: one that is cut off while it sends may never see the answer, and a proxy
// answers 502 in its place.
func discard(r *http.Request, most int64) {
	from := r.Body
	if b, ok := from.(*body); ok {
		from = b.ReadCloser // what is thrown away is not held
	}
	_, _ = io.CopyN(io.Discard, from, 2*most) // as far as it goes
}

// refusal is what to answer when a body cannot be read: what it says itself,
// else 408 for a client that is too slow, else 400.
func refusal(err error, code, message string) error {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Refusal{http.StatusRequestTimeout, "too_slow", "the body was not sent in time", time.Second}
	default:
		return &Refusal{Status: http.StatusBadRequest, Code: code, Message: message}
	}
}

// counted is a reader that fails after some bytes. It is its own error rather
// than the end, which would be an error of gzip's.
type counted struct {
	io.Reader
	left int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLarge
	}
	n, err := c.Reader.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// unzippers are kept, since each has tables of 40 KB.
var unzippers sync.Pool

func unzip(from io.Reader) (*gzip.Reader, error) {
	if z, ok := unzippers.Get().(*gzip.Reader); ok {
		return z, z.Reset(from)
	}
	return gzip.NewReader(from)
}
