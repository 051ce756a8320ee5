package file

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
)

// What is wrong is said of its field, without its value, before anything is reached.
func TestConfig(t *testing.T) {
	s3 := map[string]string{
		"url": "s3://bucket/prefix", "endpoint": "https://s3.eu-central-1.amazonaws.com", "access_key_id": "id", "secret_access_key": "secret",
	}
	sftp := map[string]string{
		"url": "sftp://user@example.test:2222/out", "password": "secret", "host_key": "SHA256:uNiVztksCsDhcc0u9e8BrqYXtUXMzdrT4fLUv1yGQ0I",
	}
	const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	for _, tt := range []struct {
		base         map[string]string
		field, value string
		says         string // "" where it is right
	}{
		{s3, "format", "parquet", ""},
		{s3, "endpoint", "http://10.0.0.7:9000", ""},
		{s3, "endpoint", "http://minio.example.test", "must be https"},
		{s3, "endpoint", "", "want the server's URL"},
		{s3, "endpoint", "https://hunter2@minio.example.test", "want the server's URL"},
		{s3, "url", "s3://hunter2:x@bucket", "must not hold a password"},
		{s3, "url", "gs://hunter2", "want s3://bucket/prefix"},
		{s3, "access_key_id", "", "is required"},
		{s3, "secret_access_key", "", "is required"},
		{s3, "path_style", "hunter2", `want "true" or "false"`},
		{s3, "tls_ca", "hunter2", "no certificate"},
		{s3, "host_key", "hunter2", "sftp://… alone"},
		{s3, "directory", "hunter2", "beside url"},
		{sftp, "url", "sftp://user@example.test", ""},
		{sftp, "url", "sftp://example.test/hunter2", "with a user"},
		{sftp, "url", "sftp://user:hunter2@example.test/", "must not hold a password"},
		{sftp, "host_key", "", "lines of known_hosts"},
		{sftp, "host_key", "hunter2", "lines of known_hosts"},
		{sftp, "host_key", "[example.test]:2222 " + hostKey, ""},
		{sftp, "host_key", "example.test " + hostKey, "no key of the host"},
		{sftp, "password", "", "private_key: give the user's private_key"},
		{sftp, "private_key", "hunter2", "is no private key"},
		{sftp, "passphrase", "hunter2", "private_key alone"},
		{sftp, "access_key_id", "hunter2", "s3://… alone"},
	} {
		config := maps.Clone(tt.base)
		config[tt.field] = tt.value
		err := destination.Validate(New(), config)
		if tt.says == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.field, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.field+": ") && !strings.HasPrefix(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s %q: %v, want %q", tt.field, tt.value, err, tt.says)
		}
	}
}

// A server that shows another key gets no password, and one that does not know the
// user's key is named as such.
func TestSFTPRefuses(t *testing.T) {
	for _, tt := range []struct{ field, value, says string }{
		{"host_key", "SHA256:uNiVztksCsDhcc0u9e8BrqYXtUXMzdrT4fLUv1yGQ0I", "host_key: the server shows another key, ssh-ed25519 SHA256:"},
		{"private_key", "", "does not let this user in"},
		{"url", "", "cannot be written to: file does not exist"},
	} {
		server := sftpServer(t)
		config := map[string]string{
			"url":         "sftp://" + server.User + "@" + server.Address + "/hunter2/is/not/there",
			"private_key": server.PrivateKey, "host_key": server.Fingerprint,
		}
		if tt.field != "url" {
			config[tt.field] = tt.value
			config["password"] = "hunter2"
		}
		err := New().Open(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
}

// A connection that the server has ended is made anew.
func TestSFTPReconnects(t *testing.T) {
	server, dir := sftpServer(t), t.TempDir()
	d := opened(t, map[string]string{
		"url": "sftp://" + server.User + "@" + server.Address + dir, "private_key": server.PrivateKey, "host_key": server.Fingerprint,
	})
	mustWrite(t, d, batch("b1", "one"))
	connection := d.(*file).store.(*sftpStore).connection
	if err := connection.ssh.Close(); err != nil {
		t.Fatal(err)
	}
	<-connection.gone
	mustWrite(t, d, batch("b2", "two"))
	mustClose(t, d)
	if n := len(tree(t, dir)); n != 3 {
		t.Errorf("%d files, want two parts and a manifest", n)
	}
}

// A server without conditional writes and versions is asked, then, whether a part is
// there. What it says of it is not repeated.
func TestS3WithoutConditions(t *testing.T) {
	objects := map[string]bool{}
	answer := func(w http.ResponseWriter, status int, code string) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = w.Write([]byte("<Error><Code>" + code + "</Code><Message>" + destinationtest.Canary + "</Message></Error>"))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("versions"), r.Header.Get("If-None-Match") != "":
			answer(w, http.StatusNotImplemented, "NotImplemented")
		case strings.HasSuffix(r.URL.Path, "part-full.csv") && r.Method == http.MethodPut:
			answer(w, http.StatusForbidden, "QuotaExceeded")
		case r.Method == http.MethodPut:
			if r.Header.Get("X-Amz-Checksum-Sha256") == "" {
				answer(w, http.StatusBadRequest, "InvalidRequest")
			}
			objects[r.URL.Path] = true
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodHead && !objects[r.URL.Path]:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodHead:
			w.Header().Set("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
			w.Header().Set("Etag", `"x"`)
		}
	}))
	defer server.Close()
	config := map[string]string{"url": "s3://bucket", "endpoint": server.URL, "access_key_id": "id", "secret_access_key": "secret"}
	f := opened(t, config).(*file)
	for i, want := range []bool{true, false} {
		created, err := f.store.create(t.Context(), "run=r", "part-b.csv", []byte("x"))
		if err != nil || created != want {
			t.Errorf("time %d: created %v, %v", i, created, err)
		}
	}
	_, err := f.Write(t.Context(), batch("full", "x"))
	if err == nil || !strings.Contains(err.Error(), "403 QuotaExceeded") || strings.Contains(err.Error(), destinationtest.Canary) {
		t.Errorf("err = %v", err)
	}
}
