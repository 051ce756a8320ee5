// Package workspace reads the folder that a team keeps in git: sluis.yaml, the
// tracking plans, and where models, syncs, keys and data are. Both programs
// start from it.
package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// File is the name of the configuration in a workspace.
const File = "sluis.yaml"

// Config is sluis.yaml. Paths are relative to the workspace.
type Config struct {
	// Workspace names this installation. It is part of every pseudonym and must
	// never change.
	Workspace string `yaml:"workspace"`
	Listen    string `yaml:"listen"`
	// PathPrefix is a path below which the collector's API is served as well.
	PathPrefix string     `yaml:"path_prefix"`
	Data       string     `yaml:"data"`
	Keys       string     `yaml:"keys"`
	Models     string     `yaml:"models"`
	Syncs      string     `yaml:"syncs"`
	Sources    []Source   `yaml:"sources"`
	Consent    Consent    `yaml:"consent"`
	Pseudonyms Pseudonyms `yaml:"pseudonyms"`
	// PhoneRegion is where phone numbers without a country prefix belong.
	PhoneRegion string `yaml:"phone_region"`
	// TrustedProxies are addresses, networks, or unix, that may speak for others, in
	// the header ForwardedHeader.
	TrustedProxies  []string `yaml:"trusted_proxies"`
	ForwardedHeader string   `yaml:"forwarded_header"`
	// RegionHeader names a header set by a trusted proxy.
	RegionHeader string    `yaml:"region_header"`
	Geo          Geo       `yaml:"geo"`
	Limits       Limits    `yaml:"limits"`
	Spool        Spool     `yaml:"spool"`
	Warehouse    Warehouse `yaml:"warehouse"`
	Schedule     Schedule  `yaml:"schedule"`
	// TLS is for events alone; without it a proxy in front has to do it.
	TLS        *TLS       `yaml:"tls"`
	Operations Operations `yaml:"operations"`
	Alerts     *Alerts    `yaml:"alerts"`
	Log        Log        `yaml:"log"`
	// KeyringConfig says how to get at what Keys has.
	KeyringConfig Keyring `yaml:"keyring"`
}

// Source configures a collector.Source.
type Source struct {
	ID       string   `yaml:"id"`
	WriteKey string   `yaml:"write_key"`
	Origins  []string `yaml:"origins"`
	// Servers says that servers send, whose write key no page has.
	Servers      bool                   `yaml:"servers"`
	TrackingPlan string                 `yaml:"tracking_plan"`
	Denied       collector.DeniedPolicy `yaml:"denied"`
	// Identity is where browsers keep the visitor's anonymous id; empty means in
	// the collector's cookie.
	Identity collector.Identity `yaml:"identity"`
	// Landing is how events land in BigQuery; empty means by streams.
	Landing Landing             `yaml:"landing"`
	Bots    collector.BotPolicy `yaml:"bots"`
	Limits  SourceLimits        `yaml:"limits"`
}

// Landing is a way into BigQuery's table of events.
type Landing string

// The ways.
const (
	LandByStream Landing = "stream" // in seconds, at a price for each GB
	LandByLoad   Landing = "load"   // free, up to warehouse.bigquery.load_every later
)

// Spool bounds the queue on disk.
type Spool struct {
	MaxBytes int64 `yaml:"max_bytes"`
	// RememberIDs is how many message ids are remembered at least, to recognise
	// duplicates by.
	RememberIDs int `yaml:"remember_ids"`
}

// Warehouse bounds the embedded warehouse, or names the one in BigQuery that
// takes its place.
type Warehouse struct {
	MemoryLimit string    `yaml:"memory_limit"`
	Threads     int       `yaml:"threads"`
	BigQuery    *BigQuery `yaml:"bigquery"`
}

