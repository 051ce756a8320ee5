package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluis-cdp/sluis/sql/bigquery/identity"
)

// window is how many requests may be without an answer. It bounds the memory
// beyond the batch itself, and is enough to hide the way there and back.
const window = 4

// What a request may come to, besides success.
var (
	// errTransient: the connection or the server failed; the same again may succeed.
	errTransient = errors.New("BigQuery is away")
	// errStreamLost: nothing more can be written to the stream.
	errStreamLost = errors.New("the stream is gone, finalized or shorter than what was acknowledged")
	// errForeign: rows are where ours should go, and we did not write them.
	errForeign = errors.New("the stream has rows that this collector did not write")
)

// refusedError are rows that BigQuery does not take. Of their request none was
// written, nor of those after it.
type refusedError struct {
	rows map[int]string // by index in the plan's rows: why
}

func (e *refusedError) Error() string { return fmt.Sprintf("BigQuery refused %d rows", len(e.rows)) }

// connection is an AppendRows call, kept open from batch to batch.
type connection struct {
	stream string
	rpc    storagepb.BigQueryWrite_AppendRowsClient
	cancel context.CancelFunc
	used   bool
}

// connect returns the table's connection, a new one if need be. It lives until
// [lane.disconnect]; BigQuery allows one at a time for a stream.
func (n *lane) connect(ctx context.Context, table, stream string) (*connection, error) {
	if c := n.connections[table]; c != nil && c.stream == stream {
		return c, nil
	}
	n.disconnect(table)
	// The call outlives ctx. BigQuery finds the stream's region by this header.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	life = metadata.AppendToOutgoingContext(life, "x-goog-request-params", "write_stream="+url.QueryEscape(stream))
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	rpc, err := n.writer.AppendRows(life)
	if err != nil {
		cancel()
		return nil, classify(err)
	}
	c := &connection{stream: stream, rpc: rpc, cancel: cancel}
	n.connections[table] = c
	return c, nil
}

func (n *lane) disconnect(table string) {
	if c := n.connections[table]; c != nil {
		c.cancel()
		delete(n.connections, table)
	}
}

// push sends the requests of a plan that are not acknowledged yet, and takes
// their answers, which come in the same order. After an error the connection
// must not be used again.
func (l *landing) push(ctx context.Context, t table) error {
	p, done := l.plan(t), l.progress[t.name]
	st := l.sink.spool(l.batch.SpoolID).Streams[t.name]
	c, err := l.sink.connect(ctx, t.name, st.Name)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	// The call has no deadline of its own: a connection that hangs is cut here.
	watch := time.AfterFunc(l.sink.config.Timeout, c.cancel)
	defer watch.Stop()
	stop := context.AfterFunc(ctx, c.cancel)
	defer stop()

	next, ended := done.acked, false // the next request to send; whether the server takes no more
	for done.acked < len(p.Requests) {
		for !ended && next < len(p.Requests) && next-done.acked < window {
			before := sum(p.Requests[:next])
			from := p.Landed + before
			rows := l.encoded[t.name][from : from+p.Requests[next]]
			next++
			if ended = c.send(t, st.Offset+int64(before), rows) != nil; ended {
				break // the answers up to now are still to come, and then the reason
			}
		}
		err := c.receive(p.Landed + sum(p.Requests[:done.acked]))
		switch {
		case err == nil, errors.Is(err, errExists) && done.acked < done.sent:
			done.acked++
			watch.Reset(l.sink.config.Timeout)
			continue
		case errors.Is(err, errExists):
			return errForeign
		case errors.Is(err, errStreamLost):
			return err // nor can what was sent behind it be written
		}
		if drained := c.drain(next - done.acked - 1); !drained || errors.Is(err, errTransient) {
			done.sent = max(done.sent, next)
		}
		return err
	}
	return nil
}

// send sends a request. The connection's first one names the stream and
// describes the rows; later ones need not. An error says that the call has
// ended, and receiving says why.
func (c *connection) send(t table, offset int64, rows [][]byte) error {
	data := &storagepb.AppendRowsRequest_ProtoData{Rows: &storagepb.ProtoRows{SerializedRows: rows}}
	req := &storagepb.AppendRowsRequest{
		Offset: wrapperspb.Int64(offset), Rows: &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: data},
	}
	if !c.used {
		c.used = true
		req.WriteStream, req.TraceId = c.stream, "sluis"
		data.WriterSchema = &storagepb.ProtoSchema{ProtoDescriptor: t.descriptor}
	}
	return c.rpc.Send(req)
}

// receive takes an answer. Row errors are counted from the row first on.
func (c *connection) receive(first int) error {
	resp, err := c.rpc.Recv()
	if err != nil {
		return classify(err)
	}
	if bad := resp.GetRowErrors(); len(bad) > 0 {
		refused := &refusedError{rows: make(map[int]string, len(bad))}
		for _, e := range bad {
			refused.rows[first+int(e.GetIndex())] = e.GetMessage()
		}
		return refused
	}
	if st := resp.GetError(); st != nil {
		return classify(status.ErrorProto(st))
	}
	return nil
}

// drain takes the answers to n requests that were sent behind one that failed.
// None of their rows was written, since their offsets are beyond the stream's
// end. It returns false if it cannot know.
func (c *connection) drain(n int) bool {
	for range n {
		resp, err := c.rpc.Recv()
		if err != nil || resp.GetError() == nil && len(resp.GetRowErrors()) == 0 {
			return false
		}
	}
	return true
}

// errExists: a request with this offset has been written before, all of it.
var errExists = errors.New("the rows are there already")

// classify says what an error of AppendRows means. BigQuery's own code decides,
// if there is one; otherwise that of gRPC.
func classify(err error) error {
	byStorage := map[storagepb.StorageError_StorageErrorCode]error{
		storagepb.StorageError_OFFSET_ALREADY_EXISTS:        errExists,
		storagepb.StorageError_OFFSET_OUT_OF_RANGE:          errStreamLost,
		storagepb.StorageError_STREAM_NOT_FOUND:             errStreamLost,
		storagepb.StorageError_STREAM_FINALIZED:             errStreamLost,
		storagepb.StorageError_INVALID_STREAM_STATE:         errStreamLost,
		storagepb.StorageError_TABLE_NOT_FOUND:              errTable,
		storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS: errSchema,
		storagepb.StorageError_KMS_SERVICE_ERROR:            errTransient,
	}
	byCode := map[codes.Code]error{
		codes.AlreadyExists:     errExists,
		codes.OutOfRange:        errStreamLost,
		codes.NotFound:          errStreamLost,
		codes.Unavailable:       errTransient,
		codes.Aborted:           errTransient,
		codes.Internal:          errTransient,
		codes.Canceled:          errTransient,
		codes.DeadlineExceeded:  errTransient,
		codes.ResourceExhausted: errTransient,
		codes.Unknown:           errTransient,
		codes.PermissionDenied:  errPermission,
		codes.Unauthenticated:   errIdentity,
	}
	st := status.Convert(err)
	for _, detail := range st.Details() {
		if e, ok := detail.(*storagepb.StorageError); ok && byStorage[e.GetCode()] != nil {
			return fmt.Errorf("%w (%s)", byStorage[e.GetCode()], st.Message())
		}
	}
	if meaning := byCode[st.Code()]; meaning != nil {
		if remedy := identity.Remedy(err); remedy != "" {
			return fmt.Errorf("%w (%s): %s", meaning, st.Message(), remedy)
		}
		return fmt.Errorf("%w (%s)", meaning, st.Message())
	}
	return fmt.Errorf("BigQuery answered: %w", err)
}
