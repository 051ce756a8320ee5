package cmd

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluis-cdp/sluis/"

// allowed is the architecture: each package, and what of the product it may
// import. ARCHITECTURE.md draws the same. Tests may import more.
var allowed = map[string][]string{
	// Leaves: they import no other part of the product.
	"consent":                      {"consent/cmp", "consent/gpp", "consent/tcf"},
	"collector/jsontree":           {},
	"collector/limit":              {},
	"collector/personal":           {},
	"collector/personal/corpus":    {"collector/personal"},
	"collector/schema":             {"collector/jsontree"},
	"collector/spool":              {},
	"collector/snippet":            {},
	"collector/visitor":            {},
	"sql":                          {},
	"sql/runner/jinja":             {},
	"sql/warehouse":                {},
	"sql/runner/artifact":          {},
	"sql/bigquery/identity":        {},
	"consent/bits":                 {},
	"consent/bits/bitstest":        {},
	"consent/cmp":                  {"collector/jsontree"},
	"consent/gpp":                  {"consent/bits", "consent/tcf"},
	"consent/record":               {"consent"},
	"consent/seal":                 {},
	"consent/tcf":                  {"consent/bits"},
	"consent/seal/remote":          {"consent/seal"},
	"plugins/proto/destination/v1": {},
	"plugins/destination":          {"plugins/proto/destination/v1"},

	// Engines: they import leaves, and never each other, a driver or the host.
	"collector":  {"collector/jsontree", "collector/limit", "collector/personal", "collector/schema", "collector/snippet", "collector/spool", "collector/visitor", "consent", "consent/record", "consent/seal"},
	"sync":       {"plugins/destination", "sql/warehouse"},
	"sql/runner": {"sql/runner/artifact", "sql/runner/jinja", "sql/warehouse"},

	// What is made of artifacts.
	"sql/runner/docs": {"sql/runner/artifact"},

	// Drivers and plugins, and the suites that hold them to their contracts.
	"sql/duckdb":                          {"sql/warehouse"},
	"sql/bigquery":                        {"sql/bigquery/identity", "sql/warehouse"},
	"sql/bigquery/bigquerytest":           {"sql/bigquery", "sql/bigquery/emulator", "sql/warehouse"},
	"sql/bigquery/emulator":               {},
	"sql/bigquery/emulator/with":          {"sql/bigquery/emulator"},
	"sql/warehouse/warehousetest":         {"sql/warehouse"},
	"collector/metrics":                   {"collector", "collector/spool", "consent/seal"},
	"consent/seal/vault":                  {"consent/seal"},
	"collector/bigquery":                  {"collector", "sql/bigquery/identity", "sql/warehouse"},
	"collector/bigquery/storagetest":      {"sql/warehouse"},
	"collector/snippet/browsertest":       {},
	"plugins/destination/normalize":       {"plugins/destination"},
	"plugins/destination/rest":            {"plugins/destination"},
	"plugins/limits":                      {"plugins/destination"},
	"plugins/host":                        {"plugins/destination", "plugins/destination/normalize", "plugins/proto/destination/v1"},
	"plugins/destination/destinationtest": {"plugins/destination"},
	"plugins/slack":                       {"plugins/destination", "plugins/destination/rest"},
	"plugins/slack/slacktest":             {},
	"plugins/webhook":                     {"plugins/destination", "plugins/destination/rest"},
	"plugins/file":                        {"plugins/destination"},
	"plugins/file/s3test":                 {},
	"plugins/file/sftptest":               {},
	"plugins/googleads":                   {"plugins/destination", "plugins/destination/normalize", "plugins/destination/rest"},
	"plugins/googleads/googleadstest":     {},
	"plugins/hubspot":                     {"plugins/destination", "plugins/destination/rest"},
	"plugins/hubspot/hubspottest":         {},
	"plugins/intercom":                    {"plugins/destination", "plugins/destination/rest"},
	"plugins/intercom/intercomtest":       {},
	"plugins/klaviyo":                     {"plugins/destination", "plugins/destination/rest"},
	"plugins/klaviyo/klaviyotest":         {},
	"plugins/meta":                        {"plugins/destination", "plugins/destination/normalize", "plugins/destination/rest"},
	"plugins/meta/metatest":               {},
	"plugins/postgres":                    {"plugins/destination"},
	"plugins/postgres/postgrestest":       {},

	// Programs: only they import drivers, the host and plugins.
	"cmd":                      {},
	"cmd/internal/benchsync":   {"plugins/destination", "plugins/file", "plugins/host", "plugins/postgres", "plugins/postgres/postgrestest", "sql/duckdb", "sql/warehouse", "sync"},
	"cmd/internal/benchmodels": {"sql", "sql/duckdb", "sql/runner", "sql/warehouse"},
	"cmd/internal/bench":       {"cmd/internal/edge", "collector", "collector/spool", "consent", "consent/seal"},
	"cmd/internal/alert":       {"cmd/internal/tracing", "cmd/internal/workspace", "plugins/webhook", "sync"},
	"cmd/internal/canary":      {},
	"cmd/internal/generate":    {},
	"cmd/internal/scale":       {},
	"cmd/internal/tracing":     {},
	"cmd/internal/workspace":   {"collector", "collector/limit", "collector/visitor", "consent", "consent/seal", "consent/seal/vault", "sql/warehouse"},
	"cmd/internal/edge":        {"consent/record", "consent/seal/remote", "collector/bigquery", "collector/metrics", "sql/warehouse", "cmd/internal/workspace", "collector", "collector/spool", "collector/visitor", "consent/seal"},
	"cmd/internal/subject":     {"cmd/internal/edge", "cmd/internal/workspace", "collector", "collector/spool", "consent", "consent/record", "consent/seal", "sql/warehouse", "sync"},
	"cmd/sluis-collector":      {"cmd/internal/edge", "cmd/internal/workspace"},
	"cmd/sluis": {
		"cmd/internal/alert", "cmd/internal/canary", "cmd/internal/edge", "cmd/internal/generate", "cmd/internal/subject", "cmd/internal/tracing", "cmd/internal/workspace", "collector", "collector/bigquery", "collector/metrics", "collector/personal/corpus", "collector/snippet", "collector/spool", "consent", "consent/gpp", "consent/record", "consent/seal", "consent/seal/remote", "consent/seal/vault", "consent/tcf",
		"plugins/destination", "plugins/destination/destinationtest", "plugins/file", "plugins/googleads", "plugins/host", "plugins/hubspot", "plugins/intercom", "plugins/klaviyo", "plugins/limits", "plugins/meta", "plugins/postgres", "plugins/slack", "plugins/webhook",
		"sql", "sql/bigquery", "sql/duckdb", "sql/runner", "sql/runner/artifact", "sql/runner/docs", "sql/warehouse", "sync",
	},
	"cmd/internal/tracing/tracingtest": {},
}

