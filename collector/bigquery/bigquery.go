// Package bigquery lands batches in BigQuery through the Storage Write API, each
// row exactly once. DESIGN.md has the reasoning.
package bigquery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"github.com/gofrs/flock"
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
	// StateFile remembers what was begun. It belongs to the spool: keep, move and
	// remove the two together, and never restore one without the other. Rows that
	// BigQuery refuses are kept in a folder "refused" beside it.
	StateFile string
	// CredentialsFile and Impersonate say as whom; see package identity.
	CredentialsFile, Impersonate string
	// StorageEndpoint, host:port, replaces Google's by an emulator: without
	// encryption and credentials.
	StorageEndpoint string
	// Timeout is how long one answer of BigQuery may take; the default is a minute.
	Timeout time.Duration
	Logger  *slog.Logger

	dial []grpc.DialOption // tests break the connection here
}

// Sink implements [collector.Sink]. Its methods are not called concurrently.
type Sink struct {
	config Config
	logger *slog.Logger
	writer *storage.BigQueryWriteClient
	reader *storage.BigQueryReadClient
	lock   *flock.Flock
	tables []table

	state       state
	save        func(path string, data []byte) error
	requestSize int                    // bytes
	connections map[string]*connection // by table
	current     *landing               // the batch that a call of Land did not finish
}

var _ collector.Sink = (*Sink)(nil)

// Open reads the state file, or begins one, and locks it until [Sink.Close].
// BigQuery is not called yet.
func Open(ctx context.Context, config Config) (*Sink, error) {
	if config.Project == "" || config.Dataset == "" || config.StateFile == "" || config.Logger == nil {
		return nil, errors.New("opening the BigQuery sink: project, dataset, state file and logger must be given")
	}
	if config.Timeout <= 0 {
		config.Timeout = time.Minute
	}
	tables, err := landingTables()
	if err != nil {
		return nil, fmt.Errorf("opening the BigQuery sink: %w", err)
	}
	s := &Sink{
		config: config, logger: config.Logger, tables: tables, save: writeFile, requestSize: maxRequestBytes,
		connections: make(map[string]*connection),
		lock:        flock.New(config.StateFile + ".lock"),
	}
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
		err = s.dial(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the BigQuery sink: %w", err), s.Close())
	}
	return s, nil
}

// dial makes the clients. They connect when they are first used.
func (s *Sink) dial(ctx context.Context) error {
	options, err := s.config.options()
	if err != nil {
		return err
	}
	if s.writer, err = storage.NewBigQueryWriteClient(ctx, options...); err != nil {
		return fmt.Errorf("making a BigQuery client: %w", err)
	}
	if s.reader, err = storage.NewBigQueryReadClient(ctx, options...); err != nil {
		return fmt.Errorf("making a BigQuery client: %w", err)
	}
	// The loader tries again, and knows how long the queue is; retries below it
	// would only hide that BigQuery is away.
	s.writer.CallOptions = &storage.BigQueryWriteCallOptions{}
	s.reader.CallOptions = &storage.BigQueryReadCallOptions{}
	return nil
}

func (c Config) options() ([]option.ClientOption, error) {
	again := backoff.DefaultConfig
	again.BaseDelay, again.MaxDelay = 100*time.Millisecond, 10*time.Second
	options := []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: 10 * time.Second})),
	}
	for _, dial := range c.dial {
		options = append(options, option.WithGRPCDialOption(dial))
	}
	if c.StorageEndpoint != "" {
		return append(options,
			option.WithEndpoint(c.StorageEndpoint), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))), nil
	}
	who, err := identity.Identity{CredentialsFile: c.CredentialsFile, Impersonate: c.Impersonate}.Options()
	if err != nil {
		return nil, err
	}
	return append(options, who...), nil
}

// Close ends the connections and releases the state file. A batch that is not
// finished is gone on with after the next Open.
func (s *Sink) Close() error {
	for name := range s.connections {
		s.disconnect(name)
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
	spool := s.state.spool(spoolID)
	if b := spool.Batch; b != nil {
		return b.First, b.Last, nil
	}
	return spool.Next, 0, nil
}

// Land implements [collector.Sink]: it writes down what will be sent where,
// sends it, and writes down that it has landed.
func (s *Sink) Land(ctx context.Context, b collector.Batch) error {
	spool := s.state.spool(b.SpoolID)
	if spool.Halted != "" {
		return s.haltedError(spool.Halted)
	}
	if b.Last <= spool.Next {
		return nil
	}
	l, err := s.landing(b)
	if err != nil {
		return fmt.Errorf("beginning to land records %d to %d: %w", b.First, b.Last-1, err)
	}
	for _, t := range s.tables {
		if err := l.land(ctx, t); err != nil {
			return fmt.Errorf("landing records %d to %d in %s: %w", b.First, b.Last-1, t.name, err)
		}
	}
	if err := s.keepUnreadable(b); err != nil {
		return fmt.Errorf("keeping unreadable records: %w", err)
	}
	if err := s.update(b.SpoolID, (*spoolState).finish); err != nil {
		return fmt.Errorf("recording that records %d to %d have landed: %w", b.First, b.Last-1, err)
	}
	s.current = nil
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
