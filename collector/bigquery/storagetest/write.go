package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// writeService is BigQueryWrite. Methods that it lacks are answered UNIMPLEMENTED.
type writeService struct {
	storagepb.UnimplementedBigQueryWriteServer
	*Server
}

// storageError is a status with BigQuery's own code in its details.
func storageError(code codes.Code, storage storagepb.StorageError_StorageErrorCode, entity, message string) error {
	st := status.New(code, message)
	if with, err := st.WithDetails(&storagepb.StorageError{Code: storage, Entity: entity, ErrorMessage: message}); err == nil {
		st = with
	}
	return st.Err()
}

func notFound(stream string) error {
	return storageError(codes.NotFound, storagepb.StorageError_STREAM_NOT_FOUND, stream, "Requested entity was not found: "+stream)
}

// CreateWriteStream makes a stream. The answer carries the table's schema.
func (s writeService) CreateWriteStream(_ context.Context, req *storagepb.CreateWriteStreamRequest) (*storagepb.WriteStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := s.store.tables[req.GetParent()]
	if table == nil {
		return nil, storageError(codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND, req.GetParent(), "Not found: Table "+req.GetParent())
	}
	if req.GetWriteStream().GetType() != storagepb.WriteStream_COMMITTED {
		return nil, status.Error(codes.Unimplemented, "this server has streams of type COMMITTED only")
	}
	name := fmt.Sprintf("%s/streams/s%d", req.GetParent(), len(s.store.order)+1)
	if err := s.store.write(entry{Kind: streamMade, Name: name, Table: req.GetParent()}); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &storagepb.WriteStream{Name: name, Type: storagepb.WriteStream_COMMITTED, CreateTime: timestamppb.Now(), TableSchema: table.schema}, nil
}

// GetWriteStream tells of a stream, not how long it is.
func (s writeService) GetWriteStream(_ context.Context, req *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store.streams[req.GetName()] == nil {
		return nil, notFound(req.GetName())
	}
	return &storagepb.WriteStream{Name: req.GetName(), Type: storagepb.WriteStream_COMMITTED}, nil
}

// FinalizeWriteStream closes a stream "so that no new data can be appended" and
// returns the "number of rows in the finalized stream", also if it is closed already.
func (s writeService) FinalizeWriteStream(_ context.Context, req *storagepb.FinalizeWriteStreamRequest) (*storagepb.FinalizeWriteStreamResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.store.streams[req.GetName()]
	if st == nil {
		return nil, notFound(req.GetName())
	}
	if err := s.store.write(entry{Kind: streamFinalized, Name: req.GetName()}); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &storagepb.FinalizeWriteStreamResponse{RowCount: st.rows}, nil
}

// AppendRows answers each request in the order in which they come. "Responses may
// optionally embed error information"; a stream that does not exist ends the call.
func (s writeService) AppendRows(call storagepb.BigQueryWrite_AppendRowsServer) error {
	var stream string
	var row protoreflect.MessageDescriptor
	for {
		req, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// The stream and the schema "must be specified at the initial request" and
		// hold for those that follow.
		if req.GetWriteStream() != "" {
			stream = req.GetWriteStream()
		}
		if schema := req.GetProtoRows().GetWriterSchema(); schema != nil && row == nil {
			if row, err = descriptor(schema.GetProtoDescriptor()); err != nil {
				return status.Errorf(codes.InvalidArgument, "Invalid proto schema: %v", err)
			}
		}
		if stream == "" || row == nil {
			return status.Error(codes.InvalidArgument, "write_stream and writer_schema must be set in the first request")
		}
		resp, err := s.append(stream, row, req)
		if err != nil {
			return err
		}
		if err := call.Send(resp); err != nil {
			return err
		}
	}
}

// append handles one request: all of its rows are written or none. An error ends
// the call.
func (s writeService) append(stream string, row protoreflect.MessageDescriptor, req *storagepb.AppendRowsRequest) (*storagepb.AppendRowsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.store.streams[stream]
	if st == nil {
		return nil, notFound(stream)
	}
	offset := st.rows
	if req.GetOffset() != nil {
		offset = req.GetOffset().GetValue()
	}
	if err := s.fault(BeforeStore, st.table, offset); err != nil {
		return failed(stream, err)
	}
	if err := st.accepts(stream, offset); err != nil {
		return failed(stream, err)
	}
	table := s.store.tables[st.table]
	if err := extraFields(stream, row, table.schema); err != nil {
		return failed(stream, err)
	}
	rows, bad := decode(row, table.schema, req.GetProtoRows().GetRows().GetSerializedRows())
	if len(bad) > 0 {
		// "If a request failed due to corrupted rows, no rows in the batch will be
		// appended. The API will return row level error info".
		resp, err := failed(stream, status.Error(codes.InvalidArgument, "Errors found while processing rows. Please refer to the row_errors field for details."))
		resp.RowErrors = bad
		return resp, err
	}
	if err := s.store.write(entry{Kind: rowsAppended, Name: stream, Rows: rows}); err != nil {
		return failed(stream, status.Error(codes.Internal, err.Error()))
	}
	if err := s.fault(AfterStore, st.table, offset); err != nil {
		return failed(stream, err)
	}
	return &storagepb.AppendRowsResponse{WriteStream: stream, Response: &storagepb.AppendRowsResponse_AppendResult_{
		AppendResult: &storagepb.AppendRowsResponse_AppendResult{Offset: wrapperspb.Int64(offset)},
	}}, nil
}

