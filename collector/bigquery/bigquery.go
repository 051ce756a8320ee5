// Package bigquery lands batches in BigQuery through the Storage Write API, and
// events of chosen sources by load jobs, each row exactly once. DESIGN.md has the
// reasoning.
package bigquery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"github.com/gofrs/flock"
	"google.golang.org/api/bigquery/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/sql/bigquery/identity"
)

// Config says where to land, and as whom. The tables of warehouse.Landing must
// exist in the data set. Appending to them is all that the identity must be allowed.
type Config struct {
	Project, Dataset string
	Location         string // of the data set
	// StateFile remembers what was begun. It belongs to the spool: keep, move and
	// remove the two together, and never restore one without the other. Rows that
	// BigQuery refuses are kept in a folder "refused" beside it, events that wait
	// for a load job in a folder "loads".
	StateFile string
	// LoadSources are the ids of the sources whose events go by load jobs, which are
	// free, and in the table up to LoadEvery later; the default is five minutes.
	// Whatever else comes from these sources lands as everything does.
	LoadSources []string
	LoadEvery   time.Duration
	// Labels are put on load jobs.
	Labels map[string]string
	// CredentialsFile and Impersonate say as whom; see package identity.
	CredentialsFile, Impersonate string
	// Endpoint, http://host:port, and StorageEndpoint, host:port, replace Google's by
	// an emulator, without encryption and credentials. Load jobs need the first.
	Endpoint, StorageEndpoint string
	// Timeout is how long one answer of BigQuery may take; the default is a minute.
	Timeout time.Duration
	Logger  *slog.Logger

	// Tests break the connections here.
	dial []grpc.DialOption
	http http.RoundTripper
}

// Sink implements [collector.Sink]. Its methods are not called concurrently.
type Sink struct {
	config Config
	logger *slog.Logger
	writer *storage.BigQueryWriteClient
	reader *storage.BigQueryReadClient
	jobs   *bigquery.JobsService
	lock   *flock.Flock
	tables []table

	mu          sync.Mutex
	state       state // what is in it is replaced, never changed
	save        func(path string, data []byte) error
	requestSize int // bytes
	jobSize     int64
	pollEvery   time.Duration

	batches  lane // the loader's
	returned lane // events that a load job did not take
	staging  *staging

	stopLoads context.CancelFunc
	loaded    chan struct{} // closed when no more loads are begun
}

// lane lands batches, one after the other, through streams of its own.
type lane struct {
	*Sink
	sources     []string               // whose events are staged for a load job
	connections map[string]*connection // by table
	current     *landing               // the batch that a call of land did not finish
}

var _ collector.Sink = (*Sink)(nil)

// Open reads the state file, or begins one, and locks it until [Sink.Close]. From
// then on what is staged is loaded. BigQuery is not called before there is
// something for it.
func Open(ctx context.Context, config Config) (*Sink, error) {
	s, err := open(ctx, config)
	if err != nil {
		return nil, err
	}
	s.startLoads(ctx)
	return s, nil
}

// open does what Open does, without beginning to load.
func open(ctx context.Context, config Config) (*Sink, error) {
	if config.Project == "" || config.Dataset == "" || config.Location == "" || config.StateFile == "" || config.Logger == nil {
		return nil, errors.New("opening the BigQuery sink: project, dataset, location, state file and logger must be given")
	}
	if config.StorageEndpoint != "" && config.Endpoint == "" && len(config.LoadSources) > 0 {
		return nil, errors.New("opening the BigQuery sink: load jobs need an emulator's endpoint, besides its storage endpoint")
	}
	if config.Timeout <= 0 {
		config.Timeout = time.Minute
	}
	if config.LoadEvery <= 0 {
		config.LoadEvery = 5 * time.Minute
	}
	tables, err := landingTables()
	if err != nil {
		return nil, fmt.Errorf("opening the BigQuery sink: %w", err)
	}
	s := &Sink{
		config: config, logger: config.Logger, tables: tables, save: writeFile,
		requestSize: maxRequestBytes, jobSize: maxJobBytes, pollEvery: time.Second,
		lock: flock.New(config.StateFile + ".lock"),
		staging: &staging{
			dir: filepath.Join(filepath.Dir(config.StateFile), "loads"), limit: maxStagedBytes,
			save: writeFile, move: moveFile, changed: make(chan struct{}, 1),
		},
	}
	s.batches = lane{Sink: s, sources: config.LoadSources, connections: make(map[string]*connection)}
	s.returned = lane{Sink: s, connections: make(map[string]*connection)}
	if err := os.MkdirAll(filepath.Dir(config.StateFile), 0o700); err != nil {
		return nil, fmt.Errorf("opening the BigQuery sink: %w", err)
	}
	switch locked, err := s.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("opening the BigQuery sink: locking the state file: %w", err)
	case !locked:
		return nil, fmt.Errorf("opening the BigQuery sink: %s is in use by another process; give each collector its own spool and state file", config.StateFile)
	}
	if s.state, err = loadState(config.StateFile); err == nil {
		err = errors.Join(s.openStaging(), s.dial(ctx))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the BigQuery sink: %w", err), s.Close())
	}
	return s, nil
}

