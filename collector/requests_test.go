package collector

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRequestsOfOtherSDKs sends what SDKs send that do not run here: their
// paths, headers, encodings and ids as their source makes them, with an event
// of ours. testdata/requests/*.http has the requests, before compression; the
// golden files what is written of them.
func TestRequestsOfOtherSDKs(t *testing.T) {
	files, err := filepath.Glob("testdata/requests/*.http")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d requests, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			b := newBench(t, nil)
			server := httptest.NewServer(b.Handler())
			defer server.Close()
			answer, body := exchange(t, server.Listener.Addr().String(), file)
			if answer.StatusCode != http.StatusOK || strings.TrimSpace(body) != `{"success":true}` {
				t.Fatalf("%d %s", answer.StatusCode, body)
			}
			compareGolden(t, strings.TrimSuffix(file, ".http")+".golden", b.readable(t))
		})
	}
}

// exchange writes a request as its file says and reads the answer.
func exchange(t *testing.T, address, file string) (*http.Response, string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		t.Fatalf("%s has no body", file)
	}
	body = bytes.TrimSuffix(body, []byte("\n"))
	if bytes.Contains(head, []byte("Content-Encoding: gzip")) {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		body = zipped.Bytes()
	}
	r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.ReplaceAll(head, []byte("\n"), []byte("\r\n"))), strings.NewReader("\r\n\r\n"))))
	if err != nil {
		t.Fatal(err)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(r.TransferEncoding) > 0 {
		r.ContentLength = -1 // unknown, so in chunks
	}
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	if err := r.Write(connection); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(connection), r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(got)
}
