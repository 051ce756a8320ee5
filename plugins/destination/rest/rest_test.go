package rest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

func TestDo(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "/x", http.StatusFound)
			return
		}
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, r.Method+" "+r.Header.Get("Authorization")+" "+r.Header.Get("Content-Type")+" "+string(body))
	}))
	defer s.Close()
	c := New(s.URL+"/", http.Header{"Authorization": {"Bearer t"}}, time.Minute)
	defer c.Close()
	for _, tt := range []struct {
		path   string
		body   any
		status int
		want   string
	}{
		{"/x", map[string]string{"a": "<é>"}, 418, `POST Bearer t application/json {"a":"<é>"}`},
		{"/x", nil, 418, "POST Bearer t  "},
		{"/elsewhere", nil, 302, ""},
	} {
		got, err := c.Do(t.Context(), http.MethodPost, tt.path, tt.body)
		if err != nil || got.Status != tt.status || string(got.Body) != tt.want {
			t.Errorf("%s: %d %q, %v", tt.path, got.Status, got.Body, err)
		}
	}
	for want, c := range map[string]*Client{"GET Bearer u  ": c.With("Authorization", "Bearer u"), "GET Bearer t  ": c} {
		if got, err := c.Do(t.Context(), http.MethodGet, "/x", nil); err != nil || string(got.Body) != want {
			t.Errorf("%q, %v; want %q", got.Body, err, want)
		}
	}
}

func TestLost(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	large := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.Copy(w, io.LimitReader(zeros{}, maxReply+1))
	}))
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	}))
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for code, base := range map[string]string{
		"timeout": slow.URL, "reply_too_large": large.URL, "reply_lost": cut.URL, "tls": untrusted.URL, "network": "http://" + l.Addr().String(),
	} {
		timeout := time.Minute
		if code == "timeout" {
			timeout = 20 * time.Millisecond
		}
		_, err := New(base, nil, timeout).Do(t.Context(), http.MethodGet, "/secret-path", nil)
		e, ok := errors.AsType[*LostError](err)
		if !ok || e.Code != code || strings.Contains(err.Error(), "secret-path") || e.Result().Outcome != destination.Retry {
			t.Errorf("%s: %v", code, err)
		}
	}
	for _, s := range []*httptest.Server{large, cut, untrusted} {
		s.Close()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestStatusResult(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		status  int
		header  string
		outcome destination.Outcome
		after   time.Duration
	}{
		{400, "7", destination.Rejected, 0},
		{302, "", destination.Rejected, 0},
		{429, "7", destination.Retry, 7 * time.Second},
		{429, "0.5", destination.Retry, time.Second},
		{503, "Fri, 02 Jan 2026 03:05:05 GMT", destination.Retry, time.Minute},
		{503, "Fri, 02 Jan 2020 03:05:05 GMT", destination.Retry, 0},
		{500, "99999999999999999999", destination.Retry, maxRetryWait},
		{500, "soon", destination.Retry, 0},
		{408, "-1", destination.Retry, 0},
	} {
		r := Response{Status: tt.status, Header: http.Header{"Retry-After": {tt.header}}, At: now}.StatusResult()
		if r.Outcome != tt.outcome || r.RetryAfter != tt.after || r.Code == "" {
			t.Errorf("%d %q: %+v", tt.status, tt.header, r)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for text, good := range map[string]bool{
		"https://api.example.org": true, "https://api.example.org/v1": true, "http://127.0.0.1:1": true, "http://localhost": true,
		"http://api.example.org": false, "ftp://x": false, "api.example.org": false, "https://u:p@x": false, "https://x?y": false, "https://": false, "http://10.0.0.1": false,
	} {
		if got := CheckURL(text); (got == "") != good {
			t.Errorf("%q: %q", text, got)
		}
	}
}