// BigQuery says which project is the warehouse.
type BigQuery struct {
	Project         string            `yaml:"project"`
	Location        string            `yaml:"location"`
	CredentialsFile string            `yaml:"credentials_file"`
	Impersonate     string            `yaml:"impersonate"`
	MaxBytesBilled  int64             `yaml:"max_bytes_billed"`
	Labels          map[string]string `yaml:"labels"`
	// Collector is as whom events land, if not as everything else does. It stands
	// by itself: it takes no part of the identity above, which the machine that
	// faces the public should not have.
	Collector *Identity `yaml:"collector"`
	Budget    Budget    `yaml:"budget"`
	// PricePerTiB is what the project pays for a TiB that is processed, in the
	// currency of its bill. It is never nil in an opened workspace.
	PricePerTiB *float64 `yaml:"price_per_tib"`
	// LoadEvery is how long events of sources with load jobs wait for the next one.
	LoadEvery time.Duration `yaml:"load_every"`

	// Endpoint and StorageEndpoint are an emulator's, from the environment.
	Endpoint        string `yaml:"-"`
	StorageEndpoint string `yaml:"-"`
}

// Identity is as whom to use BigQuery.
type Identity struct {
	CredentialsFile string `yaml:"credentials_file"`
	Impersonate     string `yaml:"impersonate"`
}

// CollectorIdentity is as whom events land.
func (b *BigQuery) CollectorIdentity() Identity {
	if b.Collector != nil {
		return *b.Collector
	}
	return Identity{CredentialsFile: b.CredentialsFile, Impersonate: b.Impersonate}
}

// listPrice is what BigQuery asks for a TiB on demand, in US dollars.
const listPrice = 6.25

// Price is what it costs to process some bytes.
func (b *BigQuery) Price(bytes int64) float64 {
	return float64(bytes) / (1 << 40) * *b.PricePerTiB
}

// Budget bounds the bytes that models process; zero is no bound.
type Budget struct {
	Model Bytes `yaml:"model"` // each
	Run   Bytes `yaml:"run"`   // all of one run
}

// Bytes is a number of bytes, written as warehouse.ParseBytes reads it.
type Bytes int64

// UnmarshalYAML implements yaml.Unmarshaler.
func (b *Bytes) UnmarshalYAML(node *yaml.Node) error {
	n, err := warehouse.ParseBytes(node.Value)
	if err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", node.Line, err)}}
	}
	*b = Bytes(n)
	return nil
}

// JobLabels are the labels of every job.
func (b *BigQuery) JobLabels() map[string]string {
	labels := map[string]string{"program": "sluis"}
	maps.Copy(labels, b.Labels)
	return labels
}

// The variables that put an emulator in BigQuery's place.
const (
	EnvBigQueryEndpoint        = "SLUIS_BIGQUERY_ENDPOINT"         // http://host:port
	EnvBigQueryStorageEndpoint = "SLUIS_BIGQUERY_STORAGE_ENDPOINT" // host:port
)

// Schedule says when models and syncs run under `sluis up`.
type Schedule struct {
	Every time.Duration `yaml:"every"`
	// Idle is how long models stay as they are while nothing lands and nobody
	// edits them: what they say of the time that has passed is that much behind.
	Idle time.Duration `yaml:"idle"`
}

// Workspace is an opened workspace: a configuration that has been checked.
type Workspace struct {
	Dir string
	Config
	Policy  *consent.Policy
	sources []collector.Source
	doc     *document
	keys
}

// Open reads and checks a workspace. All that is wrong is in the error, each
// with file, line and remedy.
func Open(dir string) (*Workspace, error) {
	return OpenWith(dir, func(*Config) error { return nil })
}

// OpenWith opens a workspace whose configuration is changed, by flags, after it
// was read and before it is checked.
func OpenWith(dir string, change func(*Config) error) (*Workspace, error) {
	w, err := read(dir)
	if err != nil {
		return nil, err
	}
	if err := change(&w.Config); err != nil {
		return nil, err
	}
	w.settle()
	w.check(w.doc)
	w.checkOperations(w.doc)
	w.checkAlerts(w.doc)
	w.openVault(w.doc)
	w.load(w.doc)
	if len(w.doc.problems) > 0 {
		return nil, errors.Join(w.doc.problems...)
	}
	return w, nil
}