// dial makes the clients. They connect when they are first used.
func (s *Sink) dial(ctx context.Context) error {
	grpcOptions, rest, err := s.config.options()
	if err != nil {
		return err
	}
	if s.writer, err = storage.NewBigQueryWriteClient(ctx, grpcOptions...); err != nil {
		return fmt.Errorf("making a BigQuery client: %w", err)
	}
	if s.reader, err = storage.NewBigQueryReadClient(ctx, grpcOptions...); err != nil {
		return fmt.Errorf("making a BigQuery client: %w", err)
	}
	service, err := bigquery.NewService(ctx, rest...)
	if err != nil {
		return fmt.Errorf("making a BigQuery client: %w", err)
	}
	s.jobs = service.Jobs
	// The loader tries again, and knows how long the queue is; retries below it
	// would only hide that BigQuery is away.
	s.writer.CallOptions = &storage.BigQueryWriteCallOptions{}
	s.reader.CallOptions = &storage.BigQueryReadCallOptions{}
	return nil
}

// options are those of the Storage API's clients, and of the one for jobs.
func (c Config) options() (storageOptions, rest []option.ClientOption, err error) {
	again := backoff.DefaultConfig
	again.BaseDelay, again.MaxDelay = 100*time.Millisecond, 10*time.Second
	storageOptions = []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: 10 * time.Second})),
	}
	for _, dial := range c.dial {
		storageOptions = append(storageOptions, option.WithGRPCDialOption(dial))
	}
	if c.StorageEndpoint != "" {
		storageOptions = append(storageOptions, option.WithEndpoint(c.StorageEndpoint), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
		return storageOptions, []option.ClientOption{
			option.WithEndpoint(strings.TrimSuffix(c.Endpoint, "/") + "/bigquery/v2/"), option.WithHTTPClient(&http.Client{Transport: c.http}),
		}, nil
	}
	who, err := identity.Identity{CredentialsFile: c.CredentialsFile, Impersonate: c.Impersonate}.Options()
	if err != nil {
		return nil, nil, err
	}
	return append(storageOptions, who...), who, nil
}

// Close ends the connections and releases the state file. A batch that is not
// finished is gone on with after the next Open, and what is staged is loaded then.
func (s *Sink) Close() error {
	if s.stopLoads != nil {
		s.stopLoads()
		<-s.loaded
	}
	for _, n := range []*lane{&s.batches, &s.returned} {
		for name := range n.connections {
			n.disconnect(name)
		}
	}
	var errs []error
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if err := errors.Join(append(errs, s.lock.Close())...); err != nil {
		return fmt.Errorf("closing the BigQuery sink: %w", err)
	}
	return nil
}

// Position implements [collector.Sink]. It reads no more than the state. When
// landing has stopped, only Land says so: the collector goes on spooling.
func (s *Sink) Position(_ context.Context, spoolID string) (next, until uint64, err error) {
	spool := s.spool(spoolID)
	if b := spool.Batch; b != nil {
		return b.First, b.Last, nil
	}
	return spool.Next, 0, nil
}

// Land implements [collector.Sink]: it writes down what will be sent where,
// sends it, and writes down that it has landed. Events that go by a load job have
// landed when they are staged.
func (s *Sink) Land(ctx context.Context, b collector.Batch) error { return s.batches.land(ctx, b) }

func (n *lane) land(ctx context.Context, b collector.Batch) error {
	spool := n.spool(b.SpoolID)
	if spool.Halted != "" {
		return n.haltedError(spool.Halted)
	}
	if b.Last <= spool.Next {
		return n.staging.publish(stagedFile{spool: b.SpoolID, first: b.First, last: b.Last})
	}
	l, err := n.landing(b)
	if err != nil {
		return fmt.Errorf("beginning to land records %d to %d: %w", b.First, b.Last-1, err)
	}
	for _, t := range n.tables {
		if err := l.land(ctx, t); err != nil {
			return fmt.Errorf("landing records %d to %d in %s: %w", b.First, b.Last-1, t.name, err)
		}
	}
	if err := n.keepUnreadable(b); err != nil {
		return fmt.Errorf("keeping unreadable records: %w", err)
	}
	if err := l.finish(); err != nil {
		return fmt.Errorf("recording that records %d to %d have landed: %w", b.First, b.Last-1, err)
	}
	n.current = nil
	return nil
}

func (s *Sink) haltedError(reason string) error {
	return fmt.Errorf("landing has stopped, since going on would lose or double rows: %s. Everything received stays in the spool. "+
		"Find out what changed the table, its stream or %s (was one of them restored, copied or truncated?). To go on: stop the collector, "+
		"move that file away and start it. What the spool still holds then lands again; the models drop events that are there twice", reason, s.config.StateFile)
}

// refusedDir is where rows are kept that neither BigQuery nor this version takes.
func (s *Sink) refusedDir() string { return filepath.Join(filepath.Dir(s.config.StateFile), "refused") }

func (s *Sink) tablePath(name string) string {
	return fmt.Sprintf("projects/%s/datasets/%s/tables/%s", s.config.Project, s.config.Dataset, name)
}
