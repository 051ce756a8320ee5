package destination

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

func request() *destinationv1.WriteRequest {
	return &destinationv1.WriteRequest{
		BatchId: "b", Sync: "s", Run: "r",
		Operations: []destinationv1.Operation{1, 2},
		Keys:       []string{"k", "l"},
		Ids:        []string{"i", "j"},
		Columns: []*destinationv1.Column{
			{Name: "s", Type: 1, Strings: []string{"v", ""}, Nulls: []byte{2}},
			{Name: "t", Type: 5, Times: []int64{1, 2}},
		},
		Purpose: "advertising", DecisionIds: []string{"d", ""},
		Former: []*destinationv1.Column{
			{Name: "s", Type: 1, Strings: []string{"u", "w", "x"}},
			{Name: "t", Type: 5, Times: []int64{0, 0, 0}, Nulls: []byte{7}},
		},
		FormerRows: []uint32{0, 1, 1},
	}
}

// joinedRequest is the same with joined strings.
func joinedRequest() *destinationv1.WriteRequest {
	r := request()
	r.JoinedKeys, r.Keys = join(r.GetKeys()), nil
	r.JoinedIds, r.Ids = join(r.GetIds()), nil
	r.JoinedDecisionIds, r.DecisionIds = join(r.GetDecisionIds()), nil
	for _, column := range slices.Concat(r.GetColumns(), r.GetFormer()) {
		if column.GetType() == destinationv1.ColumnType_COLUMN_TYPE_STRING {
			column.JoinedStrings, column.Strings = join(column.GetStrings()), nil
		}
	}
	return r
}

func join(list []string) *destinationv1.Strings {
	out := &destinationv1.Strings{Joined: []byte(strings.Join(list, ""))}
	for _, s := range list {
		out.Lengths = append(out.Lengths, uint32(len(s)))
	}
	return out
}

