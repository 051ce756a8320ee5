package destination

import (
	"context"
	"fmt"
	"testing"

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
	seed, err := proto.Marshal(request())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
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
