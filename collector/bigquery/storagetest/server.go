// Package storagetest has a server of BigQuery's Storage Write API for tests: of
// the service BigQueryWrite what application-created streams of type COMMITTED
// need, of BigQueryRead as much as counting rows takes, and of the REST API load
// jobs. It follows the published protocol
// (google/cloud/bigquery/storage/v1/storage.proto and the guides to the Storage
// Write API and to loading JSON), keeps everything on disk, and can be told to
// fail at chosen points. What it cannot do it refuses.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Point is a moment in the handling of a request to append.
type Point string

// The points at which [Server.Fault] is asked.
const (
	BeforeStore Point = "before" // nothing is written yet
	AfterStore  Point = "after"  // the rows are written, or the job is known, and the answer is not sent
	Run         Point = "run"    // a job that is known is about to run
)

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	// Fault is asked at each point of each request and may return what becomes of
	// it: nil to go on. [ErrCut] ends the connection without an answer; another
	// status is the answer. It is set before the first request.
	Fault func(p Point, table string, offset int64) error
	// JobFault is the same for load jobs, by their id. At Run, what it returns is
	// how the job ends.
	JobFault func(p Point, id string) *JobError

	dir      string
	listener net.Listener
	rest     net.Listener
	grpc     *grpc.Server
	http     *http.Server
	done     sync.WaitGroup

	mu    sync.Mutex
	store *store
}

// ErrCut ends the connection.
var ErrCut = status.Error(codes.Unavailable, "the connection was cut")

// Start serves what the folder holds on addresses like 127.0.0.1:0, one for the
// Storage API and one for REST. Several runs, one after the other, may serve the
// same folder: a write that was answered is there for the next, also if the
// process was killed.
func Start(ctx context.Context, dir, address, restAddress string) (*Server, error) {
	st, err := openStore(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening: %w", err), st.close())
	}
	rest, err := config.Listen(ctx, "tcp", restAddress)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening: %w", err), listener.Close(), st.close())
	}
	s := &Server{dir: dir, listener: listener, rest: rest, store: st}
	// "The size of a single AppendRowsRequest must be less than 20 MB"; the guides
	// say 10 MB, and the smaller one is enforced.
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(10 << 20))
	storagepb.RegisterBigQueryWriteServer(s.grpc, writeService{Server: s})
	storagepb.RegisterBigQueryReadServer(s.grpc, readService{Server: s})
	s.http = &http.Server{Handler: jobService{s}, ReadHeaderTimeout: time.Minute}
	s.done.Go(func() { s.grpc.Serve(listener) }) //nolint:errcheck // it ends by Close
	s.done.Go(func() { s.http.Serve(rest) })     //nolint:errcheck // so does it
	return s, nil
}

// Address is where the server listens, host:port.
func (s *Server) Address() string { return s.listener.Addr().String() }

// RESTAddress is where it listens for jobs.
func (s *Server) RESTAddress() string { return s.rest.Addr().String() }

// Dir is the folder that the server keeps everything in.
func (s *Server) Dir() string { return s.dir }

// Close cuts all connections and ends the server.
func (s *Server) Close() error {
	s.grpc.Stop()
	err := s.http.Close()
	s.done.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.store.close())
}

// CreateTable makes a table, or gives one that exists new columns. Its path is
// projects/P/datasets/D/tables/T.
func (s *Server) CreateTable(path string, schema *storagepb.TableSchema) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.write(entry{Kind: tableMade, Name: path, Schema: schema})
}

// CreateLanding makes the tables of [warehouse.Landing] in a data set.
func (s *Server) CreateLanding(project, dataset string) error {
	for _, t := range warehouse.Landing() {
		path := fmt.Sprintf("projects/%s/datasets/%s/tables/%s", project, dataset, t.Name)
		if err := s.CreateTable(path, Schema(t)); err != nil {
			return err
		}
	}
	return nil
}

// Rows returns a table's rows in the order in which they were written.
func (s *Server) Rows(path string) []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.store.tables[path]; t != nil {
		return append([]map[string]any(nil), t.rows...)
	}
	return nil
}

// Streams returns the names of a table's streams that take rows, oldest first.
func (s *Server) Streams(path string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, name := range s.store.order {
		if st := s.store.streams[name]; st != nil && st.table == path && !st.finalized {
			names = append(names, name)
		}
	}
	return names
}

// Finalize closes a stream from the server's side.
func (s *Server) Finalize(stream string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.write(entry{Kind: streamFinalized, Name: stream})
}

// Expire removes a stream, as BigQuery does days after its last use. Its rows
// stay in the table.
func (s *Server) Expire(stream string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.write(entry{Kind: streamExpired, Name: stream})
}

// Forget takes the last n rows from a stream and its table, which BigQuery
// promises not to do.
func (s *Server) Forget(stream string, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.write(entry{Kind: rowsLost, Name: stream, N: n})
}

// Schema is a table's schema as BigQuery tells it.
func Schema(t warehouse.Table) *storagepb.TableSchema {
	types := map[warehouse.Type]storagepb.TableFieldSchema_Type{
		warehouse.String: storagepb.TableFieldSchema_STRING, warehouse.Strings: storagepb.TableFieldSchema_STRING,
		warehouse.Int64: storagepb.TableFieldSchema_INT64, warehouse.Bool: storagepb.TableFieldSchema_BOOL,
		warehouse.Bytes: storagepb.TableFieldSchema_BYTES, warehouse.Timestamp: storagepb.TableFieldSchema_TIMESTAMP,
		warehouse.JSON: storagepb.TableFieldSchema_JSON, warehouse.Identifiers: storagepb.TableFieldSchema_STRUCT,
	}
	schema := &storagepb.TableSchema{}
	for _, c := range t.Columns {
		field := &storagepb.TableFieldSchema{Name: c.Name, Type: types[c.Type], Mode: storagepb.TableFieldSchema_NULLABLE}
		if c.Type == warehouse.Strings || c.Type == warehouse.Identifiers {
			field.Mode = storagepb.TableFieldSchema_REPEATED
		}
		if c.Type == warehouse.Identifiers {
			field.Fields = []*storagepb.TableFieldSchema{
				{Name: "kind", Type: storagepb.TableFieldSchema_STRING}, {Name: "pseudonym", Type: storagepb.TableFieldSchema_STRING},
			}
		}
		schema.Fields = append(schema.Fields, field)
	}
	return schema
}
