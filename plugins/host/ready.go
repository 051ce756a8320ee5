package host

import (
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
)

// ready is a batch as Write sends it.
type ready struct {
	of      destination.Batch    // as it was given
	parts   []part               // the first is encoded; most often there is no other
	results []destination.Result // of the changes that cannot be sent
	dropped map[int]string       // what rows are sent without
	err     error                // the batch is not valid
}

// Prepare does what Write has to do before it sends: it checks the batch, brings its
// values into their forms and turns its rows into columns. A Write of the same batch,
// whose contents are not to change meanwhile, finds that done. So one batch is made ready
// while the plugin is busy with the one before: this alone may be called beside a Write.
// Of batches that were prepared, the last two are kept.
func (p *Plugin) Prepare(batch destination.Batch) { p.ready.put(p.prepare(batch)) }

func (p *Plugin) prepare(batch destination.Batch) *ready {
	r := &ready{of: batch}
	if r.err = batch.Validate(); r.err != nil {
		return r
	}
	if len(batch.ID) > maxBatchID {
		r.err = fmt.Errorf("the batch's id is longer than %d characters", maxBatchID)
		return r
	}
	r.results = make([]destination.Result, len(batch.Changes))
	batch, r.dropped = normalize.Batch(p.description.Target, batch)
	r.parts = split(batch, p.description.MaxRows, r.results)
	if len(r.parts) > 0 {
		r.err = p.encode(&r.parts[0])
	}
	return r
}

// encode makes the request that writes a part, unless it is made.
func (p *Plugin) encode(part *part) (err error) {
	if part.request != nil {
		return nil
	}
	if part.request, err = proto.Marshal(encodeBatch(part.batch, p.joined)); err != nil {
		return fmt.Errorf("encode batch %s: %w", part.batch.ID, err)
	}
	return nil
}

// encoded is a request that is in its bytes already, and the codec of the call that
// sends it. Its answer is read as any other.
type encoded []byte

// Marshal implements [encoding.CodecV2].
func (e encoded) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(e)}, nil
}

// Unmarshal implements [encoding.CodecV2].
func (encoded) Unmarshal(data mem.BufferSlice, answer any) error {
	return encoding.GetCodecV2(grpcproto.Name).Unmarshal(data, answer)
}

// Name implements [encoding.CodecV2].
func (encoded) Name() string { return grpcproto.Name }

// noteDropped has the results say what rows were sent without.
func (r *ready) noteDropped() {
	for row, what := range r.dropped {
		if r.results[row].Message == "" {
			r.results[row].Message = what
		}
	}
}

// madeOf reports whether it was made of this very batch.
func (r *ready) madeOf(batch destination.Batch) bool {
	n := len(batch.Changes)
	return batch.ID == r.of.ID && n == len(r.of.Changes) && (n == 0 || &batch.Changes[0] == &r.of.Changes[0])
}

// readyBatches are those that were prepared: one that is written, and the next.
type readyBatches struct {
	mu      sync.Mutex
	batches []*ready
}

func (b *readyBatches) put(r *ready) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.batches = append(b.batches, r); len(b.batches) > 2 {
		b.batches = slices.Delete(b.batches, 0, 1) // nobody will write it
	}
}

// take returns what was made of a batch, or nil, and keeps it no longer.
func (b *readyBatches) take(batch destination.Batch) *ready {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.batches, func(r *ready) bool { return r.madeOf(batch) })
	if i < 0 {
		return nil
	}
	r := b.batches[i]
	b.batches = slices.Delete(b.batches, i, i+1)
	return r
}
