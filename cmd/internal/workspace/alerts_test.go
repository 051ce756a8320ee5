package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAlerts: each mistake is told with file and line.
func TestAlerts(t *testing.T) {
	const base = "workspace: shop\nsources: [{id: web, write_key: wk}]\nalerts:\n"
	const hook = "  webhook: {url: https://example.org/hook, secret_file: secret}\n"
	const mail = "  email: {server: 'smtp.example.org:587', from: a@example.org, to: [b@example.org]}\n"
	for text, want := range map[string]string{
		hook + "  failed_share: 5%\n  stale_after: 6h\n  held: true\n": "",
		mail: "",
		strings.Replace(hook, "https://example.org", "http://127.0.0.1:80", 1): "",
		"  failed_share: 5%\n":                                     ":4: alerts: a webhook or an email is needed",
		"  failed_share: 5\n" + hook:                               `:4: "5" is no percentage`,
		"  failed_share: 101%\n" + hook:                            `:4: "101%" is no percentage`,
		"  repeat: 1s\n" + hook:                                    ":4: alerts: repeat must be at least 1m",
		strings.Replace(hook, "https", "http", 1):                  ":4: alerts.webhook.url: must be an https URL",
		strings.Replace(hook, ", secret_file: secret", "", 1):      ":4: alerts.webhook.secret_file: is needed",
		strings.Replace(hook, ": secret}", ": nowhere}", 1):        ":4: alerts.webhook.secret_file: stat ",
		strings.Replace(mail, ":587", "", 1):                       ":4: alerts.email.server: must be host:port",
		strings.Replace(mail, "a@example.org", "'A <a@b.org>'", 1): ":4: alerts.email: from and to must be bare addresses",
		strings.Replace(mail, "[b@example.org]", "[]", 1):          ":4: alerts.email.to: at least one address",
		strings.Replace(mail, "}", ", username: u}", 1):            ":4: alerts.email.password_file: is needed",
		strings.Replace(mail, "}", ", password_file: secret}", 1):  ":4: alerts.email.username: is needed",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := openText(t, dir, base+text)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want == "" && w.Alerts.Repeat != 24*time.Hour:
			t.Errorf("%q: an alert is repeated after %v", text, w.Alerts.Repeat)
		case want != "" && (err == nil || !strings.Contains(err.Error(), File+want)):
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
}
