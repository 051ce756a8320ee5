package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"os"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
)

// email mails alerts: RFC 5321 and 5322, with STARTTLS (RFC 3207) or TLS from the
// beginning (RFC 8314).
type email struct {
	workspace string
	settings  workspace.AlertEmail
	host      string
	implicit  bool // TLS from the beginning
	password  string
	tls       *tls.Config
	now       func() time.Time
}

func newEmail(workspace string, c workspace.AlertEmail, now func() time.Time) (*email, error) {
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("the server of the alerts' e-mail: %w", err)
	}
	e := &email{
		workspace: workspace, settings: c, host: host, implicit: port == "465" || port == "smtps",
		tls: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}, now: now,
	}
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read the password of the alerts' e-mail: %w", err)
		}
		e.password = strings.TrimSpace(string(text))
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authority of the alerts' e-mail server: %w", err)
		}
		e.tls.RootCAs = x509.NewCertPool()
		if !e.tls.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in it", c.CAFile)
		}
	}
	return e, nil
}

// Name implements Channel.
func (*email) Name() string { return "email" }

// Send implements Channel.
func (e *email) Send(ctx context.Context, id string, notices []Notice) error {
	text, err := e.compose(id, notices)
	if err == nil {
		err = e.deliver(ctx, text)
	}
	if err != nil {
		return fmt.Errorf("mail alerts by %s: %w", e.settings.Server, err)
	}
	return nil
}

func (e *email) deliver(ctx context.Context, text []byte) (err error) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	client, err := e.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // Quit has the verdict
	if e.settings.Username != "" {
		// PlainAuth refuses to speak without TLS, but to this machine.
		if err := client.Auth(smtp.PlainAuth("", e.settings.Username, e.password, e.host)); err != nil {
			return err
		}
	}
	if err := client.Mail(e.settings.From); err != nil {
		return err
	}
	for _, to := range e.settings.To {
		if err := client.Rcpt(to); err != nil {
			return err
		}
	}
	body, err := client.Data()
	if err != nil {
		return err
	}
	_, err = body.Write(text)
	if err := errors.Join(err, body.Close()); err != nil {
		return err
	}
	return client.Quit()
}

// dial connects, and has TLS before anything is said.
func (e *email) dial(ctx context.Context) (*smtp.Client, error) {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", e.settings.Server)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := connection.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	if e.implicit {
		connection = tls.Client(connection, e.tls)
	}
	client, err := smtp.NewClient(connection, e.host)
	if err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	if e.implicit {
		return client, nil
	}
	if ok, _ := client.Extension("STARTTLS"); ok {
		err = client.StartTLS(e.tls)
	} else if !local(connection) {
		err = errors.New("the server offers no STARTTLS: nothing was said to it")
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// local reports whether the other end is on this machine.
func local(c net.Conn) bool {
	address, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

// compose writes the message. Its id is the same when it is sent again.
func (e *email) compose(id string, notices []Notice) ([]byte, error) {
	var b bytes.Buffer
	for _, header := range [][2]string{
		{"From", e.settings.From},
		{"To", strings.Join(e.settings.To, ", ")},
		{"Subject", mime.QEncoding.Encode("utf-8", e.subject(notices))},
		{"Date", e.now().Format("Mon, 02 Jan 2006 15:04:05 -0700")},
		{"Message-ID", "<" + id + "@" + e.settings.From[strings.LastIndexByte(e.settings.From, '@')+1:] + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", header[0], header[1])
	}
	b.WriteString("\r\n")
	body := quotedprintable.NewWriter(&b)
	for _, n := range notices {
		if _, err := fmt.Fprintf(body, "%s, %s: %s\r\n  since %s: %s\r\n\r\n", n.Sync, n.Rule, n.State, n.Since.Format(time.RFC3339), n.Text); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), body.Close()
}

func (e *email) subject(notices []Notice) string {
	over := 0
	for _, n := range notices {
		if n.State == Over {
			over++
		}
	}
	if len(notices) == 1 {
		return fmt.Sprintf("Sluis %s: %s, %s %s", e.workspace, notices[0].Sync, notices[0].Rule, notices[0].State)
	}
	return fmt.Sprintf("Sluis %s: %d alerts, %d over", e.workspace, len(notices)-over, over)
}
