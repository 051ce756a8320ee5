package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

func fields() []destination.Field {
	return []destination.Field{
		{Name: "url", Required: true, Help: "where, such as postgres://sluis@db.example.org:5432/crm, or postgres:///crm?host=/run/postgresql for a socket"},
		{Name: "password", Secret: true, Help: "the user's password, unless the server asks for none"},
		{Name: "table", Required: true, Help: `an existing table, such as "public.customers"`},
		{Name: "key", Required: true, Help: "the table's column that holds a row's key; it needs a unique index, but for syncs with the mode update"},
		{Name: "removes", Help: `"delete" a row, which is the default, or "clear" the mapped columns to NULL, the default with the mode update`},
		{Name: "writes", Help: "gone: the sync says mode: update"},
		{Name: "ledger", Help: `the table that remembers what was written, "sluis_ledger" in the schema of the table unless named; it is made if missing`},
		{Name: "tls", Help: `"verify", which is the default, or "off" for a server on this machine or in a network of your own`},
		{Name: "tls_ca", Help: "the certificates, in PEM, of the authority that signed the server's, unless the system knows it"},
		{Name: "timeout", Help: "how long a batch may take, such as 50s, which is the default; at most 10m"},
	}
}

const (
	defaultTimeout = 50 * time.Second // a host gives a batch a minute
	maxTimeout     = 10 * time.Minute
	connectTimeout = 10 * time.Second
	ledgerName     = "sluis_ledger"
)

type config struct {
	connection    *pgx.ConnConfig
	table, ledger pgx.Identifier
	key           string
	updateOnly    bool
	clears        bool
	timeout       time.Duration
}

func parseConfig(values map[string]string, updateOnly bool) (config, error) {
	c := config{timeout: defaultTimeout, updateOnly: updateOnly}
	problem := func(field, format string, args ...any) (config, error) {
		return config{}, &destination.ConfigError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	var what string
	if c.connection, what = parseURL(values["url"]); what != "" {
		return problem("url", "%s", what)
	}
	if strings.ContainsRune(values["password"], 0) {
		return problem("password", "has a byte that no password can have")
	}
	c.connection.Password = values["password"]
	if field, what := c.setTLS(values["tls"], values["tls_ca"]); what != "" {
		return problem(field, "%s", what)
	}
	if c.table, what = identifier(values["table"]); what != "" {
		return problem("table", "%s", what)
	}
	ledger := values["ledger"]
	if ledger == "" {
		ledger = ledgerName
	}
	if c.ledger, what = identifier(ledger); what != "" {
		return problem("ledger", "%s", what)
	}
	if len(c.ledger) == 1 && len(c.table) == 2 {
		c.ledger = pgx.Identifier{c.table[0], c.ledger[0]}
	}
	if c.key = values["key"]; !isName(c.key) {
		return problem("key", "want the name of a column")
	}
	if values["writes"] != "" {
		return problem("writes", "is said by the sync's mode now: remove it, and say mode: update beside destination if rows are only to be changed")
	}
	switch values["removes"] {
	case "":
		c.clears = updateOnly // what was there before is not ours to delete
	case "delete":
	case "clear":
		c.clears = true
	default:
		return problem("removes", `want "delete" or "clear"`)
	}
	if text := values["timeout"]; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second || d > maxTimeout {
			return problem("timeout", "want a duration such as 50s, from 1s to %v", maxTimeout)
		}
		c.timeout = d
	}
	return c, nil
}

// parseURL takes a URL apart by hand and leaves nothing to pgx's defaults,
// which come from the environment and the home directory.
func parseURL(text string) (c *pgx.ConnConfig, what string) {
	const want = "want a URL such as postgres://user@host:5432/database"
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" || u.Fragment != "" {
		return nil, want
	}
	if _, ok := u.User.Password(); ok {
		return nil, "must not hold a password: give it as password: {env: NAME} or {file: path}"
	}
	for name := range u.Query() {
		if name != "host" {
			return nil, "takes no parameter but host, for a socket; TLS is configured by tls and tls_ca"
		}
	}
	host, database, user := u.Hostname(), strings.TrimPrefix(u.Path, "/"), u.User.Username()
	if socket := u.Query().Get("host"); socket != "" {
		if host != "" || !strings.HasPrefix(socket, "/") {
			return nil, "the parameter host is for a socket's directory, such as /run/postgresql, and for a URL without a host"
		}
		host = socket
	}
	port := uint64(5432)
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return nil, want
		}
	}
	switch {
	case strings.ContainsRune(host+database+user, 0):
		return nil, want
	case host == "":
		return nil, "names no host; for a socket: postgres:///database?host=/run/postgresql"
	case database == "" || strings.Contains(database, "/"):
		return nil, "names no database: " + want
	case user == "":
		return nil, "names no user: " + want
	}
	// The one source of settings: an explicit string without secrets.
	c, err = pgx.ParseConfig("host=/ user=_ dbname=_ password=_ sslmode=disable passfile=/dev/null servicefile=/dev/null target_session_attrs=read-write")
	if err != nil {
		return nil, want
	}
	c.Host, c.Port, c.Database, c.User, c.Fallbacks = host, uint16(port), database, user, nil
	c.ConnectTimeout = connectTimeout
	c.RuntimeParams = map[string]string{"application_name": "sluis", "client_encoding": "UTF8", "timezone": "UTC"}
	return c, ""
}

func (c *config) setTLS(mode, ca string) (field, what string) {
	socket := strings.HasPrefix(c.connection.Host, "/")
	switch {
	case mode == "off" && ca != "":
		return "tls_ca", "is of no use with tls: off"
	case mode == "off":
		if ip, err := netip.ParseAddr(c.connection.Host); err == nil && !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() {
			return "tls", "must be verify for a public address, since personal data is sent"
		}
		return "", ""
	case mode != "" && mode != "verify":
		return "tls", `want "verify" or "off"`
	case socket:
		return "", "" // the kernel carries it
	}
	conf := &tls.Config{ServerName: c.connection.Host, MinVersion: tls.VersionTLS12}
	if ca != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return "tls_ca", "holds no certificate in PEM: give it as tls_ca: {file: path}"
		}
	}
	c.connection.TLSConfig = conf
	return "", ""
}

// address is what the configuration connects to, for messages.
func (c config) address() string {
	if strings.HasPrefix(c.connection.Host, "/") {
		return c.connection.Host
	}
	return net.JoinHostPort(c.connection.Host, strconv.Itoa(int(c.connection.Port)))
}

// identifier reads "table" or "schema.table".
func identifier(text string) (id pgx.Identifier, what string) {
	id = strings.Split(text, ".")
	for _, part := range id {
		if !isName(part) {
			return nil, `want "table" or "schema.table"`
		}
	}
	if len(id) > 2 {
		return nil, `want "table" or "schema.table"; the database is in the url`
	}
	return id, ""
}

// isName reports whether text can be a name as PostgreSQL takes it in quotes.
// It cuts longer ones silently, and so would make two columns one.
func isName(text string) bool {
	return text != "" && len(text) <= 63 && !strings.ContainsRune(text, 0)
}
