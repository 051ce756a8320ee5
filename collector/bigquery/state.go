package bigquery

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// state is what the state file holds: all that must survive a crash.
type state struct {
	// Spools is by spool id. Those of old spools are kept: they are small, and one
	// may come back. The events of a spool that go by load jobs are, to the state,
	// a spool of their own, with the same numbers: see [loadsOf].
	Spools map[string]*spoolState `json:"spools"`
}

// spoolState is the progress of one spool.
type spoolState struct {
	// Next is the number after the last record whose batch has landed.
	Next uint64 `json:"next"`
	// Streams is by table.
	Streams map[string]stream `json:"streams,omitempty"`
	// Batch is the one that was begun. Some of its rows may be in their tables.
	Batch *pending `json:"batch,omitempty"`
	// Job is the load job that was begun. Its rows may be in their table.
	Job *job `json:"job,omitempty"`
	// Halted says why nobody may go on without a human.
	Halted string `json:"halted,omitempty"`
}

// stream is where rows of a table go.
type stream struct {
	Name string `json:"name"`
	// Offset is that of the next row not known to be in the stream. The first
	// request of the batch goes there.
	Offset int64 `json:"offset"`
}

// pending is a batch from before its first row is sent until after its last one
// has landed.
type pending struct {
	First   uint64           `json:"first"`
	Last    uint64           `json:"last"`
	Tables  map[string]*plan `json:"tables"`
	Refused []refusal        `json:"refused,omitempty"`
	// Staged are the events that wait for a load job instead; nil if there are none.
	Staged *staged `json:"staged,omitempty"`
}

// staged is which of a batch's events go by a load job. It must not change while
// the batch lands, whatever the configuration comes to say.
type staged struct {
	Sources []string `json:"sources"` // those whose events do
	Rows    int      `json:"rows"`
}

// job is a load job, of the staged files whose records are before Last and have
// not been loaded.
type job struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Rows  int64  `json:"rows"`
	// Digest is of the lines, so that an id always means the same rows.
	Digest string `json:"digest"`
	// Attempt counts from 0. Those before it are known to have failed.
	Attempt int `json:"attempt,omitempty"`
	// Refused says why the rows are to go by a stream after all.
	Refused string `json:"refused,omitempty"`
}

// id is that of the job in BigQuery.
func (j job) id(spoolID string) string {
	return fmt.Sprintf("sluis_load_%s_%d_%d_%s_%d", spoolID, j.First, j.Last, j.Digest, j.Attempt)
}

// loadsOf is the id under which the state has the loads of a spool. Their rows
// carry it too: each spool id lands in order, by which readers find what is new,
// and loads come later than what went by the stream.
func loadsOf(spoolID string) string { return spoolID + loadsEnd }

const loadsEnd = "-loads"

// plan is what goes to one table. The sizes of requests are part of it, so that
// the same requests are made again: ALREADY_EXISTS is about a whole request.
type plan struct {
	// Landed is how many of the batch's rows are before the stream's offset, or in
	// streams that came before it.
	Landed int `json:"landed"`
	// Requests are the numbers of rows of the requests that carry the rest.
	Requests []int `json:"requests"`
}

// refusal is a row that BigQuery does not take.
type refusal struct {
	Table  string `json:"table"`
	Row    int    `json:"row"` // index among the rows of the batch
	Reason string `json:"reason"`
}

func (p *plan) rows() int { return p.Landed + sum(p.Requests) }

func sum(ns []int) (total int) {
	for _, n := range ns {
		total += n
	}
	return total
}

// spool returns the state of a spool; an empty one if it is not known.
func (s state) spool(id string) *spoolState {
	if spool, ok := s.Spools[id]; ok {
		return spool
	}
	return &spoolState{}
}

// finish turns a batch of which every row was acknowledged into progress.
func (s *spoolState) finish() {
	for table, plan := range s.Batch.Tables {
		if len(plan.Requests) > 0 {
			st := s.Streams[table]
			st.Offset += int64(sum(plan.Requests))
			s.Streams[table] = st
		}
	}
	s.Next, s.Batch = s.Batch.Last, nil
}

// spool returns the state of a spool. It is not changed any more.
func (s *Sink) spool(id string) *spoolState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.spool(id)
}

// update changes the state on disk and then in memory. After an error nothing
// has changed in memory, and on disk the change may have been made or not: both
// are right at every call, since nothing is sent before update returns nil.
func (s *Sink) update(spoolID string, change func(*spoolState)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := json.Marshal(s.state)
	if err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}
	var next state
	if err := json.Unmarshal(data, &next); err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}
	if next.Spools == nil {
		next.Spools = make(map[string]*spoolState)
	}
	spool := next.spool(spoolID)
	next.Spools[spoolID] = spool
	change(spool)
	data, err = encodeState(next)
	if err != nil {
		return err
	}
	if err := s.save(s.config.StateFile, data); err != nil {
		return fmt.Errorf("writing %s: %w", s.config.StateFile, err)
	}
	s.state = next
	return nil
}

// halt makes sure that no later process goes on, and returns the error to return.
func (s *Sink) halt(spoolID, reason string) error {
	return errors.Join(s.haltedError(reason), s.update(spoolID, func(spool *spoolState) { spool.Halted = reason }))
}

// envelope is the state file.
type envelope struct {
	Version int             `json:"version"`
	CRC32C  uint32          `json:"crc32c"` // of the state as it is written here
	State   json.RawMessage `json:"state"`
}

// stateVersion is 2 since there are load jobs. What version 1 has is in it.
const stateVersion = 2

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func encodeState(s state) ([]byte, error) {
	inner, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the state: %w", err)
	}
	data, err := json.Marshal(envelope{Version: stateVersion, CRC32C: checksum(inner), State: inner})
	if err != nil {
		return nil, fmt.Errorf("encoding the state: %w", err)
	}
	return append(data, '\n'), nil
}

// loadState reads the state file. A damaged one is an error: to begin anew would
// land again what the spool still holds.
func loadState(path string) (state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("reading the state: %w", err)
	}
	var e envelope
	var s state
	if err := json.Unmarshal(data, &e); err != nil || checksum(e.State) != e.CRC32C {
		return state{}, fmt.Errorf("%s is damaged. Without it nobody knows which records of the spool have landed; "+
			"moving it away lands again all that the spool still holds, and the models drop events that are there twice", path)
	}
	if e.Version < 1 || e.Version > stateVersion {
		return state{}, fmt.Errorf("%s has version %d, this program reads up to %d: use the program that wrote it", path, e.Version, stateVersion)
	}
	if err := json.Unmarshal(e.State, &s); err != nil {
		return state{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return s, nil
}

// Landed is the number from which landing a spool goes on, as a state file says.
// It only reads, and may be called while a sink uses the file.
func Landed(stateFile, spoolID string) (next uint64, err error) {
	s, err := loadState(stateFile)
	if err != nil {
		return 0, err
	}
	spool := s.spool(spoolID)
	if spool.Batch != nil {
		return spool.Batch.First, nil
	}
	return spool.Next, nil
}

const temporaryEnd = ".tmp"

// writeFile replaces a file, durably and whole.
func writeFile(path string, data []byte) error {
	temporary := path + temporaryEnd
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return moveFile(temporary, path)
}

// moveFile renames a file within its file system, durably.
func moveFile(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