func (s writeService) fault(p Point, table string, offset int64) error {
	if s.Fault == nil {
		return nil
	}
	return s.Fault(p, table[strings.LastIndexByte(table, '/')+1:], offset)
}

// failed answers with an error, or ends the call if that is what it is.
func failed(stream string, err error) (*storagepb.AppendRowsResponse, error) {
	if errors.Is(err, ErrCut) {
		return nil, err
	}
	return &storagepb.AppendRowsResponse{WriteStream: stream, Response: &storagepb.AppendRowsResponse_Error{Error: status.Convert(err).Proto()}}, nil
}

// accepts: "the write is only performed if the next append offset is same as the
// provided value": ALREADY_EXISTS below it, OUT_OF_RANGE beyond it.
func (st *streamState) accepts(stream string, offset int64) error {
	switch {
	case st.finalized:
		return storageError(codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED, stream, "Stream has been finalized and cannot be appended: "+stream)
	case offset < st.rows:
		return storageError(codes.AlreadyExists, storagepb.StorageError_OFFSET_ALREADY_EXISTS, stream,
			fmt.Sprintf("The offset is within stream, expected offset %d, received %d", st.rows, offset))
	case offset > st.rows:
		return storageError(codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE, stream,
			fmt.Sprintf("The offset is beyond stream, expected offset %d, received %d", st.rows, offset))
	default:
		return nil
	}
}

// extraFields: "There is a schema mismatch and it is caused by user schema has
// extra field than bigquery schema."
func extraFields(stream string, row protoreflect.MessageDescriptor, schema *storagepb.TableSchema) error {
	have := make(map[string]bool)
	for _, f := range schema.GetFields() {
		have[f.GetName()] = true
	}
	for i := range row.Fields().Len() {
		if name := string(row.Fields().Get(i).Name()); !have[name] {
			return storageError(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS, stream,
				"Input schema has more fields than BigQuery schema, extra fields: '"+name+"'")
		}
	}
	return nil
}

// descriptor makes a writer's self-contained schema usable.
func descriptor(row *descriptorpb.DescriptorProto) (protoreflect.MessageDescriptor, error) {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("row.proto"), Syntax: new("proto2"), MessageType: []*descriptorpb.DescriptorProto{row},
	}, nil)
	if err != nil {
		return nil, err
	}
	return file.Messages().Get(0), nil
}

// decode reads rows and says which of them do not fit the table.
func decode(row protoreflect.MessageDescriptor, schema *storagepb.TableSchema, serialized [][]byte) (rows []map[string]any, bad []*storagepb.RowError) {
	for i, data := range serialized {
		message := dynamicpb.NewMessage(row)
		reason := ""
		if err := proto.Unmarshal(data, message); err != nil {
			reason = "Cannot parse the serialized row"
		}
		values := fields(message)
		if reason == "" {
			reason = misfit(values, schema)
		}
		if reason != "" {
			bad = append(bad, &storagepb.RowError{Index: int64(i), Code: storagepb.RowError_FIELDS_ERROR, Message: reason})
		}
		rows = append(rows, values)
	}
	return rows, bad
}

// misfit says why a row does not fit its table; nothing if it does. A number in
// JSON must be one that BigQuery can store.
func misfit(values map[string]any, schema *storagepb.TableSchema) (reason string) {
	for _, f := range schema.GetFields() {
		text, isText := values[f.GetName()].(string)
		var value any
		switch {
		case f.GetType() == storagepb.TableFieldSchema_JSON && isText && json.Unmarshal([]byte(text), &value) != nil:
			reason = "Field " + f.GetName() + ": malformed JSON"
		case f.GetMode() == storagepb.TableFieldSchema_REQUIRED && values[f.GetName()] == nil:
			reason = "Field " + f.GetName() + ": required, and missing"
		}
	}
	return reason
}

// fields returns the fields that a message has, as JSON would hold them.
func fields(m protoreflect.Message) map[string]any {
	values := make(map[string]any)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !f.IsList() {
			values[string(f.Name())] = plain(v)
			return true
		}
		var list []any
		for i := range v.List().Len() {
			list = append(list, plain(v.List().Get(i)))
		}
		values[string(f.Name())] = list
		return true
	})
	return values
}

func plain(v protoreflect.Value) any {
	switch v := v.Interface().(type) {
	case protoreflect.Message:
		return fields(v)
	case int64:
		return json.Number(fmt.Sprint(v))
	default:
		return v
	}
}
