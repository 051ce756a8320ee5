package alert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// office is where people are told: a mail server and a webhook.
type office struct {
	t      *testing.T
	dir    string
	config workspace.Workspace
	now    time.Time

	mails    []string // subject, then text
	posts    []string // sync, rule and state
	ids      []string
	down     bool // the webhook answers 500
	password string
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func newOffice(t *testing.T) *office {
	t.Helper()
	// As of now, since the library that checks signatures has a clock of its own.
	o := &office{t: t, dir: t.TempDir(), now: time.Now().UTC().Truncate(time.Second), password: "open sesame"}
	hook := httptest.NewServer(http.HandlerFunc(o.posted))
	t.Cleanup(hook.Close)
	certificate, authority := newCertificate(t)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{o: o}, nil }))
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		_ = listener.Close() // the server does not know of it yet if Serve is only about to begin, and would wait forever
		<-served
	})
	o.config.Config = workspace.Config{
		Workspace: "shop", Data: o.dir,
		Alerts: &workspace.Alerts{
			FailedShare: 0.1, RejectedShare: 0.2, StaleAfter: 6 * time.Hour, Held: true, Repeat: 24 * time.Hour,
			Webhook: &workspace.AlertWebhook{URL: hook.URL + "/a/secret/path", SecretFile: o.file("secret", secret+"\n")},
			Email: &workspace.AlertEmail{
				Server: listener.Addr().String(), From: "sluis@example.org", To: []string{"ops@example.org", "data@example.org"},
				Username: "sluis", PasswordFile: o.file("password", o.password+"\n"), CAFile: o.file("ca.pem", authority),
			},
		},
	}
	return o
}

func (o *office) file(name, content string) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// watch is what a new process has.
func (o *office) watch(log io.Writer) *Watch {
	o.t.Helper()
	w, err := Open(&o.config, slog.New(slog.NewTextHandler(log, nil)), func() time.Time { return o.now })
	if err != nil {
		o.t.Fatal(err)
	}
	return w
}

// told empties what was told: subjects of mails, and posts.
func (o *office) told() (mails, posts []string) {
	mails, posts = o.mails, o.posts
	o.mails, o.posts = nil, nil
	return mails, posts
}

func (o *office) posted(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		o.t.Error(err)
	}
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		o.t.Error(err)
	}
	if err := hook.VerifyIgnoringTimestamp(body, r.Header); err != nil {
		o.t.Error(err)
	}
	o.ids = append(o.ids, r.Header.Get("webhook-id"))
	if o.down {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	var event struct {
		Type string
		Data struct {
			Workspace string
			Alerts    []Notice
		}
	}
	if err := json.Unmarshal(body, &event); err != nil || event.Type != "sync.alerts" || event.Data.Workspace != "shop" {
		o.t.Errorf("%s: %v", body, err)
	}
	for _, n := range event.Data.Alerts {
		o.posts = append(o.posts, fmt.Sprint(n.Sync, " ", n.Rule, " ", n.State))
	}
}

// session is one connection to the mail server.
type session struct {
	o      *office
	known  bool
	header []string
}

func (*session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != "sluis" || password != s.o.password {
			return smtp.ErrAuthFailed
		}
		s.known = true
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if !s.known {
		return smtp.ErrAuthRequired
	}
	s.header = []string{from}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.header = append(s.header, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		return err
	}
	if want := []string{"sluis@example.org", "ops@example.org", "data@example.org"}; !cmp.Equal(want, s.header) {
		s.o.t.Errorf("the mail went from and to %q", s.header)
	}
	if _, err := m.Header.Date(); err != nil || m.Header.Get("Message-Id") == "" || m.Header.Get("Auto-Submitted") != "auto-generated" {
		s.o.t.Errorf("the mail has the header %v", m.Header)
	}
	s.o.mails = append(s.o.mails, m.Header.Get("Subject")+"\n"+string(body))
	return nil
}

func (*session) Reset()        {}
func (*session) Logout() error { return nil }