// owners are the dependencies with weight, and the packages that alone may
// import them.
var owners = map[string][]string{
	"github.com/chromedp/":                           {"collector/snippet/browsertest"},
	"github.com/emersion/":                           {}, // tests only
	"github.com/evanw/esbuild":                       {}, // tests only
	"github.com/duckdb/":                             {"sql/duckdb"},
	"database/sql":                                   {"sql/duckdb"},
	"github.com/cloudflare/circl":                    {"consent/seal"},
	"github.com/santhosh-tekuri/jsonschema":          {"collector/schema"},
	"github.com/parquet-go/":                         {"collector", "plugins/file"},
	"github.com/minio/":                              {"plugins/file"},
	"github.com/pkg/sftp":                            {"plugins/file"},
	"golang.org/x/crypto/ssh":                        {"plugins/file", "plugins/file/sftptest"},
	"github.com/hashicorp/go-plugin":                 {"plugins/destination", "plugins/host", "plugins/proto/destination/v1"},
	"cloud.google.com/go/bigquery":                   {"sql/bigquery", "collector/bigquery", "collector/bigquery/storagetest"},
	"google.golang.org/grpc":                         {"plugins/destination", "plugins/host", "plugins/proto/destination/v1", "sql/bigquery", "collector/bigquery", "collector/bigquery/storagetest"},
	"google.golang.org/protobuf":                     {"plugins/destination", "plugins/host", "plugins/proto/destination/v1", "collector/bigquery", "collector/bigquery/storagetest", "cmd/internal/tracing/tracingtest"},
	"google.golang.org/api":                          {"sql/bigquery", "sql/bigquery/identity", "collector/bigquery", "plugins/googleads", "plugins/googleads/googleadstest"},
	"cloud.google.com/go/auth":                       {"sql/bigquery/identity", "plugins/googleads"},
	"github.com/jackc/pgx":                           {"plugins/postgres"},
	"github.com/urfave/cli":                          {"cmd/internal/edge", "cmd/sluis", "cmd/sluis-collector"},
	"github.com/prometheus/":                         {"collector/metrics"},
	"github.com/coreos/go-systemd":                   {"cmd/internal/edge"},
	"go.yaml.in/yaml":                                {"cmd/internal/workspace", "sql/runner", "sync"},
	"github.com/nyaruka/phonenumbers":                {"collector/personal", "consent/seal"},
	"github.com/standard-webhooks/standard-webhooks": {"cmd/sluis"},
	"github.com/oschwald/maxminddb-golang":           {"collector/visitor"},
	"github.com/adhocore/gronx":                      {"sync"},
	"golang.org/x/time":                              {"collector/limit", "consent/seal/remote"},
	"go.opentelemetry.io/otel":                       {"cmd/internal/alert", "cmd/internal/tracing", "cmd/sluis", "sync"}, // the API
	"go.opentelemetry.io/otel/exporters":             {"cmd/internal/tracing"},
	"go.opentelemetry.io/otel/sdk":                   {"cmd/internal/tracing"},
	"go.opentelemetry.io/proto":                      {"cmd/internal/tracing/tracingtest"},
}

