package file

import (
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

func fields() []destination.Field {
	return []destination.Field{
		{Name: "directory", Help: "an existing directory of this machine to write to; or else give url"},
		{Name: "url", Help: "where else: s3://bucket/prefix, or sftp://user@host:22/directory (/~/ begins at the user's home)"},
		{Name: "format", Help: `"csv", which is the default, "jsonl" or "parquet"`},
		{Name: "guard_formulas", Help: `"false" leaves CSV texts that begin with = + - @ as they are, for readers that are no spreadsheet`},
		{Name: "endpoint", Help: "S3: the server, such as https://s3.eu-central-1.amazonaws.com or https://minio.example.org:9000"},
		{Name: "region", Help: `S3: its region; unless given, what Amazon's endpoints say, and else "us-east-1"`},
		{Name: "path_style", Help: `S3: "false" puts the bucket into the host's name, for servers that want that`},
		{Name: "access_key_id", Help: "S3: the id of the access key"},
		{Name: "secret_access_key", Secret: true, Help: "S3: the access key's secret"},
		{Name: "session_token", Secret: true, Help: "S3: the token of a temporary access key"},
		{Name: "tls_ca", Help: "S3: the certificates, in PEM, of the authority that signed the server's, unless the system knows it"},
		{Name: "host_key", Help: "SFTP: the server's key, as lines of known_hosts or as fingerprints such as SHA256:47DEQpj8…, from whoever runs it"},
		{Name: "private_key", Secret: true, Help: "SFTP: the user's private key, in PEM or OpenSSH's form"},
		{Name: "passphrase", Secret: true, Help: "SFTP: what the private key is encrypted with"},
		{Name: "password", Secret: true, Help: "SFTP: the user's password, beside a private key or without"},
	}
}

// ofTarget are the fields that one kind of url has, and nothing else.
var ofTarget = map[string][]string{
	"s3":   {"endpoint", "region", "path_style", "access_key_id", "secret_access_key", "session_token", "tls_ca"},
	"sftp": {"host_key", "private_key", "passphrase", "password"},
}

type config struct {
	field  string // that says where
	format format
	open   func() (store, error)
}

// wrong says what is wrong with a field, without its value.
func wrong(field, problem string) error {
	return &destination.ConfigError{Field: field, Problem: problem}
}

func parseConfig(values map[string]string) (c config, err error) {
	if c.format, err = parseFormat(values); err != nil {
		return c, err
	}
	directory := values["directory"]
	if values["url"] == "" {
		c.field = "directory"
		if directory == "" || strings.ContainsRune(directory, 0) {
			return c, wrong(c.field, "want an existing directory; or give url, for S3 and SFTP")
		}
		c.open = func() (store, error) { return openLocal(directory) }
		return c, onlyOf("", values)
	}
	c.field = "url"
	if directory != "" {
		return c, wrong("directory", "is of no use beside url: give one of them")
	}
	u, err := url.Parse(values["url"])
	if err != nil || u.Opaque != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsRune(u.Path, 0) || ofTarget[u.Scheme] == nil {
		return c, wrong(c.field, "want s3://bucket/prefix or sftp://user@host/directory")
	}
	if _, ok := u.User.Password(); ok {
		return c, wrong(c.field, "must not hold a password: give it as password: {env: NAME} or {file: path}")
	}
	if err := onlyOf(u.Scheme, values); err != nil {
		return c, err
	}
	if u.Scheme == "s3" {
		s, err := parseS3(u, values)
		c.open = s.open
		return c, err
	}
	s, err := parseSFTP(u, values)
	c.open = func() (store, error) { return s, nil }
	return c, err
}

// onlyOf refuses what is set and would not be heeded.
func onlyOf(scheme string, values map[string]string) error {
	for _, other := range []string{"s3", "sftp"} {
		for _, field := range ofTarget[other] {
			if other != scheme && values[field] != "" {
				return wrong(field, "is of use with url: "+other+"://… alone")
			}
		}
	}
	return nil
}

func parseFormat(values map[string]string) (format, error) {
	guard := true
	switch values["guard_formulas"] {
	case "", "true":
	case "false":
		guard = false
	default:
		return nil, wrong("guard_formulas", `want "true" or "false"`)
	}
	switch values["format"] {
	case "", "csv":
		return csvFormat{guard: guard}, nil
	case "jsonl":
		return jsonFormat{}, nil
	case "parquet":
		return parquetFormat{}, nil
	}
	return nil, wrong("format", `want "csv", "jsonl" or "parquet"`)
}

func parseS3(u *url.URL, values map[string]string) (s3Config, error) {
	c := s3Config{
		bucket: u.Host, prefix: strings.Trim(u.Path, "/"), region: values["region"],
		key: values["access_key_id"], secret: values["secret_access_key"], token: values["session_token"],
	}
	if u.User != nil || u.Host == "" || u.Port() != "" {
		return c, wrong("url", "want s3://bucket/prefix; the server goes into endpoint")
	}
	endpoint, err := url.Parse(values["endpoint"])
	if err != nil || endpoint.Host == "" || endpoint.User != nil || strings.Trim(endpoint.Path, "/") != "" || endpoint.RawQuery != "" ||
		endpoint.Scheme != "https" && endpoint.Scheme != "http" {
		return c, wrong("endpoint", "want the server's URL, such as https://s3.eu-central-1.amazonaws.com")
	}
	if endpoint.Scheme == "http" && !near(endpoint.Hostname()) {
		return c, wrong("endpoint", "must be https, since personal data is sent; http is for addresses of this machine and of private networks")
	}
	c.endpoint = endpoint
	switch values["path_style"] {
	case "", "true":
	case "false":
		c.virtualHost = true
	default:
		return c, wrong("path_style", `want "true" or "false"`)
	}
	for _, field := range []string{"access_key_id", "secret_access_key"} {
		if values[field] == "" {
			return c, wrong(field, "is required with url: s3://…")
		}
	}
	if ca := values["tls_ca"]; ca != "" {
		c.roots = x509.NewCertPool()
		if !c.roots.AppendCertsFromPEM([]byte(ca)) {
			return c, wrong("tls_ca", "holds no certificate in PEM: give it as tls_ca: {file: path}")
		}
	}
	return c, nil
}

// near tells whether a host is this machine or an address of a private network.
func near(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast())
}

