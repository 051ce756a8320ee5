package workspace

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// TLS names the files of a certificate, in PEM.
type TLS struct {
	Certificate string `yaml:"certificate"` // with its chain
	Key         string `yaml:"key"`
}

// Operations are for those who run the collector.
type Operations struct {
	// Listen is where metrics and health are served; empty for nowhere.
	Listen string `yaml:"listen"`
	// MaxLag is the age of a record that has not landed at which the collector is
	// not ready.
	MaxLag time.Duration `yaml:"max_lag"`
	// MinDisk is the free space of the spool's disk below which it is not ready.
	MinDisk Bytes `yaml:"min_disk"`
	// DrainDelay is how long the end is announced before connections are refused,
	// Drain how long it may take from then on.
	DrainDelay time.Duration `yaml:"drain_delay"`
	Drain      time.Duration `yaml:"drain"`
}

// Log says what is logged, and how.
type Log struct {
	Format LogFormat `yaml:"format"`
	Level  LogLevel  `yaml:"level"`
}

// LogLevel is the lowest level that is logged.
type LogLevel slog.Level

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LogLevel) UnmarshalText(text []byte) error {
	var level slog.Level
	if err := level.UnmarshalText(text); err != nil {
		return fmt.Errorf("%q is not a level: write debug, info, warn or error", text)
	}
	*l = LogLevel(level)
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *LogLevel) UnmarshalYAML(node *yaml.Node) error {
	if err := l.UnmarshalText([]byte(node.Value)); err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", node.Line, err)}}
	}
	return nil
}

// LogFormat is how a line of the log looks.
type LogFormat string

// The formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// checkOperations looks at what concerns those who run the collector.
func (w *Workspace) checkOperations(doc *document) {
	if t := w.TLS; t != nil && (t.Certificate == "" || t.Key == "") {
		doc.report("tls", "a certificate and a key are needed, both files in PEM; without this block the collector speaks plain HTTP, for a proxy")
	}
	o := w.Operations
	if _, _, err := net.SplitHostPort(o.Listen); err != nil && o.Listen != "" {
		doc.report("operations.listen", `must be host:port, such as 127.0.0.1:8485, or "" for none`)
	}
	if o.MaxLag < time.Second {
		doc.report("operations.max_lag", "must be at least 1s")
	}
	if o.Drain <= 0 || o.DrainDelay < 0 {
		doc.report("operations.drain", "drain must be longer than 0, such as 20s, and drain_delay not shorter")
	}
	if f := w.Log.Format; f != LogText && f != LogJSON {
		doc.report("log.format", "must be text or json")
	}
}

// RunDir is the folder of the socket by which a running collector is asked.
// Whoever may enter it may see masked events.
func (w *Workspace) RunDir() string { return filepath.Join(w.Path(w.Data), "run") }

// Certificate loads the files of tls; nil if there are none.
func (w *Workspace) Certificate() (*tls.Certificate, error) {
	if w.TLS == nil {
		return nil, nil
	}
	c, err := tls.LoadX509KeyPair(w.Path(w.TLS.Certificate), w.Path(w.TLS.Key))
	if err != nil {
		return nil, w.doc.problem([]string{"tls"}, "%v", err)
	}
	return &c, nil
}

// fixed are the keys that a running collector cannot change, by their path.
var fixed = []string{
	"workspace", "listen", "data", "keys", "models", "syncs", "spool", "warehouse", "schedule", "operations.listen", "log",
	"limits.requests", "limits.body_bytes", "limits.connections", "limits.time", "consent.retention", "keyring", "alerts",
}

// FixedSince tells what differs from an earlier state of the same workspace and
// takes a restart to change: an error for each, with its line.
func (w *Workspace) FixedSince(earlier *Workspace) (problems []error) {
	for _, key := range fixed {
		path := strings.Split(key, ".")
		if !reflect.DeepEqual(value(w.Config, path), value(earlier.Config, path)) {
			problems = append(problems, w.doc.problem(path, "cannot be changed while the collector runs: change it back, or restart"))
		}
	}
	if (w.TLS == nil) != (earlier.TLS == nil) {
		problems = append(problems, w.doc.problem([]string{"tls"}, "cannot be switched on or off while the collector runs: restart it"))
	}
	before, now := earlier.LoadSources(), w.LoadSources()
	slices.Sort(before)
	slices.Sort(now)
	if !slices.Equal(before, now) {
		problems = append(problems, w.doc.problem([]string{"sources"}, "how events land cannot be changed while the collector runs: restart it"))
	}
	return problems
}

// value is what a configuration has at a path of keys.
func value(config Config, path []string) any {
	v := reflect.ValueOf(config)
	for _, key := range path {
		for field, inner := range v.Fields() {
			if name, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); name == key {
				v = inner
				break
			}
		}
	}
	return v.Interface()
}
