package bigquery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Errors that a human must remove. Until then the rows stay in the spool.
var (
	errTable      = errors.New("the table does not exist: create it with 'sluis doctor --fix'. The rows stay in the spool")
	errSchema     = errors.New("the table lacks columns that this version writes: add them with 'sluis doctor --fix'; BigQuery may need minutes to see them. The rows stay in the spool")
	errPermission = errors.New("BigQuery denies access: the collector needs bigquery.tables.get and bigquery.tables.updateData on the landing tables, which is the role sluisCollector of the README; 'sluis doctor' says what is missing, and how to grant it. The rows stay in the spool")
	errIdentity   = errors.New("BigQuery does not know who the collector is. The rows stay in the spool")
)

// ensureStream makes the table's stream, and records its name before anything is
// sent to it. A crash between the two leaves a stream that is empty.
func (l *landing) ensureStream(ctx context.Context, t table) error {
	if l.sink.spool(l.batch.SpoolID).Streams[t.name].Name != "" {
		return nil
	}
	name, err := l.sink.createStream(ctx, t)
	if err != nil {
		return err
	}
	return l.sink.update(l.batch.SpoolID, func(spool *spoolState) {
		if spool.Streams == nil {
			spool.Streams = make(map[string]stream)
		}
		spool.Streams[t.name] = stream{Name: name}
	})
}

func (s *Sink) createStream(ctx context.Context, t table) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	created, err := s.writer.CreateWriteStream(ctx, &storagepb.CreateWriteStreamRequest{
		Parent:      s.tablePath(t.name),
		WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_COMMITTED},
	})
	if status.Code(err) == codes.NotFound {
		return "", errTable
	}
	if err != nil {
		return "", fmt.Errorf("creating a stream: %w", classify(err))
	}
	if missing := t.missing(created.GetTableSchema()); len(missing) > 0 {
		return "", fmt.Errorf("%w (%s)", errSchema, strings.Join(missing, ", "))
	}
	return created.GetName(), nil
}

// missing returns the columns that a table does not have yet. A server that does
// not tell has all.
func (t table) missing(schema *storagepb.TableSchema) []string {
	if schema == nil {
		return nil
	}
	have := make(map[string]bool)
	for _, f := range schema.GetFields() {
		have[strings.ToLower(f.GetName())] = true
	}
	var missing []string
	for _, c := range t.columns {
		if !have[c.Name] {
			missing = append(missing, c.Name)
		}
	}
	return missing
}

// replace goes on in a new stream: it closes the old one, finds out how many of
// the batch's rows are in it, and records the new one with the rest of the plan.
// A crash in between leaves a closed stream, and everything is done again.
func (l *landing) replace(ctx context.Context, t table) error {
	arrived, err := l.arrived(ctx, t)
	if err != nil {
		return err
	}
	p, done := l.plan(t), l.progress[t.name]
	if acked := sum(p.Requests[:done.acked]); arrived < acked {
		l.sink.logger.Error("BigQuery lost rows that it had acknowledged; they are sent again", "table", t.name, "rows", acked-arrived)
	}
	switch st := l.sink.spool(l.batch.SpoolID).Streams[t.name]; {
	case arrived < 0:
		return l.sink.halt(l.batch.SpoolID, fmt.Sprintf("%d rows of batches that had landed in %s are no longer in stream %s", -arrived, t.name, st.Name))
	case arrived > sum(p.Requests):
		return l.sink.halt(l.batch.SpoolID, fmt.Sprintf("%s has %d rows more than were sent to stream %s", t.name, arrived-sum(p.Requests), st.Name))
	}
	name, err := l.sink.createStream(ctx, t)
	if err != nil {
		return err
	}
	return l.advance(t, arrived, stream{Name: name}, nil)
}

// arrived finds out how many rows of the plan are in the stream; negative if the
// stream is shorter than it was when the batch was begun. The stream takes no
// more rows from then on, so that the number is final.
func (l *landing) arrived(ctx context.Context, t table) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, l.sink.config.Timeout)
	defer cancel()
	st := l.sink.spool(l.batch.SpoolID).Streams[t.name]
	finalized, err := l.sink.writer.FinalizeWriteStream(ctx, &storagepb.FinalizeWriteStreamRequest{Name: st.Name})
	if err == nil {
		return int(finalized.GetRowCount() - st.Offset), nil
	}
	if err := classify(err); !errors.Is(err, errStreamLost) {
		return 0, fmt.Errorf("closing a stream: %w", err)
	}
	// It does not exist any more, and with it went the count.
	p, done := l.plan(t), l.progress[t.name]
	if done.certain() {
		return sum(p.Requests[:done.acked]), nil
	}
	n, err := l.sink.count(ctx, t, within(l.batch.SpoolID, l.batch.First, l.batch.Last))
	if err != nil {
		return 0, fmt.Errorf("a stream has expired in the middle of a batch, and how much of it arrived must be read from the table: %w. "+
			"If access is denied, grant the collector roles/bigquery.dataViewer on the dataset and roles/bigquery.readSessionUser on the project until this has gone through", err)
	}
	return int(n) - p.Landed, nil
}

// within is the condition that the rows of a batch meet, and no others.
func within(spoolID string, first, last uint64) string {
	return fmt.Sprintf("spool_id = '%s' AND spool_offset >= %d AND spool_offset < %d", spoolID, first, last)
}

// count counts the rows in a table that meet a condition.
func (s *Sink) count(ctx context.Context, t table, condition string) (int64, error) {
	session, err := s.reader.CreateReadSession(ctx, &storagepb.CreateReadSessionRequest{
		Parent: "projects/" + s.config.Project,
		ReadSession: &storagepb.ReadSession{
			Table: s.tablePath(t.name), DataFormat: storagepb.DataFormat_AVRO,
			ReadOptions: &storagepb.ReadSession_TableReadOptions{
				SelectedFields: []string{"spool_offset"},
				RowRestriction: condition,
			},
		},
		MaxStreamCount: 1,
	})
	if err != nil {
		return 0, fmt.Errorf("counting rows: %w", err)
	}
	var n int64
	for _, st := range session.GetStreams() {
		rows, err := s.reader.ReadRows(ctx, &storagepb.ReadRowsRequest{ReadStream: st.GetName()})
		if err != nil {
			return 0, fmt.Errorf("counting rows: %w", err)
		}
		for {
			resp, err := rows.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, fmt.Errorf("counting rows: %w", err)
			}
			n += resp.GetRowCount()
		}
	}
	return n, nil
}