func parseSFTP(u *url.URL, values map[string]string) (*sftpStore, error) {
	if u.User.Username() == "" || u.Hostname() == "" {
		return nil, wrong("url", "want sftp://user@host/directory, with a user")
	}
	port := u.Port()
	if port == "" {
		port = "22"
	}
	s := &sftpStore{address: net.JoinHostPort(u.Hostname(), port), root: u.Path}
	if s.root == "" {
		s.root = "/"
	}
	if rest, ok := strings.CutPrefix(s.root+"/", "/~/"); ok {
		s.root = "./" + rest
	}
	s.client.User, s.client.Timeout = u.User.Username(), dialTimeout
	var err error
	if s.client.HostKeyCallback, s.client.HostKeyAlgorithms, err = hostKeys(s.address, values["host_key"]); err != nil {
		return nil, err
	}
	if text := values["private_key"]; text != "" {
		signer, err := parseKey(text, values["passphrase"])
		if err != nil {
			return nil, err
		}
		s.client.Auth = append(s.client.Auth, ssh.PublicKeys(signer))
	} else if values["passphrase"] != "" {
		return nil, wrong("passphrase", "is of use with private_key alone")
	}
	if password := values["password"]; password != "" {
		s.client.Auth = append(s.client.Auth, ssh.Password(password),
			ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
				return slices.Repeat([]string{password}, len(questions)), nil
			}))
	}
	if len(s.client.Auth) == 0 {
		return nil, wrong("private_key", "give the user's private_key, or a password, as {env: NAME} or {file: path}")
	}
	return s, nil
}