func TestDecodeJoinedStrings(t *testing.T) {
	want, err := decodeBatch(request())
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeBatch(joinedRequest())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-list +joined)\n%s", err, diff)
	}
	for name, list := range map[string][]string{
		"none": {}, "empty": {"", ""}, "letters": {"é", "", "ë", "日本"},
	} {
		if got, err := stringsOf(nil, join(list)); err != nil || !slices.Equal(got, list) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, joined := range map[string]*destinationv1.Strings{
		"too short":    {Joined: []byte("abc"), Lengths: []uint32{1, 1}},
		"too long":     {Joined: []byte("abc"), Lengths: []uint32{1, 3}},
		"far too long": {Joined: []byte("abc"), Lengths: []uint32{1, 1<<32 - 1, 2}},
		"half letters": {Joined: []byte("é"), Lengths: []uint32{1, 1}},
		"no text":      {Joined: []byte{0xff}, Lengths: []uint32{1}},
	} {
		if got, err := stringsOf(nil, joined); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Of rows that were simply delivered one word is said, to those who know it.
func TestEncodeResults(t *testing.T) {
	delivered, rejected := Result{Outcome: Delivered}, Result{Outcome: Rejected, Code: "invalid_email"}
	remarked := Result{Outcome: Delivered, Message: "without its phone number"}
	results := []Result{delivered, rejected, delivered, remarked}
	all := encodeResults(request(), results)
	if len(all.GetResults()) != 4 || all.GetOthers() != 0 {
		t.Errorf("an earlier host gets %v", all)
	}
	few := encodeResults(joinedRequest(), results)
	if len(few.GetResults()) != 2 || few.GetResults()[0].GetIndex() != 1 || few.GetResults()[1].GetIndex() != 3 || few.GetOthers() != destinationv1.Outcome_OUTCOME_DELIVERED {
		t.Errorf("a host gets %v", few)
	}
	none := encodeResults(joinedRequest(), []Result{rejected, rejected})
	if len(none.GetResults()) != 2 || none.GetOthers() != 0 {
		t.Errorf("where nothing was delivered it gets %v", none)
	}
}

func TestDecodeBatch(t *testing.T) {
	b, err := decodeBatch(request())
	if err != nil {
		t.Fatal(err)
	}
	if b.Changes[0].Values[0] != "v" || b.Changes[1].Values[0] != nil || b.Changes[1].Op != Remove {
		t.Errorf("%+v", b)
	}
	if b.Purpose != "advertising" || b.Changes[0].Decision != "d" || b.Changes[1].Decision != "" {
		t.Errorf("%+v", b)
	}
	if got := fmt.Sprint(b.Changes[0].Former, b.Changes[1].Former); got != "[[u <nil>]] [[w <nil>] [x <nil>]]" {
		t.Errorf("former values %s", got)
	}
	for name, spoil := range map[string]func(*destinationv1.WriteRequest){
		"decisions":      func(r *destinationv1.WriteRequest) { r.DecisionIds = r.DecisionIds[:1] },
		"former column":  func(r *destinationv1.WriteRequest) { r.Former = r.Former[:1] },
		"former row":     func(r *destinationv1.WriteRequest) { r.FormerRows[2] = 2 },
		"former values":  func(r *destinationv1.WriteRequest) { r.FormerRows = r.FormerRows[:2] },
		"former type":    func(r *destinationv1.WriteRequest) { r.Former[1] = r.Former[0] },
		"former nothing": func(r *destinationv1.WriteRequest) { r.FormerRows = nil },
		"ids":            func(r *destinationv1.WriteRequest) { r.Ids = r.Ids[:1] },
		"operations":     func(r *destinationv1.WriteRequest) { r.Operations = nil },
		"operation":      func(r *destinationv1.WriteRequest) { r.Operations[0] = 0 },
		"values":         func(r *destinationv1.WriteRequest) { r.Columns[0].Strings = nil },
		"other type":     func(r *destinationv1.WriteRequest) { r.Columns[0].Type = 2 },
		"no type":        func(r *destinationv1.WriteRequest) { r.Columns[0].Type = 0 },
		"nulls":          func(r *destinationv1.WriteRequest) { r.Columns[0].Nulls = []byte{1, 2} },
		"no column":      func(r *destinationv1.WriteRequest) { r.Columns[0] = nil },
		"two lists":      func(r *destinationv1.WriteRequest) { r.JoinedKeys = join(r.GetKeys()) },
		"two columns":    func(r *destinationv1.WriteRequest) { r.Columns[0].JoinedStrings = join([]string{"v", ""}) },
	} {
		r := request()
		spoil(r)
		if b, err := decodeBatch(r); err == nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

// No message makes a plugin panic, and what is decoded keeps the promises of
// Batch.
func FuzzDecodeBatch(f *testing.F) {
	for _, r := range []*destinationv1.WriteRequest{request(), joinedRequest()} {
		seed, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		r := &destinationv1.WriteRequest{}
		if proto.Unmarshal(message, r) != nil {
			return
		}
		if b, err := decodeBatch(r); err == nil {
			if err := b.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}

// stuck is a destination whose Write does not return in time.
type stuck struct {
	Destination
	writing, release chan struct{}
}

func (s *stuck) Describe() Description                         { return Description{} }
func (s *stuck) Open(context.Context, map[string]string) error { return nil }
func (s *stuck) Write(context.Context, Batch) ([]Result, error) {
	close(s.writing)
	<-s.release
	return nil, nil
}

// A call that its caller has given up is waited for, so that the Destination
// never sees two at once, but not longer than the next call has.
func TestCallsDoNotOverlap(t *testing.T) {
	d := &stuck{writing: make(chan struct{}), release: make(chan struct{})}
	s := newServer(d)
	if _, err := s.Write(t.Context(), request()); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("write before open: %v", err)
	}
	if _, err := s.Open(t.Context(), &destinationv1.OpenRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), &destinationv1.OpenRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a second open: %v", err)
	}
	first := make(chan error)
	go func() {
		_, err := s.Write(t.Context(), request())
		first <- err
	}()
	<-d.writing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Check(ctx, &destinationv1.CheckRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call during another: %v", err)
	}
	close(d.release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := s.Check(t.Context(), &destinationv1.CheckRequest{}); err != nil {
		t.Error(err)
	}
}