// read reads a configuration, unchecked.
func read(dir string) (*Workspace, error) {
	path := filepath.Join(dir, File)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no workspace here: make one with `sluis init DIR`, or name one with --workspace", path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	w := &Workspace{Dir: dir, Config: defaults()}
	doc, err := decode(path, text, &w.Config)
	if err != nil {
		return nil, err
	}
	w.doc = doc
	return w, nil
}

func defaults() Config {
	return Config{
		Listen: "127.0.0.1:8484", Data: "data", Keys: "keys", Models: "sql", Syncs: "syncs",
		Consent:   Consent{Version: "1", SealFor: []consent.Purpose{consent.Personalization, consent.Marketing, consent.Advertising}},
		Spool:     Spool{MaxBytes: 4 << 30, RememberIDs: 500_000},
		Warehouse: Warehouse{MemoryLimit: "2GB"},
		Operations: Operations{
			Listen: "127.0.0.1:8485", MaxLag: 5 * time.Minute, MinDisk: 512 << 20, Drain: 20 * time.Second,
		},
		Log: Log{Format: LogText, Level: LogLevel(slog.LevelInfo)},
	}
}

// settle gives the schedule its defaults, of which one depends on the warehouse.
func (w *Workspace) settle() {
	if w.Schedule.Idle == 0 {
		w.Schedule.Idle = 10 * time.Minute
	}
	if w.Schedule.Every != 0 {
		return
	}
	w.Schedule.Every = 30 * time.Second
	if w.Warehouse.BigQuery != nil {
		w.Schedule.Every = 10 * time.Minute
	}
}

