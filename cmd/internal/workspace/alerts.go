package workspace

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Alerts says when somebody is told about syncs that run under `sluis up`, and how.
// A threshold that is zero is none.
type Alerts struct {
	// FailedShare is of the rows of one run that failed, RejectedShare of all rows
	// of a sync that the destination refuses for good.
	FailedShare   Percent `yaml:"failed_share"`
	RejectedShare Percent `yaml:"rejected_share"`
	// StaleAfter is how long no run of a sync came to its end; manual syncs aside.
	StaleAfter time.Duration `yaml:"stale_after"`
	// Held tells of removals that a guard holds back.
	Held bool `yaml:"held"`
	// Repeat is after how long an alert that goes on is told again: a day by default.
	Repeat  time.Duration `yaml:"repeat"`
	Webhook *AlertWebhook `yaml:"webhook"`
	Email   *AlertEmail   `yaml:"email"`
}

// AlertWebhook is where alerts are posted, signed as Standard Webhooks says.
type AlertWebhook struct {
	URL        string `yaml:"url"`
	SecretFile string `yaml:"secret_file"` // whsec_ and base64
}

// AlertEmail is how alerts are mailed, with TLS: from the beginning on port 465,
// by STARTTLS on others. Only a server on this machine may be spoken to without.
type AlertEmail struct {
	Server       string   `yaml:"server"` // host:port
	From         string   `yaml:"from"`
	To           []string `yaml:"to"`
	Username     string   `yaml:"username"`
	PasswordFile string   `yaml:"password_file"`
	CAFile       string   `yaml:"ca_file"` // an authority of your own, in PEM
}

// Percent is a share, written as 5%.
type Percent float64

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Percent) UnmarshalYAML(node *yaml.Node) error {
	number, ok := strings.CutSuffix(node.Value, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(percent >= 0 && percent <= 100) {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is no percentage: write one such as 5%%", node.Line, node.Value)}}
	}
	*p = Percent(percent / 100)
	return nil
}

// checkAlerts looks at the alerts, and makes their files paths.
func (w *Workspace) checkAlerts(doc *document) {
	a := w.Alerts
	if a == nil {
		return
	}
	if a.Repeat == 0 {
		a.Repeat = 24 * time.Hour
	}
	if a.Repeat < time.Minute || a.StaleAfter < 0 {
		doc.report("alerts", "repeat must be at least 1m, and stale_after a time such as 6h")
	}
	if a.Webhook == nil && a.Email == nil {
		doc.report("alerts", "a webhook or an email is needed, or nobody would be told")
	}
	if h := a.Webhook; h != nil {
		u, err := url.Parse(h.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !onThisMachine(u.Hostname())) {
			doc.report("alerts.webhook.url", "must be an https URL, or an http one of this machine")
		}
		w.checkAlertFile(doc, "alerts.webhook.secret_file", &h.SecretFile, true)
	}
	if e := a.Email; e != nil {
		w.checkAlertEmail(doc, e)
	}
}

func (w *Workspace) checkAlertEmail(doc *document, e *AlertEmail) {
	if host, _, err := net.SplitHostPort(e.Server); err != nil || host == "" {
		doc.report("alerts.email.server", "must be host:port, such as smtp.example.org:587")
	}
	for _, address := range append([]string{e.From}, e.To...) {
		if parsed, err := mail.ParseAddress(address); err != nil || parsed.Address != address {
			doc.report("alerts.email", "from and to must be bare addresses, such as ops@example.org")
			break
		}
	}
	if len(e.To) == 0 {
		doc.report("alerts.email.to", "at least one address is needed")
	}
	if e.PasswordFile != "" && e.Username == "" {
		doc.report("alerts.email.username", "is needed with a password")
	}
	w.checkAlertFile(doc, "alerts.email.password_file", &e.PasswordFile, e.Username != "")
	w.checkAlertFile(doc, "alerts.email.ca_file", &e.CAFile, false)
}

func (w *Workspace) checkAlertFile(doc *document, at string, file *string, needed bool) {
	if *file == "" {
		if needed {
			doc.report(at, "is needed: name a file with nothing else in it")
		}
		return
	}
	*file = w.Path(*file)
	if _, err := os.Stat(*file); err != nil {
		doc.report(at, "%v", err)
	}
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Alerted is the file that remembers who was told of what.
func (w *Workspace) Alerted() string { return w.Path(w.Data) + "/alerts.json" }
