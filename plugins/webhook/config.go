package webhook

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

func fields() []destination.Field {
	return []destination.Field{
		{Name: "url", Required: true, Account: true, Help: "where to send, such as https://example.org/hooks/sluis"},
		{Name: "secret", Required: true, Secret: true, Help: "the signing secret, whsec_ and base64 of 24 to 64 bytes; several, with spaces between, while rotating"},
		{Name: "timeout", Help: "how long to wait for an answer, such as 15s, which is the default; at most 2m"},
		{Name: "allow_private", Help: `"true" also allows addresses inside the network, and http`},
	}
}

const (
	defaultTimeout = 15 * time.Second
	maxTimeout     = 2 * time.Minute
)

type config struct {
	url          string
	secrets      [][]byte
	timeout      time.Duration
	allowPrivate bool
}

func parseConfig(values map[string]string) (config, error) {
	c := config{timeout: defaultTimeout}
	problem := func(field, format string, args ...any) (config, error) {
		return config{}, &destination.ConfigError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	switch values["allow_private"] {
	case "", "false":
	case "true":
		c.allowPrivate = true
	default:
		return problem("allow_private", `want "true" or "false"`)
	}
	if what := checkURL(values["url"], c.allowPrivate); what != "" {
		return problem("url", "%s", what)
	}
	c.url = values["url"]
	for i, secret := range strings.Fields(values["secret"]) {
		key, ok := ParseSecret(secret)
		if !ok {
			return problem("secret", "secret %d: want %s followed by the base64 of 24 to 64 bytes", i+1, secretPrefix)
		}
		c.secrets = append(c.secrets, key)
	}
	if len(c.secrets) == 0 {
		return problem("secret", "is required: without it the receiver cannot tell who sends")
	}
	if text := values["timeout"]; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 || d > maxTimeout {
			return problem("timeout", "want a duration such as 15s, at most %v", maxTimeout)
		}
		c.timeout = d
	}
	return c, nil
}

// checkURL says what is wrong with a URL, without repeating it: it may have a
// token in it.
func checkURL(text string, allowPrivate bool) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "want an absolute URL such as https://example.org/hooks/sluis"
	case u.User != nil:
		return "must not hold a user or password; the signature says who sends"
	case u.Fragment != "":
		return "must not have a fragment: it is not sent"
	case u.Scheme == "https", u.Scheme == "http" && allowPrivate:
		return ""
	}
	return "must begin with https://, since personal data is sent; http is for allow_private"
}