// check looks at each value by itself.
func (w *Workspace) check(doc *document) {
	if !regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`).MatchString(w.Workspace) {
		doc.report("workspace", "must be a short name in lower case, such as my-shop; it is part of every pseudonym, so choose it once")
	}
	if _, _, err := net.SplitHostPort(w.Listen); err != nil {
		doc.report("listen", "must be host:port, such as 127.0.0.1:8484")
	}
	if err := collector.CheckPathPrefix(w.PathPrefix); err != nil {
		doc.report("path_prefix", "%v", err)
	}
	if w.Schedule.Every < time.Second {
		doc.report("schedule.every", "must be at least 1s")
	}
	if w.Schedule.Idle < time.Second || w.Schedule.Idle > 24*time.Hour {
		doc.report("schedule.idle", "must be from 1s to 24h: consent that ends by its age ends that much later")
	}
	if b := w.Warehouse.BigQuery; b != nil {
		w.checkBigQuery(doc, b)
	}
	if w.Spool.MaxBytes < 256<<20 {
		doc.report("spool.max_bytes", "must be at least 268435456 (256 MiB)")
	}
	if w.Spool.RememberIDs < 1000 || w.Spool.RememberIDs > 50_000_000 {
		doc.report("spool.remember_ids", "must be from 1000 to 50000000; a million take about 80 MB of memory")
	}
	w.checkVisitors(doc)
	w.checkPseudonyms(doc)
	if len(w.Sources) == 0 {
		doc.report("sources", "at least one source is needed: an id and a write_key")
	}
	seen := make(map[string]bool)
	for i, s := range w.Sources {
		at := fmt.Sprintf("sources.%d", i)
		if s.ID == "" || s.WriteKey == "" {
			doc.report(at, "a source needs an id and a write_key")
		}
		if seen["id "+s.ID] || seen["key "+s.WriteKey] {
			doc.report(at, "another source has the same id or write_key")
		}
		seen["id "+s.ID], seen["key "+s.WriteKey] = true, true
		for j, origin := range s.Origins {
			if err := collector.CheckOrigin(origin); err != nil {
				doc.report(fmt.Sprintf("%s.origins.%d", at, j), "%v", err)
			}
		}
		if s.Servers && len(s.Origins) > 0 {
			doc.report(at+".servers", "a source that pages send to has its write key in them, so anybody could pass for a server: give servers a source of their own, without origins")
		}
		if s.Denied != "" && s.Denied != collector.Count && s.Denied != collector.Discard {
			doc.report(at+".denied", "must be count (a refused event grows a counter) or drop")
		}
		if !slices.Contains([]collector.Identity{"", collector.IdentityCookie, collector.IdentityClient, collector.IdentityNone}, s.Identity) {
			doc.report(at+".identity", "must be cookie (the collector keeps the visitor's id), client (the page does) or none (nothing is stored on devices)")
		}
		switch {
		case s.Landing != "" && s.Landing != LandByStream && s.Landing != LandByLoad:
			doc.report(at+".landing", "must be stream (in BigQuery within seconds, paid by the GB) or load (by load jobs: free, minutes later)")
		case s.Landing != "" && w.Warehouse.BigQuery == nil:
			doc.report(at+".landing", "is a choice that only BigQuery gives: name a project in warehouse.bigquery, or remove it")
		}
	}
}

// checkBigQuery looks at the warehouse in BigQuery, and completes what it says.
func (w *Workspace) checkBigQuery(doc *document, b *BigQuery) {
	if b.Project == "" || b.Location == "" {
		doc.report("warehouse.bigquery", "a project and a location, such as EU, are needed")
	}
	if b.PricePerTiB == nil {
		b.PricePerTiB = new(listPrice)
	}
	if price := *b.PricePerTiB; price < 0 || math.IsNaN(price) || math.IsInf(price, 0) {
		doc.report("warehouse.bigquery.price_per_tib", "must be a price, such as %v, or 0 if queries are not billed by the byte", listPrice)
	}
	if w.Schedule.Every < time.Minute {
		doc.report("schedule.every", "must be at least 1m with BigQuery, which lets a table be replaced 1,500 times a day; 10m costs a tenth")
	}
	if b.LoadEvery == 0 {
		b.LoadEvery = 5 * time.Minute
	}
	if b.LoadEvery < time.Minute {
		doc.report("warehouse.bigquery.load_every", "must be at least 1m: BigQuery allows 1,500 load jobs of a table a day")
	}
	b.Endpoint, b.StorageEndpoint = os.Getenv(EnvBigQueryEndpoint), os.Getenv(EnvBigQueryStorageEndpoint)
	w.checkIdentity(doc, "warehouse.bigquery", &b.CredentialsFile, b.Impersonate)
	if own := b.Collector; own != nil {
		if *own == (Identity{}) {
			doc.report("warehouse.bigquery.collector", "a credentials_file or an account to impersonate is needed; without this block the collector acts as everything else does")
		}
		w.checkIdentity(doc, "warehouse.bigquery.collector", &own.CredentialsFile, own.Impersonate)
	}
}

// checkIdentity resolves the file, and looks at the account to impersonate.
func (w *Workspace) checkIdentity(doc *document, at string, file *string, impersonate string) {
	if *file != "" {
		*file = w.Path(*file)
	}
	if impersonate != "" && !strings.Contains(impersonate, "@") {
		doc.report(at+".impersonate", "must be the e-mail address of a service account")
	}
}

// load makes the policy and reads the tracking plans.
func (w *Workspace) load(doc *document) {
	if !w.loadPolicy(doc) {
		return
	}
	for _, s := range w.Sources {
		source := collector.Source{ID: s.ID, WriteKey: s.WriteKey, Origins: s.Origins, Servers: s.Servers, Denied: s.Denied, Identity: s.Identity, Bots: s.Bots, Rate: w.rate(s.Limits)}
		if source.Denied == "" {
			source.Denied = collector.Count
		}
		if source.Identity == "" {
			source.Identity = collector.IdentityCookie
		}
		if s.TrackingPlan != "" {
			var err error
			if source.Plan, err = readPlan(w.Path(s.TrackingPlan), w.Policy); err != nil {
				doc.problems = append(doc.problems, err)
			}
		}
		w.sources = append(w.sources, source)
	}
}

// Path resolves a path of the configuration.
func (w *Workspace) Path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(w.Dir, path)
}

// Landing is the folder of landed Parquet files.
func (w *Workspace) Landing() string { return filepath.Join(w.Path(w.Data), "landing") }

// SpoolDir is the folder of the collector's spool.
func (w *Workspace) SpoolDir() string { return filepath.Join(w.Path(w.Data), "spool") }

// MessageIDs is the folder of the message ids that are remembered.
func (w *Workspace) MessageIDs() string { return filepath.Join(w.Path(w.Data), "message-ids") }

// Suppressed is the file of tombstones that collectors keep to; Erasures is the
// folder of what is under way, and of the receipts.
func (w *Workspace) Suppressed() string { return filepath.Join(w.Path(w.Data), "suppressed") }
func (w *Workspace) Erasures() string   { return filepath.Join(w.Path(w.Data), "erasures") }

// ConsentHead is the file in which a collector keeps the head of its record of
// consent.
func (w *Workspace) ConsentHead() string { return filepath.Join(w.Path(w.Data), "consent.head") }

// ReplayDir is the folder of the spool by which replayed events land.
func (w *Workspace) ReplayDir() string { return filepath.Join(w.Path(w.Data), "replay") }

// LoaderState is what a loader into BigQuery remembers of the spool. The two
// live and die together, so it is in the spool's folder.
func (w *Workspace) LoaderState() string { return filepath.Join(w.SpoolDir(), "bigquery.state") }

// Database is the file of the embedded warehouse.
func (w *Workspace) Database() string { return filepath.Join(w.Path(w.Data), "warehouse.duckdb") }

// SealPurposes are the purposes that have a key pair: those that need direct
// identifiers, and necessary, for what must be kept of faulty events.
func (w *Workspace) SealPurposes() []string {
	names := []string{string(consent.Necessary)}
	for _, purpose := range w.Consent.SealFor {
		names = append(names, string(purpose))
	}
	return names
}

// LoadSources are the sources whose events go into BigQuery by load jobs.
func (w *Workspace) LoadSources() []string {
	var ids []string
	for _, s := range w.Sources {
		if s.Landing == LandByLoad {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// CollectorSources are the configured sources, with their plans.
func (w *Workspace) CollectorSources() []collector.Source { return w.sources }

// document is a YAML file that keeps its lines, to report problems with them.
type document struct {
	file     string
	root     yaml.Node
	problems []error
}

var unknownKey = regexp.MustCompile(`line (\d+): field (\S+) not found in type \S+`)

// decode reads strict YAML: an unknown key is an error, with its line.
func decode(file string, text []byte, into any) (*document, error) {
	doc := &document{file: file}
	if err := yaml.Unmarshal(text, &doc.root); err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	err := decoder.Decode(into)
	var mismatch *yaml.TypeError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return doc, nil
	case !errors.As(err, &mismatch):
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	for _, problem := range mismatch.Errors {
		problem = unknownKey.ReplaceAllString(problem, "line $1: unknown key \"$2\": correct or remove it; `sluis init` writes a file with every key")
		if rest, ok := strings.CutPrefix(problem, "line "); ok {
			problem = file + ":" + rest
		} else {
			problem = file + ": " + problem
		}
		doc.problems = append(doc.problems, errors.New(problem))
	}
	return nil, errors.Join(doc.problems...)
}

// report adds a problem with the value at a dotted path.
func (d *document) report(path, format string, args ...any) {
	d.reportAt(strings.Split(path, "."), format, args...)
}

// reportAt adds a problem with the value that some keys lead to.
func (d *document) reportAt(path []string, format string, args ...any) {
	d.problems = append(d.problems, d.problem(path, format, args...))
}

func (d *document) problem(path []string, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s: %s", d.file, d.line(path), strings.Join(path, "."), fmt.Sprintf(format, args...))
}

// line is where the value at a path stands, or else the nearest key above it.
func (d *document) line(path []string) int {
	if len(d.root.Content) == 0 {
		return 1
	}
	node, line := d.root.Content[0], 1
	for _, part := range path {
		next := child(node, part)
		if next == nil {
			return line
		}
		node, line = next, next.Line
	}
	return line
}

func child(n *yaml.Node, key string) *yaml.Node {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		for i, element := range n.Content {
			if fmt.Sprint(i) == key {
				return element
			}
		}
	case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode:
	}
	return nil
}