// newCertificate makes a certificate for this machine, and tells it as its own authority.
func newCertificate(t *testing.T) (certificate tls.Certificate, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// ran is what is seen of a run that failed for some of ten rows.
func (o *office) ran(failed int64, err error) Seen {
	return Seen{
		Sync: "crm", Run: syncer.Run{ID: "r", PlanID: "p-1", Status: syncer.RunDone, Added: 10 - failed, Failed: failed}, Err: err, Done: o.now,
		Standing: syncer.Standing{Present: 10},
	}
}

func TestAnAlertIsToldOnceAndAgainAndThenThatItIsOver(t *testing.T) {
	o := newOffice(t)
	var log bytes.Buffer
	w := o.watch(&log)
	for i, step := range []struct {
		what    string
		after   time.Duration
		restart bool
		seen    Seen
		want    string // of the only alert; empty if nobody is told
	}{
		{"nothing is wrong", 0, false, o.ran(1, nil), ""},
		{"two of ten failed", time.Minute, false, o.ran(2, nil), "begun"},
		{"so they do again", time.Minute, false, o.ran(2, nil), ""},
		{"no run, so nothing is known", time.Minute, false, Seen{Sync: "crm", Done: o.now}, ""},
		{"after a restart", time.Minute, true, o.ran(3, nil), ""},
		{"a day later", 24 * time.Hour, false, o.ran(3, nil), "ongoing"},
		{"it is over", time.Minute, false, o.ran(0, nil), "over"},
		{"and stays so", 48 * time.Hour, true, o.ran(0, nil), ""},
		{"it is back", time.Minute, false, o.ran(9, nil), "begun"},
	} {
		o.now = o.now.Add(step.after)
		step.seen.Done = o.now
		if step.restart {
			w = o.watch(&log)
		}
		w.Look(t.Context(), []Seen{step.seen})
		mails, posts := o.told()
		var want []string
		if step.want != "" {
			want = []string{"crm failed_share " + step.want}
		}
		if diff := cmp.Diff(want, posts); diff != "" {
			t.Errorf("step %d, %s: posted (-want +got):\n%s", i, step.what, diff)
		}
		if step.want != "" && (len(mails) != 1 || !strings.HasPrefix(mails[0], "Sluis shop: crm, failed_share "+step.want+"\n")) || step.want == "" && len(mails) > 0 {
			t.Errorf("step %d, %s: mailed %q", i, step.what, mails)
		}
	}
	if log.Len() > 0 {
		t.Error(log.String())
	}
}

func TestWhatCannotBeToldIsTriedAgain(t *testing.T) {
	o := newOffice(t)
	var log bytes.Buffer
	o.down = true
	o.watch(&log).Look(t.Context(), []Seen{o.ran(5, nil)})
	if mails, posts := o.told(); len(mails) != 1 || len(posts) != 0 {
		t.Errorf("while the webhook is down: %q, %q", mails, posts)
	}
	if text := log.String(); !strings.Contains(text, "the answer was 500") || strings.Contains(text, "secret") {
		t.Error(text)
	}
	o.down = false
	o.now = o.now.Add(time.Minute)
	o.watch(&log).Look(t.Context(), []Seen{o.ran(5, nil)})
	if mails, posts := o.told(); len(mails) != 0 || len(posts) != 1 {
		t.Errorf("when it is back: %q, %q", mails, posts)
	}
	if len(o.ids) != 2 || o.ids[0] != o.ids[1] {
		t.Errorf("the ids are %q, want the same twice", o.ids)
	}
}

func TestAnAlertOfARuleThatNobodyAsksForAnyMoreEnds(t *testing.T) {
	o := newOffice(t)
	o.watch(io.Discard).Look(t.Context(), []Seen{o.ran(5, nil)})
	if _, posts := o.told(); len(posts) != 1 {
		t.Fatalf("nothing to end: %q", posts)
	}
	o.config.Alerts.FailedShare = 0
	o.now = o.now.Add(100 * time.Hour)
	w := o.watch(io.Discard)
	w.Look(t.Context(), []Seen{o.ran(5, nil)})
	if mails, posts := o.told(); len(mails) != 0 || len(posts) != 0 || len(w.memory.Alerts) != 0 {
		t.Errorf("%q, %q, %v", mails, posts, w.memory.Alerts)
	}
}

func TestTheMailServerHasToBeTheRightOne(t *testing.T) {
	o := newOffice(t)
	_, other := newCertificate(t)
	for name, change := range map[string]func(){
		"another's certificate": func() { o.config.Alerts.Email.CAFile = o.file("other.pem", other) },
		"a wrong password": func() {
			o.config.Alerts.Email.CAFile = filepath.Join(o.dir, "ca.pem")
			o.config.Alerts.Email.PasswordFile = o.file("wrong", "gu3ssed")
		},
	} {
		change()
		var log bytes.Buffer
		if err := os.RemoveAll(o.config.Alerted()); err != nil {
			t.Fatal(err)
		}
		o.watch(&log).Look(t.Context(), []Seen{o.ran(5, nil)})
		if mails, _ := o.told(); len(mails) != 0 || !strings.Contains(log.String(), "channel=email") || strings.Contains(log.String(), "gu3ssed") {
			t.Errorf("%s: %q, %s", name, mails, log.String())
		}
	}
}

func TestRules(t *testing.T) {
	o := newOffice(t)
	held := &syncer.HeldError{Sync: "crm", PlanID: "p-1", Model: "vips", Removals: 30, Present: 40}
	for name, test := range map[string]struct {
		seen Seen
		want map[Rule]bool
	}{
		"as it should be":       {o.ran(0, nil), map[Rule]bool{RuleFailed: false, RuleRejected: false, RuleStale: false, RuleHeld: false}},
		"nothing to do":         {Seen{Run: syncer.Run{ID: "r", PlanID: "p-1", Status: syncer.RunIdle}, Done: o.now}, map[Rule]bool{RuleFailed: false, RuleRejected: false, RuleStale: false, RuleHeld: false}},
		"withdrawals alone":     {Seen{Run: syncer.Run{ID: "r", PlanID: "w-1", Status: syncer.RunDone}, Done: o.now}, map[Rule]bool{RuleFailed: false, RuleRejected: false, RuleStale: false}},
		"a guard":               {o.ran(0, fmt.Errorf("run: %w", held)), map[Rule]bool{RuleFailed: false, RuleRejected: false, RuleStale: false, RuleHeld: true}},
		"an error":              {Seen{Err: errors.New("down"), Done: o.now.Add(-5 * time.Hour)}, map[Rule]bool{RuleRejected: false, RuleStale: false}},
		"an error for long":     {Seen{Err: errors.New("down"), Done: o.now.Add(-7 * time.Hour)}, map[Rule]bool{RuleRejected: false, RuleStale: true}},
		"manual":                {Seen{Manual: true}, map[Rule]bool{RuleRejected: false}},
		"a fifth rejected":      {Seen{Manual: true, Standing: syncer.Standing{Present: 4, Rejected: 1}}, map[Rule]bool{RuleRejected: false}},
		"more than that":        {Seen{Manual: true, Standing: syncer.Standing{Present: 3, Rejected: 1}}, map[Rule]bool{RuleRejected: true}},
		"the first, and failed": {Seen{Manual: true, Standing: syncer.Standing{Rejected: 1}}, map[Rule]bool{RuleRejected: true}},
	} {
		w := o.watch(io.Discard)
		got := map[Rule]bool{}
		for _, v := range w.judge(test.seen) {
			got[v.rule] = v.broken
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestASyncThatNeverRanIsStaleFromWhenItWasSeen(t *testing.T) {
	o := newOffice(t)
	w := o.watch(io.Discard)
	w.Look(t.Context(), []Seen{{Sync: "new"}, {Sync: "gone"}})
	o.now = o.now.Add(7 * time.Hour)
	w.Look(t.Context(), []Seen{{Sync: "new"}})
	if mails, posts := o.told(); len(mails) != 1 || len(posts) != 1 || posts[0] != "new stale_after begun" {
		t.Errorf("%q, %q", mails, posts)
	}
	// An alert about a sync that is no more just ends.
	w.Look(t.Context(), nil)
	if mails, posts := o.told(); len(mails) != 0 || len(posts) != 0 || len(w.memory.Alerts) != 0 {
		t.Errorf("%q, %q, %v", mails, posts, w.memory.Alerts)
	}
}

func TestSecretsOfWebhooks(t *testing.T) {
	o := newOffice(t)
	for _, wrong := range []string{"", "whsec_", "whsec_!", base64.StdEncoding.EncodeToString(make([]byte, 32)), "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 8))} {
		o.file("secret", wrong)
		if _, err := Open(&o.config, slog.New(slog.DiscardHandler), time.Now); err == nil || !strings.Contains(err.Error(), "whsec_ and base64") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