// TestLayering reads the import blocks of every file, so that the test cache
// sees a change.
func TestLayering(t *testing.T) {
	seen := make(map[string]bool)
	walk(t, func(pkg, file string, imports []string) {
		seen[pkg] = true
		may, ok := allowed[pkg]
		if !ok {
			t.Errorf("%s: the package %s is not in the table; add it with a reason, or put the file elsewhere", file, pkg)
			return
		}
		for _, imported := range imports {
			if ours, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(may, ours) {
				t.Errorf("%s: %s may not import %s", file, pkg, ours)
			}
			for prefix, owner := range owners {
				if strings.HasPrefix(imported, prefix) && !slices.Contains(owner, pkg) {
					t.Errorf("%s: only %s may import %s", file, strings.Join(owner, ", "), imported)
				}
			}
		}
	})
	for pkg := range allowed {
		if !seen[pkg] && pkg != "cmd" {
			t.Errorf("the table has %s, and there is no such package", pkg)
		}
	}
}

// TestCollectorIsStatic follows the table from sluis-collector: nothing that
// needs cgo is within reach.
func TestCollectorIsStatic(t *testing.T) {
	reach := map[string]bool{}
	var follow func(string)
	follow = func(pkg string) {
		if !reach[pkg] {
			reach[pkg] = true
			for _, next := range allowed[pkg] {
				follow(next)
			}
		}
	}
	follow("cmd/sluis-collector")
	if reach["sql/duckdb"] || reach["plugins/host"] || reach["plugins/postgres"] || reach["sync"] {
		t.Errorf("sluis-collector reaches %v", reach)
	}
}

// TestArchitectureNamesEveryPackage holds the document to the table.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if pkg != "cmd" && !strings.Contains(string(text), "`"+pkg+"`") {
			t.Errorf("ARCHITECTURE.md does not name %s", pkg)
		}
	}
}

// walk calls do for each file that is not a test.
func walk(t *testing.T, do func(pkg, file string, imports []string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "testdata" || len(name) > 2 && name[0] == '.') {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && entry.IsDir() && file != ".." {
			return filepath.SkipDir // a module of its own, for checks that need much
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imports []string
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imported)
		}
		do(path.Clean(filepath.ToSlash(strings.TrimPrefix(filepath.Dir(file), "../"))), file, imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
